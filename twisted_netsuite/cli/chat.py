"""
C{netsuite chat --plain}: the operator's console and the client with a contact list.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, cast

import click
import msgspec
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol

from twisted_netsuite.chat.client import OperatorClient, defaultSocket, requirePrivate
from twisted_netsuite.chat.messages import MAX_TEXT, Message, Notice
from twisted_netsuite.cli.lines import LineReader
from twisted_netsuite.cli.run import say
from twisted_netsuite.errors import ConfigurationError, ConnectionFailed, NetsuiteError
from twisted_netsuite.net.addresses import splitHostPort
from twisted_netsuite.net.conversation import DatagramConversation, connectReason, resolve
from twisted_netsuite.net.datagrams import bindDatagrams
from twisted_netsuite.ops.config import loadFile
from twisted_netsuite.wire.text import decodeText


def _prompt(text: str) -> None:
    """Print a prompt where a person will see it, and nowhere else."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        print(text, end="", flush=True)


async def operate(reactor: Any, path: str) -> int:
    """
    Be an operator until the input or the service ends.

    @param reactor: connects.
    @param path: the service's Unix socket; empty for the default one.
    @return: the exit status.
    """
    path = os.path.expanduser(path or defaultSocket())
    console = OperatorClient(_show)
    try:
        if path == defaultSocket():
            requirePrivate(os.path.dirname(path))
        await connectProtocol(UNIXClientEndpoint(reactor, path), console)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConnectionFailed(
            f"Cannot reach the chat service at {path}: {connectReason(error)}; see whether it runs "
            "and has this socket."
        ) from error
    lines = LineReader(reactor)
    console.ended.addCallback(lambda _: lines.end())
    while (line := await lines.readLine()) is not None:
        try:
            _answer(console, line)
        except NetsuiteError as error:
            say(error.sentence)
    if console.ended.called:
        raise ConnectionFailed(f"The chat service at {path} has ended; start it again.")
    await console.close()
    return 0


def _answer(console: OperatorClient, line: str) -> None:
    to, text = console.lastSender, line.strip()
    if text.startswith("@"):
        to, _, text = text[1:].partition(" ")
    if not text.strip():
        return
    if not to:
        raise ConfigurationError("Nobody has written yet; write @IP:PORT and the text.")
    console.reply(to, text.strip())


def _show(record: Message | Notice) -> None:
    if isinstance(record, Notice):
        click.secho(f"* {record.text}", fg="yellow")
        return
    try:
        clock = time.strftime("%H:%M:%S", time.localtime(record.time))
    except (OverflowError, ValueError, OSError):
        clock = "--:--:--"
    head = click.style(f"A message from [{record.sender}]:", fg="green")
    click.echo(f"{clock} {head} {record.text}")


class _Contacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    contacts: dict[str, str]


def loadContacts(path: str) -> dict[str, tuple[str, int]]:
    """
    Read a contact list: a table C{[contacts]} of C{name = "HOST:PORT"}.

    @param path: a TOML file.
    @return: host and port of each name.
    @raise ConfigurationError: naming the file, the name, and what to do.
    """
    try:
        listed = msgspec.convert(loadFile(path), _Contacts).contacts
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f'{path}: {error}; write a table [contacts] of lines such as anna = "127.0.0.1:7425".'
        ) from error
    found = {}
    for name, address in listed.items():
        try:
            hostPort = splitHostPort(address)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: contacts.{name}: {error.sentence}") from error
        if hostPort is None:
            raise ConfigurationError(
                f"{path}: contacts.{name} is {address!r}; give HOST:PORT, as in 127.0.0.1:7425."
            )
        found[name] = hostPort
    return found


async def talk(reactor: Any, address: str | None, contacts: str | None, timeout: float) -> int:
    """
    Talk to one address, or to one contact after another.

    @param reactor: sends.
    @param address: C{HOST:PORT}; without it there are contacts.
    @param contacts: the file of the contact list.
    @param timeout: seconds to wait for each answer.
    @return: the exit status: of one address, that of the last line that was sent.
    """
    lines = LineReader(reactor)
    if address is not None:
        hostPort = splitHostPort(address.removeprefix("udp:"))
        if hostPort is None:
            raise ConfigurationError(
                f"The address {address!r} cannot be understood; give HOST:PORT."
            )
        return await _talkTo(reactor, lines, address, hostPort, timeout)
    known = loadContacts(cast(str, contacts))
    while True:
        print(f"Contacts: {', '.join(known)}")
        _prompt("Whom to talk to (quit ends)? ")
        line = await lines.readLine()
        name = (line or "").strip()
        if line is None or name == "quit":
            return 0
        if name in known:
            await _talkTo(reactor, lines, name, known[name], timeout)
        elif name:
            say(f"{name!r} is not in the contact list; there are {', '.join(known)}.")


async def _talkTo(
    reactor: Any, lines: LineReader, name: str, hostPort: tuple[str, int], timeout: float
) -> int:
    def show(datagram: bytes) -> None:
        head = click.style(f"{name}:", fg="green")
        click.echo(f"{time.strftime('%H:%M:%S')} {head} {decodeText(datagram, MAX_TEXT)}")

    host, port = resolve(*hostPort)
    conversation = DatagramConversation(reactor, host, port, show)
    socket = bindDatagrams(reactor, 0, conversation, "::" if ":" in host else "")
    status = 0
    try:
        while True:
            _prompt(f"{name}> ")
            line = await lines.readLine()
            text = (line or "").strip()
            if line is None or text == "quit":
                return status
            if text:
                status = await _ask(conversation, text, timeout)
    finally:
        await maybeDeferred(socket.stopListening)


async def _ask(conversation: DatagramConversation, text: str, timeout: float) -> int:
    try:
        await conversation.ask(text.encode("utf-8", "replace"), timeout)
    except NetsuiteError as error:
        say(error.sentence)
        return error.exitStatus
    return 0
