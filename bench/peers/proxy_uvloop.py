"""
A proxy of two asyncio Protocols for each connection on uvloop, paused and resumed by one another.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

port, target = map(int, sys.argv[1:])


class Leg(asyncio.Protocol):
    """
    One of the two connections: hands what it reads to the other.
    """

    transport: asyncio.Transport
    other: Leg
    ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Keep the transport.
        """
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """
        Hand it over.
        """
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        """
        End the other's writing, and keep this one open unless the other has ended too.
        """
        self.ended = True
        self.other.transport.write_eof()
        return not self.other.ended

    def pause_writing(self) -> None:
        """
        Read no more from the other.
        """
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """
        Read from the other again.
        """
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Close the other, after what it still has to write.
        """
        self.other.transport.close()


class Client(Leg):
    """
    The client's connection: not read until the target's stands.
    """

    dialling: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Connect to the target.
        """
        super().connection_made(transport)
        self.transport.pause_reading()
        self.other = Leg()
        self.other.other = self
        self.dialling = asyncio.ensure_future(self.dial())

    async def dial(self) -> None:
        """
        Connect to the target, then begin to read.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.other, "127.0.0.1", target)
        except OSError:
            self.transport.close()
            return
        if self.transport.is_closing():
            self.other.transport.close()
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Close the target's connection, if it stands.
        """
        if hasattr(self.other, "transport"):
            super().connection_lost(exc)


async def main() -> None:
    """
    Serve for ever.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Client, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


uvloop.run(main())
