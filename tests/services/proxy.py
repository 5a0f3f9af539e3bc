"""A TCP proxy that misbehaves on request: what the tests put between Ensign and a real server.

It runs in a thread of its own, listens on a free loopback port and forwards to its target. All
methods may be called from the test's thread at any time and have taken effect when they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field
from threading import Thread
from types import TracebackType
from typing import Any, Literal, Self

Direction = Literal["up", "down", "both"]
"""``up`` is from the client to the server, ``down`` the answers."""

CHUNK_BYTES_MAX = 64 * 1024
COMMAND_S_MAX = 10.0


@dataclass
class _Way:
    """One direction of all connections, and what is wrong with it now."""

    delay_s: float = 0.0
    bytes_per_s: int | None = None
    passing: asyncio.Event = field(default_factory=asyncio.Event)

    def heal(self) -> None:
        self.delay_s, self.bytes_per_s = 0.0, None
        self.passing.set()


class FaultProxy:
    """``with FaultProxy(host, port) as proxy:`` then connect to ``proxy.host``, ``proxy.port``."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = "127.0.0.1", 0
        self._target = host, port
        self._up, self._down = _Way(), _Way()
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.refuse()
        self._do(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(COMMAND_S_MAX)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Forward each chunk (64 KiB at most) this much later."""
        self._do(self._set(direction, delay_s=seconds))

    def throttle(self, bytes_per_s: int, direction: Direction = "both") -> None:
        """Forward at most so much per connection."""
        self._do(self._set(direction, bytes_per_s=bytes_per_s))

    def black_hole(self, direction: Direction = "both") -> None:
        """Forward nothing, keep all open. As in a network that lost its way, what was sent comes
        after all when the proxy is healed."""
        self._do(self._set(direction, passing=False))

    def cut(self) -> None:
        """Reset all open connections; new ones are welcome."""
        self._do(self._cut())

    def refuse(self) -> None:
        """Refuse new connections, as a server that is down; open ones stay."""
        self._do(self._listen(False))

    def heal(self) -> None:
        """Take back delay, throttle, black hole and refusal; the port stays the same."""
        self._do(self._set("both"))
        self._do(self._listen(True))

    def _do(self, command: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(command, self._loop).result(COMMAND_S_MAX)

    async def _set(
        self,
        direction: Direction,
        delay_s: float | None = None,
        bytes_per_s: int | None = None,
        passing: bool | None = None,
    ) -> None:
        for way in {"up": [self._up], "down": [self._down]}.get(direction, [self._up, self._down]):
            if delay_s is not None:
                way.delay_s = delay_s
            elif bytes_per_s is not None:
                way.bytes_per_s = bytes_per_s
            elif passing is False:
                way.passing.clear()
            else:
                way.heal()

    async def _listen(self, wanted: bool) -> None:
        if wanted and self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]
        elif not wanted and self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        tasks = list(self._open)
        for task in tasks:
            for writer in self._open[task]:
                # Lingering for 0 s makes the close a reset.
                linger = struct.pack("ii", 1, 0)
                with contextlib.suppress(OSError):
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The sockets are closed in a callback of the loop.
        await asyncio.sleep(0)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._open[task] = [back]
        try:
            server, onward = await asyncio.open_connection(*self._target)
            writers.append(onward)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(client, onward, self._up))
                pumps.create_task(self._pump(server, back, self._down))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            for writer in writers:
                writer.transport.abort()
            del self._open[task]

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: _Way
    ) -> None:
        while True:
            chunk = await reader.read(CHUNK_BYTES_MAX)
            if way.delay_s:
                await asyncio.sleep(way.delay_s)
            await way.passing.wait()
            if not chunk:
                writer.write_eof()
                return
            while chunk:
                # A tenth of a second's worth at a time, so that a throttled flow is even.
                rate = way.bytes_per_s
                share = max(1, rate // 10) if rate else len(chunk)
                writer.write(chunk[:share])
                await writer.drain()
                if rate:
                    await asyncio.sleep(len(chunk[:share]) / rate)
                chunk = chunk[share:]
