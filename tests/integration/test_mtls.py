"""
Services behind C{mtls:} with real sockets: who is served, who is refused and how, and files that
change while they run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import ssl
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    SOCKET_TIMEOUT,
    Place,
    ServedTestCase,
    Twistd,
    eventually,
    netsuite,
    scratch,
    started,
    twistd,
)
from tests.trust.certificates import (
    Issuer,
    authority,
    bundle,
    clientBundle,
    endpoint,
    forge,
    newAuthority,
    serverBundle,
    serverFiles,
)
from twisted_netsuite.trust.identity import ownIdentity

#: The last parts of addresses that nobody has connected from yet.
SOURCES = itertools.count(1)

#: RST in place of FIN.
ABORT = struct.pack("ii", 1, 0)


def trusting(ca: str = "", cert: str = "") -> tuple[str, ...]:
    """Write the options of a client."""
    words = ("--ca", ca or str(authority().certificatePath))
    return (*words, "--cert", cert) if cert else words


def context(cert: str = "") -> ssl.SSLContext:
    """Make a context of Python's own TLS."""
    made = ssl.create_default_context(cafile=str(authority().certificatePath))
    if cert:
        made.load_cert_chain(cert)
    return made


class TLSTestCase(ServedTestCase):
    """Services of the shared authority."""

    services = ""

    @classmethod
    def start(cls) -> Twistd:
        """Start the services: the authority is made only now."""
        files = serverFiles()
        suite = cls.services.replace("{mtls}", endpoint(files))
        suite = suite.replace("{open}", endpoint(files, more=":require=no:interface=127.0.0.1"))
        return Twistd(suite=suite, files=cls.files)

    def open(self, service: str, kind: str = "tcp", host: str = "") -> socket.socket:
        """Connect, and mark where the log is by then."""
        self.mark = len(self.twistd.log())
        return super().open(service, kind, host)

    def logged(self, text: str) -> str:
        """Wait for a line that is new."""

        def found() -> list[str]:
            new = self.twistd.log()[self.mark :].splitlines()
            return [line for line in new if text in line]

        eventually(found, f"{text!r} in {self.twistd.log()[-2000:]!r}")
        (line,) = found()
        return line


class ServedOverTLSTests(TLSTestCase):
    """Every service that speaks streams."""

    files = {"shared/hello.txt": b"hello\n"}
    services = """
    [echo.main]
    listen = ["{mtls}", "unix:{dir}/echo.sock"]
    penalty = 0
    handshake-timeout = 1
    [echo.open]
    listen = ["{open}"]
    penalty = 0
    [exec.main]
    dialect = "header"
    listen = ["{mtls}", "unix:{dir}/exec.sock"]
    allow-shell = true
    [files.main]
    dialect = "get"
    listen = ["{mtls}"]
    root = "{dir}/shared"
    [proxy.main]
    listen = ["{mtls}"]
    to = "unix:{dir}/echo.sock"
    log-data = true
    """

    def address(self, service: str) -> str:
        """Tell where a service is."""
        return self.twistd.place(service).text

    def prints(self, output: str, *words: str) -> None:
        """See what a command prints."""
        done = netsuite(*words)
        self.assertEqual((output, "", 0), (done.stdout, done.stderr, done.returncode))

    def fails(self, sentence: str, *words: str, status: int = 125) -> None:
        """See how a command fails: in one sentence."""
        done = netsuite(*words)
        self.assertEqual((f"netsuite: {sentence}\n", ""), (done.stderr, done.stdout))
        self.assertEqual(status, done.returncode)

    def test_everyService(self) -> None:
        """Each command is served by its service, and the log shows who came."""
        self.mark = len(self.twistd.log())
        who = trusting(cert=clientBundle())
        self.prints("HELLO\n", "echo", *who, self.address("echo.main"), "hello")
        self.prints("HELLO\n", "echo", *who, self.address("proxy.main"), "hello")
        command = ("exec", "--dialect=header", *who, self.address("exec.main"), "echo hello")
        self.prints("hello\n", *command)
        file = f"{self.address('files.main')}:/hello.txt"
        self.prints("hello\n", "get", "--dialect=get", *who, file, "-")
        for text in ("(cert:anna): runs", "(cert:anna): gets", "(cert:anna) sent"):
            self.assertIn(text.split(": ")[0], self.logged(text))

    def test_unix(self) -> None:
        """Over a Unix socket the log shows the account."""
        self.mark = len(self.twistd.log())
        place = self.twistd.place("exec.main", "unix")
        self.prints("hello\n", "exec", "--dialect=header", place.text, "echo hello")
        self.assertIn(f"unix ({ownIdentity()}): runs", self.logged("): runs"))

    def test_anonymous(self) -> None:
        """Where no certificate is required the authority alone is enough."""
        self.prints("HELLO\n", "echo", *trusting(), self.address("echo.open"), "hello")
        who = trusting(cert=clientBundle())
        self.prints("HELLO\n", "echo", *who, self.address("echo.open"), "hello")

    def test_string(self) -> None:
        """An endpoint string does what the options do."""
        place = self.twistd.place("echo.main")
        text = f"mtls:{place.host}:{place.port}:ca={authority().certificatePath}"
        self.prints("HELLO\n", "echo", f"{text}:cert={clientBundle()}", "hello")

    def test_noCertificate(self) -> None:
        """Without a certificate a person is told just that, each time."""
        address = self.address("echo.main")
        for _ in range(2):
            self.fails(
                f"The connection to {address} broke before an answer came: TLS: the server wants a "
                "client certificate.",
                *("echo", *trusting(), address, "hello"),
            )

    def test_sentences(self) -> None:
        """Whatever is wrong with a certificate, a person reads it in one sentence."""
        address = self.address("echo.main")
        cannot = f"Cannot connect to {address}: TLS: "
        broke = f"The connection to {address} broke before an answer came: TLS: "
        runs = "; see the certificates of both ends."
        own = newAuthority()
        expired = forge(issuer=Issuer.of(authority()), end=datetime.now(UTC) - timedelta(hours=1))
        for sentence, options in (
            (
                f"{cannot}the peer's certificate was refused: its authority is not trusted "
                f"here{runs}",
                trusting(ca=str(own.certificatePath)),
            ),
            (
                f"{broke}the peer does not trust this end's authority.",
                trusting(cert=str(own.issueClient("anna"))),
            ),
            (
                f"{broke}the peer says that this end's certificate has expired.",
                trusting(cert=bundle(expired)),
            ),
            (
                f"{broke}the peer says that this end's certificate is not for this end.",
                trusting(cert=serverBundle()),
            ),
            (
                "The file '/gone.pem' cannot be read: no such file or directory; give one that "
                "can.",
                trusting(ca="/gone.pem"),
            ),
        ):
            self.fails(sentence, "echo", *options, address, "hello")
        self.fails(
            "--cert needs --ca, to know the server by; see netsuite echo --help.",
            *("echo", "--cert", clientBundle(), address, "hello"),
        )

    def test_plainService(self) -> None:
        """A server without TLS, and one that is not there, are told as what they are."""
        with socket.create_server(("127.0.0.1", 0)) as plain:
            address = f"127.0.0.1:{plain.getsockname()[1]}"
        self.fails(
            f"Cannot connect to {address}: connection refused; see whether the service runs there.",
            *("echo", *trusting(), address, "hello"),
        )

    def refused(self, cause: str, talk: Callable[[socket.socket], object]) -> None:
        """Talk to echo in a bad way: there is one line with the cause."""
        self.mark = len(self.twistd.log())
        # From a new address each time: what one does again and again gets fewer lines.
        source = f"127.0.9.{next(SOURCES)}"
        port = self.twistd.place("echo.main").port
        client = socket.create_connection(("127.0.0.1", port), SOCKET_TIMEOUT, (source, 0))
        self.addCleanup(client.close)
        near = f"{source}:{client.getsockname()[1]}: "
        talk(client)
        self.assertIn(f"{near}closed, no TLS handshake: {cause}", self.logged(near))

    def test_garbage(self) -> None:
        """Plain text and HTTP on the port of TLS."""

        def say(data: bytes) -> Callable[[socket.socket], object]:
            def talk(client: socket.socket) -> None:
                client.sendall(data)
                while client.recv(1024):
                    pass

            return talk

        self.refused("what was sent is not TLS", say(b"hello\r\n" * 20))
        self.refused("plain HTTP was sent", say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))

    def test_closed(self) -> None:
        """A peer that closes or resets before, or in the middle of, a handshake."""

        def reset(client: socket.socket) -> None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            client.close()

        def begin(client: socket.socket) -> None:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
            client.sendall(outgoing.read())
            client.recv(1 << 16)
            client.close()

        cause = "the connection ended before that"
        self.refused(cause, socket.socket.close)
        self.refused(cause, reset)
        self.refused(cause, begin)

    def test_silent(self) -> None:
        """A peer that says nothing, or drips, has its second and no more."""
        cause = "it was not complete within 1 s"
        self.refused(cause, lambda client: self.assertEqual(self.end(client), b""))

        def drip(client: socket.socket) -> None:
            client.settimeout(0.1)
            for byte in b"\x16\x03\x01\x02\x00\x01" * 100:
                try:
                    client.send(bytes([byte]))
                    if not client.recv(1):
                        return
                except TimeoutError:
                    pass
                except ConnectionError:
                    return

        self.refused(cause, drip)

    def end(self, client: socket.socket) -> bytes:
        """Read to the end, of whatever sort."""
        read = b""
        try:
            while piece := client.recv(1024):
                read += piece
        except ConnectionError:
            pass
        return read

    def test_manySilent(self) -> None:
        """Hundreds that never finish a handshake keep no good client out."""
        held = [self.open("echo.main") for _ in range(150)]
        for client in held:
            # The oldest may have had to make room by now.
            with contextlib.suppress(ConnectionError):
                client.send(b"\x16")
        who = trusting(cert=clientBundle())
        self.prints("HELLO\n", "echo", *who, self.address("echo.main"), "hello")
        for client in held:
            self.end(client)

    def test_noGoodbye(self) -> None:
        """A connection that ends without TLS's own goodbye is one line, with who it was."""
        client = self.open("echo.main")
        near = client.getsockname()[1]
        # Python's TLS says no goodbye unless it is told to.
        with context(clientBundle()).wrap_socket(client, server_hostname="127.0.0.1") as tls:
            tls.sendall(b"hello")
            self.assertEqual(tls.recv(100), b"HELLO")
        line = self.logged(f"127.0.0.1:{near} ")
        self.assertIn(
            f"127.0.0.1:{near} (cert:anna): closed, TLS: it ended without close_notify, so what "
            "came may be cut short",
            line,
        )

    def test_alertArrives(self) -> None:
        """The reason reaches a client also when that has sent on, before it knew."""
        for _ in range(20):
            client = self.open("echo.main")
            with context().wrap_socket(client, server_hostname="127.0.0.1") as tls:
                try:
                    tls.sendall(b"hello" * 1000)
                    tls.recv(100)
                except ssl.SSLError as error:
                    self.assertIn("CERTIFICATE_REQUIRED", str(error))
                except ConnectionError as error:
                    self.fail(f"{error!r}")


class ReloadTests(SynchronousTestCase):
    """SIGHUP."""

    def setUp(self) -> None:
        self.directory = scratch(self)
        self.own = newAuthority()
        self.anna, self.bob = (str(self.own.issueClient(name)) for name in ("anna", "bob"))
        self.cert = self.directory / "server.pem"
        shutil.copy(self.own.issueServer("localhost", sans=["127.0.0.1"]), self.cert)
        self.ca = str(self.own.certificatePath)
        files = f"cert={self.cert}:clientCA={self.ca}:crl={self.own.crlPath}"
        self.twistd = started(
            self, "netsuite-echo", "--listen", f"mtls:0:{files}:interface=127.0.0.1"
        )
        self.place: Place = self.twistd.places[0]

    def echo(self, cert: str) -> str:
        """Let a client echo, and tell what it says."""
        done = netsuite("echo", *trusting(self.ca, cert), self.place.text, "hello")
        return done.stdout + done.stderr

    def reload(self, expected: str) -> None:
        """Send SIGHUP, and wait for its line."""
        before = self.twistd.log().count(expected)
        self.twistd.signal(signal.SIGHUP)
        eventually(lambda: self.twistd.log().count(expected) == before + 1, expected)

    def connect(self, cert: str) -> ssl.SSLSocket:
        """Connect with Python's own TLS."""
        made = ssl.create_default_context(cafile=self.ca)
        made.load_cert_chain(cert)
        tls = made.wrap_socket(self.place.socket(), server_hostname="localhost")
        self.addCleanup(tls.close)
        return tls

    def test_revoke(self) -> None:
        """A client that was revoked is refused from then on; its older connection lives on."""
        older = self.connect(self.bob)
        older.sendall(b"one")
        self.assertEqual(older.recv(10), b"ONE")
        self.own.revoke("bob")
        self.assertEqual(self.echo(self.bob), "HELLO\n")
        self.reload(f"read again: {self.cert}")
        self.assertEqual(
            self.echo(self.bob),
            f"netsuite: The connection to {self.place.text} broke before an answer came: TLS: the "
            "peer says that this end's certificate is revoked.\n",
        )
        self.assertEqual(self.echo(self.anna), "HELLO\n")
        older.sendall(b"two")
        self.assertEqual(older.recv(10), b"TWO")
        self.assertNotIn("Traceback", self.twistd.log())

    def test_bad(self) -> None:
        """A bad file changes nothing, not even that the process lives."""
        self.cert.write_text("nonsense")
        self.reload("certificates were not read again: No certificate can be read")
        self.assertEqual(self.echo(self.anna), "HELLO\n")
        self.assertNotIn("Traceback", self.twistd.log())

    def test_newCertificate(self) -> None:
        """A new certificate is served once it is read again, without a restart."""
        before = self.connect(self.anna).getpeercert()
        shutil.copy(self.own.issueServer("localhost", sans=["127.0.0.1"], force=True), self.cert)
        self.reload(f"read again: {self.cert}")
        after = self.connect(self.anna).getpeercert()
        assert before is not None and after is not None
        self.assertNotEqual(before["serialNumber"], after["serialNumber"])

    def test_stop(self) -> None:
        """The service stops in the middle of handshakes without a traceback."""
        with self.place.socket() as waiting:
            waiting.send(b"\x16")
            eventually(lambda: self.accepted(waiting), "the connection is accepted")
            self.twistd.signal(signal.SIGTERM)
            self.assertEqual(self.twistd.wait(), -signal.SIGTERM)
        self.assertNotIn("Traceback", self.twistd.log())

    def accepted(self, client: socket.socket) -> bool:
        """Tell whether a connection was accepted: a later one is served."""
        return self.echo(self.anna) == "HELLO\n"


@skipIf(os.geteuid(), "only root can give its rights up")
class OtherUserTests(SynchronousTestCase):
    """A C{twistd} that has begun as root, and goes on as somebody who may not read the key."""

    #: The user and group that own nothing, on every Linux.
    NOBODY = "65534"

    def test_revoke(self) -> None:
        """SIGHUP reads a new revocation list all the same."""
        directory = scratch(self)
        directory.chmod(0o755)
        own = newAuthority()
        bob = str(own.issueClient("bob"))
        cert, ca, crl = (directory / name for name in ("server.pem", "ca.pem", "crl.pem"))
        shutil.copy(own.issueServer("localhost", sans=["127.0.0.1"]), cert)
        cert.chmod(0o600)
        for source, copied in ((own.certificatePath, ca), (own.crlPath, crl)):
            shutil.copyfile(source, copied)
            copied.chmod(0o644)
        running = started(
            self,
            f"--uid={self.NOBODY}",
            f"--gid={self.NOBODY}",
            "netsuite-echo",
            "--listen",
            f"mtls:0:cert={cert}:clientCA={ca}:crl={crl}:interface=127.0.0.1",
        )
        status = Path(f"/proc/{running.pid}/status").read_text()
        self.assertIn(f"Uid:\t{self.NOBODY}\t{self.NOBODY}", status)
        words = ("echo", *trusting(str(ca), bob), running.places[0].text, "hello")
        self.assertEqual(netsuite(*words).stdout, "HELLO\n")
        own.revoke("bob")
        crl.write_bytes(own.crlPath.read_bytes())
        running.signal(signal.SIGHUP)
        eventually(lambda: f"read again: {cert}" in running.log(), "the files are read again")
        self.assertIn("is revoked", netsuite(*words).stderr)
        self.assertNotIn("Traceback", running.log())


class LaunchTests(SynchronousTestCase):
    """Starting services behind C{mtls:}."""

    def test_guard(self) -> None:
        """A shell is offered to proven clients anywhere, and to strangers nowhere."""
        directory = scratch(self)
        (directory / "pems").mkdir()
        shutil.copy(serverBundle(), directory / "pems" / "localhost.pem")
        files = serverFiles()
        for listen, right in (
            ("tcp:0", False),
            ("tls:pems:port=0", False),
            (endpoint(files, more=":require=no"), False),
            (endpoint(files, more=""), True),
            (endpoint(files, more=":require=yes"), True),
            (endpoint(files, more=":require=no:interface=127.0.0.1"), True),
        ):
            words = (
                "netsuite-exec",
                "--dialect",
                "header",
                "--allow-shell",
                "--listen",
                listen,
                "--check",
            )
            done = twistd("-n", *words, cwd=directory)
            if right:
                self.assertEqual((done.stderr, done.returncode), ("", 0))
                continue
            self.assertEqual(done.returncode, 1, listen)
            said = done.stdout + done.stderr
            self.assertIn("can be reached from other machines", said)
            self.assertIn(
                "listen with client certificates by mtls:PORT:cert=FILE:clientCA=FILE", said
            )

    def test_wrong(self) -> None:
        """What is wrong with a file is one sentence before anything is daemonised."""
        directory = scratch(self)
        ca = authority().certificatePath
        done = twistd(
            "netsuite-echo", "--listen", f"mtls:0:cert=x.pem:clientCA={ca}", cwd=directory
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stdout + done.stderr,
            f"netsuite-echo: The file '{directory}/x.pem' cannot be read: no such file or "
            "directory; give one that can.\n",
        )

    def test_otherDirectory(self) -> None:
        """Relative files are found also when twistd goes elsewhere, and again at a reload."""
        directory = scratch(self)
        for source, name in ((Path(serverBundle()), "server.pem"), (CAFile(), "ca.pem")):
            shutil.copy(source, directory / name)
        listen = "mtls:0:cert=server.pem:clientCA=ca.pem:interface=127.0.0.1"
        log, pid = directory / "log", directory / "pid"
        done = twistd(
            *("--rundir=/", f"--logfile={log}", f"--pidfile={pid}"),
            *("netsuite-echo", "--listen", listen),
            cwd=directory,
        )
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        eventually(lambda: pid.exists() and "listening on" in log.read_text(), "it listens")
        number = int(pid.read_text())
        self.addCleanup(os.kill, number, signal.SIGTERM)
        os.kill(number, signal.SIGHUP)
        eventually(lambda: f"read again: {directory}/server.pem" in log.read_text(), "reload")


def CAFile() -> Path:
    """Find the shared authority's certificate."""
    return authority().certificatePath
