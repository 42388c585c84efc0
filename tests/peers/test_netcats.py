"""
socat, ncat and OpenBSD's nc as clients and targets of our services.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import Place, ServedTestCase, freePort, netsuite, scratch, started
from tests.peers.programs import Background, program, run

ECHO = """
[echo.main]
listen = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "unix:{dir}/echo.sock"]
[proxy.main]
listen = ["tcp:0:interface=127.0.0.1", "unix:{dir}/proxy.sock"]
to = "unix:{dir}/echo.sock"
"""


class SocatEchoTests(ServedTestCase):
    """socat as a client of echo, at once and through the proxy."""

    suite = ECHO

    def setUp(self) -> None:
        """Find socat."""
        self.socat = program("socat", "socat")
        super().setUp()

    def test_streams(self) -> None:
        """What socat sends and ends with a half-close comes back whole."""
        for service in ("echo.main", "proxy.main"):
            for kind in ("tcp", "unix"):
                place = self.twistd.place(service, kind)
                self.assertEqual(b"HELLO", run(self.socat, "-", _dial(place), typed=b"hello"))

    def test_bulk(self) -> None:
        """A megabyte comes back whole, at once and through the proxy."""
        data = bytes(range(256)) * 4096
        for service in ("echo.main", "proxy.main"):
            place = self.twistd.place(service)
            self.assertEqual(data.upper(), run(self.socat, "-", _dial(place), typed=data))

    def test_datagrams(self) -> None:
        """A datagram of socat is answered."""
        place = self.twistd.place("echo.main", "udp")
        dial = f"UDP:{place.text},readbytes=5"
        self.assertEqual(b"HELLO", run(self.socat, "-t10", "-", dial, typed=b"hello"))


class SocatHalfCloseTests(SynchronousTestCase):
    """C{printf hello | socat - TCP:proxy}, with C{wc -c} behind the proxy."""

    def setUp(self) -> None:
        """Find socat."""
        self.socat = program("socat", "socat")

    def count(self, listen: str, target: str, to: str) -> None:
        """
        See that what stands behind a proxy counts five bytes.

        @param listen: where the proxy listens.
        @param target: where socat listens for C{wc -c}.
        @param to: where the proxy connects; C{PORT} in it is that of the target.
        """
        wc = Background(self, self.socat, "-d", "-d", target, "EXEC:wc -c,pipes")
        found = re.search(rb"listening on .*?(\d*)\n", wc.expect(b"listening on"))
        assert found is not None
        to = to.replace("PORT", found[1].decode())
        proxy = started(self, "netsuite-proxy", f"--listen={listen}", f"--to={to}")
        (place,) = proxy.places
        self.assertEqual(b"5", run(self.socat, "-t10", "-", _dial(place), typed=b"hello").strip())
        self.assertNotIn("Traceback", proxy.log())

    def test_tcp(self) -> None:
        """Over TCP on both legs."""
        self.count(
            "tcp:0:interface=127.0.0.1", "TCP-LISTEN:0,bind=127.0.0.1,fork", "127.0.0.1:PORT"
        )

    def test_unix(self) -> None:
        """Over Unix sockets on both legs."""
        path = scratch(self) / "wc.sock"
        self.count("unix:{dir}/proxy.sock", f"UNIX-LISTEN:{path},fork", f"unix:{path}")


class NcatTests(ServedTestCase):
    """ncat, Nmap's own."""

    suite = ECHO

    def setUp(self) -> None:
        """Find ncat."""
        self.ncat = program("ncat", "ncat")
        super().setUp()

    def test_streams(self) -> None:
        """What ncat sends comes back, at once and through the proxy, over TCP and Unix sockets."""
        for service in ("echo.main", "proxy.main"):
            place = self.twistd.place(service)
            words = [place.host, str(place.port)]
            self.assertEqual(b"HELLO", run(self.ncat, *words, typed=b"hello"))
            words = ["-U", self.twistd.place(service, "unix").host]
            self.assertEqual(b"HELLO", run(self.ncat, *words, typed=b"hello"))

    def test_datagrams(self) -> None:
        """A datagram of ncat is answered."""
        place = self.twistd.place("echo.main", "udp")
        client = Background(self, self.ncat, "-u", place.host, str(place.port))
        client.type(b"hello")
        client.expect(b"HELLO")

    def test_server(self) -> None:
        """Our own echo client talks to an echo made of ncat and cat."""
        address = f"127.0.0.1:{freePort()}"
        server = Background(
            self, self.ncat, "-v", "-l", *address.split(":"), "--exec", program("cat", "coreutils")
        )
        server.expect(b"Listening on 127.0.0.1")
        done = netsuite("echo", address, "hello")
        self.assertEqual(("hello\n", ""), (done.stdout, done.stderr))


class OpenBSDTests(ServedTestCase):
    """OpenBSD's nc."""

    suite = ECHO

    def setUp(self) -> None:
        """Find the right one of the programs of this name."""
        self.nc = program("nc.openbsd", "netcat-openbsd")
        super().setUp()

    def test_streams(self) -> None:
        """What nc sends and ends with a half-close (-N) comes back, over TCP and Unix sockets."""
        for service in ("echo.main", "proxy.main"):
            place = self.twistd.place(service)
            words = [place.host, str(place.port)]
            self.assertEqual(b"HELLO", run(self.nc, "-N", *words, typed=b"hello"))
            words = ["-U", self.twistd.place(service, "unix").host]
            self.assertEqual(b"HELLO", run(self.nc, "-N", *words, typed=b"hello"))

    def test_datagrams(self) -> None:
        """A datagram of nc is answered."""
        place = self.twistd.place("echo.main", "udp")
        client = Background(self, self.nc, "-u", place.host, str(place.port))
        client.type(b"hello")
        client.expect(b"HELLO")


def _dial(place: Place) -> str:
    return f"UNIX-CONNECT:{place.host}" if place.kind == "unix" else f"TCP:{place.text}"
