"""
Names that a certificate can be asked for, and the files that they become.
"""

from __future__ import annotations

from cryptography.x509 import DNSName
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust import party
from twisted_netsuite.trust.party import MAX_NAMES, Party

#: Texts of what names are made of, and of what they must not be made of.
TEXTS = st.text(st.sampled_from("ab1-_.*:/\\%@ \n\0\x1bÄ"), max_size=20) | st.text(max_size=300)


class NameTestCase(SynchronousTestCase):
    """Checks of refusals."""

    def assertRefused(self, words: str, kind: object, *args: object) -> None:
        """A name is refused in one sentence, with something in it."""
        assert callable(kind)
        sentence = self.assertRaises(ConfigurationError, kind, *args).sentence
        self.assertIn(words, sentence)
        self.assertEqual(sentence.count("\n"), 0)
        self.assertEqual(sentence[-1], ".")


class ServerTests(NameTestCase):
    """L{party.server}."""

    def test_names(self) -> None:
        """A server has a DNS name or an address, in the one form in which certificates are read."""
        for given_, name, file in (
            ("localhost", "localhost", "localhost.pem"),
            ("Files.Example.ORG", "files.example.org", "files.example.org.pem"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example.pem"),
            ("*.example.org", "*.example.org", "_wildcard.example.org.pem"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.1.pem"),
            ("2001:DB8:0:0::1", "2001:db8::1", "_ip6-2001-db8--1.pem"),
            ("::1", "::1", "_ip6---1.pem"),
            ("1and1.com", "1and1.com", "1and1.com.pem"),
            ("7", None, None),
            ("a" * 63 + ".b", "a" * 63 + ".b", "a" * 63 + ".b.pem"),
        ):
            if name is None:
                self.assertRefused("is no DNS name or IP address", party.server, given_, ())
                continue
            whom = party.server(given_, ())
            self.assertEqual((whom.name, whom.fileName, whom.names), (name, file, (name,)))

    def test_refused(self) -> None:
        """What is neither is refused, wherever it stands."""
        for name in (
            *("", ".", "..", "../x", "a/b", "a b", "a\0b", "-a", "a-", "a..b", "a.", ".a", "_a"),
            *("*", "*.org", "a.*.org", "*a.example.org", "*.*.example.org", "a" * 64),
            *("192.0.2.256", "192.0.2", "1.2.3.4.5", "[::1]", "::1/64", "::g", "a:b", "a\n"),
            ".".join(["a" * 49] * 6),
        ):
            self.assertRefused("is no DNS name or IP address", party.server, name, ())
            self.assertRefused("is no DNS name or IP address", party.server, "a", (name,))

    def test_notASCII(self) -> None:
        """A name that DNS does not hold as it is written is refused with what to give instead."""
        for name in ("bücher.example", "локальный", "١٩٢.0.2.1"):
            self.assertRefused("give its xn-- form", party.server, name, ())

    def test_zone(self) -> None:
        """An address that only one machine understands is refused."""
        self.assertRefused("has a zone", party.server, "fe80::1%eth0", ())

    def test_own(self) -> None:
        """A name whose bundle would be one of the CA's own files is refused."""
        for name in ("ca", "CA", "ca-key", "crl", "Crl"):
            self.assertRefused("is a file of the CA's own", party.server, name, ())
            self.assertRefused("is a file of the CA's own", party.client, name, ())
        self.assertEqual(party.server("a", ("ca",)).names, ("a", "ca"))

    def test_once(self) -> None:
        """However a name is written, and how often, it stands in the certificate once."""
        whom = party.server("a", ("B", "a", "b", "::1", "0::1", "A"))
        self.assertEqual(whom.names, ("a", "b", "::1"))

    def test_longest(self) -> None:
        """The longest DNS name can be in a certificate, but not be a file's."""
        longest = ".".join(["a" * 49] * 5 + ["abc"])
        self.assertEqual(len(longest), 253)
        self.assertEqual(party.server("a", (longest,)).names, ("a", longest))
        self.assertRefused("is too long to be a file's", party.server, longest, ())
        self.assertRefused("no DNS name", party.server, "a", (longest + "d",))

    def test_many(self) -> None:
        """A certificate has a bounded number of names, its own among them."""
        names = [f"h{number}" for number in range(MAX_NAMES)]
        self.assertEqual(len(party.server("h0", names).names), MAX_NAMES)
        self.assertRefused("101 names are too many", party.server, "own", names)

    def test_longRefusals(self) -> None:
        """A sentence does not grow with the name that it refuses."""
        error = self.assertRaises(ConfigurationError, party.server, "a" * 100_000, ())
        self.assertLess(len(error.sentence), 600)

    @given(TEXTS)
    @example("*." + "a" * 63)
    def test_any(self, name: str) -> None:
        """Any text is refused, or is a name that stays itself, in a file that is in its place."""
        try:
            whom = party.server(name, ())
        except ConfigurationError:
            return
        self.assertEqual(party.server(whom.name, ()), whom)
        DNSName(whom.name)
        assertSafe(self, whom)

    @given(st.ip_addresses(v=6).map(str), st.ip_addresses(v=6).map(str))
    def test_addresses(self, one: str, other: str) -> None:
        """Two addresses never share a file."""
        files = {party.server(one, ()).fileName, party.server(other, ()).fileName}
        self.assertEqual(len(files), len({one, other}))
        assertSafe(self, party.server(one, ()))


class ClientTests(NameTestCase):
    """L{party.client}."""

    def test_names(self) -> None:
        """A client has a name and roles, which keep their letters and their order."""
        whom = party.client("Anna@Example.org", ("operator", "Dev_1", "operator"))
        self.assertEqual(whom, Party("client", "Anna@Example.org", (), ("operator", "Dev_1")))
        self.assertEqual(whom.fileName, "Anna@Example.org.pem")
        self.assertEqual(party.client("::1".replace(":", "_"), ()).fileName, "__1.pem")

    def test_refused(self) -> None:
        """What cannot be read back from a certificate is refused, as a name and as a role."""
        for name in ("", ".a", "-a", "@a", "a/b", "../a", "a b", "a:b", "anna\n", "é", "a" * 65):
            self.assertRefused("The client's name", party.client, name, ())
            self.assertRefused("The client's role", party.client, "anna", (name,))

    def test_many(self) -> None:
        """A certificate has a bounded number of roles."""
        roles = [f"r{number}" for number in range(MAX_NAMES + 1)]
        self.assertEqual(len(party.client("a", roles[1:]).roles), MAX_NAMES)
        self.assertRefused("101 roles are too many", party.client, "a", roles)

    @given(TEXTS)
    def test_any(self, name: str) -> None:
        """Any text is refused, or is a name whose file is in its place."""
        try:
            whom = party.client(name, (name,))
        except ConfigurationError:
            return
        assertSafe(self, whom)


def assertSafe(test: SynchronousTestCase, whom: Party) -> None:
    """A bundle's name is just one component of a path, is seen by ls, and is no option."""
    file = whom.fileName
    test.assertRegex(file, r"\A[A-Za-z0-9_][A-Za-z0-9._@-]*\.pem\Z")
    test.assertLessEqual(len(file), 255)
    test.assertNotIn(file.lower(), ("ca.pem", "ca-key.pem", "crl.pem"))
