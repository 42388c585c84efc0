"""
Addresses: what each form means, what each wrong one is answered with, and whether it can be bound.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import (
    HostnameEndpoint,
    SSL4ClientEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    _SystemdParser,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import (
    Bind,
    DatagramAddress,
    ListenAddress,
    StreamAddress,
    parseConnect,
    parseListen,
    privately,
    requireAuthentication,
    splitHostPort,
)
from twisted_netsuite.net.names import peerName

BOTH: tuple[Literal["stream", "datagram"], ...] = ("stream", "datagram")

REACTOR: Any = MemoryReactorClock()


def listen(description: str) -> ListenAddress:
    """Parse an address of a service that speaks both."""
    return parseListen(REACTOR, description, BOTH)


class PeerNameTests(SynchronousTestCase):
    """L{peerName} of each sort of address."""

    def test_names(self) -> None:
        """An address is named as a person would write it."""
        for address, name in (
            (IPv4Address("TCP", "192.0.2.1", 80), "192.0.2.1:80"),
            (IPv6Address("TCP", "2001:db8::1", 80), "[2001:db8::1]:80"),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 80), "192.0.2.1:80"),
            (UNIXAddress("/run/x"), "unix:/run/x"),
            (UNIXAddress(b"/run/\xff"), "unix:/run/\ufffd"),
            (UNIXAddress("/run/\x1b[2J\nx"), "unix:/run/\ufffd[2J x"),
            (IPv4Address("TCP", "a\x1b[2J\nb", 1), "a\ufffd[2J b:1"),
            (IPv6Address("TCP", "a\x1b[2J\nb", 1), "[a\ufffd[2J b]:1"),
            (UNIXAddress(None), "unix"),
            (UNIXAddress(""), "unix"),
            (None, "None"),
        ):
            self.assertEqual(peerName(address), name)

    def test_other(self) -> None:
        """An address of a sort that we do not know is named all the same."""
        self.assertIn("example", peerName(HostnameAddress(b"example", 80)))


class BindTests(SynchronousTestCase):
    """What is said of one socket."""

    def test_text(self) -> None:
        """A socket is written with its kind, brackets around IPv6, and a star for all addresses."""
        for bind, text in (
            (Bind("tcp", "127.0.0.1", 80), "tcp 127.0.0.1:80"),
            (Bind("tcp", "", 80), "tcp *:80"),
            (Bind("udp", "::1", 80), "udp [::1]:80"),
            (Bind("unix", "/run/x"), "unix:/run/x"),
        ):
            self.assertEqual(str(bind), text)

    def test_local(self) -> None:
        """Only loopback and Unix sockets are this machine's alone; what is not known is not."""
        for host in ("127.0.0.1", "127.1.2.3", "::1"):
            self.assertTrue(Bind("tcp", host, 1).local, host)
        self.assertTrue(Bind("unix", "/run/x").local)
        for host in ("", "0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "fe80::1", "127.1", "localhost"):
            self.assertFalse(Bind("tcp", host, 1).local, host)
            self.assertFalse(Bind("udp", host, 1).local, host)

    def test_overlaps(self) -> None:
        """Two sockets overlap when they are one, or one takes all addresses of the other's sort."""
        for one, two, overlap in (
            ("127.0.0.1", "127.0.0.1", True),
            ("127.0.0.1", "127.0.0.2", False),
            ("127.0.0.1", "", True),
            ("0.0.0.0", "127.0.0.1", True),
            ("", "0.0.0.0", True),
            ("", "::1", False),
            ("::", "127.0.0.1", True),
            ("::", "", True),
            ("::", "::1", True),
            ("::1", "127.0.0.1", False),
        ):
            kinds: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")
            for kind in kinds:
                first, second = Bind(kind, one, 5), Bind(kind, two, 5)
                self.assertEqual(first.overlaps(second), overlap, (one, two))
                self.assertEqual(second.overlaps(first), overlap, (two, one))

    def test_apart(self) -> None:
        """Sockets of two kinds or ports never overlap, nor do two that get any free port."""
        here = Bind("tcp", "127.0.0.1", 5)
        self.assertFalse(here.overlaps(Bind("udp", "127.0.0.1", 5)))
        self.assertFalse(here.overlaps(Bind("tcp", "127.0.0.1", 6)))
        self.assertFalse(Bind("tcp", "", 0).overlaps(Bind("tcp", "", 0)))
        self.assertTrue(Bind("unix", "/x").overlaps(Bind("unix", "/x")))
        self.assertFalse(Bind("unix", "/x").overlaps(Bind("unix", "/y")))

    def test_overlapsAsTheSystem(self) -> None:
        """For TCP, what overlaps is just what the system refuses to listen on twice."""
        if not hasIPv6():
            raise SkipTest("this machine has no IPv6")
        hosts = ("127.0.0.1", "127.0.0.2", "", "0.0.0.0", "::1", "::")
        for one in hosts:
            for two in hosts:
                with listening(one) as held:
                    port = held.getsockname()[1]
                    try:
                        listening(two, port).close()
                        refused = False
                    except OSError:
                        refused = True
                overlap = Bind("tcp", one, port).overlaps(Bind("tcp", two, port))
                self.assertEqual(overlap, refused, (one, two))


def hasIPv6() -> bool:
    """Tell whether this machine has IPv6."""
    try:
        listening("::1").close()
    except OSError:
        return False
    return True


def listening(host: str, port: int = 0) -> socket.socket:
    """Listen as Twisted does."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


class ParseListenTests(SynchronousTestCase):
    """L{parseListen} of every form, right and wrong."""

    def refusal(
        self, description: str, accepts: tuple[Literal["stream", "datagram"], ...] = BOTH
    ) -> str:
        """Parse what cannot be used, and return what is said of it."""
        with self.assertRaises(ConfigurationError) as caught:
            parseListen(REACTOR, description, accepts)
        return str(caught.exception)

    def test_streams(self) -> None:
        """Every stream form is taken, and says what it would bind."""
        for description, bind in (
            ("tcp:7007", Bind("tcp", "", 7007)),
            ("tcp:0", Bind("tcp", "", 0)),
            ("tcp:65535", Bind("tcp", "", 65535)),
            ("tcp:port=7007", Bind("tcp", "", 7007)),
            ("tcp:7007:interface=127.0.0.1", Bind("tcp", "127.0.0.1", 7007)),
            ("tcp:7007:backlog=5:interface=127.0.0.1", Bind("tcp", "127.0.0.1", 7007)),
            (r"tcp:7007:interface=\:\:1", Bind("tcp", "::1", 7007)),
            ("tcp6:7007", Bind("tcp", "::", 7007)),
            ("unix:/run/x", Bind("unix", "/run/x")),
            ("unix:/run/x:mode=600:lockfile=0", Bind("unix", "/run/x")),
            ("unix:/run/x:600:lockfile=0", Bind("unix", "/run/x")),
            ("unix:address=/run/x:mode=600", Bind("unix", "/run/x")),
            (r"unix:/run/a\:b", Bind("unix", "/run/a:b")),
            (r"unix:/run/a\=b\\", Bind("unix", "/run/a=b\\")),
            ("haproxy:tcp:80:interface=127.0.0.1", Bind("tcp", "127.0.0.1", 80)),
        ):
            address = listen(description)
            self.assertIsInstance(address, StreamAddress)
            self.assertEqual((address.description, address.binds()), (description, [bind]))

    def test_relativePath(self) -> None:
        """A relative path is one from here, though the directory is changed before it is bound."""
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        for description, path, mode in (
            ("unix:x", "x", 0o666),
            ("unix:./a/../x:mode=600", "x", 0o600),
            ("unix:address=x:mode=600", "x", 0o600),
            ("unix:x:600", "x", 0o600),
            (r"unix:a\:b\=c", "a:b=c", 0o666),
            ("haproxy:unix:x", "x", 0o666),
        ):
            os.chdir(here)
            reactor: Any = MemoryReactorClock()
            address = parseListen(reactor, description, BOTH)
            assert isinstance(address, StreamAddress)
            self.assertEqual(address.binds(), [Bind("unix", os.path.join(here, path))])
            os.chdir("/")
            address.endpoint.listen(Factory())
            where, _, _, told, _ = reactor.unixServers[0]
            self.assertEqual((where, told), (os.path.join(here, path), mode), description)

    def test_writtenRelative(self) -> None:
        """What a person wrote is what every sentence names."""
        self.assertIn("'unix:x:mode=rwx'", self.refusal("unix:x:mode=rwx"))
        self.assertEqual(listen("unix:x").description, "unix:x")

    def test_datagrams(self) -> None:
        """Every datagram form is taken, and says what it would bind."""
        for description, host, port in (
            ("udp:7007", "", 7007),
            ("udp:0", "", 0),
            ("udp:65535", "", 65535),
            ("udp:port=7007", "", 7007),
            ("udp:7007:interface=127.0.0.1", "127.0.0.1", 7007),
            ("udp:interface=127.0.0.1:port=7007", "127.0.0.1", 7007),
            (r"udp:7007:interface=\:\:1", "::1", 7007),
        ):
            address = listen(description)
            self.assertEqual(address, DatagramAddress(description, host, port))
            self.assertEqual(address.binds(), [Bind("udp", host, port)])

    def test_binding(self) -> None:
        """Parsing and asking what would be bound binds nothing."""
        reactor: Any = MemoryReactorClock()
        for description in ("tcp:7007", "unix:/run/x"):
            parseListen(reactor, description, BOTH).binds()
        self.assertEqual((reactor.tcpServers, reactor.unixServers), ([], []))

    def test_silent(self) -> None:
        """A socket that is inherited says nothing of where it is, and binds nothing."""
        address = inherited(self)
        self.assertEqual(address.binds(), [])

    def test_streamsOnly(self) -> None:
        """A service of streams refuses a datagram address and says which forms it takes."""
        sentence = self.refusal("udp:7007", ("stream",))
        self.assertIn("speaks streams", sentence)
        self.assertIn("'udp:7007'", sentence)
        self.assertIn("give tcp:PORT:interface=ADDR", sentence)

    def test_datagramsOnly(self) -> None:
        """A service of datagrams refuses a stream address and says which form it takes."""
        sentence = self.refusal("tcp:7007", ("datagram",))
        self.assertIn("speaks datagrams", sentence)
        self.assertIn("'tcp:7007'", sentence)
        self.assertIn("give udp:PORT[:interface=ADDR]", sentence)

    def test_notUnderstood(self) -> None:
        """What is no stream endpoint is named, with the reason and two forms that are."""
        for description, reason in (
            ("", "Unknown endpoint type"),
            ("nonsense", "Unknown endpoint type: 'nonsense'"),
            ("nonsense:80", "Unknown endpoint type: 'nonsense'"),
            ("tcp", "missing 1 required positional argument: 'port'"),
            ("tcp:", "invalid literal"),
            ("tcp:http", "'http'"),
            ("tcp:80:colour=red", "got an unexpected keyword argument 'colour'"),
            ("tcp:1:2:3:4:5", "positional arguments"),
            ("tcp:80:backlog=many", "'many'"),
            ("unix:/run/x:mode=rwx", "'rwx'"),
            ("ssl:443:privateKey=/nonexistent/key", "No such file or directory: /nonexistent/key"),
            ("systemd:domain=INET", "descriptor index or name"),
            ("systemd:domain=INET:index=7", "no socket of that name or number was handed over"),
            ("systemd:domain=INET:name=web", "no socket of that name or number was handed over"),
            ("fd:3", "Unknown endpoint type: 'fd'"),
        ):
            sentence = self.refusal(description)
            self.assertIn(f"{description!r} cannot be understood (", sentence)
            self.assertIn(reason, sentence)
            self.assertIn("such as tcp:7007:interface=127.0.0.1 or unix:/run/echo.sock", sentence)
            self.assertNotIn("_parse", sentence)

    def test_badCertificate(self) -> None:
        """A certificate file that holds none is a sentence too."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("no certificate\n")
        sentence = self.refusal(f"ssl:443:privateKey={path}")
        self.assertIn("a certificate or key in it cannot be used", sentence)

    def test_datagramNotUnderstood(self) -> None:
        """What looks like a datagram address and is none is named, with the form."""
        for description in (
            "udp:",
            "udp:http",
            "udp:-1",
            "udp:7 ",
            "udp:²",
            "udp:\N{ARABIC-INDIC DIGIT SEVEN}",
            "udp:7:8",
            "udp:7:port=8",
            "udp:7:colour=red",
            "udp:interface=127.0.0.1",
            "udp:7007:interface=::1",
            "udp:" + "9" * 5000,
        ):
            sentence = self.refusal(description)
            self.assertIn(f"{description!r} cannot be understood", sentence)
            self.assertIn("give udp:PORT[:interface=ADDR]", sentence)

    def test_interface(self) -> None:
        """A datagram address takes no name for its interface."""
        sentence = self.refusal("udp:7007:interface=localhost")
        self.assertIn("'localhost' of 'udp:7007:interface=localhost' is no IP address", sentence)
        self.assertIn("127.0.0.1", sentence)

    def test_port(self) -> None:
        """A port that does not exist is named, with the range."""
        for description, port in (("tcp:65536", 65536), ("tcp:-1", -1), ("udp:65536", 65536)):
            sentence = self.refusal(description)
            self.assertIn(f"The port {port} of {description!r} does not exist", sentence)
            self.assertIn("from 0 to 65535", sentence)

    def test_noPath(self) -> None:
        """A Unix socket without a path is refused: the system would choose a name of its own."""
        self.assertIn("'unix:' has no path; give one such as", self.refusal("unix:"))

    def test_standardInput(self) -> None:
        """Standard input is no address, and stays as it is."""
        self.assertIn("'stdio:' is one connection", self.refusal("stdio:"))

    @settings(deadline=None)
    @given(st.text(st.sampled_from("tcpudnixs:=\\0179.-[]é \0"), max_size=20).map("udp:".__add__))
    @example("udp:\\")
    def test_anything(self, description: str) -> None:
        """Whatever is written, it is an address or is refused in one sentence."""
        try:
            address = listen(description)
        except ConfigurationError as error:
            self.assertIn("give", error.sentence)
        else:
            self.assertIsInstance(address, DatagramAddress)


def inherited(case: SynchronousTestCase) -> ListenAddress:
    """Parse the address of a socket that systemd has handed over."""
    sock = listening("127.0.0.1")
    case.addCleanup(sock.close)
    case.patch(_SystemdParser, "_sddaemon", ListenFDs([sock.fileno()]))
    return listen("systemd:domain=INET:index=0")


class RequireLocalTests(SynchronousTestCase):
    """L{requireAuthentication} of addresses on which something dangerous would be offered."""

    def test_local(self) -> None:
        """Loopback and Unix sockets are let through, and so is nothing at all."""
        requireAuthentication([], "x")
        requireAuthentication(
            [
                listen("tcp:1:interface=127.0.0.1"),
                listen(r"tcp:1:interface=\:\:1"),
                listen("unix:/run/x"),
                listen("udp:1:interface=127.0.0.1"),
            ],
            "x",
        )

    def test_open(self) -> None:
        """An address that others reach is named, with the danger and the way out."""
        for description in (
            "tcp:7512",
            "tcp:7512:interface=0.0.0.0",
            "tcp:7512:interface=192.0.2.1",
            "tcp6:7512",
            "udp:7512",
        ):
            with self.assertRaises(ConfigurationError) as caught:
                requireAuthentication([listen("unix:/x"), listen(description)], "anyone burns it")
            sentence = caught.exception.sentence
            self.assertIn(f"{description!r} can be reached from other machines", sentence)
            self.assertIn("anyone burns it", sentence)
            self.assertIn("adding :interface=127.0.0.1", sentence)

    def test_balancer(self) -> None:
        """An address of a balancer is refused wherever it is: it forwards whoever comes."""
        for description in (
            "haproxy:tcp:7512:interface=127.0.0.1",
            "haproxy:unix:/run/x",
            "HAProxy:unix:/run/x",
            "haproxy:tcp:7512",
        ):
            with self.assertRaises(ConfigurationError) as caught:
                requireAuthentication([listen(description)], "anyone burns it")
            sentence = caught.exception.sentence
            self.assertIn(
                f"{description!r} can be reached from other machines by way of its balancer",
                sentence,
            )
            self.assertIn("anyone burns it", sentence)

    def test_unknown(self) -> None:
        """An address that does not say where it is counts as open."""
        address = inherited(self)
        self.assertRaises(ConfigurationError, requireAuthentication, [address], "x")


class PrivatelyTests(SynchronousTestCase):
    """L{privately} on addresses of all sorts."""

    def modes(self, description: str) -> list[int]:
        """Tell with which modes an address is listened on."""
        reactor: Any = MemoryReactorClock()
        address = privately(reactor, parseListen(reactor, description, BOTH))
        self.assertEqual(address.description, description)
        assert isinstance(address, StreamAddress)
        address.endpoint.listen(Factory())
        return [server[3] for server in reactor.unixServers]

    def test_modes(self) -> None:
        """A Unix socket without a mode is its owner's alone; one with a mode keeps it."""
        for description, mode in (
            ("unix:/run/x", 0o600),
            ("unix:/run/x:lockfile=0", 0o600),
            ("unix:address=/run/x", 0o600),
            (r"unix:/run/a\:mode\=b", 0o600),
            (r"unix:/run/a\:666", 0o600),
            ("haproxy:unix:/run/x", 0o600),
            ("unix:/run/x:mode=660", 0o660),
            ("unix:mode=660:address=/run/x", 0o660),
            ("unix:/run/x:660", 0o660),
            ("unix:/run/x:660:lockfile=0", 0o660),
        ):
            self.assertEqual(self.modes(description), [mode], description)

    def test_others(self) -> None:
        """An address of another sort stays as it is."""
        for description in ("tcp:7007", "udp:7007"):
            address = listen(description)
            self.assertIs(privately(REACTOR, address), address)


class SplitHostPortTests(SynchronousTestCase):
    """L{splitHostPort} of what people write."""

    def test_right(self) -> None:
        """A host or an address with a port is split, without its brackets."""
        for text, split in (
            ("example.org:80", ("example.org", 80)),
            ("127.0.0.1:0", ("127.0.0.1", 0)),
            ("h:65535", ("h", 65535)),
            ("[::1]:7007", ("::1", 7007)),
            ("[fe80::1%eth0]:7", ("fe80::1%eth0", 7)),
            ("h:00080", ("h", 80)),
        ):
            self.assertEqual(splitHostPort(text), split)

    def test_other(self) -> None:
        """What has another form is left to others."""
        for text in (
            "", "h", "h:", ":80", "h:x", "h:-1", "::1:7", "[::1]", "[]:7", "h:7:8", "a b:80",
            "http://h:80", "h:100000", "[::1:7", "h/x:80", "h:80\n",
        ):  # fmt: skip
            self.assertIsNone(splitHostPort(text), text)

    def test_port(self) -> None:
        """A port that does not exist is named."""
        for text in ("h:65536", "[::1]:99999"):
            with self.assertRaises(ConfigurationError) as caught:
                splitHostPort(text)
            self.assertIn(f"of {text!r} does not exist", caught.exception.sentence)

    @settings(deadline=None)
    @given(st.ip_addresses(), st.integers(0, 65535))
    def test_anyAddress(self, address: Any, port: int) -> None:
        """The name of any peer can be given as an address again."""
        text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        self.assertEqual(splitHostPort(text), (str(address), port))


class ParseConnectTests(SynchronousTestCase):
    """L{parseConnect} of every form, right and wrong."""

    def test_forms(self) -> None:
        """Every form gives the endpoint that it stands for."""
        kinds: tuple[tuple[str, type], ...] = (
            ("example.org:80", HostnameEndpoint),
            ("[::1]:80", HostnameEndpoint),
            ("127.0.0.1:80", HostnameEndpoint),
            ("unix:/run/x", UNIXClientEndpoint),
            ("unix:/run/x:timeout=3", UNIXClientEndpoint),
            ("tcp:example.org:80", TCP4ClientEndpoint),
            ("ssl:example.org:443", SSL4ClientEndpoint),
        )
        for text, kind in kinds:
            self.assertIsInstance(parseConnect(REACTOR, text), kind)
        self.assertTrue(IStreamClientEndpoint.providedBy(parseConnect(REACTOR, "tls:h:443")))

    def test_unixPath(self) -> None:
        """A path is taken as it is written, backslashes and equals signs included."""
        reactor: Any = MemoryReactorClock()
        for path in ("/run/a\\b", "/run/a=b"):
            endpoint: Any = parseConnect(reactor, f"unix:{path}")
            self.assertEqual(endpoint._path, path)

    def test_words(self) -> None:
        """The word of an endpoint string is never taken for a host."""
        for text in ("tcp:80", "tls:443", "ssl:443", "fd:3", "systemd:80", "haproxy:80"):
            self.assertRaises(ConfigurationError, parseConnect, REACTOR, text)

    def test_notUnderstood(self) -> None:
        """What is no address is named, with the reason and the forms that are."""
        for text, reason in (
            ("", "Unknown endpoint type: ''"),
            ("example.org", "Unknown endpoint type: 'example.org'"),
            ("h:x", "Unknown endpoint type: 'h'"),
            ("::1:7", "Unknown endpoint type: ''"),
            ("tcp:h", "missing 1 required positional argument: 'port'"),
            ("tcp:h:x", "invalid literal"),
            ("tcp:h:80:colour=red", "got an unexpected keyword argument 'colour'"),
            ("tls:h:443:certificate=/nonexistent", "No such file or directory: /nonexistent"),
            ("tls:h:443:trustRoots=/nonexistent", "a file in it cannot be used"),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                parseConnect(REACTOR, text)
            sentence = caught.exception.sentence
            self.assertIn(f"The address {text!r} cannot be understood ({reason}", sentence)
            self.assertIn("give HOST:PORT, unix:PATH or a Twisted client endpoint", sentence)

    def test_port(self) -> None:
        """A port that does not exist is named."""
        with self.assertRaises(ConfigurationError) as caught:
            parseConnect(REACTOR, "h:65536")
        self.assertIn("The port 65536 of 'h:65536'", caught.exception.sentence)
