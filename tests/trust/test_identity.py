"""
Who somebody is: by a certificate, by the kernel, or nobody.
"""

from __future__ import annotations

import os
import pwd
import socket
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import ISystemHandle
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from tests.net.handshakes import Notes, Served, noting
from tests.trust.certificates import Issuer, authority, clientBundle, clientFiles, forge
from twisted_netsuite.errors import Unauthenticated
from twisted_netsuite.testing import MemoryTransport
from twisted_netsuite.trust.identity import (
    ANONYMOUS,
    NAME,
    ROLE_URI,
    Identity,
    certificateIdentity,
    identityOf,
    ownIdentity,
    unixIdentity,
)

TCP = IPv4Address("TCP", "127.0.0.1", 7)


class IdentityTests(SynchronousTestCase):
    """L{Identity}."""

    def test_text(self) -> None:
        """It is written as a policy writes it."""
        for who, text in (
            (Identity("cert", "anna"), "cert:anna"),
            (Identity("unix", "root"), "unix:root"),
            (Identity("unix", "#1234"), "unix:#1234"),
            (Identity("token", "anna"), "token:anna"),
            (ANONYMOUS, "anonymous"),
        ):
            self.assertEqual(str(who), text)

    def test_apart(self) -> None:
        """One name by two methods is two identities; roles are part of one."""
        self.assertNotEqual(Identity("cert", "anna"), Identity("unix", "anna"))
        self.assertNotEqual(Identity("cert", "a"), Identity("cert", "a", frozenset({"admin"})))
        self.assertEqual(len({Identity("cert", "a"), Identity("cert", "a")}), 1)


class NameTests(SynchronousTestCase):
    """L{NAME}."""

    def test_names(self) -> None:
        """Names that need no quoting anywhere are names, and nothing else is."""
        for name in ("anna", "a", "_x", "0", "anna.smith@example.org", "a-b_c", "A" * 64):
            self.assertTrue(NAME.fullmatch(name), name)
        for name in ("", "-a", ".a", "@", "#1", "a b", "a/b", "a:b", "ä", "a\n", "a\x00", "A" * 65):
            self.assertFalse(NAME.fullmatch(name), name)


class CertificateTests(SynchronousTestCase):
    """L{certificateIdentity}."""

    def read(self, *names: str, sans: tuple[x509.GeneralName, ...] = ()) -> Identity:
        """Read a certificate with these names."""
        return certificateIdentity(forge(names, sans=sans).certificate)

    def refused(self, *names: str) -> str:
        """Read one that names nobody."""
        error: Unauthenticated = self.assertRaises(Unauthenticated, self.read, *names)
        return error.sentence

    def test_issued(self) -> None:
        """A certificate of our own authority names its client and the client's roles."""
        path = clientBundle("rita", "admin", "operator")
        with open(path, "rb") as file:
            who = certificateIdentity(x509.load_pem_x509_certificate(file.read()))
        self.assertEqual(who, Identity("cert", "rita", frozenset({"admin", "operator"})))

    def test_name(self) -> None:
        """The common name is the name."""
        self.assertEqual(self.read("anna@example.org"), Identity("cert", "anna@example.org"))

    def test_nobody(self) -> None:
        """No name, several, or one that is no name, is refused with what it is."""
        needed = "; one name of letters, digits and ._@- is needed."
        self.assertEqual(self.refused(), f"The certificate's common name is 'none'{needed}")
        self.assertEqual(self.refused("a", "b"), f"The certificate's common name is 'a, b'{needed}")
        self.assertEqual(self.refused("a", "a"), f"The certificate's common name is 'a, a'{needed}")
        for name in ("anna smith", "-a", "ännä", "a/../b", "*"):
            self.assertIn(f"is {name!r};", self.refused(name))

    def test_terminal(self) -> None:
        """What a name tells a terminal is taken out, and a long one is cut."""
        sentence = self.refused("\x1b]0;owned\x07", "x" * 64, "y" * 64)
        self.assertTrue(sentence.isprintable())
        self.assertLess(len(sentence), 250)

    def test_roles(self) -> None:
        """Roles are URIs of ours that are names; others mean nothing here."""
        uris = (
            *("netsuite:role:admin", "netsuite:role:a b", "netsuite:role:", "NETSUITE:ROLE:x"),
            *("https://example.org/", "netsuite:role:admin", "xnetsuite:role:y"),
        )
        sans = tuple(x509.UniformResourceIdentifier(uri) for uri in uris)
        names = (x509.DNSName("netsuite:role:z"), x509.RFC822Name("a@example.org"))
        who = self.read("anna", sans=(*sans, *names))
        self.assertEqual(who.roles, frozenset({"admin"}))
        self.assertEqual(ROLE_URI, "netsuite:role:")

    def test_organisation(self) -> None:
        """What else stands in a subject gives no role and no name."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "admin"),
                x509.NameAttribute(NameOID.COMMON_NAME, "anna"),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "netsuite:role:admin"),
            ]
        )
        made = forge(issuer=None)
        builder = x509.CertificateBuilder(
            issuer_name=subject,
            subject_name=subject,
            public_key=made.key.public_key(),
            serial_number=1,
            not_valid_before=made.certificate.not_valid_before_utc,
            not_valid_after=made.certificate.not_valid_after_utc,
        )
        signed = builder.sign(made.key, made.certificate.signature_hash_algorithm)  # type: ignore[arg-type]
        self.assertEqual(certificateIdentity(signed), Identity("cert", "anna"))

    def test_unreadable(self) -> None:
        """A subject that cannot be read names nobody; alternative names that cannot, no role."""

        class Broken:
            def __getattr__(self, name: str) -> Any:
                raise ValueError("no ASN.1 that can be read")

        class Certificate:
            subject: Any = Broken()
            extensions: Any = Broken()

        broken: Any = Certificate()
        error = self.assertRaises(Unauthenticated, certificateIdentity, broken)
        self.assertIn("cannot be read", error.sentence)
        broken.subject = forge().certificate.subject
        self.assertEqual(certificateIdentity(broken), Identity("cert", "anna"))

    @settings(deadline=None, max_examples=100)
    @given(st.text(min_size=1, max_size=64))
    def test_anyName(self, name: str) -> None:
        """Whatever the name, it is one or it is refused, and then a line can show it."""
        try:
            made = forge([name]).certificate
        except ValueError:
            return
        try:
            who = certificateIdentity(made)
        except Unauthenticated as error:
            self.assertIsNone(NAME.fullmatch(name))
            self.assertEqual(len(error.sentence.splitlines()), 1)
        else:
            self.assertEqual(who, Identity("cert", name))
            self.assertTrue(NAME.fullmatch(name))


class UnixTests(SynchronousTestCase):
    """L{unixIdentity}, with real sockets."""

    def pair(self) -> socket.socket:
        """Make a connected socket."""
        ends = socket.socketpair(socket.AF_UNIX)
        for end in ends:
            self.addCleanup(end.close)
        return ends[0]

    def test_account(self) -> None:
        """The kernel tells who is at the other end, which is ourselves."""
        name = pwd.getpwuid(os.geteuid()).pw_name
        self.assertEqual(unixIdentity(self.pair()), Identity("unix", name))
        self.assertEqual(ownIdentity(), Identity("unix", name))

    def test_noAccount(self) -> None:
        """A number without an account is a name that no account can have."""

        def unknown(uid: int) -> Any:
            raise KeyError(uid)

        self.patch(pwd, "getpwuid", unknown)
        expected = Identity("unix", f"#{os.geteuid()}")
        self.assertEqual((unixIdentity(self.pair()), ownIdentity()), (expected, expected))

    def test_oddAccount(self) -> None:
        """An account whose name is none here goes by its number."""
        odd = pwd.struct_passwd(("a b$", "x", 1, 1, "", "/", ""))
        self.patch(pwd, "getpwuid", lambda uid: odd)
        expected = Identity("unix", f"#{os.geteuid()}")
        self.assertEqual((unixIdentity(self.pair()), ownIdentity()), (expected, expected))

    def test_otherSocket(self) -> None:
        """A socket of another kind tells nothing."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        connected = socket.create_connection(listening.getsockname())
        self.addCleanup(connected.close)
        # The kernel answers for any socket, with nobody.
        self.assertIn(unixIdentity(connected).name, ("#4294967295",))


class TransportTests(SynchronousTestCase):
    """L{identityOf}."""

    def unix(self, handle: object) -> Any:
        """Make a transport of a Unix socket."""
        transport: Any = MemoryTransport(UNIXAddress("x"), UNIXAddress(""))
        transport.getHandle = lambda: handle
        alsoProvides(transport, ISystemHandle)
        return transport

    def test_plain(self) -> None:
        """Over plain TCP everybody is anonymous."""
        self.assertIs(identityOf(cast(Any, MemoryTransport(TCP, TCP))), ANONYMOUS)

    def test_unix(self) -> None:
        """Over a Unix socket it is the account."""
        ends = socket.socketpair(socket.AF_UNIX)
        for end in ends:
            self.addCleanup(end.close)
        self.assertEqual(identityOf(self.unix(ends[0])), ownIdentity())

    def test_noSocket(self) -> None:
        """Behind an address of a Unix socket that is none, as a balancer tells one, is nobody."""
        tcp = socket.socket()
        self.addCleanup(tcp.close)
        for handle in (None, object(), tcp):
            self.assertIs(identityOf(self.unix(handle)), ANONYMOUS)

    def test_TLS(self) -> None:
        """Over TLS it is who the certificate names, and nobody when there is none or no TLS yet."""
        for cert, who in ((clientBundle(), Identity("cert", "anna")), ("", ANONYMOUS)):
            server = Notes()
            served = Served(noting(server), require=False)
            served.connect(clientFiles(cert=cert))
            transport: Any = server.transport
            self.assertEqual(identityOf(transport), who)
            transport._tlsConnection = None
            self.assertIs(identityOf(transport), ANONYMOUS)

    def test_namesNobody(self) -> None:
        """A certificate that names nobody is no anonymous peer."""

        class Handle:
            def get_peer_certificate(self, as_cryptography: bool) -> x509.Certificate:
                return forge(["a", "b"], Issuer.of(authority())).certificate

        server = Notes()
        Served(noting(server)).connect()
        transport: Any = server.transport
        transport._tlsConnection = Handle()
        self.assertRaises(Unauthenticated, identityOf, transport)

    def test_same(self) -> None:
        """What is read from a connection is what stands in the file."""
        server = Notes()
        Served(noting(server)).connect(clientFiles(cert=clientBundle("rosa", "auditor")))
        who = identityOf(server.transport)
        self.assertEqual(who, Identity("cert", "rosa", frozenset({"auditor"})))
        pem = server.transport.getHandle().get_peer_certificate(  # type: ignore[attr-defined]
            as_cryptography=True
        )
        with open(clientBundle("rosa", "auditor"), "rb") as file:
            self.assertIn(pem.public_bytes(Encoding.PEM), file.read())
