"""An HTTP proxy in front of kinesis-local that answers as a busy Kinesis does, on request.

It runs in threads of its own on a free loopback port. All methods may be called from the test's
thread at any time and hold from the next request on. It also mends what kinesis-local's answers
lack: the first event of SubscribeToShard's stream, which AWS sends and boto3 waits for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final, Literal

THROTTLED: Final = "ProvisionedThroughputExceededException"
CUT: Final = "cut"
"""In place of an error: the connection ends before the request is passed on."""
LOST: Final = "lost"
"""In place of an error: the request is passed on and its answer is not."""

STATUS = {"InternalFailure": 500, "InternalFailureException": 500, "ServiceUnavailable": 503}
"""HTTP statuses of errors that are not 400."""
CHUNK_BYTES_MAX = 64 * 1024
FORWARD_S_MAX = 120.0
STOP_S_MAX = 10.0
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class _Fault:
    """What goes wrong with requests, or with single records of PutRecords."""

    error: str
    times: int | None
    fraction: float
    chance: random.Random = field(repr=False)

    def strikes(self) -> bool:
        """Whether the next one is hit."""
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return self.chance.random() < self.fraction


class KinesisProxy:
    """Forwards to ``127.0.0.1:port``."""

    def __init__(self, port: int) -> None:
        self.target_port = port
        self.calls: Counter[str] = Counter()
        """Requests by action, failed ones included."""
        self.failed: Counter[str] = Counter()
        """Requests that were made to fail by action; for ``PutRecords:record``, records."""
        self._faults: dict[str, _Fault] = {}
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.port: int = self._server.server_address[1]
        serve = self._server.serve_forever
        self._thread = Thread(target=serve, args=(0.05,), name="kinesis-proxy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self.cut()
        self._thread.join(STOP_S_MAX)
        self._server.server_close()

    def fail(
        self, action: str, error: str = THROTTLED, *, times: int | None = None,
        fraction: float = 1.0, seed: int = 0,
    ) -> None:  # fmt: skip
        """Answer the next ``times`` requests of an action, or a ``fraction`` of all from now on,
        with an error such as ``ExpiredIteratorException``, or with `CUT` or `LOST`. ``*`` stands
        for all actions that have no fault of their own."""
        with self._lock:
            self._faults[action] = _Fault(error, times, fraction, random.Random(seed))

    def refuse_records(
        self, error: str = THROTTLED, *, times: int | None = None, fraction: float = 1.0,
        seed: int = 0,
    ) -> None:  # fmt: skip
        """Take the next ``times`` records of PutRecords, or a ``fraction`` of all, out of the
        request and say in its answer that they failed; the request itself succeeds."""
        self.fail("PutRecords:record", error, times=times, fraction=fraction, seed=seed)

    def heal(self, action: str | None = None) -> None:
        """Let requests of an action pass again, or all."""
        with self._lock:
            if action is None:
                self._faults.clear()
            else:
                self._faults.pop(action, None)

    def cut(self) -> None:
        """End all open connections, those with a stream of events too; new ones are welcome."""
        with self._lock:
            for open_socket in self._open:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)

    def strike(self, action: str) -> str | None:
        """The error of the request that came now, if it shall fail."""
        with self._lock:
            self.calls[action] += 1
            fault = self._faults.get(action) or self._faults.get("*")
            if fault is None or not fault.strikes():
                return None
            self.failed[action] += 1
            return fault.error

    def struck_records(self, count: int) -> dict[int, str]:
        """Which of the records of PutRecords fail, and how."""
        with self._lock:
            fault = self._faults.get("PutRecords:record")
            if fault is None:
                return {}
            struck = {n: fault.error for n in range(count) if fault.strikes()}
            self.failed["PutRecords:record"] += len(struck)
            return struck

    def track(self, connection: socket.socket, change: Literal["add", "discard"]) -> None:
        """Know of a connection, so that `cut` can end it."""
        with self._lock:
            getattr(self._open, change)(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
    proxy: KinesisProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    """One client's connection, and one to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    _onward: http.client.HTTPConnection | None = None

    def setup(self) -> None:
        super().setup()
        self.server.proxy.track(self.connection, "add")

    def finish(self) -> None:
        self.server.proxy.track(self.connection, "discard")
        self._hang_up()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        error = self.server.proxy.strike(action)
        if error == CUT:
            self.close_connection = True
        elif error == LOST:
            self._forward(body).read()
            self.close_connection = True
        elif error is not None:
            self._answer(STATUS.get(error, 400), _error(error))
        elif action == "PutRecords":
            self._put_records(body)
        else:
            self._pass_on(self._forward(body), starts_stream=action == "SubscribeToShard")

    def _put_records(self, body: bytes) -> None:
        asked = json.loads(body)
        records = asked["Records"]
        struck = self.server.proxy.struck_records(len(records))
        if not struck:
            self._pass_on(self._forward(body))
            return
        asked["Records"] = [record for n, record in enumerate(records) if n not in struck]
        told: dict[str, Any] = {"FailedRecordCount": 0, "Records": []}
        if asked["Records"]:
            answer = self._forward(json.dumps(asked).encode())
            if answer.status != 200:
                self._pass_on(answer)
                return
            told = json.loads(answer.read())
        written = iter(told["Records"])
        message = "Rate exceeded for a shard."
        told["Records"] = [
            {"ErrorCode": struck[n], "ErrorMessage": message} if n in struck else next(written)
            for n in range(len(records))
        ]
        told["FailedRecordCount"] = told.get("FailedRecordCount", 0) + len(struck)
        self._answer(200, told)

    def _forward(self, body: bytes) -> http.client.HTTPResponse:
        """Send the request to the server; the connection is kept, and made anew once if the server
        had closed it, when it cannot have read the request."""
        given = dict(self.headers.items())
        given["Content-Length"] = str(len(body))
        given.pop("Expect", None)
        for again in (True, False):
            if self._onward is None:
                port = self.server.proxy.target_port
                self._onward = http.client.HTTPConnection("127.0.0.1", port, timeout=FORWARD_S_MAX)
            try:
                self._onward.request("POST", self.path, body, given)
                return self._onward.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._hang_up()
                if not again:
                    raise
        raise AssertionError("unreachable")

    def _hang_up(self) -> None:
        if self._onward is not None:
            self._onward.close()
            self._onward = None

    def _answer(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _pass_on(self, answer: http.client.HTTPResponse, *, starts_stream: bool = False) -> None:
        streams = starts_stream and answer.status == 200
        body = b"" if streams else answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if not streams:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(_event("initial-response", b"{}"))
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            while part := answer.read1(CHUNK_BYTES_MAX):
                self._chunk(part)
            self.wfile.write(b"0\r\n\r\n")
            return
        self.close_connection = True

    def _chunk(self, part: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.flush()


def _error(name: str) -> dict[str, Any]:
    return {"__type": name, "message": "Rate exceeded." if name == THROTTLED else name}


def _event(kind: str, payload: bytes) -> bytes:
    """A message of AWS's event stream: lengths, checksum, headers, payload, checksum
    (smithy.io, Amazon Event Stream specification)."""
    headers = b""
    names = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    for name, value in names.items():
        headers += struct.pack(">B", len(name)) + name.encode()
        headers += struct.pack(">BH", 7, len(value)) + value.encode()
    head = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = head + struct.pack(">I", zlib.crc32(head)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))
