"""
The wait for a TLS handshake: who passes, and what becomes of everybody else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import (
    LimitConnectionsByPeer,
    LimitTotalConnectionsFactory,
    TimeoutFactory,
    WrappingFactory,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.protocols.wire import Echo as StockEcho
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests.net.handshakes import (
    HERE,
    PEER,
    Notes,
    Resuming,
    Served,
    lines,
    noting,
    outcome,
    reusedSession,
    upTo,
)
from tests.trust.certificates import (
    SERVER,
    Issuer,
    authority,
    bundle,
    clientBundle,
    clientFiles,
    forge,
    newAuthority,
    revocations,
    serverBundle,
    serverFiles,
    stranger,
    strangeServer,
    written,
)
from twisted_netsuite.echo.protocol import EchoFactory
from twisted_netsuite.net import handshake
from twisted_netsuite.net.addresses import StreamAddress, parseListen
from twisted_netsuite.net.admission import FREE_FAILURES, ConnectionLimits
from twisted_netsuite.net.conversation import connectReason
from twisted_netsuite.net.handshake import (
    HANDSHAKE_TIMEOUT,
    DialledGateFactory,
    HandshakeFailed,
    HandshakeGateFactory,
    protocolsOf,
    tlsReason,
)
from twisted_netsuite.net.mtls import ClientCreator
from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.proxy.protocol import ProxyFactory
from twisted_netsuite.testing import Pair

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)

HOUR = timedelta(hours=1)

#: What stands before the cause in the line of a handshake that failed.
CLOSED = "192.0.2.1:50000: closed, no TLS handshake: "

#: What stands before the reason for which a certificate was refused.
REFUSED = "the peer's certificate was refused: "


@functools.cache
def root() -> Issuer:
    """Make an authority that may have others below it."""
    return forge(["Root"], usage=None, ca=True)


@functools.cache
def middle() -> Issuer:
    """Make the authority below it."""
    return forge(["Middle"], root(), usage=None, ca=True)


def shared() -> Issuer:
    """Sign as the authority that everybody here trusts."""
    return Issuer.of(authority())


def rootFiles(*, crl: bytes = b"") -> TrustFiles:
    """Tell the files of a server that trusts the root."""
    both = root().pem + middle().pem
    return serverFiles(ca=written(both), crl=written(crl) if crl else "")


class ServiceTestCase(SynchronousTestCase):
    """Echo behind an endpoint in memory."""

    def serve(self, files: TrustFiles | None = None, **kwargs: Any) -> Served:
        """Listen."""
        limits = kwargs.pop("limits", ConnectionLimits())
        reactor = MemoryReactorClock()
        self.echo = EchoFactory(reactor, limits=limits)
        self.served = Served(self.echo, reactor=reactor, files=files or serverFiles(), **kwargs)
        return self.served

    def assertNothingLeft(self) -> None:
        """Nothing of any connection is left."""
        self.assertEqual(len(self.echo.admission), 0)
        self.assertEqual(len(self.echo.admission.pending), 0)
        self.assertEqual(len(self.echo.connections), 0)
        self.assertEqual(self.served.factory.protocols, {})
        self.assertEqual(self.served.factory.wrappedFactory.waiting, set())
        self.assertEqual(self.served.waiting, [])

    def assertRefused(
        self, client: TrustFiles, cause: str, alerts: tuple[str, str], server: TrustFiles
    ) -> None:
        """A client is refused by each version, with one line, the right alert, and no service."""
        for version, alert in zip(VERSIONS, alerts, strict=True):
            self.serve(server)
            with lines(self) as logged:
                inner, pair = self.served.connect(context=upTo(version, client))
            self.assertEqual(logged, [CLOSED + cause])
            assert inner.lost is not None and pair.server.lost is not None
            inner.lost.trap(SSL.Error)
            self.assertIn(alert, str(inner.lost.value))
            # Closed in order, so that the alert arrives.
            pair.server.lost.trap(ConnectionDone)
            self.assertNothingLeft()
            self.assertEqual(self.echo.admission.failures, 1)


class CertificateTests(ServiceTestCase):
    """Certificates of clients, under TLS 1.2 and 1.3."""

    def refused(self, cert: str, cause: str, alert: str, server: TrustFiles | None = None) -> None:
        """Check one that is refused."""
        client = clientFiles(cert=cert)
        self.assertRefused(client, cause, (alert, alert), server or serverFiles())

    def test_good(self) -> None:
        """One of the trusted authority is served, as whom it names."""
        for version in VERSIONS:
            self.serve()
            with lines(self) as logged:
                inner, pair = self.served.connect(context=upTo(version))
                (served,) = self.echo.connections
                self.assertEqual((str(served.identity), served.secure), ("cert:anna", True))
                inner.transport.write(b"hello")
                self.served.settle(pair)
                self.assertEqual(inner.received, b"HELLO")
                inner.transport.loseConnection()
                self.served.settle(pair)
            self.assertEqual(logged, [])
            self.assertNothingLeft()

    def test_none(self) -> None:
        """Without one a client is told that one is required, which TLS 1.2 has no word for."""
        alerts = ("alert handshake failure", "alert certificate required")
        self.assertRefused(clientFiles(cert=""), "no certificate was sent", alerts, serverFiles())

    def test_notRequired(self) -> None:
        """Where none is required, a client without one is anonymous, and one with one is itself."""
        for cert, who in (("", "anonymous"), (clientBundle(), "cert:anna")):
            self.serve(require=False)
            self.served.connect(clientFiles(cert=cert))
            self.assertEqual([str(each.identity) for each in self.echo.connections], [who])

    def test_notRequiredYetBad(self) -> None:
        """Where none is required, one that is bad is refused all the same."""
        self.serve(require=False)
        bad = str(stranger().issueClient("notRequired"))
        with lines(self) as logged:
            self.served.connect(clientFiles(cert=bad))
        self.assertEqual(logged, [f"{CLOSED}{REFUSED}its authority is not trusted here"])
        self.assertNothingLeft()

    def test_stranger(self) -> None:
        """One of another authority."""
        cert = str(stranger().issueClient("s"))
        self.refused(cert, f"{REFUSED}its authority is not trusted here", "alert unknown ca")

    def test_sameNameOtherKey(self) -> None:
        """One of an authority that only calls itself by the name of the trusted one."""
        other = newAuthority(name="Shared")
        fault = "its authority is not trusted here"
        self.refused(str(other.issueClient("anna")), REFUSED + fault, "alert unknown ca")

    def test_selfSigned(self) -> None:
        """One that only its owner vouches for."""
        self.refused(bundle(forge()), f"{REFUSED}it is self-signed", "alert unknown ca")

    def test_expired(self) -> None:
        """One whose time is over."""
        expired = forge(issuer=shared(), end=datetime.now(UTC) - HOUR)
        fault = f"{REFUSED}it has expired"
        self.refused(bundle(expired), fault, "alert certificate expired")

    def test_notYetValid(self) -> None:
        """One whose time has yet to come."""
        early = forge(issuer=shared(), begin=datetime.now(UTC) + HOUR)
        self.refused(bundle(early), f"{REFUSED}it is not yet valid", "alert bad certificate")

    def test_server(self) -> None:
        """A server's, in the hands of a client."""
        fault = f"{REFUSED}it is not for this end of a connection"
        self.refused(serverBundle(), fault, "alert unsupported certificate")

    def test_revoked(self) -> None:
        """One that its authority has revoked; another of the same authority is served."""
        own = newAuthority()
        bob, anna = (str(own.issueClient(name)) for name in ("bob", "anna"))
        own.revoke("bob")
        server = serverFiles(ca=str(own.certificatePath), crl=str(own.crlPath))
        self.refused(bob, f"{REFUSED}it is revoked", "alert certificate revoked", server)
        self.serve(server)
        self.served.connect(clientFiles(cert=anna))
        self.assertEqual(len(self.echo.connections), 1)

    def test_noList(self) -> None:
        """One of an authority without a list, where others have lists, is not taken on trust."""
        own = newAuthority()
        both = written(authority().certificatePath.read_bytes() + own.certificatePath.read_bytes())
        fault = f"{REFUSED}no CRL of its authority is loaded"
        server = serverFiles(ca=both, crl=str(own.crlPath))
        self.refused(clientBundle(), fault, "alert unknown ca", server)

    def test_staleList(self) -> None:
        """One of an authority whose list is out of date, and may not tell of what was revoked."""
        stale = written(revocations(shared(), end=datetime.now(UTC) - HOUR))
        fault = f"{REFUSED}the CRL has expired"
        self.refused(clientBundle(), fault, "alert certificate expired", serverFiles(crl=stale))

    def test_earlyList(self) -> None:
        """One of an authority whose list is of a time to come."""
        begin = datetime.now(UTC) + HOUR
        early = written(revocations(shared(), begin=begin, end=begin + HOUR))
        fault = f"{REFUSED}the CRL is not yet valid"
        self.refused(clientBundle(), fault, "alert bad certificate", serverFiles(crl=early))

    def test_chain(self) -> None:
        """One of an authority below the trusted one is served, when that one's comes along."""
        self.serve(serverFiles(ca=root().save()))
        self.served.connect(clientFiles(cert=bundle(forge(issuer=middle()), middle())))
        self.assertEqual([str(each.identity) for each in self.echo.connections], ["cert:anna"])

    def test_chainWithoutMiddle(self) -> None:
        """The same, when that one's does not come along."""
        self.refused(
            bundle(forge(issuer=middle())),
            f"{REFUSED}its authority is not trusted here",
            "alert unknown ca",
            serverFiles(ca=root().save()),
        )

    def test_revokedAuthority(self) -> None:
        """One of an authority that was itself revoked."""
        crl = revocations(root(), [middle().certificate]) + revocations(middle())
        cert = bundle(forge(issuer=middle()), middle())
        fault = f"{REFUSED}it is revoked"
        self.refused(cert, fault, "alert certificate revoked", rootFiles(crl=crl))

    def test_authorityNotRevoked(self) -> None:
        """Lists of every authority in a chain, which name none of it, do no harm."""
        self.serve(rootFiles(crl=revocations(root()) + revocations(middle())))
        self.served.connect(clientFiles(cert=bundle(forge(issuer=middle()), middle())))
        self.assertEqual(len(self.echo.connections), 1)

    def test_notAnAuthority(self) -> None:
        """One that a client signed with its own certificate."""
        client = forge(["mallory"], shared())
        self.refused(
            bundle(forge(["root"], client), client),
            f"{REFUSED}its authority may not issue certificates",
            "alert unknown ca",
        )

    def test_nameless(self) -> None:
        """One without a name, with two, or with one that no name can be."""
        for names, shown in (
            ([], "none"),
            (["anna", "bob"], "anna, bob"),
            (["anna smith"], "anna smith"),
            (["a\x1b[31mb"], "a\N{REPLACEMENT CHARACTER}[31mb"),
        ):
            fault = (
                f"{REFUSED}the certificate's common name is '{shown}'; one name of letters, "
                "digits and ._@- is needed"
            )
            # pyOpenSSL has no way to choose a better alert.
            cert = bundle(forge(names, shared()))
            self.refused(cert, fault, "alert internal error")

    def test_unreadableRoles(self) -> None:
        """One whose alternative names cannot be read has no roles, and ends nothing."""
        odd = x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")
        cert = bundle(forge(issuer=shared(), sans=[odd]))
        self.serve()
        self.served.connect(clientFiles(cert=cert))
        (served,) = self.echo.connections
        self.assertEqual((str(served.identity), served.identity.roles), ("cert:anna", frozenset()))


class ServerCertificateTests(ServiceTestCase):
    """Certificates of servers that a client does not take: the server's side of it."""

    def told(self, server: TrustFiles, cause: str, **client: Any) -> None:
        """Check what is logged."""
        self.serve(server)
        with lines(self) as logged:
            self.served.connect(**client)
        self.assertEqual(logged, [CLOSED + cause])
        self.assertNothingLeft()
        # What is wrong here is ours: the client has failed in nothing.
        self.assertEqual(self.echo.admission.failures, 0)

    def test_unknown(self) -> None:
        """A client that does not know the server's authority says so."""
        self.told(serverFiles(cert=strangeServer()), "the peer does not trust this end's authority")

    def test_expired(self) -> None:
        """A client tells of a certificate that has expired."""
        sans = [x509.DNSName("localhost")]
        end = datetime.now(UTC) - HOUR
        old = forge(["localhost"], shared(), usage=SERVER, sans=sans, end=end)
        cause = "the peer says that this end's certificate has expired"
        self.told(serverFiles(cert=bundle(old)), cause)

    def test_client(self) -> None:
        """A client refuses a certificate of a client."""
        cause = "the peer says that this end's certificate is not for this end"
        self.told(serverFiles(cert=clientBundle()), cause)

    def test_wrongName(self) -> None:
        """A client that wants another name says little, and that is shown."""
        cause = "the peer refuses this end's certificate, perhaps for its name"
        self.told(serverFiles(), cause, name="other.example.com")


class GarbageTests(ServiceTestCase):
    """Peers that speak no TLS, or none that is taken."""

    def say(self, data: bytes) -> tuple[list[str], Pair]:
        """Send bytes, and collect what is logged."""
        self.serve()
        with lines(self) as logged:
            pair = self.served.accept(Notes())
            pair.client.write(data)
            self.served.settle(pair)
        return logged, pair

    def test_plain(self) -> None:
        """What is not TLS is called so; the connection ends and nothing is left."""
        for data, cause in (
            (b"hello\r\n" * 10, "what was sent is not TLS"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "plain HTTP was sent"),
            (b"POST / HTTP/1.1\r\n\r\n", "plain HTTP was sent"),
            (b"CONNECT localhost:443 HTTP/1.1\r\n\r\n", "plain HTTP was sent"),
            (b"SSH-2.0-OpenSSH_9.9\r\n", "what was sent is not TLS"),
            (b"\xff" * 4096, "what was sent is not TLS"),
            (bytes(4096), "what was sent is not TLS"),
            (b"\x16\x03\x01\xff\xff" + bytes(100), "what was sent is not TLS"),
            (b"\x80\x2e\x01\x00\x02" + bytes(100), "what was sent is not TLS"),
        ):
            logged, pair = self.say(data)
            self.assertEqual(logged, [CLOSED + cause], data)
            self.assertIsNotNone(pair.server.lost)
            self.assertNothingLeft()

    def test_helloBeyondMeasure(self) -> None:
        """A message of a handshake that says to be of 16 MB is not waited for."""
        logged, pair = self.say(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")
        self.assertEqual(len(logged), 1)
        self.assertIsNotNone(pair.server.lost)
        self.assertNothingLeft()

    @settings(deadline=None, max_examples=200)
    @given(st.binary(min_size=1, max_size=300), st.sampled_from((b"", b"\x16\x03\x01\x00\x30")))
    def test_anything(self, data: bytes, head: bytes) -> None:
        """Whatever is sent, there is one line, no traceback, no service, and nothing is left."""
        self.serve()
        with lines(self) as logged:
            pair = self.served.accept(Notes())
            pair.client.write(head + data)
            self.served.settle(pair)
            pair.client.loseConnection()
            self.served.settle(pair)
        self.assertEqual(len(logged), 1)
        self.assertTrue(logged[0].startswith(CLOSED))
        self.assertNothingLeft()

    @settings(deadline=None, max_examples=100)
    @given(st.integers(0, 4000), st.integers(0, 255))
    def test_oneByteChanged(self, place: int, byte: int) -> None:
        """A good client whose bytes are changed on the way is not served, and there is one line."""
        self.serve()
        with lines(self) as logged:
            _, pair = self.served.connect(flush=False)
            sent = 0
            changed = False
            for _ in range(20):
                piece = pair.client.outgoing
                if not changed and sent + len(piece) > place:
                    changed = piece[place - sent] != byte
                    piece[place - sent] = byte
                    place = 1 << 30
                sent += len(piece)
                pair.client.step(1 << 16)
                pair.server.step(1 << 16)
            self.served.settle(pair)
            served = len(self.echo.connections)
            pair.client.abortConnection()
            self.served.settle(pair)
        if changed and not served:
            self.assertEqual(len(logged), 1, logged)
        elif not changed:
            self.assertEqual(served, 1)
        self.assertNothingLeft()

    def test_oldVersions(self) -> None:
        """A client of TLS 1.1 is told so by an alert, and the log tells why."""
        self.serve()
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        with lines(self) as logged:
            inner, _ = self.served.connect(context=context)
        cause = "the versions of TLS that both speak have none in common"
        self.assertEqual(logged, [CLOSED + cause])
        assert inner.lost is not None
        self.assertIn("alert protocol version", str(inner.lost.value))
        self.assertNothingLeft()

    def test_noSuite(self) -> None:
        """A client with no suite of the profile is told so."""
        for version, prepare in (
            (SSL.TLS1_2_VERSION, lambda c: c.set_cipher_list(b"ECDHE-ECDSA-AES256-SHA384")),
            (SSL.TLS1_3_VERSION, lambda c: c.set_tls13_ciphersuites(b"TLS_AES_128_CCM_SHA256")),
        ):
            self.serve()
            context = upTo(version)
            context.set_min_proto_version(version)
            prepare(context)
            with lines(self) as logged:
                inner, _ = self.served.connect(context=context)
            self.assertEqual(logged, [f"{CLOSED}no cipher suite is common to both"])
            assert inner.lost is not None
            self.assertIn("alert handshake failure", str(inner.lost.value))
            self.assertNothingLeft()

    def test_noGroup(self) -> None:
        """A client with no group of the profile is told so."""
        for version, cause in (
            (SSL.TLS1_2_VERSION, "no cipher suite is common to both"),
            (SSL.TLS1_3_VERSION, "no group is common to both"),
        ):
            self.serve()
            context = upTo(version)
            context.set_min_proto_version(version)
            cast(Any, SSL)._lib.SSL_CTX_set1_curves_list(cast(Any, context)._context, b"P-521")
            with lines(self) as logged:
                self.served.connect(context=context)
            self.assertEqual(logged, [CLOSED + cause])
            self.assertNothingLeft()


class EndTests(ServiceTestCase):
    """Connections that end in the middle of a handshake, or never come to its end."""

    def begin(self, pieces: int = 1) -> tuple[Notes, Pair]:
        """Begin a handshake, so many steps far."""
        inner, pair = self.served.connect(flush=False)
        for _ in range(pieces):
            pair.client.step(1 << 16)
            pair.server.step(1 << 16)
        return inner, pair

    def test_close(self) -> None:
        """Whenever a peer closes or resets, there is one line, and it is no failure of the peer."""
        cause = "the connection ended before that"
        for pieces in range(2):
            for end in ("loseConnection", "abortConnection"):
                self.serve()
                with lines(self) as logged:
                    _, pair = self.begin(pieces)
                    pair.client.outgoing.clear()
                    getattr(pair.client, end)()
                    self.served.settle(pair)
                self.assertEqual(logged, [CLOSED + cause])
                self.assertNothingLeft()
                self.assertEqual(self.echo.admission.failures, 0)

    def test_deadline(self) -> None:
        """A handshake that does not come is given up when its time is over, not before."""
        self.serve()
        with lines(self) as logged:
            _, pair = self.begin()
            self.served.reactor.advance(HANDSHAKE_TIMEOUT - 0.125)
            self.assertEqual(len(self.echo.admission.pending), 1)
            self.assertIsNone(pair.server.lost)
            self.served.reactor.advance(0.125)
            self.served.settle(pair)
        self.assertEqual(logged, [f"{CLOSED}it was not complete within 10 s"])
        self.assertEqual(self.echo.admission.refusals, {"handshake-timeout": 1})
        self.assertEqual(self.echo.admission.failures, 1)
        self.assertNothingLeft()

    def test_drip(self) -> None:
        """A byte a second wins no time."""
        self.serve()
        with lines(self) as logged:
            _, pair = self.served.connect(flush=False)
            for _ in range(20):
                pair.client.step(1)
                pair.server.step(1 << 16)
                self.served.reactor.advance(1)
            self.served.settle(pair)
        self.assertEqual(logged, [f"{CLOSED}it was not complete within 10 s"])
        self.assertNothingLeft()

    def test_whose(self) -> None:
        """The endpoint's own time counts, and without one the service's limit."""
        for endpoint, limit in ((3.0, 1.0), (3.0, 10.0), (None, 3.0)):
            self.serve(timeout=endpoint, limits=ConnectionLimits(handshakeTimeout=limit))
            with lines(self) as logged:
                _, pair = self.begin()
                self.served.reactor.advance(3)
                self.served.settle(pair)
            self.assertEqual(logged, [f"{CLOSED}it was not complete within 3 s"])

    def test_everyByte(self) -> None:
        """A handshake in pieces of one byte is complete all the same."""
        self.serve()
        inner, pair = self.served.connect(flush=False)
        self.served.settle(pair, 1)
        inner.transport.write(b"hello")
        self.served.settle(pair, 1)
        self.assertEqual(inner.received, b"HELLO")

    def test_tooMany(self) -> None:
        """More bytes than any handshake has end it."""
        self.patch(handshake, "MAX_HANDSHAKE", 100)
        self.serve()
        with lines(self) as logged:
            _, pair = self.served.connect(flush=False)
            self.served.settle(pair, 10)
        self.assertEqual(logged, [f"{CLOSED}it has more than 100 bytes"])
        self.assertNothingLeft()

    def test_boundEnds(self) -> None:
        """Once the handshake is complete, no number of bytes is too large."""
        self.serve()
        inner, pair = self.served.connect()
        self.patch(handshake, "MAX_HANDSHAKE", 0)
        inner.transport.write(bytes(100_000))
        self.served.settle(pair)
        self.assertEqual(len(inner.received), 100_000)

    def test_evicted(self) -> None:
        """The oldest of too many makes room, and is not to blame: its source is not punished."""
        self.serve(limits=ConnectionLimits(maxPending=2))
        with lines(self) as logged:
            pairs = [self.begin()[1] for _ in range(3)]
            for pair in pairs:
                self.served.settle(pair)
        cause = "too many are waiting to be complete (max-pending)"
        self.assertEqual(logged, [CLOSED + cause])
        self.assertIsNotNone(pairs[0].server.lost)
        self.assertEqual(len(self.echo.connections), 2)
        self.assertEqual(self.echo.admission.refusals, {"max-pending": 1})
        self.assertEqual(self.echo.admission.failures, 0)

    def test_penalty(self) -> None:
        """A source that fails again and again is turned away for a while, then let in again."""
        self.serve()
        with lines(self):
            for _ in range(FREE_FAILURES + 1):
                self.served.connect(clientFiles(cert=""))
            self.served.connect()
        self.assertEqual(self.echo.connections, set())
        self.assertEqual(self.echo.admission.refusals, {"penalty": 1})
        self.served.reactor.advance(self.echo.limits.penalty)
        self.served.connect()
        self.assertEqual(len(self.echo.connections), 1)

    def test_flood(self) -> None:
        """
        Of what goes wrong again and again for one source the log tells each time that it has
        doubled; the first of another cause or source is always told.
        """
        self.serve(limits=ConnectionLimits(penalty=0))
        other = IPv4Address("TCP", "192.0.2.9", 1)
        with lines(self) as logged:
            for _ in range(20):
                self.served.connect(clientFiles(cert=""))
            for peer, data in ((PEER, b"GET / HTTP/1.0\r\n\r\n"), (other, bytes(100))):
                pair = self.served.accept(Notes(), peer)
                pair.client.write(data)
                self.served.settle(pair)
        again = [f"; {count} times so far" for count in (2, 4, 8, 16)]
        cause = f"{CLOSED}no certificate was sent"
        self.assertEqual(logged[:5], [cause, *(cause + each for each in again)])
        self.assertEqual(
            logged[5:],
            [
                f"{CLOSED}plain HTTP was sent",
                "192.0.2.9:1: closed, no TLS handshake: what was sent is not TLS",
            ],
        )

    def test_refused(self) -> None:
        """A connection too many is closed before any handshake."""
        self.serve(limits=ConnectionLimits(maxConnections=1))
        self.served.connect()
        with lines(self) as logged:
            inner, pair = self.served.connect()
        self.assertEqual(len(logged), 1)
        self.assertIn("refused, 1 connections are open (max-connections)", logged[0])
        self.assertEqual(inner.events, ["made", "lost"])
        self.assertIsNotNone(pair.server.lost)

    def test_stopped(self) -> None:
        """A service that stops gives up handshakes: none is served after its end."""
        self.serve()
        with lines(self) as logged:
            _, pair = self.begin()
            self.served.factory.doStop()
            self.served.settle(pair)
        self.assertEqual(logged, [f"{CLOSED}the service stops"])
        self.assertEqual(self.echo.admission.failures, 0)
        self.assertNothingLeft()


class EndOfTLSTests(ServiceTestCase):
    """How a connection ends after its handshake."""

    def ended(self, act: Callable[[Notes, Pair], object]) -> tuple[Notes, list[str]]:
        """Serve a protocol that takes notes, do something, and collect what is logged."""
        server = Notes()
        self.served = Served(noting(server))
        inner, pair = self.served.connect()
        with lines(self) as logged:
            act(inner, pair)
            self.served.settle(pair)
        self.assertEqual(server.events, ["made", "lost"])
        return server, logged

    def cut(self, how: str) -> Callable[[Notes, Pair], object]:
        """End the stream below TLS."""
        return lambda _, pair: getattr(pair.client, how)()

    def test_goodbye(self) -> None:
        """A peer that says goodbye ends cleanly, without a word in the log."""
        server, logged = self.ended(lambda inner, _: inner.transport.loseConnection())
        assert server.lost is not None
        server.lost.trap(ConnectionDone)
        self.assertEqual(logged, [])

    def test_answeredBeforeGoodbye(self) -> None:
        """A peer that says goodbye in the segment of its last message gets the answer to it."""
        served = self.serve()
        inner, pair = served.connect()
        inner.transport.write(b"hello")
        inner.transport.loseConnection()
        served.settle(pair)
        self.assertEqual(inner.received, b"HELLO")

    def test_noGoodbye(self) -> None:
        """
        The end of the stream without TLS's own goodbye may be anybody's work: the protocol does
        not take it for a clean end, and one line tells of it.
        """
        for how in ("loseConnection", "abortConnection"):
            server, logged = self.ended(self.cut(how))
            assert server.lost is not None
            server.lost.trap(ConnectionLost)
            self.assertEqual(
                logged,
                [
                    "192.0.2.1:50000 (cert:anna): closed, TLS: it ended without close_notify, so "
                    "what came may be cut short"
                ],
            )

    def test_damaged(self) -> None:
        """A record that was changed on the way ends the connection with one line."""

        def damage(inner: Notes, pair: Pair) -> None:
            inner.transport.write(b"hello")
            self.served.reactor.advance(0)
            pair.client.outgoing[-1] ^= 1

        server, logged = self.ended(damage)
        self.assertEqual(server.received, b"")
        assert server.lost is not None
        server.lost.trap(SSL.Error)
        self.assertEqual(len(logged), 1)
        self.assertIn("(cert:anna): closed, TLS: ", logged[0])

    def test_plainAfterwards(self) -> None:
        """Plain text in mid-stream likewise."""

        def speak(inner: Notes, pair: Pair) -> None:
            pair.client.write(b"GET / HTTP/1.0\r\n\r\n")

        _, logged = self.ended(speak)
        self.assertEqual(len(logged), 1)

    def test_ours(self) -> None:
        """An end that is our own doing needs no line, whatever the peer answers."""
        for end in ("loseConnection", "abortConnection"):
            server = Notes()
            self.served = Served(noting(server))
            _, pair = self.served.connect()
            with lines(self) as logged:
                getattr(server.transport, end)()
                pair.client.loseConnection()
                self.served.settle(pair)
            self.assertEqual((server.events, logged), (["made", "lost"], []))


@implementer(IHandshakeListener)
class Listener(Notes):
    """Is told of handshakes."""

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        self.events.append(f"complete {transport.negotiatedProtocol}")


class Speaker(Notes):
    """Speaks first, then closes."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(b"welcome")
        self.transport.loseConnection()


class Aborting(Notes):
    """Ends each connection at once."""

    def connectionMade(self) -> None:
        super().connectionMade()
        cast(Any, self.transport).abortConnection()


class Raising(Notes):
    """Fails as soon as it is connected."""

    def connectionMade(self) -> None:
        raise ValueError("broken")


class Nobody(Factory):
    """Has no protocol for anybody."""

    noisy = False

    def buildProtocol(self, addr: object) -> None:
        """Refuse."""


class PassedTests(SynchronousTestCase):
    """What a protocol, also one of another application, gets of a connection."""

    def test_once(self) -> None:
        """It is connected once, after the handshake, and never when there is none."""
        for files, events in ((clientFiles(), ["made"]), (clientFiles(cert=""), [])):
            server = Notes()
            with lines(self):
                Served(noting(server)).connect(files)
            self.assertEqual(server.events, events)

    def test_notBefore(self) -> None:
        """Until the client is proven it hears of nothing."""
        server = Notes()
        served = Served(noting(server))
        _, pair = served.connect(flush=False)
        while not server.events:
            self.assertEqual(len(served.factory.wrappedFactory.waiting), 1)
            pair.client.step(100)
            pair.server.step(1 << 16)
        self.assertEqual(served.factory.wrappedFactory.waiting, set())
        # The whole handshake of the client has come by then.
        self.assertEqual(pair.client.outgoing, b"")

    def test_dataWithFinished(self) -> None:
        """What comes together with the end of the handshake is delivered, after the beginning."""
        server = Notes()
        served = Served(noting(server))
        inner, pair = served.connect(flush=False)
        pair.client.step(1 << 16)
        pair.server.step(1 << 16)
        inner.transport.write(b"hello")
        served.reactor.advance(0)
        self.assertEqual(server.events, [])
        # The end of the client's handshake and its data leave in one piece.
        pair.client.step(1 << 16)
        self.assertEqual((server.events, server.received), (["made"], b"hello"))

    def test_listener(self) -> None:
        """One that wants to hear of handshakes is told after it is connected, and knows ALPN's."""
        server = Listener()
        Served(noting(server), protocols=(b"echo",)).connect(protocols=(b"other", b"echo"))
        self.assertEqual(server.events, ["made", "complete b'echo'"])

    def test_speaksFirst(self) -> None:
        """What it writes first arrives, and its close too."""
        served = Served(noting(Speaker()))
        inner, _ = served.connect()
        assert inner.lost is not None
        inner.lost.trap(ConnectionDone)
        self.assertEqual(inner.received, b"welcome")
        self.assertEqual(served.factory.protocols, {})

    def test_aborts(self) -> None:
        """It may end the connection as soon as it has it."""
        server = Aborting()
        served = Served(noting(server))
        with lines(self) as logged:
            inner, _ = served.connect()
        self.assertEqual((server.events, inner.received), (["made", "lost"], b""))
        self.assertEqual((served.waiting, served.factory.protocols, logged), ([], {}, []))

    def test_stockEcho(self) -> None:
        """Twisted's own echo works unchanged."""
        stock: Any = Factory.forProtocol(StockEcho)
        served = Served(stock)
        inner, pair = served.connect()
        inner.transport.write(b"hello")
        served.settle(pair)
        self.assertEqual(inner.received, b"hello")

    def test_web(self) -> None:
        """Twisted's web server works unchanged, and chooses its own ALPN."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> bytes:
                return str(request.getClientAddress().host).encode()

        reactor = MemoryReactorClock()
        site = Site(Page(), reactor=reactor)
        served = Served(site, reactor=reactor)
        inner, pair = served.connect(protocols=(b"http/1.1",))
        self.assertEqual(cast(Any, inner.transport).negotiatedProtocol, b"http/1.1")
        inner.transport.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        served.settle(pair)
        self.assertTrue(inner.received.startswith(b"HTTP/1.1 200 OK"), inner.received)
        self.assertIn(b"192.0.2.1", inner.received)

    def test_nobody(self) -> None:
        """A factory that has no protocol for a peer gets no connection, and no traceback."""
        served = Served(Nobody())
        with lines(self) as logged:
            inner, pair = served.connect()
        self.assertEqual(inner.events, ["made", "lost"])
        self.assertIsNotNone(pair.server.lost)
        self.assertEqual((served.factory.protocols, served.waiting, logged), ({}, [], []))

    def test_raises(self) -> None:
        """A factory, or a protocol, that fails has the traceback, and no place is kept."""

        class Broken(EchoFactory):
            def buildProtocol(self, addr: Any) -> Any:
                super().buildProtocol(addr)
                raise ValueError("broken")

        for where in ("factory", "protocol"):
            reactor = MemoryReactorClock()
            echo = Broken(reactor)
            factory: Any = echo if where == "factory" else noting(Raising())
            served = Served(factory, reactor=reactor)
            _, pair = served.connect(flush=False)
            self.assertRaises(ValueError, served.settle, pair)
            # What the reactor does then.
            pair.server.reset()
            self.assertEqual((len(echo.admission), served.waiting), (0, []))

    def test_logPrefix(self) -> None:
        """The reactor's own lines name the application, not the gate."""
        served = Served(EchoFactory(MemoryReactorClock()))
        tls = served.factory.buildProtocol(PEER)
        self.assertEqual(tls.logPrefix(), "EchoFactory (BoundedTLSTransport)")

        class Bare:
            def buildProtocol(self, addr: object) -> None:
                """Nobody."""

        gates = HandshakeGateFactory(cast(Any, Bare()), MemoryReactorClock())
        self.assertEqual(gates.buildProtocol(PEER).logPrefix(), "Bare")

    def test_noTarget(self) -> None:
        """A proxy connects to its target for a proven peer only."""

        class Target:
            asked = 0

            def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
                self.asked += 1
                return Deferred()

        for files, asked in ((clientFiles(cert=""), 0), (clientFiles(), 1)):
            reactor = MemoryReactorClock()
            target = Target()
            served = Served(ProxyFactory(reactor, cast(Any, target)), reactor=reactor)
            with lines(self):
                served.connect(files)
            self.assertEqual(target.asked, asked)


@implementer(IOpenSSLServerConnectionCreator)
class StockCreator:
    """Makes the connections that another factory makes."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return cast(SSL.Connection, self._factory._creatorCallable(tlsProtocol))


class StockTLSTests(ServiceTestCase):
    """A gate over Twisted's own TLS, as C{tls:} has it."""

    def test_gate(self) -> None:
        """It serves nobody before the handshake, and tells in one line why there was none."""
        reactor = MemoryReactorClock()
        self.echo = EchoFactory(reactor)
        served = self.serve()
        gates = HandshakeGateFactory(self.echo, reactor)
        stock = TLSMemoryBIOFactory(StockCreator(served.factory), False, gates, reactor)
        for files, cause in (
            (clientFiles(cert=""), ["no certificate was sent"]),
            (clientFiles(cert=bundle(forge())), ["the peer's certificate was refused"]),
            (clientFiles(), []),
        ):
            served.factory = stock
            with lines(self) as logged:
                served.connect(files)
            self.assertEqual(logged, [CLOSED + each for each in cause])
        self.assertEqual([str(each.identity) for each in self.echo.connections], ["cert:anna"])


class WrappedTests(ServiceTestCase):
    """Twisted's own wrappers between a gate and a service: they count what they make."""

    def behind(self, factory: IProtocolFactory) -> None:
        """Put a factory behind an endpoint."""
        self.served = Served(factory, reactor=self.reactor)

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.echo = EchoFactory(self.reactor, limits=ConnectionLimits(maxPending=3))

    def failing(self, times: int = 5) -> None:
        """Let handshakes fail in each way."""
        with lines(self):
            for _ in range(times):
                self.served.connect(clientFiles(cert=""))
                pair = self.served.accept(Notes(), IPv4Address("TCP", "192.0.2.7", 1))
                self.served.settle(pair)
                pair.client.loseConnection()
                self.served.settle(pair)

    def assertEchoes(self, *, left: int = 0) -> None:
        """One that is proven is served, and then gone."""
        inner, pair = self.served.connect()
        inner.transport.write(b"hello")
        self.served.settle(pair)
        self.assertEqual(inner.received.upper(), b"HELLO")
        inner.transport.loseConnection()
        self.served.settle(pair)
        self.assertEqual(len(self.echo.admission), left)

    def test_total(self) -> None:
        """C{LimitTotalConnectionsFactory} counts the proven only, and does not close for good."""
        total: Any = LimitTotalConnectionsFactory()
        total.protocol, total.connectionLimit = StockEcho, 1
        self.behind(total)
        self.failing()
        self.assertEqual(total.connectionCount, 0)
        self.assertEchoes()
        first, pair = self.served.connect()
        second, _ = self.served.connect()
        self.assertEqual((first.lost, second.events), (None, ["made", "lost"]))
        first.transport.loseConnection()
        self.served.settle(pair)
        self.assertEchoes()
        self.assertEqual(total.connectionCount, 0)

    def test_byPeer(self) -> None:
        """C{LimitConnectionsByPeer}, which asks addresses for their parts, likewise."""

        class Parts(IPv4Address):
            def __getitem__(self, index: int) -> str:
                return str(self.host)

        peer = Parts("TCP", "192.0.2.1", 50_000)
        limit: Any = LimitConnectionsByPeer(self.echo)
        limit.maxConnectionsPerPeer = 1
        self.behind(limit)
        for files, served in ((clientFiles(cert=""), 0), (None, 1), (None, 1)):
            with lines(self):
                tls = ClientCreator(files or clientFiles(), "localhost", ())
                inner = Notes()
                dialling = TLSMemoryBIOFactory(tls, True, noting(inner), self.reactor)
                self.served.settle(self.served.accept(dialling.buildProtocol(HERE), peer))
            self.assertEqual(limit.peerConnections, {"192.0.2.1": 1} if served else {})
            self.assertEqual((len(self.echo.connections), len(self.echo.admission)), (served,) * 2)

    def test_timeout(self) -> None:
        """C{TimeoutFactory} begins with the proven, and its service's limits hold before that."""
        timeout: Any = TimeoutFactory(self.echo, 30)
        timeout.callLater = self.reactor.callLater
        self.behind(timeout)
        self.failing()
        self.assertEqual((self.served.waiting, self.echo.admission.failures), ([], 4))
        self.reactor.advance(60)
        self.assertEchoes()
        with lines(self) as logged:
            pairs = [self.served.accept(Notes()) for _ in range(4)]
            self.served.settle(pairs[0])
        self.assertIsNotNone(pairs[0].server.lost)
        self.assertEqual((len(logged), len(self.echo.admission.pending)), (1, 3))

    def test_refusing(self) -> None:
        """A wrapper that has no protocol for a peer gives the service's place back."""

        class Refusing(WrappingFactory[Any]):
            def buildProtocol(self, addr: object) -> None:
                """Refuse."""

        class Late(WrappingFactory[Any]):
            def buildProtocol(self, addr: Any) -> None:
                self.wrappedFactory.buildProtocol(addr)

        for wrapper in (Refusing, Late):
            self.behind(wrapper(self.echo))
            inner, _ = self.served.connect()
            self.assertEqual(inner.events, ["made", "lost"])
            self.assertEqual((len(self.echo.admission), self.served.waiting), (0, []))

    def heard(self, description: str) -> Any:
        """Listen as a service does, and return what is listened with."""
        address = parseListen(self.reactor, description, ("stream",))
        assert isinstance(address, StreamAddress)
        self.assertFalse(address.authenticates)
        self.successResultOf(address.listen(self.echo, self.reactor))
        return (self.reactor.tcpServers + self.reactor.sslServers)[-1][1]

    def balanced(self) -> None:
        """Check that what is behind a balancer hears only of those who are proven."""
        silent = self.served.accept(Notes())
        self.served.settle(silent)
        self.assertEqual((len(self.echo.connections), len(self.echo.admission.pending)), (0, 1))
        silent.client.loseConnection()
        self.served.settle(silent)
        self.failing()
        self.assertEqual((len(self.echo.admission), self.echo.admission.refusals), (0, {}))
        inner, pair = self.served.connect()
        inner.transport.write(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nhello")
        self.served.settle(pair)
        (served,) = self.echo.connections
        # The certificate is the balancer's, which forwards strangers.
        self.assertEqual((served.peer, served.secure), ("192.0.2.7:1", True))
        self.assertEqual(inner.received, b"HELLO")
        inner.transport.loseConnection()
        self.served.settle(pair)
        self.assertNothingLeft()

    def assertNothingLeft(self) -> None:
        """No place is taken and no time waited for."""
        self.assertEqual((len(self.echo.admission), self.echo.connections), (0, set()))
        self.assertEqual(self.served.waiting, [])

    def test_balancedMutually(self) -> None:
        """C{haproxy:mtls:} has its gate below the balancer's header."""
        self.behind(self.echo)
        files = serverFiles()
        text = f"haproxy:mtls:0:cert={files.cert}:clientCA={files.ca}"
        self.served.factory = self.heard(text)
        self.balanced()

    def test_balancedStock(self) -> None:
        """C{haproxy:ssl:} as well, over Twisted's own TLS."""
        self.behind(self.echo)
        stock = self.heard(f"haproxy:ssl:0:privateKey={serverFiles().cert}")
        creator = StockCreator(self.served.factory)
        self.served.factory = TLSMemoryBIOFactory(creator, False, stock, self.reactor)
        self.balanced()

    def test_clientInsideHeader(self) -> None:
        """Where TLS is above the header, its peer is the client, whose certificate counts."""
        self.behind(self.echo)
        self.served.factory = HAProxyWrappingFactory(self.served.factory)
        _, pair = self.served.connect(flush=False)
        pair.client.outgoing[:0] = b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"
        self.served.settle(pair)
        self.assertEqual([each.peer for each in self.echo.connections], ["192.0.2.7:1 (cert:anna)"])


class DialledTests(SynchronousTestCase):
    """The gate of a client."""

    def dial(self, factory: IProtocolFactory) -> tuple[list[Any], Served, Pair]:
        """Connect; return what the caller is told."""
        served = Served(noting(Notes()))
        gates = DialledGateFactory(factory, served.reactor, 10.0)
        creator: Any = ClientCreator(clientFiles(), "localhost", ())
        tls = TLSMemoryBIOFactory(creator, True, gates, served.reactor)
        return outcome(gates.done), served, served.accept(tls.buildProtocol(HERE))

    def test_raises(self) -> None:
        """A protocol that fails when it is connected fails the attempt, which is told once."""
        told, served, pair = self.dial(noting(Raising()))
        self.assertRaises(ValueError, served.settle, pair)
        pair.client.reset()
        (failure,) = told
        failure.trap(ValueError)

    def test_nobody(self) -> None:
        """A factory that has no protocol fails it as with any endpoint, and hangs up."""
        told, served, pair = self.dial(Nobody())
        served.settle(pair)
        (failure,) = told
        failure.trap(NoProtocol)
        self.assertIsNotNone(pair.client.lost)

    def test_catchable(self) -> None:
        """A handshake that fails is a connection that could not be made, in plain words."""
        told, served, pair = self.dial(noting(Notes()))
        pair.server.abortConnection()
        served.settle(pair)
        (failure,) = told
        failure.trap(ConnectError)
        self.assertEqual(failure.getErrorMessage(), "TLS: the connection ended before that")
        self.assertEqual(connectReason(failure.value), "TLS: the connection ended before that")


class ResumedTests(SynchronousTestCase):
    """Sessions that are resumed, where nothing is verified again."""

    def resuming(self, version: int) -> Iterator[tuple[Served, Notes, Notes, Any]]:
        """Connect again and again with the session of the time before."""
        served = Served(noting(Notes()))
        session: Any = None
        context = upTo(version)
        while True:
            server = Notes()
            served.factory.wrappedFactory.wrappedFactory = noting(server)
            creator = Resuming(context, session)
            inner = Notes()
            tls = TLSMemoryBIOFactory(creator, True, noting(inner), served.reactor)
            pair = served.accept(tls.buildProtocol(HERE))
            served.settle(pair)
            # A ticket of TLS 1.3 comes with the first read.
            server.transport.write(b".")
            served.settle(pair)
            connection = creator.connection
            yield served, server, inner, connection
            session = connection.get_session()
            inner.transport.loseConnection()
            served.settle(pair)

    def test_identity(self) -> None:
        """The peer of a session that is resumed is the same as before."""
        for version in VERSIONS:
            turns = self.resuming(version)
            for reused in (False, True, True):
                _, server, _, connection = next(turns)
                self.assertEqual(reusedSession(connection), reused)
                transport: Any = server.transport
                certificate = transport.getHandle().get_peer_certificate(as_cryptography=True)
                self.assertIn("anna", certificate.subject.rfc4514_string())

    def test_expired(self) -> None:
        """Resuming wins nobody time beyond the end of its certificate."""

        class Later(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + timedelta(days=366)

        turns = self.resuming(SSL.TLS1_3_VERSION)
        next(turns)
        self.patch(handshake, "datetime", Later)
        with lines(self) as logged:
            # The server's protocol is never connected, so it has no transport.
            self.assertRaises(AttributeError, next, turns)
        self.assertEqual(logged[:1], [f"{CLOSED}the peer's certificate has expired"])


class ReasonTests(SynchronousTestCase):
    """L{tlsReason}."""

    def test_notTLS(self) -> None:
        """What TLS has not ended has no such reason."""
        for error in (None, ConnectionDone(), ConnectionLost(), ValueError("x"), SSL.Error()):
            self.assertEqual(tlsReason(error), "")

    def test_own(self) -> None:
        """Our own reasons are shown as they are."""
        self.assertEqual(tlsReason(HandshakeFailed("it was late")), "it was late")

    def test_unknown(self) -> None:
        """A reason that nobody has put into words is shown as OpenSSL has it; none has words."""
        error = SSL.Error([("SSL routines", "", "some new reason"), ("x", "", "another")])
        self.assertEqual(tlsReason(error), "some new reason, another")
        self.assertEqual(tlsReason(SSL.Error([])), "the peer broke the rules of TLS")


class ProtocolsTests(SynchronousTestCase):
    """L{protocolsOf}."""

    def test_factories(self) -> None:
        """A factory that does not say has none; a web server has its own."""
        self.assertEqual(protocolsOf(Factory.forProtocol(Protocol)), [])
        self.assertIn(b"http/1.1", protocolsOf(Site(Resource(), reactor=MemoryReactorClock())))
