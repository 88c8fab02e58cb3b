#!/usr/bin/env python3
"""Dramatiq: no-op jobs through RabbitMQ, with their results in Redis.

What it measures: the time from the first `send` until the result of the last job can be read in
Redis. One process submits, two worker processes with eight threads each run the jobs.

What it guarantees: a message is persistent, in a quorum queue, and `send` returns when the broker
has confirmed it. A job is acknowledged after it has run, and one that a lost worker had is run
again: at least once. What came of it is kept in Redis, and that is as durable as the Redis is. It
is not recorded that a job has started.

    AMQP_URL=amqp://user:secret@127.0.0.1:5672/ REDIS_URL=redis://127.0.0.1:6379/9 \\
        python dramatiq_peer.py --jobs 10000 --bytes 200 --in-flight 512
"""
from __future__ import annotations

import argparse
import json
import os
from typing import Sequence

import dramatiq
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import common

QUEUE = "peer-dramatiq"
WORKERS = ("dramatiq", "dramatiq_peer", "--processes", "2", "--threads", "8")
# As many for each worker process as Celery's have.
PREFETCH = "64"


class QuorumBroker(RabbitmqBroker):
    """As the queues of the others: replicated where there are several nodes."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, object]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


broker = QuorumBroker(url=os.environ.get("AMQP_URL"), confirm_delivery=True)
backend = RedisBackend(url=os.environ.get("REDIS_URL"))
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE, store_results=True)
def noop(body: str) -> None:
    """The job."""


def send(body: str) -> str:
    return backend.build_message_key(noop.send(body))


def succeeded(result: bytes) -> bool:
    # What a job returns is stored as it is, here a null. A failure is an object with its exception.
    return json.loads(result) is None


def clean() -> None:
    """Deletes the queue, and those beside it for delayed and for dead messages."""
    for queue in (QUEUE, f"{QUEUE}.DQ", f"{QUEUE}.XQ"):
        broker.channel.queue_delete(queue)


def body(options: argparse.Namespace, store: redis.Redis) -> common.Measured:
    def read(keys: Sequence[str]) -> list[bytes | None]:
        with store.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.lindex(key, 0)
            return pipeline.execute()

    with common.workers(WORKERS, dramatiq_queue_prefetch=PREFETCH) as process:
        def wait_for(keys: Sequence[str]) -> None:
            common.wait(keys, read, succeeded, process)

        return common.measure(options, send, wait_for)


if __name__ == "__main__":
    common.run("dramatiq", __doc__, ("dramatiq", "pika", "redis"), body, clean)
