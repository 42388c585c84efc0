"""
The client APIs, one function a service; run it beside C{twistd -n netsuite --config classic.toml}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import react

from twisted_netsuite.echo.client import connectEcho
from twisted_netsuite.errors import NetsuiteError, NotFound
from twisted_netsuite.files.classicclient import connectClassic as connectFiles
from twisted_netsuite.net.addresses import parseConnect
from twisted_netsuite.net.conversation import DatagramConversation
from twisted_netsuite.rexec.classicclient import Answer
from twisted_netsuite.rexec.classicclient import connectClassic as connectExec


async def shout(reactor: Any, address: str, texts: list[bytes]) -> list[bytes]:
    """Have each text echoed, over one connection."""
    session = await connectEcho(parseConnect(reactor, address), reactor, name=address, timeout=5)
    try:
        return [await session.send(text) for text in texts]
    finally:
        session.close()


async def run(reactor: Any, address: str, command: str) -> Answer:
    """Run a command."""
    endpoint = parseConnect(reactor, address)
    session = await connectExec(endpoint, reactor, dialect="header", name=address)
    try:
        return await session.run(command)
    finally:
        session.close()


async def fetch(reactor: Any, address: str, name: str) -> bytes:
    """Get a file into memory."""
    session = await connectFiles(parseConnect(reactor, address), reactor, name=address)
    pieces: list[bytes] = []
    try:
        await session.get(name, pieces.append)
    finally:
        session.close()
    return b"".join(pieces)


async def ask(reactor: Any, host: str, port: int, text: str) -> str:
    """Send a line of chat, and wait for the next answer."""
    conversation = DatagramConversation(reactor, host, port)
    socket = reactor.listenUDP(0, conversation)
    try:
        return (await conversation.ask(text.encode(), timeout=5)).decode()
    finally:
        socket.stopListening()


async def main(reactor: Any) -> None:
    """Use every service once."""
    print(await shout(reactor, "127.0.0.1:7007", [b"hello", b"world"]))
    print(await run(reactor, "127.0.0.1:7512", "uname; exit 3"))
    print(len(await fetch(reactor, "127.0.0.1:7021", "classic.toml")), "bytes")
    print(await ask(reactor, "127.0.0.1", 7425, "hello"))
    try:
        await fetch(reactor, "127.0.0.1:7021", "nothing.txt")
    except NotFound as error:
        print(error.sentence)
    try:
        await shout(reactor, "127.0.0.1:9", [b"hello"])
    except NetsuiteError as error:
        print(type(error).__name__, error.wireCode, error.exitStatus, error.sentence)


if __name__ == "__main__":
    react(main)
