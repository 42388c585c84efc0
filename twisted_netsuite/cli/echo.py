"""
C{netsuite echo}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from twisted_netsuite.cli.login import Login
from twisted_netsuite.cli.run import writeOut
from twisted_netsuite.echo.client import connectEcho, connectNativeEcho
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import parseConnect, splitHostPort
from twisted_netsuite.net.conversation import DatagramConversation, resolve
from twisted_netsuite.net.datagrams import bindDatagrams
from twisted_netsuite.net.tlscontext import TrustFiles


async def echoTexts(
    reactor: Any,
    address: str,
    texts: Sequence[str],
    timeout: float,
    files: TrustFiles | None = None,
    login: Login | None = None,
) -> int:
    """
    Send texts and print their answers.

    @param reactor: connects.
    @param address: an ADDRESS, or C{udp:HOST:PORT}.
    @param texts: what to send.
    @param timeout: seconds to wait for each answer.
    @param files: to connect by TLS with; C{None} for plain text.
    @param login: to speak the native dialect; C{None} for the classic one.
    @return: the exit status.
    """
    messages = [text.encode("utf-8", "surrogateescape") for text in texts]
    if address.startswith("udp:"):
        if files is not None or login is not None:
            raise ConfigurationError(
                f"{address!r} is UDP, which has neither TLS nor the native dialect; give HOST:PORT."
            )
        await _datagrams(reactor, address, messages, timeout)
        return 0
    endpoint = parseConnect(reactor, address, files)
    if login is not None:
        await _records(reactor, endpoint, address, messages, timeout, login)
        return 0
    session = await connectEcho(endpoint, reactor, name=address, timeout=timeout)
    for message in messages:
        if message:
            writeOut(await session.send(message) + b"\n")
    await session.close()
    return 0


async def _records(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    address: str,
    messages: Sequence[bytes],
    timeout: float,
    login: Login,
) -> None:
    session = await connectNativeEcho(
        endpoint, reactor, name=address, user=login.user, token=login.token, timeout=timeout
    )
    for message in messages:
        writeOut(await session.ask(message) + b"\n")
    await session.close()


async def _datagrams(reactor: Any, address: str, messages: Sequence[bytes], timeout: float) -> None:
    hostPort = splitHostPort(address.removeprefix("udp:"))
    if hostPort is None:
        raise ConfigurationError(
            f"The address {address!r} cannot be understood; give udp:HOST:PORT."
        )
    host, port = resolve(*hostPort)
    conversation = DatagramConversation(reactor, host, port)
    bindDatagrams(reactor, 0, conversation, "::" if ":" in host else "")
    for message in messages:
        writeOut(await conversation.ask(message, timeout) + b"\n")
