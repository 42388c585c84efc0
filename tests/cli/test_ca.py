"""
The words of C{netsuite ca}: what its commands take, make, print and refuse.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from click.testing import CliRunner, Result
from twisted.internet.endpoints import _parse
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.authorities import assertWhole, certificateIn
from twisted_netsuite.cli import ca as command
from twisted_netsuite.cli.main import main
from twisted_netsuite.trust.ca import CA_DAYS, CLIENT_DAYS, MAX_DAYS, SERVER_DAYS, Authority

DAY = timedelta(days=1)


class CATestCase(SynchronousTestCase):
    """C{netsuite ca} with a directory that has no CA yet."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def invoke(self, words: str, *more: str) -> Result:
        """Run a command on the directory, which stands behind the command's name."""
        name, *rest = words.split()
        return CliRunner().invoke(main, ["ca", name, str(self.path), *rest, *more])

    def done(self, words: str, *more: str) -> str:
        """Run a command that does what it should; nothing but its output is printed."""
        result = self.invoke(words, *more)
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def assertRefused(self, words: str, sentence: str, status: int = 125) -> None:
        """A command is refused in one sentence."""
        result = self.invoke(words)
        self.assertEqual((result.exit_code, result.stdout), (status, ""), result.output)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertTrue(result.stderr.startswith("netsuite"), result.stderr)
        self.assertIn(sentence, result.stderr)

    def authority(self) -> Authority:
        """Find what was made."""
        return assertWhole(self, self.path)


class InitTests(CATestCase):
    """C{netsuite ca init}."""

    def test_made(self) -> None:
        """It makes a CA, and says what is where and what comes next."""
        printed = self.done("init", "--name", "Our CA", "--days", "30")
        own = self.authority().certificate
        end = own.not_valid_after_utc
        self.assertIn(f"The CA 'Our CA' is valid until {end:%Y-%m-%d}.\n", printed)
        for file in ("ca.pem", "crl.pem", "ca-key.pem"):
            self.assertIn(f"  {self.path}/{file}: ", printed)
        self.assertLess(abs(end - datetime.now(UTC) - 30 * DAY), timedelta(minutes=5))
        self.assertIn(f"Next: netsuite ca issue {self.path} --server localhost\n", printed)
        self.assertNotIn("The CA before", printed)

    def test_firstCertificates(self) -> None:
        """One command makes a CA with its first servers and clients, and says how to use each."""
        printed = self.done("init --server localhost --server 127.0.0.1 --client anna")
        made = {each.name: each.kind for each in self.authority().issued()}
        self.assertEqual(made, {"localhost": "server", "127.0.0.1": "server", "anna": "client"})
        self.assertEqual(printed.count("Next: "), 3)
        self.assertIn(f"--listen mtls:7007:cert={self.path}/localhost.pem:", printed)
        self.assertIn(f"--cert {self.path}/anna.pem ", printed)
        self.assertNotIn("ca issue", printed)

    def test_wrongName(self) -> None:
        """A name that cannot be is refused before a CA is made."""
        self.assertRefused("init --client anna --server -", "The server's name '-'")
        self.assertRefused("init --server localhost --client a/b", "The client's name 'a/b'")
        self.assertFalse(self.path.exists())

    def test_force(self) -> None:
        """Without --force a CA stays; with it another takes its place."""
        self.done("init")
        before = self.authority().certificate
        self.assertRefused("init", "add --force")
        self.assertEqual(self.authority().certificate, before)
        printed = self.done("init --force")
        (kept,) = (self.path / "replaced").iterdir()
        self.assertIn(f"The CA before is kept in {kept}, for list and revoke;", printed)
        self.assertEqual(Authority.open(kept).certificate, before)
        self.assertNotEqual(self.authority().certificate, before)

    def test_refused(self) -> None:
        """What cannot be is refused before anything is made."""
        self.assertRefused("init --days 0", "0 is not in the range")
        self.assertRefused("init --days 36501", "36501 is not in the range")
        self.assertRefused("init --days x", "'x' is not a valid integer range")
        self.assertRefused("init extra", "unexpected extra argument")
        self.assertRefused("init --name \x1b", "The CA's name")
        self.assertFalse(self.path.exists())

    def test_defaults(self) -> None:
        """What is valid for how long is the same here and in the API."""
        for name, days in (("init", CA_DAYS), ("issue", SERVER_DAYS), ("issue", CLIENT_DAYS)):
            (option,) = (each for each in command.ca.commands[name].params if each.name == "days")
            assert isinstance(option.type, click.IntRange)
            self.assertEqual((option.default, option.type.max), (days, MAX_DAYS))


class IssueTests(CATestCase):
    """C{netsuite ca issue}."""

    def setUp(self) -> None:
        super().setUp()
        self.done("init")

    def test_server(self) -> None:
        """A server gets one file, and the line that it is started with."""
        printed = self.done("issue --server localhost --san 127.0.0.1 --san ::1")
        self.assertIn("of the server localhost (127.0.0.1, ::1) is valid until 20", printed)
        self.assertIn(f"  {self.path}/localhost.pem: private key and certificate", printed)
        self.assertEqual(
            printed.splitlines()[-1],
            f"Next: twistd -n netsuite-echo --listen mtls:7007:cert={self.path}/localhost.pem:"
            f"clientCA={self.path}/ca.pem:crl={self.path}/crl.pem",
        )

    def test_client(self) -> None:
        """A client gets one file, and a line to try it with."""
        printed = self.done("issue --client anna --role operator --role dev")
        self.assertIn("of the client anna (dev, operator) is valid until 20", printed)
        self.assertEqual(
            printed.splitlines()[-1],
            f"Next: netsuite echo --cert {self.path}/anna.pem --ca {self.path}/ca.pem "
            "localhost:7007 hello",
        )

    def test_quoted(self) -> None:
        """The lines to copy work whatever the directory is called."""
        self.path = Path(self.mktemp(), "it's a:b\\c=d")
        self.path.parent.mkdir()
        self.done("init")
        shown = self.done("issue --server localhost").splitlines()[-1].removeprefix("Next: ")
        words = shlex.split(shown)
        self.assertEqual(words[:4], ["twistd", "-n", "netsuite-echo", "--listen"])
        arguments, named = _parse(words[4])
        self.assertEqual(arguments, ["mtls", "7007"])
        self.assertEqual(named["cert"], f"{self.path}/localhost.pem")
        self.assertEqual(named["crl"], f"{self.path}/crl.pem")
        shown = self.done("issue --client anna").splitlines()[-1].removeprefix("Next: ")
        self.assertEqual(shlex.split(shown)[3], f"{self.path}/anna.pem")

    def test_older(self) -> None:
        """Whoever issues anew is told that the older certificate is valid, and how to end it."""
        self.assertNotIn("An older one", self.done("issue --client anna"))
        self.assertRefused("issue --client anna", "is there already, for the client anna")
        shown = self.done("issue --client anna --force")
        (line,) = (line for line in shown.splitlines() if "An older one" in line)
        words = shlex.split(line.partition("to end it: ")[2])
        self.assertEqual(words[:3], ["netsuite", "ca", "revoke"])
        result = CliRunner().invoke(main, words[1:])
        self.assertIn("Revoked 1 certificate:", result.stdout)
        states = [each.state(datetime.now(UTC)) for each in self.authority().issued()]
        self.assertEqual(sorted(states), ["revoked", "valid"])

    def test_renewed(self) -> None:
        """With --force names and roles stay, which is said in one line; given ones replace them."""
        self.done("issue --server web --san 127.0.0.1 --san ::1")
        self.done("issue --client anna --role operator --role dev")
        printed = self.done("issue --server web --force")
        self.assertIn("Kept from the one before, as no --san was given: 127.0.0.1, ::1\n", printed)
        printed = self.done("issue --client anna --force")
        self.assertIn("Kept from the one before, as no --role was given: dev, operator\n", printed)
        for words, left in (
            ("issue --server web --force --san ::1", "the server web (::1)"),
            ("issue --server web --force --san web", "the server web is"),
            ("issue --server web --force", "the server web is"),
            ("issue --client anna --force --role dev", "the client anna (dev)"),
        ):
            printed = self.done(words)
            self.assertIn(f"The certificate of {left}", printed)
            self.assertNotIn("Kept", printed)
        printed = self.done("issue --client anna --force", "--role", "")
        self.assertIn("The certificate of the client anna is", printed)
        self.assertNotIn("Kept", printed)

    def test_renewedByInit(self) -> None:
        """A new CA in the place of another says, too, what its first certificates keep."""
        self.done("issue --server web --san ::1")
        printed = self.done("init --force --server web --client bert")
        self.assertEqual(printed.count("as no --san was given: ::1\n"), 1)
        self.assertEqual(printed.count("Kept"), 1)

    def test_otherKind(self) -> None:
        """A server's bundle is not replaced by a client's, and nobody is told to use --force."""
        self.done("issue --server web")
        before = (self.path / "web.pem").read_bytes()
        for words in ("issue --client web", "issue --client web --force"):
            self.assertRefused(words, "a server and a client never share a file")
            self.assertNotIn("--force", self.invoke(words).stderr)
        self.assertEqual((self.path / "web.pem").read_bytes(), before)

    def test_caEnds(self) -> None:
        """It is said when the CA's end is why a certificate is short."""
        Authority.create(self.path, days=20, force=True)
        self.assertIn(", when its CA ends.", self.done("issue --client anna"))
        self.assertNotIn("CA ends", self.done("issue --client bert --days 3"))

    def test_issuedAllTheSame(self) -> None:
        """A certificate that was issued is not said to have failed for what else is wrong."""
        os.remove(self.path / "crl.pem")
        self.done("issue --client anna")

    def test_refused(self) -> None:
        """What cannot be is refused, and what is missing named."""
        for words, sentence in (
            ("issue", "Give one of --server and --client"),
            ("issue --server a --client b", "Give one of --server and --client"),
            ("issue --client a --san b", "--san is for a server"),
            ("issue --server a --role b", "--role is for a client"),
            ("issue --server a/b", "is no DNS name or IP address"),
            ("issue --server", "requires an argument"),
            ("issue --client ../x", "The client's name '../x' cannot be"),
            ("issue --client a --role b/c", "The client's role 'b/c' cannot be"),
            ("issue --client ca", "is a file of the CA's own"),
            ("issue --client a --days 0", "0 is not in the range"),
        ):
            self.assertRefused(words, sentence)
        self.assertEqual(self.authority().issued(), [])
        self.path = Path(self.mktemp())
        self.assertRefused("issue --client a", "make a CA with netsuite ca init")

    def test_cleaned(self) -> None:
        """What is refused cannot take over the terminal that it is shown on."""
        result = self.invoke("issue", "--server", "\x1b[2J\n\u202e")
        self.assertEqual(result.exit_code, 125)
        self.assertFalse(set("\x1b\u202e") & set(result.stderr))
        self.assertEqual(result.stderr.count("\n"), 1)


class ListTests(CATestCase):
    """C{netsuite ca list}."""

    def setUp(self) -> None:
        super().setUp()
        self.now = datetime.now(UTC)
        made = Authority.create(self.path)
        made.issueClient("gone", now=self.now - 9 * DAY, days=3)
        made.issueClient("soon", now=self.now - 2 * DAY, days=10, roles=["b", "a"])
        made.issueClient("today", now=self.now - DAY, days=1 + 1)
        made.issueServer("localhost", sans=["::1"], now=self.now)
        made.issueClient("bad", now=self.now + DAY)
        made.revoke("bad", reason="keyCompromise")

    def test_table(self) -> None:
        """It shows a line for each certificate, with what is to be done about it at its end."""
        head, *rows = self.done("list").splitlines()
        self.assertEqual(head.split("  ")[0], "SERIAL")
        self.assertEqual(
            [" ".join(row.split()[1:]) for row in rows],
            [
                f"client gone - - {self.day(-6)} expired",
                f"client soon a,b - {self.day(8)} expires in 7 days",
                f"client today - - {self.day(1)} expires within a day",
                f"server localhost - localhost,::1 {self.day(365)} valid",
                f"client bad - - {self.day(366)} revoked {self.day(0)}",
            ],
        )
        serials = [row.split()[0] for row in rows]
        self.assertIn(f"{certificateIn(self.path / 'soon.pem').serial_number:032x}", serials)

    def day(self, days: int) -> str:
        """Write the date some days from now."""
        return f"{self.now + days * DAY:%Y-%m-%d}"

    def test_json(self) -> None:
        """It gives programs all that there is to know, in one array."""
        gone, soon, _, server, bad = json.loads(self.done("list --json"))
        serial = certificateIn(self.path / "soon.pem").serial_number
        self.assertEqual(int(soon["serial"], 16), serial)
        for record, key, value in (
            *((gone, "state", "expired"), (gone, "daysLeft", -7)),
            *((soon, "state", "valid"), (soon, "daysLeft", 7), (soon, "roles", ["a", "b"])),
            *((server, "kind", "server"), (server, "sans", ["localhost", "::1"])),
            *((server, "revoked", None), (server, "reason", None)),
            *((bad, "state", "revoked"), (bad, "reason", "keyCompromise")),
        ):
            self.assertEqual(record[key], value, (record, key))
        self.assertLess(datetime.fromisoformat(soon["notBefore"]), self.now)
        self.assertGreater(datetime.fromisoformat(soon["notAfter"]), self.now)

    def test_empty(self) -> None:
        """A CA that has issued nothing has an empty list."""
        Authority.create(self.path, force=True)
        self.assertEqual(len(self.done("list").splitlines()), 1)
        self.assertEqual(json.loads(self.done("list --json")), [])

    def test_caEnds(self) -> None:
        """When the CA itself is about to expire, that is said beside the list."""
        Authority.create(self.path, force=True, days=30)
        result = self.invoke("list --json")
        self.assertEqual((result.exit_code, json.loads(result.stdout)), (0, []))
        self.assertIn("netsuite: The CA itself expires in 29 days;", result.stderr)

    def test_refused(self) -> None:
        """Where there is no CA there is no list."""
        self.path = Path(self.mktemp())
        self.assertRefused("list", "There is no directory")

    def test_outputFull(self) -> None:
        """An output that takes no more is a failure, in one sentence."""
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [
                    *(sys.executable, "-c"),
                    "import sys; from twisted_netsuite.cli.main import main; main(sys.argv[1:])",
                    *("ca", "list", str(self.path.absolute())),
                ],
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"netsuite: Standard output takes no more: no space", done.stderr)


class RevokeTests(CATestCase):
    """C{netsuite ca revoke}."""

    def setUp(self) -> None:
        super().setUp()
        self.done("init")
        self.done("issue --client anna --role operator")

    def test_name(self) -> None:
        """It says what it revoked, and what servers need now."""
        serial = certificateIn(self.path / "anna.pem").serial_number
        self.done("issue --client anna --force")
        printed = self.done("revoke anna --reason KEYcompromise")
        self.assertIn("Revoked 2 certificates:\n", printed)
        self.assertIn(f"  {serial:032x}: the client anna (operator)\n", printed)
        self.assertIn(f"Next: bring {self.path}/crl.pem to every server", printed)
        self.assertEqual({each.reason for each in self.authority().issued()}, {"keyCompromise"})

    def test_forClients(self) -> None:
        """Of a server it is said that clients need the list, too, and how they take it."""
        self.assertNotIn("client, too", self.done("revoke anna"))
        self.done("issue --server web")
        printed = self.done("revoke web")
        self.assertIn(f"Next: bring {self.path}/crl.pem to every server", printed)
        self.assertIn(
            "Bring it to every client, too: netsuite's commands take it as --crl", printed
        )

    def test_reasonWords(self) -> None:
        """Help and refusal show the reasons as RFC 5280 writes them, and the record has them so."""
        shown = CliRunner().invoke(main, ["ca", "revoke", "--help"]).stdout
        refused = self.invoke("revoke anna --reason because").stderr
        for reason in command.REASONS:
            self.assertIn(reason, shown)
            self.assertIn(reason, refused)

    def test_again(self) -> None:
        """Doing it again is no failure, and says that there was nothing to do."""
        self.done("revoke anna")
        self.assertIn("Nothing to do", self.done("revoke anna"))

    def test_serial(self) -> None:
        """A serial number is taken as list prints it, and as openssl does."""
        text = f"{certificateIn(self.path / 'anna.pem').serial_number:032x}"
        colons = ":".join(text[at : at + 2] for at in range(0, 32, 2)).upper()
        self.assertIn("Revoked 1 certificate:", self.done("revoke --serial", colons))
        self.assertIn("Nothing to do", self.done("revoke --serial", text))

    def test_reasons(self) -> None:
        """Every reason that is offered is one."""
        for reason in command.REASONS:
            self.done("issue --client anna --force")
            self.assertIn("Revoked", self.done("revoke anna --reason", reason))
        reasons = {each.reason for each in self.authority().issued()}
        self.assertEqual(reasons, set(command.REASONS))

    def test_refused(self) -> None:
        """What was not issued is not there, and what is no number is refused."""
        for words, sentence, status in (
            ("revoke", "Give one of NAME and --serial", 125),
            ("revoke anna --serial 1", "Give one of NAME and --serial", 125),
            ("revoke ana", "No certificate with the name 'ana' was issued here", 127),
            ("revoke --serial 1f", "serial number 0000000000000000000000000000001f was", 127),
            ("revoke --serial xyz", "'xyz' is not hexadecimal", 125),
            ("revoke anna --reason because", "'because' is not one of", 125),
        ):
            self.assertRefused(words, sentence, status)
        self.assertEqual(self.authority().issued()[0].revoked, None)


class HelpTests(SynchronousTestCase):
    """The help of C{netsuite ca}."""

    def test_light(self) -> None:
        """Help loads neither Twisted nor cryptography."""
        script = (
            "import sys\n"
            "from twisted_netsuite.cli.main import main\n"
            "try:\n    main(['ca', 'issue', '--help'])\n"
            "except SystemExit:\n    pass\n"
            "print({'cryptography', 'twisted.internet'} & set(sys.modules))"
        )
        printed = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        self.assertEqual(printed.splitlines()[-1], b"set()")
        self.assertIn(b"--server NAME", printed)


class ModeTests(CATestCase):
    """Files that C{netsuite ca} makes."""

    def test_umask(self) -> None:
        """No secret is open to others, whatever the umask allows."""
        self.addCleanup(os.umask, os.umask(0))
        self.done("init")
        self.done("issue --client anna")
        for file in ("ca-key.pem", "anna.pem"):
            self.assertEqual(stat.S_IMODE((self.path / file).stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
