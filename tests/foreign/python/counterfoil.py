#!/usr/bin/env python3
"""A Counterfoil client in one file: pika, SQLite and docs/PROTOCOL.md.

    client = Client("amqp://shop:secret@localhost/", journal="shop.db")
    client.recover()                             # after a start: what a crash has left open
    job_id = client.submit("order.place", b'{"sku":"A1"}', notify="terminal")
    client.receipt(job_id, timeout=10)           # the receipt, or the refusal
    for event in client.events(timeout=60): ...

When `submit` returns, id and job are on this machine's disk and nothing has been sent. Every other
call pumps: it connects, sends what is open, sends again what has no receipt, takes what comes back.
A program that only submits calls `run` in a loop, or has a thread that does.

Threads: any thread may `submit`; everything else belongs to one thread, the one that pumps.
Processes of one machine may share a journal, each with a Client of its own. A Client does not
survive a fork: the child makes its own. If nobody pumps for some minutes the broker's heartbeat
ends the connection; the next call makes another one.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import ipaddress
import json
import logging
import os
import random
import re
import socket
import sqlite3
import sys
import threading
import time
import uuid
from typing import Any, Callable, Iterator

import pika
from pika.exceptions import (AMQPError, ChannelClosed, ConsumerCancelled, NackError,
                             UnroutableError)

Answer = dict[str, Any]
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
JOB_TYPE = re.compile(r"(?=.{1,100}\Z)[a-z0-9_-]+(\.[a-z0-9_-]+)*")
CLIENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
# Another value of one of these is another job; see "Duplicates, and the digest".
DECISIVE = ("job-not-before", "job-deadline", "job-timeout-ms", "job-max-attempts", "job-priority")
HORIZON_MS = 30 * 24 * 3600 * 1000  # until a receipt says otherwise
PREFETCH, EVENTS_MAX, CHUNK, RESEND_MAX_S = 1000, 500, 100, 300.0
INBOX = {"x-queue-type": "classic", "x-expires": 604_800_000,
         "x-max-length-bytes": 104_857_600, "x-overflow": "reject-publish"}
SUBMIT_OPTIONS = ("job_id", "notify", "notify_to", "content_type")  # of the command line
FOREVER = float("inf")
log = logging.getLogger("counterfoil")


class Conflict(ValueError):
    """The journal holds another job under this id. Nothing was written."""


class NoAnswer(TimeoutError):
    """Nothing came in time. What is open stays open."""


def uuid7() -> uuid.UUID:
    """A UUID that begins with the milliseconds since 1970 (RFC 9562)."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def origin_of(setting: str) -> tuple[str, str]:
    """What stands before the UUID in an id, and the text of the header `job-origin`."""
    if setting != "ip":
        if not LABEL.fullmatch(setting):
            raise ValueError(f"origin {setting!r}: 1 to 32 of A-Z a-z 0-9 _ -")
        return setting, setting
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:  # Nothing is sent: the system says from which address it would send.
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((outside, 9))
                address = ipaddress.ip_address(probe.getsockname()[0].split("%")[0])
        except OSError:
            continue
        return f"{int(address):0{address.max_prefixlen // 4}x}", str(address)
    name = socket.gethostname()
    return re.sub("[^A-Za-z0-9]", "-", name).lstrip("-")[:32] or "host", name[:255]


class Journal:
    """One client's counterfoils in an SQLite file; every change is synced before a call returns.

    `standing` goes from journaled to confirmed (the broker has it), accepted (the server has
    recorded it) and done, or to refused.
    """

    def __init__(self, path: str, client: str) -> None:
        self.client, self._lock = client, threading.Lock()
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        until = time.monotonic() + 30
        while True:  # SQLite does not wait for another process that is making the file.
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS counterfoil(client TEXT, job_id TEXT, type TEXT NOT NULL,"
            " body BLOB NOT NULL, content_type TEXT, headers TEXT NOT NULL,"
            " journaled_at INTEGER NOT NULL, standing TEXT NOT NULL, ticket TEXT, state TEXT,"
            " epoch INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0,"
            " horizon_ms INTEGER, answer TEXT, PRIMARY KEY(client, job_id))")
        known = self._run("SELECT horizon_ms FROM counterfoil WHERE client=? AND horizon_ms>0"
                          " ORDER BY journaled_at DESC LIMIT 1", client)
        self.horizon_ms: int = known[0][0] if known else HORIZON_MS

    def _run(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def add(self, job_id: str, job_type: str, body: bytes, content_type: str | None,
            headers: dict[str, Any]) -> sqlite3.Row:
        """Writes an entry, or finds the same one. Raises Conflict."""
        self._run("INSERT INTO counterfoil(client, job_id, type, body, content_type, headers,"
                  " journaled_at, standing) VALUES(?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                  self.client, job_id, job_type, body, content_type, json.dumps(headers),
                  int(time.time()), "journaled")
        entry = self.get(job_id)
        was = json.loads(entry["headers"])
        now = [job_type, body, content_type, *(str(headers.get(name)) for name in DECISIVE)]
        if now != [entry["type"], entry["body"], entry["content_type"],
                   *(str(was.get(name)) for name in DECISIVE)]:
            raise Conflict(f"{job_id} is another job in this journal")
        return entry

    def get(self, job_id: str) -> sqlite3.Row:
        """The entry of an id. Raises KeyError."""
        for entry in self._run("SELECT * FROM counterfoil WHERE (client, job_id)=(?, ?)",
                               self.client, job_id):
            return entry
        raise KeyError(f"{job_id} is not in the journal")

    def entries(self, only_open: bool = False) -> list[sqlite3.Row]:
        """The client's entries, oldest first; `only_open`: those that are not known to be done."""
        only = " AND standing IN ('journaled', 'confirmed', 'accepted')" if only_open else ""
        return self._run(f"SELECT * FROM counterfoil WHERE client=?{only}"
                         " ORDER BY journaled_at, rowid", self.client)

    def is_too_old(self, entry: sqlite3.Row) -> bool:
        """Whether the server may have forgotten the id, so that it must not be sent again."""
        return (time.time() - entry["journaled_at"]) * 1000 > self.horizon_ms

    def confirmed(self, job_id: str) -> None:
        """Notes that the broker has it."""
        self._run("UPDATE counterfoil SET standing='confirmed' WHERE (client, job_id)=(?, ?)"
                  " AND standing='journaled'", self.client, job_id)

    def learn(self, said: Answer) -> None:
        """Notes what the server says of a job; nothing older replaces what is newer."""
        if said["answer"] == "found":
            order = (said["epoch"], said["revision"])
            self._run("UPDATE counterfoil SET standing=?, ticket=?, state=?, epoch=?, revision=?"
                      " WHERE (client, job_id)=(?, ?) AND (epoch, revision) < (?, ?)",
                      "done" if said["done"] else "accepted", said["ticket"], said["state"], *order,
                      self.client, said["job_id"], *order)

    def settle(self, said: Answer) -> None:
        """Notes a receipt or a refusal, or what stands in for one."""
        self.learn(said)
        self.horizon_ms = said.get("horizon_ms", self.horizon_ms)
        self._run("UPDATE counterfoil SET answer=?, horizon_ms=coalesce(?, horizon_ms)"
                  " WHERE (client, job_id)=(?, ?)",
                  json.dumps(said), said.get("horizon_ms"), self.client, said["job_id"])
        if said["answer"] != "found":
            # A job that the server has forgotten was done.
            self._run("UPDATE counterfoil SET standing=?, state=? WHERE standing!='done'"
                      " AND (client, job_id)=(?, ?)",
                      "done" if said["answer"] == "forgotten" else "refused",
                      said.get("outcome") or said.get("code") or said["answer"], self.client,
                      said["job_id"])

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


class Client:
    """One client's submissions and questions. See the module for threads and forks."""

    def __init__(self, url: str, journal: str = "counterfoil-python.db", origin: str = "ip", *,
                 inbox: str | None = None, resend_after: float = 10.0) -> None:
        """`inbox` makes the reply queue `reply.<client>.<inbox>`, which outlives the process and
        which one process at a time reads; without it the queue goes with `close`. `resend_after`:
        seconds without a receipt before the next sending, doubled each time up to 5 minutes."""
        self.parameters = pika.URLParameters(url)
        self.parameters.blocked_connection_timeout = 30
        self.name = str(getattr(self.parameters.credentials, "username", ""))
        if not CLIENT.fullmatch(self.name):
            raise ValueError(f"the AMQP user {self.name!r} cannot be a client: A-Z a-z 0-9 _ -")
        self.origin_part, self.origin = origin_of(origin)
        self.journal = Journal(journal, self.name)
        self.queue, self._is_named = f"reply.{self.name}.{inbox or uuid.uuid4().hex}", bool(inbox)
        self.resend_after = resend_after
        self.last_error = ""
        self.events_dropped = 0  # beyond the newest 500 unread ones; `status` still tells of them
        self._pid = os.getpid()
        self._connection: Any = None
        self._channel: Any = None
        self._connect_at, self._backoff = 0.0, 0.2
        self._due: dict[str, tuple[float, float]] = {}  # job id: when to send, then after how long
        self._questions: dict[str, dict[str, Any]] = {}  # by correlation id
        self._events: collections.deque[tuple[Any, int, Answer]] = collections.deque()

    def submit(self, job_type: str, body: bytes | str, *, job_id: str | None = None,
               notify: str | None = None, notify_to: str | None = None,
               headers: dict[str, Any] | None = None, content_type: str | None = None) -> str:
        """Writes a job to the journal and returns its id; the next pumping sends it. Raises
        Conflict if the journal holds another job of this id, ValueError or pika's AMQPError for
        what could not be sent; then nothing was written."""
        self._same_process()
        job_id = job_id if job_id is not None else f"{self.origin_part}-{uuid7()}"
        if not JOB_ID.fullmatch(job_id) or not JOB_TYPE.fullmatch(job_type):
            raise ValueError(f"{job_id!r} is no job id, or {job_type!r} is no type")
        named = {"job-origin": self.origin, "job-notify": notify, "job-notify-to": notify_to}
        headers = {name: text for name, text in named.items() if text is not None} | (headers or {})
        pika.BasicProperties(content_type=content_type, headers=headers).encode()
        body = body.encode() if isinstance(body, str) else bytes(body)
        entry = self.journal.add(job_id, job_type, body, content_type, headers)
        if entry["standing"] in ("journaled", "confirmed"):
            self._due[job_id] = (0.0, self.resend_after)
        return job_id

    def run(self, timeout: float) -> None:
        """Pumps for so many seconds."""
        self._pump(time.monotonic() + timeout, lambda: False)

    def flush(self, timeout: float) -> bool:
        """Pumps until all that was submitted here is settled; False if the time is up."""
        return self._pump(time.monotonic() + timeout, lambda: not self._due)

    def receipt(self, job_id: str, timeout: float) -> Answer:
        """The receipt of a submission, or its refusal: `answer` says which. Raises NoAnswer."""
        if not self._pump(time.monotonic() + timeout, lambda: self.journal.get(job_id)["answer"]):
            raise NoAnswer(f"no receipt of {job_id} in {timeout:g} s{self.last_error}")
        return json.loads(self.journal.get(job_id)["answer"])

    def status(self, subject: str, history: bool = False, timeout: float = 10.0) -> Answer:
        """What became of a job, by its id or its ticket. Raises NoAnswer."""
        body = subject_of(subject) | ({"history": True} if history else {})
        return self._ask("status", body, 1, time.monotonic() + timeout)[0]

    def cancel(self, subject: str, timeout: float = 10.0) -> Answer:
        """Cancels a job, or makes an id void that never arrived. Raises NoAnswer."""
        return self._ask("cancel", subject_of(subject), 1, time.monotonic() + timeout)[0]

    def events(self, timeout: float = FOREVER) -> Iterator[Answer]:
        """Events, until none has come for so many seconds. Each is acknowledged when the next one
        is asked for, so it may come again after a crash: compare (`epoch`, `revision`)."""
        while self._pump(time.monotonic() + timeout, lambda: self._events):
            channel, tag, event = self._events.popleft()
            yield event
            acknowledge(channel, tag)

    def recover(self, timeout: float = 60.0) -> list[Answer]:
        """Asks for every open entry. What the server knows is noted; what it does not is sent
        again, but for what is older than the horizon: that is reported as `too old`; what cannot
        be said yet is asked for again. Raises NoAnswer."""
        until, report = time.monotonic() + timeout, []
        left = {entry["job_id"]: entry for entry in self.journal.entries(only_open=True)}
        while left:
            batch, pause = list(left)[:CHUNK], 0.0
            jobs = {"jobs": [{"job_id": job_id} for job_id in batch]}
            for said in self._ask("status", jobs, len(batch), until):
                if said["answer"] == "unavailable":
                    pause = max(pause, said.get("retry_after_ms", 1000) / 1000)
                    continue
                entry, done = left.pop(said["job_id"]), "nothing"
                # Refused for a reason that may have passed is not settled either.
                if said["answer"] == "unknown" or said.get("retryable"):
                    done = "too old" if self.journal.is_too_old(entry) else "sent again"
                    if done == "sent again":
                        self._due[said["job_id"]] = (0.0, self.resend_after)
                elif entry["answer"] is None or said["answer"] != "found":
                    self._settle(said)
                report.append({"job_id": said["job_id"], "journal": entry["standing"], "done": done,
                               "server": said.get("state", said["answer"])})
            self._pump(min(until, time.monotonic() + pause), lambda: False)
        self.flush(until - time.monotonic())
        return report

    def close(self) -> None:
        """Closes connection and journal. What has no receipt stays there for `recover`."""
        with contextlib.suppress(AMQPError, OSError):  # It may be gone already.
            if self._connection is not None:
                if not self._is_named:
                    self._channel.queue_delete(self.queue)
                self._connection.close()
        self.journal.close()

    def _same_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("a Client does not survive a fork: make one in each process")

    def _pump(self, until: float, done: Callable[[], Any]) -> bool:
        """Sends and receives until something is so; False if the time is up."""
        self._same_process()
        while not done():
            left = until - time.monotonic()
            if left <= 0:
                return False
            pause = min(left, 0.1)
            if self._connection is None and time.monotonic() < self._connect_at:
                time.sleep(pause)
                continue
            try:
                if self._connection is None:
                    self._connect()
                if not self._channel.is_open:
                    raise ChannelClosed(0, "the broker has closed the channel")
                self._send()
                self._connection.process_data_events(time_limit=pause)
            except (AMQPError, OSError) as error:
                self._disconnected(error)
        return True

    def _connect(self) -> None:
        self._connection = pika.BlockingConnection(self.parameters)
        self._channel = channel = self._connection.channel()
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.queue_declare(self.queue, durable=True, arguments=INBOX)
        channel.add_on_cancel_callback(self._cancelled)
        channel.basic_consume(self.queue, self._receive, exclusive=True)
        self._events.clear()  # They were not acknowledged and come again.
        # Nobody knows what became of what was sent before.
        self._due.update({job_id: (0.0, delay) for job_id, (_, delay) in self._due.copy().items()})
        for question in self._questions.values():
            question["is_sent"] = False

    def _disconnected(self, error: Exception) -> None:
        self.last_error = f" ({type(error).__name__} {error})"
        log.warning("no connection to the broker, trying again:%s", self.last_error)
        connection, self._connection = self._connection, None
        self._connect_at = time.monotonic() + self._backoff * random.uniform(0.5, 1.0)
        self._backoff = min(self._backoff * 2, 10.0)
        with contextlib.suppress(AMQPError, OSError):
            if connection is not None:
                connection.close()

    def _cancelled(self, _frame: Any) -> None:
        raise ConsumerCancelled("the reply queue was deleted")

    def _send(self) -> None:
        """Sends some of what is due, then the questions that this connection has not sent."""
        now = time.monotonic()
        due = [(job_id, delay) for job_id, (at, delay) in self._due.copy().items() if at <= now]
        for job_id, delay in due[:CHUNK]:
            entry = self.journal.get(job_id)
            self._due.pop(job_id, None)
            if self.journal.is_too_old(entry):
                log.error("%s is older than the horizon and is not sent again", job_id)
                continue
            # To the end: one that breaks the connection does not keep the others from going.
            self._due[job_id] = (now + delay, min(delay * 2, RESEND_MAX_S))
            if self._publish("counterfoil.submit", entry["type"], entry["body"], message_id=job_id,
                             correlation_id=job_id, content_type=entry["content_type"],
                             timestamp=entry["journaled_at"], headers=json.loads(entry["headers"])):
                self.journal.confirmed(job_id)
        for correlation_id, question in self._questions.items():
            if not question["is_sent"]:
                question["is_sent"] = self._publish(
                    "counterfoil.request", question["verb"], json.dumps(question["body"]).encode(),
                    correlation_id=correlation_id, content_type="application/json")

    def _publish(self, exchange: str, key: str, body: bytes, **properties: Any) -> bool:
        """Publishes and waits for the confirm; False if the queue is full, or there is none."""
        try:
            self._channel.basic_publish(exchange, key, body, pika.BasicProperties(
                user_id=self.name, reply_to=self.queue, delivery_mode=2, **properties), True)
            self._backoff = 0.2  # Only now: a connection alone is no success.
            return True
        except (NackError, UnroutableError) as error:
            self.last_error = f" ({type(error).__name__} {error})"
            return False

    def _receive(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Acts on a message, then acknowledges it; an event when it has been read."""
        said: Answer = json.loads(body)
        question = self._questions.get(properties.correlation_id)
        if question is not None:
            question["answers"].append(said)
        elif properties.type in ("receipt", "refusal") and not said.get("retryable"):
            self._settle({"job_id": properties.correlation_id} | said)
        if properties.type in ("event", "status"):
            self.journal.learn(said)
        if properties.type != "event":
            channel.basic_ack(method.delivery_tag)
            return
        self._events.append((channel, method.delivery_tag, said))
        if len(self._events) > EVENTS_MAX:
            acknowledge(*self._events.popleft()[:2])
            self.events_dropped += 1

    def _settle(self, said: Answer) -> None:
        self.journal.settle(said)
        self._due.pop(said["job_id"], None)

    def _ask(self, verb: str, body: Answer, count: int, until: float) -> list[Answer]:
        """Asks, and pumps until so many final answers are there."""
        answers: list[Answer] = []
        correlation_id = str(uuid.uuid4())
        self._questions[correlation_id] = dict(verb=verb, body=body, is_sent=False, answers=answers)

        def final() -> list[Answer]:  # A question that was sent twice is answered twice.
            said = [said for said in answers if said["answer"] != "pending"]
            for refusal in (one for one in said if "job_id" not in one and "ticket" not in one):
                raise ValueError(f"the question is refused: {refusal['message']}")
            return list({one.get("job_id") or one.get("ticket"): one for one in said}.values())

        try:
            if not self._pump(until, lambda: len(final()) >= count):
                raise NoAnswer(f"no answer in time{self.last_error}")
        finally:
            del self._questions[correlation_id]
        return final()


def subject_of(text: str) -> Answer:
    """A ticket is a UUID of version 8; everything else is a job id."""
    try:
        return {"ticket" if uuid.UUID(text).version == 8 else "job_id": text}
    except ValueError:
        return {"job_id": text}


def acknowledge(channel: Any, tag: int) -> None:
    """Without effect where the channel is gone: the message comes again over another one."""
    with contextlib.suppress(AMQPError, OSError):
        channel.basic_ack(tag)


def show(kind: str, said: Answer) -> None:
    """Prints one JSON line, at once."""
    print(json.dumps({"kind": kind} | said), flush=True)


def exit_of(said: Answer) -> int:
    """The exit status that an answer means."""
    state = said["state"] if said["answer"] == "found" else said.get("outcome")
    if state:
        return 3 if state in ("failed", "cancelled", "expired") else 0
    return {"unknown": 4, "unavailable": 5, "pending": 5}.get(said["answer"], 3)


def submit(client: Client, options: argparse.Namespace) -> int:
    """Submits, and says how far it is, line by line."""
    until = time.monotonic() + options.timeout
    job_id = client.submit(
        options.type, sys.stdin.buffer.read() if options.body == "-" else options.body,
        headers=dict(header.split("=", 1) for header in options.header),
        **{name: getattr(options, name) for name in SUBMIT_OPTIONS})
    show("journaled", {"job_id": job_id})
    if options.until == "journaled":
        return 0
    while client.journal.get(job_id)["standing"] == "journaled":
        client.run(min(0.01, until - time.monotonic()))
        if time.monotonic() > until:
            raise NoAnswer(f"not confirmed in time{client.last_error}")
    show("confirmed", {"job_id": job_id})
    if options.until == "confirmed":
        return 0
    said = client.receipt(job_id, until - time.monotonic())
    show("receipt" if said["answer"] == "found" else "refusal", said)
    while options.until == "done" and said["answer"] == "found":
        for event in client.events(min(0.5, until - time.monotonic())):
            show("event", event)
        said = client.status(job_id, timeout=until - time.monotonic())
        if said.get("done"):
            show("status", said)
            break
    return exit_of(said)


def execute(client: Client, options: argparse.Namespace) -> int:
    """Runs one command and returns its exit status."""
    if options.command == "submit":
        return submit(client, options)
    if options.command == "recover":
        exits = [0]
        for one in client.recover(options.timeout):
            entry = client.journal.get(one["job_id"])
            show("recovered", one | {"standing": entry["standing"], "state": entry["state"]})
            exits.append(1 if one["done"] == "too old" else 3 if entry["standing"] == "refused"
                         else 5 if entry["answer"] is None else 0)
        return max(exits)
    if options.command == "journal":
        for entry in client.journal.entries(options.open):
            names = ("job_id", "type", "standing", "state", "ticket", "journaled_at")
            show("entry", {name: entry[name] for name in names})
        return 0
    if options.command == "status":
        said = client.status(options.subject, options.history, options.timeout)
        show("status", said)
        return exit_of(said)
    said = client.cancel(options.subject, options.timeout)
    show("status", said)
    is_too_late = said.get("done") and said["state"] != "cancelled"
    return 3 if is_too_late else 5 if exit_of(said) == 5 else 0


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Submits jobs to Counterfoil and asks about them; prints JSON lines.",
        epilog="Exit status: 0 done; 1 failed; 2 wrong usage; 3 the job failed, was cancelled,"
               " expired or was refused; 4 the id is unknown; 5 no answer in time.")
    url = os.environ.get("COUNTERFOIL_AMQP_URL", "amqp://guest:guest@localhost/")
    parser.add_argument("--url", default=url, help="or COUNTERFOIL_AMQP_URL")
    parser.add_argument("--journal", default="counterfoil-python.db")
    parser.add_argument("--origin", default="ip", help="ip, or a label")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--resend-after", type=float, default=10.0, metavar="SECONDS")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("submit")
    one.add_argument("type")
    one.add_argument("body", help="- for standard input")
    for name in SUBMIT_OPTIONS:
        one.add_argument("--id" if name == "job_id" else "--" + name.replace("_", "-"), dest=name)
    one.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    one.add_argument("--until", default="accepted",
                     choices=("journaled", "confirmed", "accepted", "done"))
    for name in ("status", "cancel"):
        commands.add_parser(name).add_argument("subject", metavar="ID|TICKET")
    commands.choices["status"].add_argument("--history", action="store_true")
    commands.add_parser("recover")
    commands.add_parser("journal").add_argument("--open", action="store_true")
    options = parser.parse_args()
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    try:
        with contextlib.closing(Client(options.url, options.journal, options.origin,
                                       resend_after=options.resend_after)) as client:
            return execute(client, options)
    except Exception as error:  # Said in one line.
        print(f"error: {error}", file=sys.stderr)
        kinds = ((NoAnswer, 5), (Conflict, 1), (ValueError, 2))
        return next((status for kind, status in kinds if isinstance(error, kind)), 1)


if __name__ == "__main__":
    sys.exit(main())
