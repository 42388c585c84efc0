"""
The plugin of the proxy: its target, and the loops that it refuses.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.overseen import overseen
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.proxy.protocol import ProxyFactory
from twisted_netsuite.proxy.tap import Options, ProxyConfig, _place, build


class BuildTests(SynchronousTestCase):
    """L{build}."""

    def build(self, to: str, *listen: str, **options: Any) -> ListeningService:
        """Build a proxy."""
        if listen:
            options["listen"] = listen
        [service] = build(ProxyConfig(to=to, **options), MemoryReactorClock())
        return service

    def refusal(self, to: str, *listen: str) -> str:
        """Tell why a proxy is refused."""
        error = self.assertRaises(ConfigurationError, self.build, to, *listen)
        return cast(ConfigurationError, error).sentence

    def test_options(self) -> None:
        """What the proxy is told reaches its factory."""
        service = self.build("localhost:80", logData=True, maxConnections=5, idleTimeout=7.0)
        factory = service.factory
        assert isinstance(factory, ProxyFactory)
        self.assertEqual(factory.targetName, "localhost:80")
        self.assertTrue(factory.logData)
        self.assertEqual((factory.limits.maxConnections, factory.limits.idleTimeout), (5, 7.0))
        self.assertEqual(
            service.example("127.0.0.1:7080"),
            "netsuite echo 127.0.0.1:7080 hello   (forwards to localhost:80)",
        )

    def test_connects(self) -> None:
        """A started proxy connects to its target for each client."""
        reactor = MemoryReactorClock()
        [service] = build(ProxyConfig(to="tcp:192.0.2.1:80"), reactor)
        with capturedLogs():
            service.startService()
        [(port, factory, _, interface)] = reactor.tcpServers
        self.assertEqual((port, interface), (7080, "127.0.0.1"))
        assert isinstance(factory, ProxyFactory)

    def test_loops(self) -> None:
        """A proxy whose target is one of its own addresses is refused, however it is written."""
        for to, listen in (
            ("127.0.0.1:7080", "tcp:7080:interface=127.0.0.1"),
            ("tcp:127.0.0.1:7080", "tcp:7080:interface=127.0.0.1"),
            ("tcp:host=127.0.0.1:port=7080", "tcp:7080:interface=127.0.0.1"),
            ("localhost:7080", "tcp:7080:interface=127.0.0.1"),
            ("localhost:7080", r"tcp6:7080:interface=\:\:1"),
            ("127.0.0.1:7080", "tcp:7080"),
            ("127.0.0.2:7080", "tcp:7080:interface=0.0.0.0"),
            ("[::1]:7080", r"tcp:7080:interface=\:\:1"),
            ("[::1]:7080", r"tcp6:7080:interface=\:\:"),
            ("unix:/run/proxy.sock", "unix:/run/proxy.sock"),
            ("unix:path=/run/proxy.sock", "unix:/run/proxy.sock:mode=600"),
            ("unix:/run/../run/proxy.sock", "unix:/run/proxy.sock"),
        ):
            self.assertEqual(
                self.refusal(to, "tcp:7999:interface=127.0.0.1", listen),
                f"The proxy would forward {listen!r} to itself; "
                "give another address to forward to.",
            )

    def test_noLoops(self) -> None:
        """A target that only looks like one of the proxy's own addresses is taken."""
        for to, listen in (
            ("127.0.0.1:7081", "tcp:7080:interface=127.0.0.1"),
            ("127.0.0.2:7080", "tcp:7080:interface=127.0.0.1"),
            ("192.0.2.1:7080", "tcp:7080"),
            ("localhost:7080", "tcp:7080:interface=127.0.0.5"),
            ("other.example:7080", "tcp:7080:interface=127.0.0.1"),
            ("unix:/run/a.sock", "unix:/run/b.sock"),
        ):
            self.build(to, listen)

    def test_badTarget(self) -> None:
        """A target that cannot be understood is named, with what to give."""
        for to in ("", "nonsense", "tcp:1", "127.0.0.1", "nosuch:1:2"):
            sentence = self.refusal(to)
            self.assertIn(f"The address {to!r} cannot be understood", sentence)
            self.assertIn("give HOST:PORT", sentence)
        self.assertIn("The port 65536 of '127.0.0.1:65536'", self.refusal("127.0.0.1:65536"))

    def test_lentAccount(self) -> None:
        """Strangers do not become this service's account at a Unix socket, unless told so."""
        for to in ("unix:/run/db.sock", "unix:path=/run/db.sock"):
            sentence = self.refusal(to, "unix:/run/a.sock", "tcp:7080")
            self.assertIn("'tcp:7080' can be reached from other machines", sentence)
            self.assertIn("taken for this service's account", sentence)
            for listen in ("tcp:7080:interface=127.0.0.1", "unix:/run/a.sock"):
                self.build(to, listen)
            self.build(to, "tcp:7080", lendAccount=True)
        self.build("127.0.0.1:80", "tcp:7080")

    def test_datagrams(self) -> None:
        """The proxy forwards streams: a datagram address is refused."""
        self.assertIn("'udp:7080'", self.refusal("127.0.0.1:80", "udp:7080"))

    def test_targetMissing(self) -> None:
        """Without a target the plugin ends with one sentence that names the option."""
        error = self.assertRaises(SystemExit, Options().parseOptions, [])
        self.assertIn("--to is missing; give where to forward to", str(error))


class PolicyTests(SynchronousTestCase):
    """What a policy knows of a target."""

    def place(self, to: str, policy: str | None = "") -> tuple[str, int]:
        """Build a proxy, and tell by what a policy would know its target."""
        [service] = build(ProxyConfig(to=to), MemoryReactorClock(), overseen(policy))
        assert isinstance(service.factory, ProxyFactory)
        return service.factory._place

    def test_known(self) -> None:
        """A target is known by the host and the port that are dialled, however it is written."""
        for to, place in (
            ("db.internal:5432", ("db.internal", 5432)),
            ("192.0.2.1:80", ("192.0.2.1", 80)),
            ("[2001:db8::1]:80", ("2001:db8::1", 80)),
            ("tcp:db.internal:5432", ("db.internal", 5432)),
            ("tcp:host=db.internal:port=5432", ("db.internal", 5432)),
            ("tcp:db.internal:5432:timeout=3", ("db.internal", 5432)),
            (r"tcp:2001\:db8\:\:1:80", ("2001:db8::1", 80)),
            ("tls:db.internal:443", ("db.internal", 443)),
            ("tls:host=db.internal:port=443", ("db.internal", 443)),
        ):
            self.assertEqual(self.place(to), place)

    def test_mutualTLS(self) -> None:
        """So is one that is reached with a certificate."""
        patterns = _place("mtls:db.internal:443:cert=anna.pem:ca=ca.pem", overseen(""))
        self.assertEqual(patterns, ("db.internal", 443))

    def test_unknown(self) -> None:
        """A target without host and port, or with a second one behind them, is refused where there
        is a policy; without one it is taken."""
        for to in (
            "unix:/run/db.sock",
            "unix:path=/run/db.sock",
            "tcp:port=5432:host=db.internal",
            "tcp:host=good.example:5432:host=bad.example",
            r"tls:good.example:443:endpoint=tcp\:bad.example\:443",
        ):
            error: Any = self.assertRaises(ConfigurationError, self.place, to)
            self.assertEqual(
                error.sentence,
                f"A policy knows targets by host and port, and {to!r} does not say these alone; "
                "forward to HOST:PORT, or leave the policy out.",
            )
            self.assertEqual(self.place(to, None), ("", 0))

    def test_escaped(self) -> None:
        """What only looks like a field in an escaped one is none."""
        place = _place(r"tcp:good.example:80:bindAddress=a\:host=b", overseen(""))
        self.assertEqual(place, ("good.example", 80))
