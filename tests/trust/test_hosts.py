"""
Hosts and ports of a policy: one form for each host, and no way around it.
"""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.hosts import HostPattern, PortRange, readAddress, readHost


class ReadTests(SynchronousTestCase):
    """L{readHost} and L{readAddress}."""

    def test_names(self) -> None:
        """A name has one form, whatever its case, with or without its last dot."""
        for name in ("db.internal", "DB.Internal", "db.internal."):
            self.assertEqual(readHost(name), "db.internal")
        self.assertEqual(readHost("_srv.x-1"), "_srv.x-1")

    def test_addresses(self) -> None:
        """An address has one form; one that wraps an IPv4 address is that address."""
        self.assertEqual(readHost("::FFFF:10.0.0.1"), "10.0.0.1")
        self.assertEqual(readHost("::ffff:a00:1"), "10.0.0.1")
        self.assertEqual(readHost("0:0:0:0:0:0:0:1"), "::1")
        self.assertEqual(readHost("fe80::1%eth0"), "fe80::1")
        self.assertIsNone(readAddress("db"))

    def test_refused(self) -> None:
        """What is neither, or an address in a form that only resolvers know, is refused."""
        for host in (
            "127.1",
            "2130706433",
            "0x7f000001",
            "127.0.0.1.",
            "1.2.3.4.5",
            "0x",
            "a.0x7f",
        ):
            with self.assertRaisesRegex(ValueError, "form that is not taken"):
                readHost(host)
        for host in ("", ".", "a..b", "a b", "a\n", "a\0", "ü.de", "[::1]", "a:1", "*", "/x",
                     "a" * 64, "a." * 127 + "ab", "1.2.3.256\u0661"):  # fmt: skip
            with self.assertRaises(ValueError):
                readHost(host)

    @given(st.text())
    def test_anything(self, host: str) -> None:
        """Any text is a host in one form, or refused in words."""
        try:
            name = readHost(host)
        except ValueError:
            return
        self.assertEqual(readHost(name), name)


class HostPatternTests(SynchronousTestCase):
    """L{HostPattern}."""

    def holds(self, pattern: str, address: str) -> bool:
        """Tell whether an address is in a network."""
        found = readAddress(address)
        assert found is not None
        return HostPattern(pattern).holds(found)

    def test_networks(self) -> None:
        """A network holds its addresses, and those of IPv4 however they are wrapped."""
        self.assertTrue(self.holds("10.0.0.0/8", "10.1.2.3"))
        self.assertTrue(self.holds("10.0.0.0/8", "::ffff:10.1.2.3"))
        self.assertTrue(self.holds("::ffff:10.0.0.0/104", "10.1.2.3"))
        self.assertTrue(self.holds("10.1.2.3", "10.1.2.3"))
        self.assertTrue(self.holds("fd00::/8", "fd00::1%eth0"))
        self.assertFalse(self.holds("10.0.0.0/8", "11.0.0.1"))
        self.assertFalse(self.holds("::/0", "10.0.0.1"))
        self.assertFalse(self.holds("0.0.0.0/0", "::1"))

    def test_wide(self) -> None:
        """Where a rule denies, an address is also what it wraps, or leads to on this machine."""
        for pattern, address in (
            ("127.0.0.0/8", "0.0.0.0"),
            ("::1", "::"),
            ("127.0.0.0/8", "::"),
            ("10.0.0.0/8", "::10.1.2.3"),
            ("10.0.0.0/8", "64:ff9b::10.1.2.3"),
            ("10.0.0.0/8", "2002:a01:203:1::9"),
            ("64:ff9b::/96", "64:ff9b::10.1.2.3"),
        ):
            found = readAddress(address)
            assert found is not None
            self.assertTrue(HostPattern(pattern).holds(found, True), (pattern, address))
            if not address.startswith("64:ff9b") or pattern == "10.0.0.0/8":
                self.assertFalse(HostPattern(pattern).holds(found), (pattern, address))
        for pattern, address in (("0.0.0.0/8", "::1"), ("10.0.0.0/8", "64:ff9b:0:1::10.0.0.1")):
            found = readAddress(address)
            assert found is not None
            self.assertFalse(HostPattern(pattern).holds(found, True), (pattern, address))

    def test_unspecified(self) -> None:
        """No network that a rule allows holds the addresses that stand for any."""
        for pattern, address in (("0.0.0.0/0", "0.0.0.0"), ("::/0", "::"), ("::", "::")):
            self.assertFalse(self.holds(pattern, address), pattern)

    def test_names(self) -> None:
        """A wildcard may stand for several labels, and never for an address."""
        pattern = HostPattern("*.Example.org.")
        for name in ("a.example.org", "a.b.example.org"):
            self.assertTrue(pattern.matchesName(name), name)
        for name in ("example.org", "xexample.org", "a.example.org.evil"):
            self.assertFalse(pattern.matchesName(name), name)
        self.assertFalse(HostPattern("[a-f0-9]*").matchesName("10.0.0.1"))
        self.assertFalse(HostPattern("10.0.0.0/8").matchesName("10.0.0.1"))

    def test_every(self) -> None:
        """A star alone is every host, by name and by address."""
        self.assertTrue(HostPattern("*").matchesName("a"))
        self.assertTrue(self.holds("*", "10.0.0.1"))
        self.assertTrue(self.holds("*", "::1"))

    def test_refused(self) -> None:
        """What holds no host, or another one than it seems, is refused with what to write."""
        for pattern, words in (
            ("10.0.0.1/8", "write that network"),
            ("10.*", "write a network"),
            ("10.0.0.?", "write a network"),
            ("10.0.0.0/33", "no network"),
            ("a/b", "no network"),
            ("a:80", "no network"),
            ("", "no host name"),
            ("a b", "no host name"),
            ("ü.de", "no host name"),
            ("127.1", "form that is not taken"),
            ("[a", "never closed"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                HostPattern(pattern)

    @given(st.ip_addresses(), st.ip_addresses())
    def test_single(self, one: ipaddress.IPv4Address, other: ipaddress.IPv4Address) -> None:
        """An address holds itself alone; one that stands for any holds nothing."""
        held = HostPattern(str(one)).holds(readAddress(str(other)))  # type: ignore[arg-type]
        same = readAddress(str(one)) == readAddress(str(other))
        self.assertEqual(held, same and not one.is_unspecified)


class PortRangeTests(SynchronousTestCase):
    """L{PortRange}."""

    def test_ports(self) -> None:
        """A range holds both its ends."""
        self.assertEqual([80 in PortRange(80), 81 in PortRange(80)], [True, False])
        held = [port in PortRange("8000-8100") for port in (7999, 8000, 8100, 8101)]
        self.assertEqual(held, [False, True, True, False])
        self.assertIn(80, PortRange("80"))

    def test_refused(self) -> None:
        """What is no port is refused."""
        for ports in (
            0,
            65536,
            -1,
            True,
            "",
            "80-",
            "-80",
            "90-80",
            "0-80",
            "80 - 90",
            "http",
            "٣",
        ):
            with self.assertRaises(ValueError, msg=repr(ports)):
                PortRange(ports)
