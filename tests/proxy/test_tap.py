"""
The plugin of the proxy: its target, and the loops that it refuses.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.proxy.protocol import ProxyFactory
from twisted_netsuite.proxy.tap import Options, ProxyConfig, build


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

    def test_datagrams(self) -> None:
        """The proxy forwards streams: a datagram address is refused."""
        self.assertIn("'udp:7080'", self.refusal("127.0.0.1:80", "udp:7080"))

    def test_targetMissing(self) -> None:
        """Without a target the plugin ends with one sentence that names the option."""
        error = self.assertRaises(SystemExit, Options().parseOptions, [])
        self.assertIn("--to is missing; give where to forward to", str(error))
