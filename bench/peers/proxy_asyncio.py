"""
A proxy of asyncio streams: one task each way, nothing read that cannot be written.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

port, target = map(int, sys.argv[1:])
READ = 64 * 1024  # bytes in one read, the limit of a StreamReader's buffer


async def copy(reader: StreamReader, writer: StreamWriter) -> None:
    """
    Copy one way until the reader ends, then end the writer.
    """
    with suppress(OSError):
        while data := await reader.read(READ):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def forward(reader: StreamReader, writer: StreamWriter) -> None:
    """
    Copy both ways between one client and the target.
    """
    try:
        upstreamReader, upstreamWriter = await asyncio.open_connection("127.0.0.1", target)
    except OSError:
        writer.close()
        return
    try:
        await asyncio.gather(copy(reader, upstreamWriter), copy(upstreamReader, writer))
    finally:
        upstreamWriter.close()
        writer.close()


async def main() -> None:
    """
    Serve for ever.
    """
    server = await asyncio.start_server(forward, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


asyncio.run(main())
