#!/usr/bin/env python3
"""Celery: no-op jobs through RabbitMQ, with their results in Redis.

What it measures: the time from the first `apply_async` until the result of the last job can be
read in Redis. One process submits, two worker processes run the jobs.

What it guarantees: a message is persistent, in a quorum queue, and `apply_async` returns when the
broker has confirmed it. A job is acknowledged after it has run, and one that a lost worker had is
run again: at least once. That it started and what came of it is kept in Redis, and that is as
durable as the Redis is.

    AMQP_URL=amqp://user:secret@127.0.0.1:5672/ REDIS_URL=redis://127.0.0.1:6379/9 \\
        python celery_peer.py --jobs 10000 --bytes 200 --in-flight 512
"""
from __future__ import annotations

import argparse
import os
from typing import Sequence

import redis
from celery import Celery

import common

QUEUE = "peer-celery"
KEY = "celery-task-meta-"
WORKERS = ("celery", "--app", "celery_peer", "--quiet", "worker", "--pool", "prefork",
           "--concurrency", "2", "--loglevel", "error",
           "--without-gossip", "--without-mingle", "--without-heartbeat")

# The producer reads Redis itself. If it had a result backend, each submission would also subscribe
# to the job's channel in Redis, and take longer.
is_worker = os.environ.get("PEER_ROLE") == "worker"
app = Celery("celery_peer", broker=os.environ.get("AMQP_URL"),
             backend=os.environ.get("REDIS_URL") if is_worker else None)
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    broker_pool_limit=common.THREADS,
    broker_connection_retry_on_startup=True,
    task_default_queue=QUEUE,
    # As the queues of the others: replicated where there are several nodes.
    task_default_queue_type="quorum",
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_track_started=True,
    task_ignore_result=False,
    worker_prefetch_multiplier=64,
    # Nobody asks the workers anything, or listens to them.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)


@app.task(name="peer.noop")
def noop(body: str) -> None:
    """The job."""


def send(body: str) -> str:
    return KEY + noop.apply_async((body,)).id


def succeeded(result: bytes) -> bool | None:
    if b'"status": "SUCCESS"' in result:
        return True
    return None if b'"status": "STARTED"' in result else False


# Where its queue is a quorum queue, Celery declares as many others for tasks that are delayed.
DELAYED = [f"celery_delayed_{level}" for level in range(28)]


def clean() -> None:
    """Deletes what Celery has declared."""
    with app.connection_for_write() as connection, connection.channel() as channel:
        for queue in (QUEUE, *DELAYED):
            channel.queue_delete(queue)
        for exchange in (QUEUE, "celeryev", "celery_delayed_delivery", *DELAYED):
            channel.exchange_delete(exchange)


def body(options: argparse.Namespace, store: redis.Redis) -> common.Measured:
    with common.workers(WORKERS) as process:
        def wait_for(keys: Sequence[str]) -> None:
            common.wait(keys, store.mget, succeeded, process)

        return common.measure(options, send, wait_for)


if __name__ == "__main__":
    common.run("celery", __doc__, ("celery", "kombu", "amqp", "redis"), body, clean)
