"""
TLS contexts: what is offered and taken, whom each end trusts, and what is wrong with files.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.certificates import (
    SERVER,
    Issuer,
    authority,
    bundle,
    clientBundle,
    clientFiles,
    forge,
    keyPEM,
    newAuthority,
    newPath,
    revocations,
    serverBundle,
    serverFiles,
    stranger,
    strangeServer,
    written,
)
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net import tlscontext
from twisted_netsuite.net.tlscontext import (
    GROUPS,
    MAX_PEM,
    SESSION_LIFETIME,
    TLS12_SUITES,
    TLS13_SUITES,
    HandshakeNotes,
    TrustFiles,
    _number,
    clientContext,
    doubtsOf,
    serverContext,
    serviceName,
)

LONG_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)

#: OpenSSL's numbers of the groups, as IANA has them.
ML_KEM, X25519, P256, P384, P521, X448 = 4588, 29, 23, 24, 25, 30


def shake(server: SSL.Context, client: SSL.Context, host: bytes = b"") -> tuple[Any, Any]:
    """
    Shake hands in memory.

    @param server: the server's context.
    @param client: the client's.
    @param host: for SNI.
    @return: both connections.
    @raise SSL.Error: as soon as one end fails.
    """
    ends: list[Any] = [SSL.Connection(server, None), SSL.Connection(client, None)]
    ends[0].set_accept_state()
    ends[1].set_connect_state()
    if host:
        ends[1].set_tlsext_host_name(host)
    for _ in range(5):
        for near, far in (ends, reversed(ends)):
            with contextlib.suppress(SSL.WantReadError):
                near.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                far.bio_write(near.bio_read(1 << 16))
    return ends[0], ends[1]


def offering(files: TrustFiles | None = None, host: str = "localhost") -> SSL.Context:
    """Make the context of a client."""
    return clientContext((files or clientFiles()).read(), host)


def serving(**kwargs: Any) -> SSL.Context:
    """Make the context of a server."""
    files = kwargs.pop("files", None) or serverFiles()
    return serverContext(files.read(), **kwargs)


def leaf(path: str) -> bytes:
    """Take the certificate out of a bundle."""
    data = Path(path).read_bytes()
    return data[data.index(b"-----BEGIN CERTIFICATE") :]


def setGroups(context: SSL.Context, groups: bytes) -> None:
    """Let a context have just these groups."""
    cast(Any, SSL)._lib.SSL_CTX_set1_curves_list(cast(Any, context)._context, groups)


class ProfileTests(SynchronousTestCase):
    """Mozilla's intermediate profile."""

    def peer(self, **kwargs: Any) -> SSL.Context:
        """Make a client that verifies nothing, with any suites of old and new."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_cipher_list(kwargs.get("suites", b"ALL:@SECLEVEL=0"))
        context.set_tls13_ciphersuites(kwargs.get("suites13", TLS13_SUITES))
        context.set_min_proto_version(kwargs.get("least", SSL.TLS1_VERSION))
        context.set_max_proto_version(kwargs.get("most", SSL.TLS1_3_VERSION))
        if "groups" in kwargs:
            setGroups(context, kwargs["groups"])
        return context

    def server(self) -> SSL.Context:
        """Make a server that lets anybody in."""
        return serving(require=False)

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, the newer when both can, and none below them."""
        for version, name in ((SSL.TLS1_2_VERSION, "TLSv1.2"), (SSL.TLS1_3_VERSION, "TLSv1.3")):
            server, _ = shake(self.server(), self.peer(most=version))
            self.assertEqual(server.get_protocol_version_name(), name)
        for version in (SSL.TLS1_1_VERSION, SSL.TLS1_VERSION):
            with self.assertRaises(SSL.Error):
                shake(self.server(), self.peer(most=version))

    def test_clientVersions(self) -> None:
        """A client speaks to no server of TLS 1.1, either."""
        server = SSL.Context(SSL.TLS_SERVER_METHOD)
        server.set_cipher_list(b"ALL:@SECLEVEL=0")
        server.use_certificate_chain_file(serverBundle())
        server.use_privatekey_file(serverBundle())
        server.set_min_proto_version(SSL.TLS1_VERSION)
        server.set_max_proto_version(SSL.TLS1_1_VERSION)
        with self.assertRaises(SSL.Error):
            shake(server, offering())

    def test_suites(self) -> None:
        """Every suite of the profile is taken that fits the key, and none besides."""
        everything = SSL.Connection(self.peer(), None).get_cipher_list()
        taken = set()
        for suite in everything:
            if suite.startswith("TLS_"):
                continue
            with contextlib.suppress(SSL.Error):
                server, _ = shake(
                    self.server(),
                    self.peer(suites=suite.encode() + b":@SECLEVEL=0", most=SSL.TLS1_2_VERSION),
                )
                taken.add(server.get_cipher_name())
        wanted = {each for each in TLS12_SUITES.decode().split(":") if "ECDSA" in each}
        self.assertEqual(taken, wanted)
        self.assertGreater(len(everything), len(wanted))

    def test_suites13(self) -> None:
        """Of TLS 1.3 the suites of the profile are taken, and no others."""
        for suite in TLS13_SUITES.split(b":"):
            server, _ = shake(self.server(), self.peer(suites13=suite))
            self.assertEqual(server.get_cipher_name().encode(), suite)
        for suite in (b"TLS_AES_128_CCM_SHA256", b"TLS_AES_128_CCM_8_SHA256"):
            with self.assertRaises(SSL.Error):
                shake(self.server(), self.peer(suites13=suite, least=SSL.TLS1_3_VERSION))

    def test_offered(self) -> None:
        """A client offers what a server takes, and nothing else."""
        wanted = (TLS13_SUITES + b":" + TLS12_SUITES).decode().split(":")
        self.assertEqual(SSL.Connection(offering(), None).get_cipher_list(), wanted)

    def test_groups(self) -> None:
        """Each group of the profile is taken, and none besides."""
        for name in GROUPS.split(b":"):
            server, _ = shake(self.server(), self.peer(groups=name, least=SSL.TLS1_3_VERSION))
            self.assertIsNotNone(server.get_group_name())
        for name in (b"P-521", b"X448", b"ffdhe2048", b"ffdhe4096"):
            with self.assertRaises(SSL.Error):
                shake(self.server(), self.peer(groups=name, least=SSL.TLS1_3_VERSION))
        with self.assertRaises(SSL.Error):
            shake(self.server(), self.peer(groups=b"P-521", most=SSL.TLS1_2_VERSION))

    def test_groupsOffered(self) -> None:
        """A client offers just the groups of the profile, the hybrid first."""
        connection = SSL.Connection(offering(), None)
        connection.set_connect_state()
        with contextlib.suppress(SSL.WantReadError):
            connection.do_handshake()
        hello = connection.bio_read(1 << 16)
        numbers = [ML_KEM, X25519, P256, P384]
        encoded = b"".join(number.to_bytes(2, "big") for number in numbers)
        # supported_groups (RFC 8446 4.2.7): type, length, length of the list.
        self.assertIn(b"\x00\x0a\x00\x0a\x00\x08" + encoded, hello)

    def test_hybrid(self) -> None:
        """Two ends of ours agree on the hybrid with ML-KEM."""
        server, _ = shake(serving(), offering())
        self.assertEqual(server.get_group_name(), "X25519MLKEM768")

    def test_binding(self) -> None:
        """The private call by which groups are chosen is there, and takes a list or refuses it."""
        context = SSL.Context(SSL.TLS_METHOD)
        choose = cast(Any, SSL)._lib.SSL_CTX_set1_curves_list
        pointer = cast(Any, context)._context
        self.assertEqual(choose(pointer, GROUPS), 1)
        self.assertEqual(choose(pointer, b"no-such-group"), 0)
        cast(Any, SSL)._lib.ERR_clear_error()

    def test_noCompression(self) -> None:
        """No end offers compression, and the server takes no renegotiation from a client."""
        server, client = shake(self.server(), self.peer(most=SSL.TLS1_2_VERSION))
        self.assertTrue(client.renegotiate())
        with contextlib.suppress(SSL.Error):
            client.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            server.bio_write(client.bio_read(1 << 16))
        with contextlib.suppress(SSL.Error):
            server.recv(1)
        self.assertEqual(server.total_renegotiations(), 0)
        for context in (self.server(), offering()):
            options = context.set_options(0)
            self.assertTrue(options & SSL.OP_NO_COMPRESSION)
            self.assertTrue(options & SSL.OP_NO_RENEGOTIATION)

    def test_lifetime(self) -> None:
        """A session is worth nothing after an hour, as it is not verified again."""
        self.assertEqual(self.server().get_timeout(), SESSION_LIFETIME)

    def test_RSA(self) -> None:
        """A server with an RSA key works, too."""
        key = rsa.generate_private_key(65537, 2048)
        sans = [x509.DNSName("localhost")]
        made = forge(["localhost"], Issuer.of(authority()), usage=SERVER, sans=sans, key=key)
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            context = offering()
            context.set_max_proto_version(version)
            server, _ = shake(serving(files=serverFiles(cert=bundle(made))), context)
            self.assertEqual(server.get_peer_certificate().get_subject().CN, "anna")

    def test_noWarnings(self) -> None:
        """Nothing that we call of pyOpenSSL warns."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            crl = str(authority().crlPath)
            files = serverFiles(crl=crl)
            shake(serving(files=files, protocols=[b"a"]), offering(clientFiles(crl=crl)))

    def test_hint(self) -> None:
        """The server tells a client whose certificates it takes."""
        _, client = shake(serving(), offering())
        names = [str(name.CN) for name in client.get_client_ca_list()]
        self.assertEqual(names, ["Shared"])


def der(tag: int, content: bytes) -> bytes:
    """Encode one value."""
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def odd(before: bytes, after: bytes, **kwargs: Any) -> str:
    """Issue a certificate in which some bytes are others, with a signature that fits."""
    issuer = Issuer.of(authority())
    made = forge(["anna"], issuer, **kwargs)
    tbs = made.certificate.tbs_certificate_bytes
    # The issuer's name comes first, the subject's is the last of such bytes.
    start, found, end = tbs.rpartition(before)
    assert found and len(before) == len(after)
    body = start + after + end
    signature = issuer.key.sign(body, ec.ECDSA(SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    whole = der(0x30, body + algorithm + der(0x03, b"\x00" + signature))
    pem = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n"
    return written(keyPEM(made.key) + pem % base64.encodebytes(whole))


class UnreadableTests(SynchronousTestCase):
    """Certificates of a trusted authority that OpenSSL takes, and cryptography does not."""

    def contextOf(self, context: SSL.Context, path: str) -> SSL.Context:
        """Let a context present a bundle that our own reading would refuse."""
        context.use_certificate_file(path)
        context.use_privatekey_file(path)
        return context

    def fault(self, server: SSL.Context, client: SSL.Context, judge: int) -> str:
        """
        Shake hands, which fails with an alert.

        @param judge: the end that refuses: 0 for the server.
        @return: what that end notes.
        """
        ends: list[Any] = [SSL.Connection(server, None), SSL.Connection(client, None)]
        ends[0].set_accept_state()
        ends[1].set_connect_state()
        notes = HandshakeNotes()
        ends[judge].set_app_data(notes)
        failed = []
        for _ in range(5):
            for near, far in ((0, 1), (1, 0)):
                try:
                    ends[near].do_handshake()
                    ends[near].recv(1)
                except SSL.WantReadError:
                    pass
                except SSL.Error as error:
                    failed.append((near, error))
                with contextlib.suppress(SSL.WantReadError):
                    ends[far].bio_write(ends[near].bio_read(1 << 16))
        self.assertEqual(failed[0][0], judge)
        told = [str(error) for near, error in failed if near != judge]
        self.assertIn("alert", told[0])
        return notes.fault

    def test_refused(self) -> None:
        """Each is refused in words and by an alert, at both ends and by both versions of TLS."""
        name = b"\x0c\x04anna"
        for before, after in (
            (name, b"\x13\x04@*&_"),
            (name, b"\x03\x04\x00\xff\x00\xff"),
            (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),
        ):
            for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
                client = self.contextOf(
                    clientContext(clientFiles(cert="").read(), "localhost"), odd(before, after)
                )
                client.set_max_proto_version(version)
                self.assertEqual(self.fault(serving(), client, 0), "it cannot be read")
            sans = [x509.DNSName("localhost")]
            server = self.contextOf(
                serverContext(serverFiles(cert="").read(), require=False),
                odd(before, after, usage=SERVER, sans=sans),
            )
            if before != name:
                # Of a server's names a client reads those that count.
                self.assertEqual(self.fault(server, offering(), 1), "it cannot be read")

    def test_raises(self) -> None:
        """Whatever reading a certificate raises refuses it."""
        for error in (ValueError, TypeError, x509.InvalidVersion("", 4), KeyError, RuntimeError):

            def fail(certificate: object, error: Any = error) -> None:
                raise error

            for judge, name in ((0, "certificateIdentity"), (1, "extract_patterns")):
                patch = self.patch(tlscontext, name, fail)
                self.assertRegex(self.fault(serving(), offering(), judge), "read|not for")
                patch.restore()


class ALPNTests(SynchronousTestCase):
    """The choice of a protocol (RFC 7301)."""

    def chosen(self, server: Iterable[bytes], client: Iterable[bytes]) -> bytes:
        """Tell what is chosen."""
        ends = shake(
            serving(protocols=server),
            clientContext(clientFiles().read(), "localhost", protocols=client),
        )
        one, other = (end.get_alpn_proto_negotiated() for end in ends)
        self.assertEqual(one, other)
        return cast(bytes, one)

    def test_choice(self) -> None:
        """The server's first that the client has; without one in common, or any, there is none."""
        self.assertEqual(self.chosen([b"h2", b"http/1.1"], [b"http/1.1", b"h2"]), b"h2")
        self.assertEqual(self.chosen([b"echo"], [b"other", b"echo"]), b"echo")
        self.assertEqual(self.chosen([b"echo"], [b"other"]), b"")
        self.assertEqual(self.chosen([b"echo"], []), b"")
        self.assertEqual(self.chosen([], [b"echo"]), b"")
        self.assertEqual(self.chosen([], []), b"")


class HostTests(SynchronousTestCase):
    """For whom a server's certificate is."""

    def forged(self, *sans: x509.GeneralName, name: str = "localhost") -> TrustFiles:
        """Make a server's files with any alternative names."""
        made = forge([name], Issuer.of(authority()), usage=SERVER, sans=sans)
        return serverFiles(cert=bundle(made))

    def assertTaken(self, host: str, files: TrustFiles | None = None) -> None:
        """A client that wants this host takes the certificate."""
        shake(serving(files=files), offering(host=host))

    def assertRefused(self, host: str, files: TrustFiles | None = None) -> None:
        """A client that wants this host does not."""
        with self.assertRaises(SSL.Error):
            shake(serving(files=files), offering(host=host))

    def test_taken(self) -> None:
        """A host that stands in the certificate, however it is written."""
        for host in (
            "localhost",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1",
            "::1",
            "0:0:0:0:0:0:0:1",
            "www.example.org",
        ):
            self.assertTaken(host)

    def test_refused(self) -> None:
        """A host that does not."""
        for host in (
            "example.org",
            "a.b.example.org",
            "localhost.example.com",
            "127.0.0.2",
            "::2",
            "other",
        ):
            self.assertRefused(host)

    def test_zone(self) -> None:
        """The zone of an address is this machine's matter."""
        files = self.forged(x509.IPAddress(ip_address("fe80::1")))
        self.assertTaken("fe80::1%eth0", files)
        self.assertRefused("fe80::2%eth0", files)

    def test_commonName(self) -> None:
        """A common name alone is for no host (RFC 9525)."""
        self.assertRefused("localhost", self.forged())

    def test_addressAsName(self) -> None:
        """A DNS name that looks like an address is none."""
        self.assertRefused("127.0.0.1", self.forged(x509.DNSName("127.0.0.1")))

    def test_wildcards(self) -> None:
        """A star stands for one whole label, and never for an address."""
        self.assertRefused("www.example.org", self.forged(x509.DNSName("*")))
        self.assertRefused("www.example.org", self.forged(x509.DNSName("w*.example.org")))
        self.assertRefused("127.0.0.1", self.forged(x509.DNSName("*.0.0.1")))

    def test_unicode(self) -> None:
        """A name beyond ASCII is looked for as DNS has it."""
        self.assertTaken(
            "bücher.example.org", self.forged(x509.DNSName("xn--bcher-kva.example.org"))
        )

    def test_unreadable(self) -> None:
        """A certificate whose alternative names cannot be read is for no host."""
        self.assertRefused("localhost", self.forged(x509.DNSName("*.*.org")))
        self.assertRefused("localhost", self.forged(x509.DNSName("a\x00.org")))

    def test_noHost(self) -> None:
        """What no certificate can name is refused in one sentence."""
        for host in ("", "a b", "ex ample", "/", "a" * 300 + "\x00"):
            error = self.assertRaises(ConfigurationError, serviceName, host)
            self.assertEqual(
                error.sentence,
                f"No certificate can be for {host!r}; give a DNS name or an IP address.",
            )

    def test_otherChecks(self) -> None:
        """A client takes no server's certificate of another authority, or one that has expired."""
        self.assertRefused("localhost", serverFiles(cert=strangeServer()))
        made = forge(
            ["localhost"],
            Issuer.of(authority()),
            usage=SERVER,
            sans=[x509.DNSName("localhost")],
            end=datetime.now(UTC) - timedelta(hours=1),
        )
        self.assertRefused("localhost", serverFiles(cert=bundle(made)))

    def test_revoked(self) -> None:
        """A client with a list takes no server's certificate that stands in it."""
        own = newAuthority()
        server = serverFiles(cert=str(own.issueServer("localhost")))
        files = TrustFiles("", str(own.certificatePath), str(own.crlPath))
        shake(serving(files=server, require=False), offering(files))
        own.revoke("localhost")
        with self.assertRaises(SSL.Error):
            shake(serving(files=server, require=False), offering(files))


class FilesTests(SynchronousTestCase):
    """L{TrustFiles}: right and wrong files."""

    def wrong(self, pattern: str, **kwargs: str) -> None:
        """Reading the files fails with a sentence."""
        files = serverFiles(**kwargs)
        error = self.assertRaises(ConfigurationError, files.read)
        self.assertRegex(error.sentence, f"^{pattern}$")

    def test_whole(self) -> None:
        """A bundle in either order, or in two files, is the same."""
        certificate, key = self.parts()
        for files in (
            serverFiles(cert=written(key + certificate)),
            serverFiles(cert=written(certificate + key)),
            serverFiles(cert=written(b"a comment\n" + certificate), key=written(key)),
            serverFiles(cert=written(certificate.replace(b"\n", b"\r\n")), key=written(key)),
        ):
            trust = files.read()
            assert trust.key is not None
            self.assertEqual(trust.key.public_key(), trust.chain[0].public_key())
            self.assertEqual((len(trust.chain), len(trust.authorities), trust.revoked), (1, 1, ()))

    def parts(self) -> tuple[bytes, bytes]:
        """Take a bundle apart."""
        data = Path(serverBundle()).read_bytes()
        cut = data.index(b"-----BEGIN CERTIFICATE")
        return data[cut:], data[:cut]

    def test_parameters(self) -> None:
        """A key as C{openssl ecparam -genkey} writes it is found behind its parameters."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = forge(key=key)
        pem = key.private_bytes(
            Encoding.PEM,
            PrivateFormat.TraditionalOpenSSL,
            NoEncryption(),
        )
        parameters = (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        )
        serverFiles(cert=written(parameters + pem + made.pem)).read()

    def test_nameless(self) -> None:
        """Without a certificate there is no key, and nothing is wrong."""
        trust = serverFiles(cert="").read()
        self.assertEqual((trust.key, trust.chain), (None, ()))

    def test_missing(self) -> None:
        """A file that is not there, or is a directory."""
        gone = str(newPath())
        for word in ("cert", "ca", "crl", "key"):
            self.wrong(
                f"The file '{gone}' cannot be read: no such file or directory; give one that can.",
                **{word: gone},
            )
        self.wrong("The file '/' cannot be read: is a directory; give one that can.", ca="/")

    def test_forbidden(self) -> None:
        """A file that this user may not read."""

        def refuse(path: Path, mode: str) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(Path, "open", refuse)
        self.wrong("The file '.*' cannot be read: permission denied; give one that can.")

    def test_empty(self) -> None:
        """A file without a certificate, a key or a list."""
        for data in (b"", b"hello", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\n"):
            path = written(data)
            sentence = "No certificate can be read from '.*'; give a PEM file of certificates."
            self.wrong(sentence, cert=path)
            self.wrong(sentence, ca=path)
            self.wrong("No private key can be read from '.*'; give a PEM file .*", key=path)
            self.wrong("No revocation list is in '.*'; give a PEM file of CRLs.", crl=path)

    def test_broken(self) -> None:
        """A file whose PEM holds nonsense."""
        for label, word, sentence in (
            ("CERTIFICATE", "cert", "No certificate can be read from '.*'; .*"),
            ("CERTIFICATE", "ca", "No certificate can be read from '.*'; .*"),
            ("PRIVATE KEY", "key", "No private key can be read from '.*'; .*"),
            ("X509 CRL", "crl", "A revocation list in '.*' cannot be read; .*"),
        ):
            for body in ("aGVsbG8=", "!!!", ""):
                pem = f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"
                self.wrong(sentence, **{word: written(pem.encode())})

    def test_strangeVersion(self) -> None:
        """A certificate of a version that nobody knows."""
        der = bytearray(authority().certificate.public_bytes(Encoding.DER))
        place = der.index(b"\xa0\x03\x02\x01\x02")
        der[place + 4] = 9
        pem = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % (
            base64.encodebytes(bytes(der)).strip()
        )
        self.wrong("No certificate can be read from '.*'; .*", ca=written(pem))

    def test_huge(self) -> None:
        """A file beyond all measure, or without an end, is not read to its end."""
        sentence = f"The file '.*' is larger than {MAX_PEM} bytes; give one of certificates in PEM."
        self.wrong(sentence, ca=written(bytes(MAX_PEM + 1)))
        self.wrong(sentence, ca="/dev/zero")

    def test_noKey(self) -> None:
        """A certificate whose key is not there."""
        certificate, _ = self.parts()
        self.wrong("No private key can be read from '.*'; .*", cert=written(certificate))

    def test_otherKey(self) -> None:
        """A key that is another's."""
        self.wrong(
            "The first certificate in '.*' is not that of the private key in '.*'; give the two "
            "that belong together.",
            key=clientBundle(),
        )

    def test_chainFirst(self) -> None:
        """A chain in the wrong order."""
        _, key = self.parts()
        chain = authority().certificatePath.read_bytes() + self.parts()[0]
        self.wrong("The first certificate in .*", cert=written(key + chain))

    def test_encrypted(self) -> None:
        """A key behind a passphrase."""
        key = ec.generate_private_key(ec.SECP256R1())
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            pem = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
            self.wrong(
                "The private key in '.*' has a passphrase, which nobody is there to type; give one "
                "without, in a file that only its owner can read.",
                key=written(pem),
            )

    def test_listOfAnother(self) -> None:
        """A list of an authority that is not trusted, or only has the name of one that is."""
        sentence = (
            "A revocation list in '.*' is of none of the authorities that are trusted; give the "
            "list of the same authority."
        )
        self.wrong(sentence, crl=str(stranger().crlPath))
        namesake = forge(["Shared"], usage=None, ca=True)
        self.wrong(sentence, crl=written(revocations(namesake)))

    def test_lists(self) -> None:
        """Several lists in one file are all read."""
        both = authority().crlPath.read_bytes() + stranger().crlPath.read_bytes()
        ca = authority().certificatePath.read_bytes() + stranger().certificatePath.read_bytes()
        trust = serverFiles(ca=written(ca), crl=written(both)).read()
        self.assertEqual((len(trust.authorities), len(trust.revoked)), (2, 2))

    def numbered(
        self, number: int | None, *names: str, at: datetime | None = None, **kwargs: Any
    ) -> bytes:
        """Make a list of the shared authority in which clients of these names are revoked."""
        revoked = [x509.load_pem_x509_certificate(leaf(clientBundle(name))) for name in names]
        issuer = Issuer.of(authority())
        return revocations(issuer, revoked, number=number, begin=at or LONG_AGO, **kwargs)

    def revokedNames(self, *lists: bytes) -> int:
        """Tell how many certificates are revoked by what is taken of some lists."""
        (taken,) = serverFiles(crl=written(b"".join(lists))).read().revoked
        return len(taken)

    def test_newestList(self) -> None:
        """Of several lists of one authority that with the highest number counts, in any order."""
        old, new = self.numbered(7), self.numbered(8, "nina")
        later = self.numbered(6, "nina", "otto", at=LONG_AGO + timedelta(hours=1))
        for lists in ((old, new), (new, old), (later, new, old), (new, new)):
            self.assertEqual(self.revokedNames(*lists), 1)
        refused = serverFiles(crl=written(old + new))
        with self.assertRaises(SSL.Error):
            shake(serving(files=refused), offering(clientFiles(cert=clientBundle("nina"))))

    def test_newestDate(self) -> None:
        """Without a number in each it is the one with the latest date."""
        later = LONG_AGO + timedelta(hours=1)
        old, new = self.numbered(None), self.numbered(None, "nina", at=later)
        for lists in ((old, new), (new, old), (self.numbered(9), new)):
            self.assertEqual(self.revokedNames(*lists), 1)

    def test_noNewest(self) -> None:
        """Two lists of which neither is the newer are refused, unless they are the same."""
        for number in (None, 7):
            one, other = self.numbered(number), self.numbered(number, "nina")
            self.wrong(
                "Two revocation lists in '.*' are of one authority and of the same time, so "
                "neither is the newer; give the newer one alone.",
                crl=written(one + other),
            )
            self.assertEqual(self.revokedNames(one, one), 0)

    def test_scopes(self) -> None:
        """Lists of one authority for different certificates stand beside each other."""
        lists = [
            self.numbered(
                number,
                scope=x509.IssuingDistributionPoint(
                    None, None, number != 2, number == 2, None, False, False
                ),
            )
            for number in (1, 2, 3)
        ]
        taken = serverFiles(crl=written(b"".join(lists))).read().revoked
        self.assertEqual([_number(crl) for crl in taken], [3, 2])

    def test_oddKeys(self) -> None:
        """Keys of other sorts work, or are refused in words."""
        ed = forge(key=ed25519.Ed25519PrivateKey.generate())
        clientContext(clientFiles(cert=bundle(ed)).read(), "localhost")
        odd = written(keyPEM(x25519.X25519PrivateKey.generate()))
        self.wrong("The first certificate in .*", key=odd)

    def test_absolute(self) -> None:
        """Paths are fixed from the root; what is not given stays so; a tilde is one's home."""
        files = TrustFiles("a.pem", "../ca.pem", "", "~/key.pem").absolute()
        here = Path.cwd()
        self.assertEqual(files.cert, str(here / "a.pem"))
        self.assertEqual(files.ca, str(here.parent / "ca.pem"))
        self.assertEqual((files.crl, files.key), ("", str(Path.home() / "key.pem")))

    def test_signature(self) -> None:
        """A file that was replaced, changed, taken away or brought back is noticed."""
        path = newPath()
        path.write_bytes(b"1")
        files = TrustFiles(serverBundle(), str(path))
        before = files.signature()
        self.assertEqual(files.signature(), before)
        other = newPath()
        other.write_bytes(b"1")
        os.replace(other, path)
        replaced = files.signature()
        self.assertNotEqual(replaced, before)
        path.write_bytes(b"22")
        self.assertNotEqual(files.signature(), replaced)
        changed = files.signature()
        path.unlink()
        self.assertNotEqual(files.signature(), changed)
        self.assertEqual(files.signature(), files.signature())


class DoubtTests(SynchronousTestCase):
    """L{doubtsOf}: what a server can start with, and no client will like."""

    def doubts(self, files: TrustFiles, days: float = 0) -> list[str]:
        """Look at files, so many days from now."""
        now = datetime.now(UTC) + timedelta(days=days)
        return doubtsOf(files.read(), files, now)

    def test_none(self) -> None:
        """Nothing is said of files that are as they should be."""
        self.assertEqual(self.doubts(serverFiles()), [])
        self.assertEqual(self.doubts(TrustFiles("", str(authority().certificatePath))), [])

    def test_expiry(self) -> None:
        """A certificate is told of in time, and once it has expired."""
        for days, words in ((333, []), (336, ["expires in 28 days"]), (366, ["has expired"])):
            found = self.doubts(serverFiles(), days)
            self.assertEqual(len(found), len(words), days)
            for doubt, word in zip(found, words, strict=True):
                self.assertIn(word, doubt)

    def test_purpose(self) -> None:
        """A client's certificate is none for a server."""
        files = TrustFiles(clientBundle(), str(authority().certificatePath))
        [doubt] = self.doubts(files)
        self.assertIn("is not for a server", doubt)

    def test_authority(self) -> None:
        """A server's certificate is none of an authority."""
        [doubt] = self.doubts(TrustFiles(serverBundle(), serverBundle()))
        self.assertIn("is not that of an authority", doubt)
