"""What the two Python peers have in common: the command line, the clock, the workers, the report.

A run starts the workers, sends a few hundred jobs to have everything connected, then measures
from the first submission until the last job's result can be read. Every result is looked at, and
each must say that its job succeeded.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Iterator, Sequence

import redis

HERE = pathlib.Path(__file__).resolve().parent
WARM_UP = 500
CHUNK = 500
PAUSE = 0.02
# Without a single new result for so long, a run has failed.
STALLED_AFTER = 120.0
STOPS_WITHIN = 30.0
# Both clients wait for the broker's confirm before a submission returns. So the submissions that
# may be in flight are made by that many threads, each with a channel of its own, up to this number:
# more were no faster.
THREADS = 64

Measured = tuple[float, float]


class Failed(Exception):
    """The run is worth nothing, and why."""


def variable(name: str) -> str:
    """A variable of the environment that must be there."""
    value = os.environ.get(name)
    if not value:
        raise Failed(f"{name} is not set")
    return value


@contextlib.contextmanager
def workers(arguments: Sequence[str], **variables: str) -> Iterator[subprocess.Popen]:
    """The worker processes, for as long as the block lasts."""
    environment = {**os.environ, **variables, "PEER_ROLE": "worker"}
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=HERE, env=environment,
                               stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Producer:
    """Submits jobs by several threads, which keep their connections."""

    def __init__(self, send: Callable[[str], Any], options: argparse.Namespace) -> None:
        self._threads = max(1, min(THREADS, options.in_flight))
        self._pool = concurrent.futures.ThreadPoolExecutor(self._threads)
        # Each thread must take its share, also where there is little to do: it connects by that.
        self._together = threading.Barrier(self._threads)
        self._send, self._body = send, "x" * options.bytes

    def submit(self, jobs: int) -> list[Any]:
        """What `send` made of each job, once every one is confirmed."""
        threads = range(self._threads)
        shares = [jobs // self._threads + (thread < jobs % self._threads) for thread in threads]
        return [sent for part in self._pool.map(self._share, shares) for sent in part]

    def _share(self, jobs: int) -> list[Any]:
        self._together.wait()
        return [self._send(self._body) for _ in range(jobs)]


def wait(keys: Sequence[Any], read: Callable[[Sequence[Any]], Sequence[bytes | None]],
         succeeded: Callable[[bytes], bool | None], process: subprocess.Popen) -> None:
    """Waits until the result of every job says that it succeeded. `read` reads some results,
    `succeeded` says None of a job that is still at work. Starts each time at the first job that is
    not done, so that most results are read once."""
    done, moved = 0, time.monotonic()
    while done < len(keys):
        before = done
        for value in read(keys[done:done + CHUNK]):
            success = None if value is None else succeeded(value)
            if success is None:
                break
            if not success:
                raise Failed(f"job {done} did not succeed: {value!r:.200}")
            done += 1
        now = time.monotonic()
        if done > before:
            moved = now
        elif now - moved > STALLED_AFTER or process.poll() is not None:
            raise Failed(f"{done} of {len(keys)} jobs succeeded, and no more came")
        if done - before < CHUNK and done < len(keys):
            time.sleep(PAUSE)


def measure(options: argparse.Namespace, send: Callable[[str], Any],
            wait_for: Callable[[Sequence[Any]], None]) -> Measured:
    """The seconds until all jobs have succeeded, and until all were submitted."""
    producer = Producer(send, options)
    wait_for(producer.submit(WARM_UP))
    start = time.perf_counter()
    keys = producer.submit(options.jobs)
    submitted = time.perf_counter() - start
    wait_for(keys)
    seconds = time.perf_counter() - start
    if len(keys) != options.jobs or len(set(map(str, keys))) != options.jobs:
        raise Failed(f"these are not {options.jobs} different jobs")
    return seconds, submitted


def run(peer: str, description: str, packages: Sequence[str],
        body: Callable[[argparse.Namespace, redis.Redis], Measured],
        clean: Callable[[], None]) -> None:
    """Runs a peer on an emptied database, prints its line, and leaves nothing behind."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=200, help="of each job's argument")
    parser.add_argument("--in-flight", type=int, default=512,
                        help="submissions that are not confirmed, at most")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        variable("AMQP_URL")
        with redis.Redis.from_url(variable("REDIS_URL")) as store:
            store.flushdb()
            clean()
            try:
                seconds, submitted = body(options, store)
            finally:
                clean()
                store.flushdb()
    except Exception as error:  # whatever it is, it is said in one line
        said = str(error) or repr(error)
        if not isinstance(error, Failed):
            said = f"{type(error).__name__}: {said}"
        sys.exit(f"{peer}: {' '.join(said.split())}")
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"peer": peer, "jobs": options.jobs, "seconds": round(seconds, 3),
                      "submitted_seconds": round(submitted, 3), "versions": versions}))
