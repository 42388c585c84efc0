"""
The tutorials' chat dialect I{plain}: a datagram is a line of text, an operator answers it.

The service stands between plain UDP clients and the consoles of its operators. What comes while no
operator is there is kept for the next one, and the sender is told so.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_netsuite.chat.messages import (
    MAX_LINE,
    MAX_TEXT,
    Message,
    Notice,
    decodeForService,
    encodeLine,
)
from twisted_netsuite.errors import ConnectionFailed, InvalidName, NetsuiteError
from twisted_netsuite.net.addresses import splitHostPort
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.datagrams import GuardedDatagrams
from twisted_netsuite.net.interfaces import IStreamTransport
from twisted_netsuite.net.limits import TokenBuckets
from twisted_netsuite.net.serving import ServedFactory, ServedProtocol
from twisted_netsuite.wire.text import decodeText

#: Messages kept for the next operator, and their characters in all: a night's worth of people, and
#: a few megabytes at the most whatever a flood sends.
MAX_KEPT = 1000
MAX_KEPT_TEXT = 1024 * 1024

#: Of those, messages from one host: a stranger who floods leaves room for the others.
MAX_KEPT_OF_HOST = 200

#: Senders of whom it is remembered where they came in, so that an answer leaves from there.
MAX_SENDERS = 4096

#: Automatic answers to one address: a person who types gets one for each line; two machines that
#: answer each other get one a second and no more.
ANSWER_RATE = 1.0
ANSWER_BURST = 20

#: Short on purpose: an answer may be at most three times its question, headers counted.
KEPT = "No operator is here; your message is kept."
NOT_KEPT = "No operator is here; message not kept."
AUTOMATIC = frozenset({KEPT.casefold(), NOT_KEPT.casefold()})


#: A few people share the work at the most; a console may be silent for ever.
OPERATOR_LIMITS = ConnectionLimits(maxConnections=8, idleTimeout=0, firstMessageTimeout=0)


class Switchboard:
    """
    Joins the datagrams and the consoles: keeps what nobody has read, and sends answers out.

    @ivar kept: messages that wait for an operator, oldest first.
    """

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.time) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param now: tells the time of day in seconds since 1970.
        """
        self._clock = clock
        self._now = now
        self._consoles: list[Operator] = []
        self._answers = TokenBuckets(clock, ANSWER_RATE, ANSWER_BURST)
        self._lines: list[PlainChat] = []
        self._heardOn: OrderedDict[str, PlainChat] = OrderedDict()
        self.kept: deque[Message] = deque()
        self._keptText = 0
        self._keptOf: Counter[str] = Counter()

    def listen(self) -> PlainChat:
        """
        Make the protocol for one datagram address.

        @return: feeds this switchboard.
        """
        return PlainChat(self._clock, self)

    def opened(self, line: PlainChat) -> None:
        """
        Send answers through a line from now on.

        @param line: is listening.
        """
        self._lines.append(line)

    def closed(self, line: PlainChat) -> None:
        """
        Send nothing more through a line.

        @param line: has stopped listening.
        """
        self._lines.remove(line)
        for sender in [sender for sender, on in self._heardOn.items() if on is line]:
            del self._heardOn[sender]

    def attach(self, console: Operator) -> None:
        """
        Take an operator's console, and give it what was kept.

        @param console: will get every message from now on.
        """
        self._consoles.append(console)
        while self.kept and console in self._consoles:
            message = self.kept.popleft()
            self._keptText -= len(message.text)
            self._keptOf -= Counter((_host(message),))
            console.show(message)

    def detach(self, console: Operator) -> None:
        """
        Let a console go.

        @param console: has closed, or takes no more for now.
        """
        if console in self._consoles:
            self._consoles.remove(console)

    def heard(self, line: PlainChat, text: str, addr: tuple[str, int], asked: int) -> None:
        """
        Take a message from a client.

        @param line: where it came in.
        @param text: safe to show.
        @param addr: its sender, as far as that can be believed.
        @param asked: bytes of the datagram.
        """
        message = Message(self._now(), _written(addr), text)
        self._remember(message.sender, line)
        if self._consoles:
            for console in list(self._consoles):
                console.show(message)
            return
        answer = KEPT if self._keep(message) else NOT_KEPT
        if self._answers.take(addr):
            line.answer(answer.encode(), asked, addr)

    def reply(self, to: str, text: str) -> None:
        """
        Send an operator's answer.

        @param to: C{IP:PORT}.
        @param text: what to send.
        @raise InvalidName: when it cannot be sent there.
        @raise ConnectionFailed: when the system does not send it.
        """
        host, port, version = _parsed(to)
        line = self._heardOn.get(to) or self._anyLine(version)
        if line is None:
            raise InvalidName(
                f"This service does not listen on IPv{version}, so {to} cannot be reached."
            )
        unsent = line.unsent
        line.send(text.encode("utf-8", "replace"), (host, port))
        if line.unsent > unsent:
            raise ConnectionFailed(
                f"The system did not take the answer to {to}; see whether that address can be "
                "reached, or write a shorter text."
            )

    def _remember(self, sender: str, line: PlainChat) -> None:
        self._heardOn[sender] = line
        self._heardOn.move_to_end(sender)
        if len(self._heardOn) > MAX_SENDERS:
            self._heardOn.popitem(last=False)

    def _anyLine(self, version: int) -> PlainChat | None:
        return next((line for line in self._lines if line.version == version), None)

    def _keep(self, message: Message) -> bool:
        size = len(message.text)
        full = len(self.kept) >= MAX_KEPT or self._keptText + size > MAX_KEPT_TEXT
        if full or self._keptOf[_host(message)] >= MAX_KEPT_OF_HOST:
            return False
        self._keptOf[_host(message)] += 1
        self.kept.append(message)
        self._keptText += size
        return True


def _written(addr: tuple[str, int]) -> str:
    host, port = addr
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(message: Message) -> str:
    return message.sender.rpartition(":")[0]


def _parsed(to: str) -> tuple[str, int, int]:
    """Tell host, port and version of IP."""
    try:
        hostPort = splitHostPort(to)
        if hostPort is not None:
            return (*hostPort, ipaddress.ip_address(hostPort[0]).version)
    except (ValueError, NetsuiteError):
        pass
    raise InvalidName(f"{to!r} is no IP:PORT; write @IP:PORT and the text.")


class PlainChat(GuardedDatagrams):
    """Takes lines of text from plain UDP clients on one address."""

    def __init__(self, clock: IReactorTime, switchboard: Switchboard) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param switchboard: gets every line.
        """
        super().__init__(clock)
        self._switchboard = switchboard

    def startProtocol(self) -> None:
        """Offer this line for answers."""
        super().startProtocol()
        self._switchboard.opened(self)

    def stopProtocol(self) -> None:
        """Take it back."""
        self._switchboard.closed(self)

    @property
    def version(self) -> int:
        """The version of IP that is spoken here."""
        return 6 if isinstance(self.transport.getHost(), IPv6Address) else 4

    def guardedReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Pass a line on; a blank one says nothing, and is not answered."""
        text = decodeText(datagram, MAX_TEXT).strip()
        # Our own answer that comes back is from a service that answers everything.
        if text and text.casefold() not in AUTOMATIC:
            self._switchboard.heard(self, text, addr, len(datagram))


@implementer(IPushProducer)
class Operator(LineOnlyReceiver, ServedProtocol):
    """
    The console of one operator.

    A console that does not take its messages, such as a stopped terminal, is detached until it
    does: then they are kept, as if no operator were there.
    """

    factory: OperatorFactory
    transport: IStreamTransport
    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def connectionMade(self) -> None:
        """Take the messages that were kept."""
        super().connectionMade()
        self.transport.registerProducer(self, True)
        self.factory.switchboard.attach(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take no more messages."""
        self.factory.switchboard.detach(self)
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        """The operator leaves: what comes from now on is for the next."""
        self.factory.switchboard.detach(self)
        self.transport.unregisterProducer()
        super().readConnectionLost()

    def show(self, record: Message | Notice) -> None:
        """
        Send a record to the console.

        @param record: what to show.
        """
        self.sendLine(encodeLine(record))

    def lineReceived(self, line: bytes) -> None:
        """Send the operator's answer out."""
        try:
            reply = decodeForService(line)
            self.factory.switchboard.reply(reply.to, reply.text)
        except NetsuiteError as error:
            self.show(Notice(error.sentence))

    def lineLengthExceeded(self, line: bytes) -> None:
        """This is no console of ours."""
        self.log.warn(
            "{peer}: closed, a line is longer than {limit} bytes", peer=self.peer, limit=MAX_LINE
        )
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """The console does not take its messages; its lines wait too, as each may be answered."""
        self.transport.pauseProducing()
        self.factory.switchboard.detach(self)

    def resumeProducing(self) -> None:
        """It has taken them."""
        self.transport.resumeProducing()
        self.factory.switchboard.attach(self)

    def stopProducing(self) -> None:
        """The console is gone; L{connectionLost} follows."""


class OperatorFactory(ServedFactory):
    """
    Serves the consoles of operators.

    @ivar switchboard: what they operate.
    """

    protocol = Operator

    def __init__(
        self,
        clock: IReactorTime,
        switchboard: Switchboard,
        limits: ConnectionLimits = OPERATOR_LIMITS,
    ) -> None:
        """
        @param clock: the reactor, or a fake clock in tests.
        @param switchboard: what they operate.
        @param limits: bounds the consoles.
        """
        super().__init__(clock, limits)
        self.switchboard = switchboard
