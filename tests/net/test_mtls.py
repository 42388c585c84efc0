"""
The endpoints C{mtls:}: their strings, what they listen with and connect to, and files that change.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import IProtocol, IReactorFromThreads, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests.net.handshakes import (
    HERE,
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
    endpoint,
    forge,
    newAuthority,
    newPath,
    serverBundle,
    serverFiles,
    stranger,
    strangeServer,
)
from twisted_netsuite.echo.protocol import EchoFactory
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import (
    Bind,
    StreamAddress,
    parseConnect,
    parseListen,
    requireAuthentication,
)
from twisted_netsuite.net.admission import DEFAULT_LIMITS
from twisted_netsuite.net.conversation import connectReason, converse
from twisted_netsuite.net.handshake import HANDSHAKE_TIMEOUT, HandshakeFailed
from twisted_netsuite.net.mtls import (
    MutualTLSClientEndpoint,
    MutualTLSServerEndpoint,
    parseClient,
    parseServer,
)
from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.testing import Pair, connectPair


@implementer(IReactorFromThreads)
class Reactor(MemoryReactorClock):
    """A fake reactor that other threads, and signals, may call."""

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call at once."""
        callable(*args, **kwargs)


def reading(test: SynchronousTestCase) -> list[str]:
    """Note each read of a key from now on."""
    found: list[str] = []
    original = TrustFiles.readOwn

    def readOwn(files: TrustFiles) -> Any:
        found.append(files.cert)
        return original(files)

    test.patch(TrustFiles, "readOwn", readOwn)
    return found


def forbid(test: SynchronousTestCase, *paths: str | Path) -> None:
    """Let no file of these be read, as for a user who may not; root may read all."""
    original = Path.open

    def open(path: Path, *args: Any, **kwargs: Any) -> Any:
        if str(path) in map(str, paths):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(path, *args, **kwargs)

    test.patch(Path, "open", open)


class ServerStringTests(SynchronousTestCase):
    """Strings of servers."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        files = serverFiles()
        self.files = f"cert={files.cert}:clientCA={files.ca}"

    def parse(self, text: str) -> MutualTLSServerEndpoint:
        """Parse as any Twisted application does."""
        found = serverFromString(self.reactor, text)
        assert isinstance(found, MutualTLSServerEndpoint)
        return found

    def listened(self, text: str) -> tuple[Any, ...]:
        """Tell what the reactor is asked to listen on: port, backlog and interface."""
        port = self.parse(text).listen(noting(Notes()))
        self.successResultOf(port)
        number, _, backlog, interface = self.reactor.tcpServers[-1]
        return number, backlog, interface

    def test_least(self) -> None:
        """Port, certificate and authority are enough; a client's certificate is required then."""
        self.assertEqual(self.listened(f"mtls:7443:{self.files}"), (7443, 50, ""))
        self.assertTrue(self.parse(f"mtls:7443:{self.files}").requires)

    def test_every(self) -> None:
        """Every field has its effect."""
        text = (
            f"mtls:port=7443:{self.files}:interface=127.0.0.1:backlog=7:require=no:timeout=2.5"
            f":hangup=no:alpn=a,b:crl={authority().crlPath}:key={serverBundle()}"
        )
        self.assertEqual(self.listened(text), (7443, 7, "127.0.0.1"))
        found = self.parse(text)
        self.assertFalse(found.requires)
        factory: Any = self.reactor.tcpServers[-1][1]
        gates = factory.wrappedFactory
        self.assertEqual((gates.timeout, factory.creator.protocols), (2.5, (b"a", b"b")))

    def test_interface(self) -> None:
        """The interface may stand behind the port, also one of IPv6."""
        self.assertEqual(self.listened(f"mtls:0:127.0.0.1:{self.files}"), (0, 50, "127.0.0.1"))
        self.assertEqual(self.listened(f"mtls:0:{self.files}:interface=\\:\\:1"), (0, 50, "::1"))

    def test_default(self) -> None:
        """A handshake has the time that the service's own limits give it, or that of most."""
        self.listened(f"mtls:0:{self.files}")
        factory: Any = self.reactor.tcpServers[-1][1]
        self.assertIsNone(factory.wrappedFactory.timeout)
        self.assertEqual(HANDSHAKE_TIMEOUT, DEFAULT_LIMITS.handshakeTimeout)
        served = Served(noting(Notes()))
        with lines(self) as logged:
            _, pair = served.connect(flush=False)
            served.reactor.advance(HANDSHAKE_TIMEOUT)
            served.settle(pair)
        self.assertIn("it was not complete within 10 s", logged[0])

    def wrong(self, text: str, reason: str) -> None:
        """A string is refused, by C{parseListen} in one sentence."""
        self.assertRaises((ValueError, TypeError), serverFromString, self.reactor, text)
        error = self.assertRaises(ConfigurationError, parseListen, self.reactor, text, ("stream",))
        self.assertEqual(
            error.sentence,
            f"The listen address {text!r} cannot be understood ({reason}); give "
            "mtls:PORT:cert=FILE:clientCA=FILE[:crl=FILE][:interface=ADDR].",
        )

    def test_wrong(self) -> None:
        """Each value that cannot be used is named, and why."""
        ca = f"clientCA={authority().certificatePath}"
        for text, reason in (
            ("mtls:7443", "cert=FILE is missing"),
            (f"mtls:7443:{ca}", "cert=FILE is missing"),
            (f"mtls:7443:cert={serverBundle()}", "clientCA=FILE is missing"),
            (f"mtls:x:{self.files}", "port is 'x', no whole number"),
            (f"mtls::{self.files}", "port is '', no whole number"),
            (f"mtls:-1:{self.files}", "port is '-1', no whole number"),
            (f"mtls:7443:{self.files}:backlog=x", "backlog is 'x', no whole number"),
            (f"mtls:7443:{self.files}:require=maybe", "require is 'maybe', not yes or no"),
            (f"mtls:7443:{self.files}:require=", "require is '', not yes or no"),
            (f"mtls:7443:{self.files}:hangup=maybe", "hangup is 'maybe', not yes or no"),
            (f"mtls:7443:{self.files}:alpn={'x' * 256}", "a name in alpn is longer than 255 bytes"),
            *(
                (
                    f"mtls:7443:{self.files}:timeout={wrong}",
                    f"timeout is {wrong!r}, no number of seconds above 0",
                )
                for wrong in ("0", "-1", "nan", "inf", "soon", "")
            ),
            (
                f"mtls:7443:{self.files}:colour=red",
                "got an unexpected keyword argument 'colour'",
            ),
        ):
            self.wrong(text, reason)

    def test_noPort(self) -> None:
        """A port beyond the last is refused before anything listens."""
        text = f"mtls:65536:{self.files}"
        error = self.assertRaises(ConfigurationError, parseListen, self.reactor, text, ("stream",))
        self.assertIn("The port 65536 of", error.sentence)

    def test_files(self) -> None:
        """A file that cannot be used is named while the string is parsed."""
        gone = newPath()
        ca = authority().certificatePath
        for text, name in (
            (f"mtls:0:cert={gone}:clientCA={ca}", gone),
            (f"mtls:0:cert={serverBundle()}:clientCA={gone}", gone),
            (f"mtls:0:{self.files}:crl={gone}", gone),
            (f"mtls:0:{self.files}:key={gone}", gone),
        ):
            for parse in (serverFromString, lambda r, t: parseListen(r, t, ("stream",))):
                error = self.assertRaises(ConfigurationError, parse, self.reactor, text)
                self.assertEqual(
                    error.sentence,
                    f"The file '{name}' cannot be read: no such file or directory; give one that "
                    "can.",
                )

    def test_weakKey(self) -> None:
        """What OpenSSL finds too weak is refused in words."""
        key = rsa.generate_private_key(65537, 1024)
        path = bundle(forge(["localhost"], Issuer.of(authority()), usage=SERVER, key=key))
        text = f"mtls:0:cert={path}:clientCA={authority().certificatePath}"
        error = self.assertRaises(ConfigurationError, serverFromString, self.reactor, text)
        self.assertEqual(
            error.sentence,
            f"OpenSSL does not take the certificate or key in {path!r}; give others.",
        )

    def test_binds(self) -> None:
        """It says what it would bind, so that it can be tried out."""
        address = parseListen(
            self.reactor, f"mtls:7443:{self.files}:interface=127.0.0.1", ("stream",)
        )
        self.assertEqual(address.binds(), [Bind("tcp", "127.0.0.1", 7443)])
        self.assertEqual(self.reactor.tcpServers, [])

    def test_plugin(self) -> None:
        """The plugin of the strings parses as the functions do."""
        ca = str(authority().certificatePath)
        parsed = parseServer(self.reactor, "0", cert=serverBundle(), clientCA=ca)
        self.assertTrue(parsed.requires)
        made = parseClient(self.reactor, "localhost", "1", ca=ca)
        self.assertIsInstance(made, MutualTLSClientEndpoint)


class GuardTests(SynchronousTestCase):
    """What may be offered to other machines."""

    def refused(self, more: str = "", prefix: str = "mtls") -> str:
        """Tell why an address may not be listened on; empty when it may."""
        files = serverFiles()
        text = f"mtls:7443:cert={files.cert}:clientCA={files.ca}{more}"
        address = parseListen(MemoryReactorClock(), text, ("stream",))
        try:
            requireAuthentication([address], "anybody could do anything")
        except ConfigurationError as error:
            return error.sentence.removeprefix(repr(text))
        return ""

    def test_required(self) -> None:
        """Where clients have to prove themselves, anything may be offered anywhere."""
        self.assertEqual(self.refused(), "")
        self.assertEqual(self.refused(":require=yes"), "")

    def test_notRequired(self) -> None:
        """Where they need not, it may be offered on loopback only; the sentence says what to do."""
        self.assertEqual(self.refused(":require=no:interface=127.0.0.1"), "")
        self.assertIn("listen with client certificates by mtls:", self.refused(":require=no"))


class ListenTests(SynchronousTestCase):
    """Listening."""

    def test_names(self) -> None:
        """The names for ALPN are the string's, or else the factory's own."""
        site = Site(Resource(), reactor=MemoryReactorClock())
        own = site.acceptableProtocols()
        for given, chosen in (((), own[0]), ((b"echo",), b"echo")):
            served = Served(site, protocols=given)
            inner, _ = served.connect(protocols=(own[0], b"echo") if not given else (b"echo",))
            self.assertEqual(cast(Any, inner.transport).negotiatedProtocol, chosen)

    def test_twice(self) -> None:
        """One endpoint and one factory may listen twice, and stop apart."""
        reactor = MemoryReactorClock()
        found = MutualTLSServerEndpoint(reactor, 0, serverFiles())
        started: list[str] = []

        class Counting(Factory):
            noisy = False
            protocol = Notes

            def startFactory(self) -> None:
                """Note it."""
                started.append("start")

            def stopFactory(self) -> None:
                """Note it."""
                started.append("stop")

        counting = Counting()
        for _ in range(2):
            self.successResultOf(found.listen(counting))
        factories: list[Any] = [each[1] for each in reactor.tcpServers]
        for factory in factories:
            factory.doStart()
        self.assertEqual(started, ["start"])
        factories[0].doStop()
        self.assertEqual(started, ["start"])
        factories[1].doStop()
        self.assertEqual(started, ["start", "stop"])

    def test_filesGone(self) -> None:
        """
        Files that cannot be used any more fail listening, and raise nothing, with names for ALPN
        and without.
        """
        reactor = MemoryReactorClock()
        cert = newPath()
        shutil.copy(serverBundle(), cert)
        found = MutualTLSServerEndpoint(reactor, 0, serverFiles(cert=str(cert)))
        cert.unlink()
        for factory in (Site(Resource(), reactor=reactor), noting(Notes())):
            failure = self.failureResultOf(found.listen(factory), ConfigurationError)
            self.assertIn("cannot be read", failure.getErrorMessage())
        self.assertEqual(reactor.tcpServers, [])

    def test_filesChanged(self) -> None:
        """Listening begins with the files as they are then, which are read once."""
        reactor = MemoryReactorClock()
        cert = newPath()
        shutil.copy(serverBundle(), cert)
        found = MutualTLSServerEndpoint(reactor, 0, serverFiles(cert=str(cert)))
        reads = reading(self)
        shutil.copy(serverBundle("other.example.org"), cert)
        for turn in range(2):
            self.successResultOf(found.listen(noting(Notes())))
            self.assertEqual(len(reads), turn + 1)
        served = Served(noting(Notes()), files=serverFiles(cert=str(cert)))
        inner, _ = served.connect(name="other.example.org")
        self.assertEqual(inner.events, ["made"])

    def test_relative(self) -> None:
        """Relative paths are those of when it was made, as twistd changes its directory."""
        here = Path.cwd()
        folder = newPath("")
        folder.mkdir()
        shutil.copy(serverBundle(), folder / "server.pem")
        shutil.copy(authority().certificatePath, folder / "ca.pem")
        reactor = MemoryReactorClock()
        os.chdir(folder)
        try:
            text = "mtls:0:cert=server.pem:clientCA=ca.pem:interface=127.0.0.1"
            address = parseListen(reactor, text, ("stream",))
        finally:
            os.chdir(here)
        assert isinstance(address, StreamAddress)
        self.successResultOf(address.listen(EchoFactory(reactor), reactor))
        self.assertEqual(len(reactor.tcpServers), 1)

    def test_oneGate(self) -> None:
        """A service that listens by it has one gate, not two."""
        reactor = MemoryReactorClock()
        address = parseListen(reactor, endpoint(serverFiles()), ("stream",))
        assert isinstance(address, StreamAddress)
        echo = EchoFactory(reactor)
        self.successResultOf(address.listen(echo, reactor))
        factory: Any = reactor.tcpServers[-1][1]
        self.assertIs(factory.wrappedFactory.wrappedFactory, echo)


class ReloadTests(SynchronousTestCase):
    """Files of a server that are read again after SIGHUP."""

    def setUp(self) -> None:
        found = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, found)
        self.own = newAuthority()
        self.bundles = {name: str(self.own.issueClient(name)) for name in ("anna", "bob")}
        self.cert = newPath()
        shutil.copy(self.own.issueServer("localhost"), self.cert)
        self.server = Notes()
        self.served = Served(
            noting(self.server),
            reactor=Reactor(),
            files=TrustFiles(str(self.cert), str(self.own.certificatePath), str(self.own.crlPath)),
        )
        self.addCleanup(self.served.factory.doStop)

    def connect(self, name: str = "anna") -> tuple[Notes, Pair]:
        """Connect a client."""
        files = TrustFiles(self.bundles[name], str(self.own.certificatePath))
        return self.served.connect(files)

    def hangup(self) -> list[str]:
        """Send SIGHUP, and collect what is logged."""
        with lines(self) as logged:
            signal.raise_signal(signal.SIGHUP)
        return logged

    def test_revoked(self) -> None:
        """After a reload a revoked client is refused, and its older connection lives on."""
        old, pair = self.connect("bob")
        self.own.revoke("bob")
        self.assertEqual(self.connect("bob")[0].events, ["made"])
        self.assertEqual(self.hangup(), [f"read again: {self.cert}"])
        with lines(self) as logged:
            new, _ = self.connect("bob")
        self.assertEqual(len(logged), 1)
        self.assertIn("it is revoked", logged[0])
        self.assertIsNotNone(new.lost)
        self.assertIsNone(old.lost)
        old.transport.write(b"still here")
        self.served.settle(pair)
        self.assertIn(b"still here", self.server.received)
        self.assertEqual(self.connect("anna")[0].events, ["made"])

    def test_newCertificate(self) -> None:
        """After a reload the new certificate is served."""
        before = self.serial()
        shutil.copy(self.own.issueServer("localhost", force=True), self.cert)
        self.assertEqual(self.serial(), before)
        self.hangup()
        self.assertNotEqual(self.serial(), before)

    def serial(self) -> int:
        """Tell which certificate is served."""
        inner, _ = self.connect()
        handle: Any = inner.transport.getHandle()
        return int(handle.get_peer_certificate(as_cryptography=True).serial_number)

    def test_bad(self) -> None:
        """A file that cannot be used changes nothing, and is one line in the log."""
        before = self.serial()
        whole = self.cert.read_bytes()
        for data in (b"", whole[:400], whole.replace(b"PRIVATE KEY", b"PUBLIC KEY")):
            self.cert.write_bytes(data)
            (line,) = self.hangup()
            self.assertTrue(line.startswith("certificates were not read again: "), line)
            self.assertIn(str(self.cert), line)
            self.assertEqual(self.serial(), before)
        self.cert.unlink()
        (line,) = self.hangup()
        self.assertIn("no such file or directory", line)
        self.assertEqual(self.serial(), before)
        self.cert.write_bytes(whole)
        self.assertEqual(self.hangup(), [f"read again: {self.cert}"])

    def test_stopped(self) -> None:
        """Who listens no more reads no more, and the action of the signal is what it was."""
        self.served.factory.doStop()
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        self.assertEqual(self.hangup(), [])
        self.served.factory.doStart()

    def test_several(self) -> None:
        """Each listener reads its own files; a bad one keeps no other from that."""
        other = Served(noting(Notes()), reactor=Reactor())
        self.addCleanup(other.factory.doStop)
        self.cert.write_bytes(b"")
        logged = self.hangup()
        self.assertEqual(len(logged), 2)
        self.assertIn("not read again", logged[0])
        self.assertEqual(logged[1], f"read again: {serverBundle()}")

    def test_forbidden(self) -> None:
        """
        Who may not read the key again goes on with it as long as its file is the same, and reads
        everything else.
        """
        shutil.copy(self.own.issueServer("localhost", force=True), self.cert)
        self.hangup()
        before = self.serial()
        forbid(self, self.cert)
        self.own.revoke("bob")
        self.assertEqual(self.hangup(), [f"read again: {self.cert}"])
        self.assertRevoked("bob")
        self.assertEqual(self.serial(), before)

    def test_forbiddenChanged(self) -> None:
        """A new key that may not be read is told of; everything else is read."""
        before = self.serial()
        shutil.copy(self.own.issueServer("localhost", force=True), self.cert)
        forbid(self, self.cert)
        self.own.revoke("bob")
        for _ in range(2):
            self.assertEqual(
                self.hangup(),
                [
                    "certificates were not read again: The file "
                    f"'{self.cert}' cannot be read: permission denied; give one that can."
                ],
            )
            self.assertEqual(self.serial(), before)
        self.assertRevoked("bob")

    def test_apart(self) -> None:
        """Each part that cannot be used stays as it was, is one line, and keeps no other from being
        read."""
        before = self.serial()
        ca, crl = self.own.certificatePath, self.own.crlPath
        whole = ca.read_bytes(), crl.read_bytes()
        shutil.copy(self.own.issueServer("localhost", force=True), self.cert)
        ca.write_bytes(b"")
        crl.unlink()
        logged = self.hangup()
        self.assertEqual(len(logged), 2)
        self.assertIn(f"No certificate can be read from '{ca}'", logged[0])
        self.assertIn(f"The file '{crl}' cannot be read", logged[1])
        ca.write_bytes(whole[0])
        self.assertNotEqual(self.serial(), before)
        crl.write_bytes(whole[1])
        self.assertEqual(self.hangup(), [f"read again: {self.cert}"])

    def assertRevoked(self, name: str) -> None:
        """A client is refused, as it was revoked."""
        with lines(self) as logged:
            self.connect(name)
        (line,) = logged
        self.assertIn("it is revoked", line)

    def test_once(self) -> None:
        """However many listen by one endpoint, one signal reads the files once, for all of them."""
        for _ in range(2):
            self.successResultOf(self.served.endpoint.listen(noting(Notes())))
        others: list[Any] = [each[1] for each in self.served.reactor.tcpServers[1:]]
        for each in others:
            each.doStart()
            self.addCleanup(each.doStop)
        reads = reading(self)
        self.own.revoke("bob")
        self.assertEqual(self.hangup(), [f"read again: {self.cert}"])
        self.assertEqual(reads, [str(self.cert)])
        for factory in (self.served.factory, *others):
            self.served.factory, found = factory, self.served.factory
            self.assertRevoked("bob")
            self.served.factory = found
        for each in others:
            each.doStop()
            self.assertEqual(self.hangup(), [f"read again: {self.cert}"])
        self.served.factory.doStop()
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        self.served.factory.doStart()

    def test_draining(self) -> None:
        """As long as a connection lives, SIGHUP does not end a process that listens no more."""
        _, pair = self.connect()
        self.served.factory.doStop()
        self.assertEqual(self.hangup(), [f"read again: {self.cert}"])
        self.server.transport.loseConnection()
        self.served.settle(pair)
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        self.served.factory.doStart()
        self.assertEqual(self.hangup(), [f"read again: {self.cert}"])

    def test_call(self) -> None:
        """What SIGHUP does can be called, and tells whether it went well."""
        self.own.revoke("bob")
        with lines(self) as logged:
            self.assertTrue(self.served.endpoint.reload())
        self.assertEqual(logged, [f"read again: {self.cert}"])
        self.assertRevoked("bob")
        self.cert.write_bytes(b"")
        with lines(self) as logged:
            self.assertFalse(self.served.endpoint.reload())
        self.assertEqual(len(logged), 1)

    def test_noHangup(self) -> None:
        """An endpoint can leave SIGHUP alone."""
        self.served.factory.doStop()
        other = Served(noting(Notes()), reactor=Reactor(), hangup=False)
        self.addCleanup(other.factory.doStop)
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        self.assertTrue(other.endpoint.reload())
        self.served.factory.doStart()

    def test_otherThread(self) -> None:
        """Where the reactor is not in the main thread, one line tells that SIGHUP does nothing."""
        self.served.factory.doStop()
        with lines(self) as logged:
            thread = threading.Thread(target=self.served.factory.doStart)
            thread.start()
            thread.join()
        self.assertEqual(
            logged,
            ["SIGHUP cannot be had outside the main thread, so it reads no files again here"],
        )
        self.assertTrue(self.served.endpoint.reload())

    def test_tickets(self) -> None:
        """A session from before a reload is worth nothing after it: all is verified anew."""
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            files = TrustFiles(self.bundles["anna"], str(self.own.certificatePath))
            context = upTo(version, files)
            session: Any = None
            for turn, reused in enumerate((False, True, False)):
                if turn == 2:
                    self.hangup()
                creator = Resuming(context, session)
                inner = Notes()
                tls = TLSMemoryBIOFactory(creator, True, noting(inner), self.served.reactor)
                pair = self.served.accept(tls.buildProtocol(HERE))
                self.served.settle(pair)
                self.server.transport.write(b".")
                self.served.settle(pair)
                self.assertEqual(reusedSession(creator.connection), reused)
                session = creator.connection.get_session()
                inner.transport.loseConnection()
                self.served.settle(pair)


class ConnectTestCase(SynchronousTestCase):
    """A client's endpoint on a fake reactor, and a server in memory."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.server = Notes()
        self.served = Served(noting(self.server), reactor=self.reactor)

    def make(self, files: TrustFiles | None = None, **kwargs: Any) -> MutualTLSClientEndpoint:
        """Make an endpoint."""
        host = kwargs.pop("host", "127.0.0.1")
        return MutualTLSClientEndpoint(self.reactor, host, 7443, files or clientFiles(), **kwargs)

    def dial(self, found: IStreamClientEndpoint, inner: Notes) -> tuple[Deferred[Any], list[Any]]:
        """Begin to connect."""
        waiting = found.connect(noting(inner))
        result: list[Any] = []
        waiting.addBoth(result.append)
        # The resolver of addresses takes a turn.
        self.reactor.advance(0)
        return waiting, result

    def accepted(self, served: Served | None = None) -> Pair:
        """Let TCP connect."""
        return (served or self.served).accept(self.client())

    def client(self) -> IProtocol:
        """Make the protocol below the client's TLS."""
        made = self.reactor.tcpClients[-1][2].buildProtocol(HERE)
        assert made is not None
        return made


class ConnectTests(ConnectTestCase):
    """L{MutualTLSClientEndpoint}."""

    def failed(self, result: list[Any]) -> str:
        """Tell why connecting failed; nothing is left of it then."""
        (failure,) = result
        assert isinstance(failure, Failure), failure
        failure.trap(HandshakeFailed)
        return failure.getErrorMessage()

    def test_good(self) -> None:
        """It fires with the protocol, once that is connected, and both can talk."""
        inner = Notes()
        _, result = self.dial(self.make(), inner)
        pair = self.accepted()
        self.assertEqual(result, [])
        self.served.settle(pair)
        self.assertEqual(result, [inner])
        self.assertEqual((inner.events, self.server.events), (["made"], ["made"]))
        inner.transport.write(b"hello")
        self.served.settle(pair)
        self.assertEqual(self.server.received, b"hello")
        self.assertEqual(self.served.waiting, [])

    def test_name(self) -> None:
        """The name that is wanted may be another than the host; it is what SNI asks for."""
        inner = Notes()
        _, result = self.dial(self.make(name="www.example.org"), inner)
        self.served.settle(self.accepted())
        self.assertEqual(result, [inner])
        handle: Any = self.server.transport.getHandle()
        self.assertEqual(handle.get_servername(), b"www.example.org")

    def test_noSNI(self) -> None:
        """An address is not asked for by SNI."""
        self.dial(self.make(), Notes())
        self.served.settle(self.accepted())
        handle: Any = self.server.transport.getHandle()
        self.assertIsNone(handle.get_servername())

    def test_names(self) -> None:
        """SNI asks for names as DNS has them."""
        for name, sent in (("bücher.example.org", b"xn--bcher-kva.example.org"), ("A.b.", b"a.b")):
            self.dial(self.make(name=name), Notes())
            with lines(self):
                self.served.settle(self.accepted())
            found: Any = self.make(name=name)
            self.assertEqual(found._creator._sent.lower(), sent)

    def test_wrongHost(self) -> None:
        """A server with a certificate for another name."""
        inner = Notes()
        _, result = self.dial(self.make(name="other.example.com"), inner)
        with lines(self) as logged:
            self.served.settle(self.accepted())
        cause = "TLS: the peer's certificate was refused: it is not for 'other.example.com'"
        self.assertEqual(self.failed(result), cause)
        self.assertEqual((inner.events, self.server.events, len(logged)), ([], [], 1))
        self.assertEqual(self.served.waiting, [])

    def test_stranger(self) -> None:
        """A server of another authority."""
        served = Served(
            noting(self.server), reactor=self.reactor, files=serverFiles(cert=strangeServer())
        )
        _, result = self.dial(self.make(name="localhost"), Notes())
        with lines(self):
            served.settle(self.accepted(served))
        cause = "TLS: the peer's certificate was refused: its authority is not trusted here"
        self.assertEqual(self.failed(result), cause)

    def test_notTLS(self) -> None:
        """A server that speaks plain text first, or answers with HTTP."""
        for data in (b"220 mail.example.org\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            _, result = self.dial(self.make(), Notes())
            plain = Notes()
            pair = connectPair(plain, self.client())
            pair.server.write(data)
            with lines(self):
                self.served.settle(pair)
            self.assertEqual(self.failed(result), "TLS: what was sent is not TLS")
            self.assertEqual(plain.events, ["made", "lost"])

    def test_silent(self) -> None:
        """A server that accepts and says nothing has its time, and no more."""
        _, result = self.dial(self.make(handshakeTimeout=3.0), Notes())
        pair = connectPair(Notes(), self.client())
        self.served.settle(pair)
        self.reactor.advance(2.875)
        self.assertEqual(result, [])
        self.reactor.advance(0.125)
        self.served.settle(pair)
        self.assertEqual(self.failed(result), "TLS: it was not complete within 3 s")
        self.assertIsNotNone(pair.client.lost)
        self.assertEqual(self.served.waiting, [])

    def test_closed(self) -> None:
        """A server that closes or resets in the middle."""
        for end in ("loseConnection", "abortConnection"):
            _, result = self.dial(self.make(), Notes())
            server = Notes()
            pair = connectPair(server, self.client())
            getattr(pair.server, end)()
            self.served.settle(pair)
            self.assertEqual(self.failed(result), "TLS: the connection ended before that")

    def test_refused(self) -> None:
        """Where nobody listens it fails as TCP does."""
        _, result = self.dial(self.make(), Notes())
        connector: Any = self.reactor.connectors[-1]
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
        self.reactor.advance(60)
        (failure,) = result
        failure.trap(ConnectionRefusedError)

    def test_refusedLater(self) -> None:
        """
        In TLS 1.3 a client is done before the server has looked at its certificate: it is
        connected, and then told.
        """
        inner = Notes()
        _, result = self.dial(self.make(clientFiles(cert="")), inner)
        with lines(self) as logged:
            self.served.settle(self.accepted())
        self.assertEqual(result, [inner])
        self.assertEqual(inner.events, ["made", "lost"])
        assert inner.lost is not None
        self.assertEqual(
            connectReason(inner.lost.value), "TLS: the server wants a client certificate"
        )
        self.assertEqual(self.server.events, [])
        self.assertEqual(len(logged), 2)
        self.assertIn("closed, TLS: the server wants a client certificate", logged[0])

    def test_nobody(self) -> None:
        """A factory without a protocol fails as with any endpoint."""

        class Nobody(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> None:
                """Refuse."""

        result = outcome(self.make().connect(Nobody()))
        self.reactor.advance(0)
        self.served.settle(self.accepted())
        (failure,) = result
        failure.trap(NoProtocol)

    def test_cancelTCP(self) -> None:
        """It can be called off while TCP connects."""
        waiting, result = self.dial(self.make(), Notes())
        waiting.cancel()
        (failure,) = result
        failure.trap(CancelledError, ConnectingCancelledError)
        self.assertEqual(self.reactor.connectors[-1].stoppedConnecting, True)

    def test_cancelHandshake(self) -> None:
        """It can be called off in the handshake, which ends the connection."""
        inner = Notes()
        waiting, result = self.dial(self.make(), inner)
        pair = self.accepted()
        waiting.cancel()
        (failure,) = result
        failure.trap(CancelledError)
        with lines(self) as logged:
            self.served.settle(pair)
        self.assertIsNotNone(pair.client.lost)
        self.assertEqual((inner.events, self.server.events, len(logged)), ([], [], 1))
        self.assertEqual((len(result), self.served.waiting), (1, []))

    def test_cancelLate(self) -> None:
        """Once it has fired there is nothing to call off."""
        waiting, result = self.dial(self.make(), Notes())
        pair = self.accepted()
        self.served.settle(pair)
        waiting.cancel()
        self.served.settle(pair)
        self.assertEqual(len(result), 1)
        self.assertIsNone(pair.client.lost)

    def test_again(self) -> None:
        """One endpoint connects as often as one likes."""
        found = self.make()
        for _ in range(3):
            inner = Notes()
            _, result = self.dial(found, inner)
            self.served.settle(self.accepted())
            self.assertEqual(result, [inner])

    def test_ALPN(self) -> None:
        """The names for ALPN are the endpoint's, or else the factory's own."""
        site = Site(Resource(), reactor=self.reactor)
        served = Served(site, reactor=self.reactor)
        _, result = self.dial(self.make(protocols=(b"http/1.1",)), Notes())
        served.settle(self.accepted(served))
        (inner,) = result
        self.assertEqual(inner.transport.negotiatedProtocol, b"http/1.1")

    def test_changed(self) -> None:
        """Files that were replaced count from the next connection on; bad ones change nothing."""
        cert = newPath()
        shutil.copy(clientBundle(), cert)
        found = self.make(clientFiles(cert=str(cert)))
        self.assertEqual(self.whom(found), "anna")
        shutil.copy(clientBundle("berta"), cert)
        self.assertEqual(self.whom(found), "berta")
        cert.write_bytes(b"nonsense")
        with lines(self) as logged:
            self.assertEqual(self.whom(found), "berta")
            self.assertEqual(self.whom(found), "berta")
        self.assertEqual(len(logged), 1)
        self.assertIn("certificates were not read again: No certificate can be read", logged[0])
        cert.unlink()
        with lines(self) as logged:
            self.assertEqual(self.whom(found), "berta")
        self.assertEqual(len(logged), 1)
        shutil.copy(clientBundle(), cert)
        self.assertEqual(self.whom(found), "anna")

    def test_forbidden(self) -> None:
        """A client that may not read its key again goes on with it, and reads a new list."""
        own = newAuthority()
        cert = str(own.issueClient("anna"))
        server = TrustFiles(str(own.issueServer("localhost")), str(own.certificatePath))
        self.served = Served(noting(self.server), reactor=self.reactor, files=server)
        files = TrustFiles(cert, str(own.certificatePath), str(own.crlPath))
        found = self.make(files, name="localhost")
        self.assertEqual(self.whom(found), "anna")
        forbid(self, cert)
        site = Site(Resource(), reactor=self.reactor)
        made = outcome(found.connect(site))
        self.reactor.advance(0)
        self.served.settle(self.accepted())
        self.assertFalse(isinstance(made[0], Failure), made)
        own.revoke("localhost")
        _, result = self.dial(found, Notes())
        with lines(self) as logged:
            self.served.settle(self.accepted())
        (failure,) = result
        self.assertIn("it is revoked", failure.getErrorMessage())
        self.assertFalse([line for line in logged if "not read again" in line])

    def whom(self, found: MutualTLSClientEndpoint) -> str:
        """Connect, and tell as whom."""
        self.dial(found, Notes())
        self.served.settle(self.accepted())
        handle: Any = self.server.transport.getHandle()
        return str(handle.get_peer_certificate().get_subject().CN)


class ClientStringTests(ConnectTestCase):
    """Strings of clients, and the options of the C{netsuite} program."""

    def setUp(self) -> None:
        super().setUp()
        self.ca = f"ca={authority().certificatePath}"

    def parse(self, text: str) -> MutualTLSClientEndpoint:
        """Parse as any Twisted application does."""
        found = clientFromString(self.reactor, text)
        assert isinstance(found, MutualTLSClientEndpoint)
        return found

    def test_connects(self) -> None:
        """Every field has its effect."""
        text = (
            f"mtls:127.0.0.1:7443:{self.ca}:cert={clientBundle()}:key={clientBundle()}"
            f":crl={authority().crlPath}:name=localhost:alpn=x:timeout=5:bindAddress=127.0.0.2"
        )
        inner = Notes()
        _, result = self.dial(self.parse(text), inner)
        host, port, _, timeout, bind = self.reactor.tcpClients[-1]
        self.assertEqual((host, port, timeout), ("127.0.0.1", 7443, 5))
        self.assertEqual(bind, ("127.0.0.2", 0))
        self.served.settle(self.accepted())
        self.assertEqual(result, [inner])

    def test_wrong(self) -> None:
        """Each value that cannot be used is named, and why."""
        for text, reason in (
            ("mtls:localhost:7443", "ca=FILE is missing"),
            (f"mtls:localhost:x:{self.ca}", "port is 'x', no whole number"),
            (
                f"mtls:localhost:1:{self.ca}:timeout=x",
                "timeout is 'x', no number of seconds above 0",
            ),
            (f"mtls:localhost:1:{self.ca}:x=y", "got an unexpected keyword argument 'x'"),
        ):
            error = self.assertRaises(ConfigurationError, parseConnect, self.reactor, text)
            self.assertIn(f"cannot be understood ({reason}); give", error.sentence)

    def test_files(self) -> None:
        """A file that cannot be used is named."""
        gone = newPath()
        for text in (f"mtls:localhost:1:ca={gone}", f"mtls:localhost:1:{self.ca}:cert={gone}"):
            error = self.assertRaises(ConfigurationError, parseConnect, self.reactor, text)
            self.assertIn(f"The file '{gone}' cannot be read", error.sentence)

    def test_options(self) -> None:
        """With files HOST:PORT is connected to by TLS, and nothing else is understood."""
        found = parseConnect(self.reactor, "[::1]:7443", clientFiles())
        self.assertIsInstance(found, MutualTLSClientEndpoint)
        for text in ("unix:x.sock", "tcp:localhost:1", "localhost"):
            error = self.assertRaises(
                ConfigurationError, parseConnect, self.reactor, text, clientFiles()
            )
            self.assertEqual(
                error.sentence,
                f"A certificate is for an address HOST:PORT, which {text!r} is not; give one, or "
                "leave --cert and --ca out.",
            )

    def test_sentences(self) -> None:
        """What a person reads of a server that is not the one that was wanted."""
        found = self.make(clientFiles(ca=str(stranger().certificatePath)))
        talk = Deferred.fromCoroutine(converse(found, self.reactor, "127.0.0.1:7443"))
        self.reactor.advance(0)
        with lines(self):
            self.served.settle(self.accepted())
        failure = self.failureResultOf(talk)
        self.assertEqual(
            failure.getErrorMessage(),
            "Cannot connect to 127.0.0.1:7443: TLS: the peer's certificate was refused: its "
            "authority is not trusted here; see the certificates of both ends.",
        )
