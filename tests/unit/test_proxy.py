"""The fault proxy of the tests does what it is asked, and only that."""

from __future__ import annotations

import socket
import socketserver
import time
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.services.proxy import FaultProxy

SILENCE_S = 0.2


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            pass


class _Server(socketserver.ThreadingTCPServer):
    # Closing waits for the handlers, so nothing outlives the test.
    daemon_threads = False


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with FaultProxy("127.0.0.1", server.server_address[1]) as proxy:
                yield proxy
        finally:
            server.shutdown()
            thread.join()


def _connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=10)


def _receive(sock: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        data = sock.recv(count - len(received))
        if not data:
            break
        received += data
    return received


def _echo(sock: socket.socket, data: bytes = b"ping") -> bytes:
    sock.sendall(data)
    return _receive(sock, len(data))


def test_forwards_both_ways_and_the_end(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 4096
    with _connect(proxy) as sock:
        thread = Thread(target=sock.sendall, args=(data,))
        thread.start()
        assert _receive(sock, len(data)) == data
        thread.join()
        assert proxy.connections == 1
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


@pytest.mark.parametrize("direction", ["up", "down"])
def test_delay(proxy: FaultProxy, direction: str) -> None:
    with _connect(proxy) as sock:
        proxy.delay(SILENCE_S, "up" if direction == "up" else "down")
        start = time.monotonic()
        assert _echo(sock) == b"ping"
        assert time.monotonic() - start >= SILENCE_S


def test_throttle(proxy: FaultProxy) -> None:
    with _connect(proxy) as sock:
        proxy.throttle(10_000, "down")
        start = time.monotonic()
        assert _echo(sock, b"x" * 3000) == b"x" * 3000
        assert time.monotonic() - start >= SILENCE_S / 2


@pytest.mark.parametrize("direction", ["up", "down"])
def test_black_hole_keeps_open_and_loses_nothing(proxy: FaultProxy, direction: str) -> None:
    with _connect(proxy) as sock:
        assert _echo(sock) == b"ping"
        proxy.black_hole("up" if direction == "up" else "down")
        sock.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            _echo(sock)
        sock.settimeout(10)
        proxy.heal()
        assert _receive(sock, 4) == b"ping"


def test_cut_closes_all_and_new_ones_come(proxy: FaultProxy) -> None:
    with _connect(proxy) as first, _connect(proxy) as second:
        assert _echo(first) == _echo(second) == b"ping"
        proxy.cut()
        assert proxy.connections == 0
        for sock in (first, second):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        with _connect(proxy) as third:
            assert _echo(third) == b"ping"


def test_refuse_and_heal_on_the_same_port(proxy: FaultProxy) -> None:
    with _connect(proxy) as sock:
        assert _echo(sock) == b"ping"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            _connect(proxy)
        assert _echo(sock) == b"ping"
        port = proxy.port
        proxy.heal()
        assert proxy.port == port
        with _connect(proxy) as other:
            assert _echo(other) == b"ping"


def test_a_target_that_is_down() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with FaultProxy("127.0.0.1", unused.getsockname()[1]) as proxy, _connect(proxy) as sock:
            assert sock.recv(1) == b""
