"""
Peers that never finish what they begin, as a program of its own: it must not share the processor
time of the client whose latency is measured.

Each connects from one of eight addresses of loopback. Every second one is silent, the others send
a byte a second of what would begin a session, and never its end. One that is closed comes again.
"""

from __future__ import annotations

import errno
import heapq
import json
import resource
import selectors
import signal
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from itertools import count

from twisted_netsuite.echo.messages import RECORDS, SERVICE
from twisted_netsuite.net.sessionclient import helloFor
from twisted_netsuite.wire.session import SessionCodec

#: The addresses that the peers come from, as many as machines of a small nuisance.
SOURCES = tuple(f"127.0.2.{number}" for number in range(1, 9))

#: Seconds between two bytes of one peer.
DRIP = 1.0

#: Seconds until a peer that was closed comes again.
RETURN = 5.0

#: Seconds over which the peers come at first.
RAMP = 3.0


def clientHello() -> bytes:
    """Make the first message of a TLS handshake."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="localhost"
    )
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs an answer")


def hello() -> bytes:
    """Make the first frame of a native session."""
    frame = SessionCodec(RECORDS).encode(helloFor(SERVICE))
    return len(frame).to_bytes(4, "big") + frame


@dataclass
class Peer:
    """
    One that never finishes.

    @ivar source: its address.
    @ivar beginning: what it drips; empty for one that is silent.
    @ivar sent: bytes that it has dripped.
    @ivar socket: its connection, while it has one.
    """

    source: str
    beginning: bytes
    sent: int = 0
    socket: socket.socket | None = None


class Drips:
    """
    All of them.

    @ivar connects: connections that were begun.
    @ivar closes: those that the other end has closed.
    @ivar most: the most there were at a time.
    """

    def __init__(self, port: int, beginning: bytes, peers: int) -> None:
        """
        @param port: of 127.0.0.1.
        @param beginning: of a session.
        @param peers: how many there are.
        """
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Peer]] = []
        self._order = count()
        self.connects = self.closes = self.most = self._open = 0
        now = time.monotonic()
        for number in range(peers):
            source = SOURCES[number // 2 % len(SOURCES)]
            peer = Peer(source, beginning[:-1] if number % 2 else b"")
            self._later(now + RAMP * number / peers, peer)

    def _later(self, when: float, peer: Peer) -> None:
        heapq.heappush(self._due, (when, next(self._order), peer))

    def run(self) -> None:
        """Go on until the program is ended."""
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                self._act(heapq.heappop(self._due)[2], now)
            wait = max(0.0, self._due[0][0] - now) if self._due else None
            for key, _ in self._selector.select(wait):
                self._readable(key.data)

    def _act(self, peer: Peer, now: float) -> None:
        if peer.socket is None:
            self._connect(peer)
            self._later(now + DRIP, peer)
        elif peer.sent < len(peer.beginning):
            try:
                peer.sent += peer.socket.send(peer.beginning[peer.sent : peer.sent + 1])
            except BlockingIOError:
                # Not accepted yet: the byte is sent a second later.
                pass
            except OSError:
                self._close(peer)
                return
            self._later(now + DRIP, peer)

    def _connect(self, peer: Peer) -> None:
        made = socket.socket()
        made.setblocking(False)
        made.bind((peer.source, 0))
        begun = made.connect_ex(("127.0.0.1", self._port))
        if begun not in (0, errno.EINPROGRESS):
            made.close()
            return
        peer.socket, peer.sent = made, 0
        self.connects += 1
        self._open += 1
        self.most = max(self.most, self._open)
        self._selector.register(made, selectors.EVENT_READ, peer)

    def _readable(self, peer: Peer) -> None:
        assert peer.socket is not None
        try:
            if peer.socket.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close(peer)

    def _close(self, peer: Peer) -> None:
        assert peer.socket is not None
        self._selector.unregister(peer.socket)
        peer.socket.close()
        peer.socket = None
        self._open -= 1
        self.closes += 1
        self._due = [due for due in self._due if due[2] is not peer]
        heapq.heapify(self._due)
        self._later(time.monotonic() + RETURN, peer)


def main(port: str, dialect: str, peers: str) -> None:
    """
    Drip until SIGTERM, then tell in JSON what was done.

    @param port: of 127.0.0.1.
    @param dialect: C{tls} or C{native}: what is begun.
    @param peers: how many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, int(peers) + 100)), hard))
    drips = Drips(int(port), clientHello() if dialect == "tls" else hello(), int(peers))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        drips.run()
    finally:
        told = {"connects": drips.connects, "closes": drips.closes, "most": drips.most}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
