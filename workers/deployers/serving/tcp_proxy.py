"""Forwards connections to the release in use: clients keep one address, whichever release answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence

from workers.deployers.serving.states import split

#: Seconds that a backend may take to accept, and that a client is kept waiting for one that does.
CONNECT_S = 1.0
PATIENCE_S = 5.0
RETRY_S = 0.05
CHUNK = 1 << 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TcpProxy:
    """A listener that forwards each connection to the first backend that accepts; open ones stay where they are.

    Args:
        backends: Called for each connection: names and addresses (``host:port``) in the order to try them.
    """

    def __init__(self, backends: Callable[[], Sequence[tuple[str, str]]]) -> None:
        self._backends = backends
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.public = ""
        #: Connections that each backend has now.
        self.connections: Counter[str] = Counter()

    async def listen(self, public: str) -> None:
        """Listen on ``public`` (``host:port``) from now on.

        Raises:
            OSError: The address is taken, or this user may not.
        """
        if public == self.public:
            return
        self.close()
        host, port = split(public)
        self._server = await asyncio.start_server(self._accepted, host or None, port, backlog=1024)
        self.public = public

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()
        self._server, self.public = None, ""

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, backend = "", None
        try:
            name, backend = await self._connected()
            if backend is not None:
                self.connections[name] += 1
                await _joined((reader, writer), backend)
        finally:
            if backend is not None:
                self.connections[name] -= 1
                backend[1].close()
            writer.close()

    async def _connected(self) -> tuple[str, Streams | None]:
        """A connection to the first backend that takes one; patient while a service is started again."""
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            for name, address in self._backends():
                with contextlib.suppress(OSError, TimeoutError):
                    return name, await asyncio.wait_for(asyncio.open_connection(*split(address)), CONNECT_S)
            if asyncio.get_running_loop().time() > until:
                return "", None
            await asyncio.sleep(RETRY_S)


async def _joined(client: Streams, backend: Streams) -> None:
    """Carry bytes both ways until both have no more, or one is gone."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carried(client[0], backend[1]))
            group.create_task(_carried(backend[0], client[1]))
    except* OSError:
        pass  # one is gone; the caller closes the other


async def _carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until there are no more."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
