"""
A proxy of two asyncio Protocols for each connection on uvloop, paused and resumed by one another.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

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
        self.transport = cast(asyncio.Transport, transport)

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
    The client's connection: paused until the target's stands.
    """

    connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Connect to the target.
        """
        super().connection_made(transport)
        self.transport.pause_reading()
        self.early: list[bytes] = []
        self.other = Leg()
        self.other.other = self
        self.dialling = asyncio.ensure_future(self.dial())

    async def dial(self) -> None:
        """
        Connect to the target, hand over what came meanwhile, then read on.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.other, "127.0.0.1", target)
        except OSError:
            self.transport.close()
            return
        if self.transport.is_closing():
            self.other.transport.close()
            return
        self.connected = True
        self.other.transport.writelines(self.early)
        if self.ended:
            self.other.transport.write_eof()
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """
        Hand it over, or keep it: uvloop still delivers a read that was under way when paused.
        """
        if self.connected:
            super().data_received(data)
        else:
            self.early.append(data)

    def eof_received(self) -> bool:
        """
        Pass it on, or remember it until the target's connection stands.
        """
        if self.connected:
            return super().eof_received()
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Close the target's connection, if it stands.
        """
        if self.connected:
            super().connection_lost(exc)


async def main() -> None:
    """
    Serve for ever.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Client, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


uvloop.run(main())
