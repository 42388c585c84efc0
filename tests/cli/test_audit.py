"""
The command audit: what it prints of a log, and of one that somebody has had a hand in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from tests.trust.auditdisk import BEGUN, atOnce, clockAt
from twisted_netsuite.cli.main import main
from twisted_netsuite.trust.audit import AuditLog


class AuditCase(SynchronousTestCase):
    """A log of two files: one record a minute, one of them by somebody who is up to something."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = str(self.directory / "audit.log")
        clock = clockAt()
        log = AuditLog(self.path, clock, maxBytes=1200, inThread=atOnce)
        log.open()
        acts: list[tuple[str, str, str, list[str | bytes]]] = [
            ("exec.main", "exec.start", "cert:anna", ["ls", "-l", "my notes.txt"]),
            ("exec.main", "exec.denied", "cert:bob", ["rm", b"caf\xe9", "\x1b[2J\u202e"]),
            ("files.main", "files.put", "unix:root", ["x" * 100]),
            ("exec.main", "exec.start", "anonymous", ["a=b", "", "1"]),
        ]
        for service, event, identity, argv in acts:
            clock.advance(60)
            log.record(event, service=service, peer="192.0.2.1:5", identity=identity, argv=argv)
        clock.advance(60)
        log.close()
        self.head = str(log.head)
        self.files = sorted(str(path) for path in self.directory.glob("audit.log*"))
        self.assertEqual(len(self.files), 2)

    def invoke(self, *words: str, stdin: bytes | None = None) -> Result:
        """Run the program."""
        return CliRunner().invoke(main, ["audit", *words], input=stdin)

    def change(self, path: str, old: bytes, new: bytes) -> None:
        """Change a file."""
        data = Path(path).read_bytes()
        self.assertIn(old, data)
        Path(path).write_bytes(data.replace(old, new))


class VerifyTests(AuditCase):
    """C{netsuite audit verify}."""

    def assertFault(self, result: Result, sentence: str) -> None:
        """The program ends with 125 and one sentence."""
        self.assertEqual(result.exit_code, 125)
        self.assertEqual(result.stdout, "")
        [line] = result.stderr.splitlines()
        self.assertTrue(line.startswith(f"netsuite: {sentence}"), line)

    def test_right(self) -> None:
        """A log that is right is told in one line: how many, from when to when, its head."""
        result = self.invoke("verify", *self.files)
        self.assertEqual(
            result.stdout,
            "6 records, 2026-11-21T13:28:03.450000Z to 2026-11-21T13:33:03.450000Z, "
            f"head {self.head}\n",
        )
        self.assertEqual((result.exit_code, result.stderr), (0, ""))

    def test_changed(self) -> None:
        """A changed byte is told with file and line."""
        self.change(self.path, b"audit.closed", b"audit.cloned")
        number = Path(self.path).read_bytes().count(b"\n")
        self.assertFault(
            self.invoke("verify", *self.files),
            f"{self.path}:{number}: The line does not match its own hash; it was changed.",
        )

    def test_removed(self) -> None:
        """A removed file is told where the next begins, unless the files begin in the middle."""
        later = [path for path in self.files if not path.endswith(".1")]
        result = self.invoke("verify", *later)
        self.assertEqual(result.exit_code, 125)
        self.assertIn("--from-middle", result.stderr)
        result = self.invoke("verify", "--from-middle", *later)
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(result.stdout, r"^\d records from record [2-5] on, ")

    def test_head(self) -> None:
        """A head that was noted finds a log whose last line was removed."""
        self.assertEqual(self.invoke("verify", "--head", self.head, *self.files).exit_code, 0)
        data = Path(self.path).read_bytes()
        Path(self.path).write_bytes(b"".join(data.splitlines(keepends=True)[:-1]))
        self.assertEqual(self.invoke("verify", *self.files).exit_code, 0)
        result = self.invoke("verify", "--head", self.head, *self.files)
        self.assertIn("The log ends with record 5, and record 6 was noted", result.stderr)
        self.assertEqual(result.exit_code, 125)
        self.assertFault(self.invoke("verify", "--head", "6", *self.files), "The head '6' is none")

    def test_unfinished(self) -> None:
        """A line that is being written is told, and is no fault."""
        with open(self.path, "ab") as file:
            file.write(b'{"n":7,')
        result = self.invoke("verify", *self.files)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("has no end: it is being written, or was torn\n", result.stdout)

    def test_standardInput(self) -> None:
        """A log can come through a pipe."""
        data = b"".join(Path(path).read_bytes() for path in [*self.files[1:], self.files[0]])
        result = self.invoke("verify", "-", stdin=data)
        self.assertEqual(result.exit_code, 0, result.stderr)
        self.assertIn("6 records", result.stdout)

    def test_wrongUse(self) -> None:
        """No file, and a file that is not there, are each a sentence."""
        self.assertFault(self.invoke("verify"), "Missing argument 'FILE...'")
        self.assertFault(self.invoke("verify", "nothing"), "The file 'nothing' cannot be read")
        empty = self.invoke("verify", os.devnull)
        self.assertEqual((empty.exit_code, empty.stdout), (0, "No records\n"))


class ShowTests(AuditCase):
    """C{netsuite audit show}."""

    def shown(self, *words: str) -> list[str]:
        """Tell what is shown, without what the log says of itself."""
        result = self.invoke("show", *words, *self.files)
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return [line for line in result.stdout.splitlines() if " audit audit." not in line]

    def test_lines(self) -> None:
        """Each record is one line that shows everything, and cannot be taken for another."""
        result = self.invoke("show", *self.files)
        self.assertEqual(
            result.stdout.splitlines(),
            [
                "2026-11-21T13:28:03.450000Z 1 audit audit.opened - -",
                "2026-11-21T13:29:03.450000Z 2 exec.main exec.start cert:anna 192.0.2.1:5 "
                'argv=[ls, -l, "my notes.txt"]',
                "2026-11-21T13:30:03.450000Z 3 exec.main exec.denied cert:bob 192.0.2.1:5 "
                "argv=[rm, b'caf\\xe9', \"\\u001b[2J\\u202e\"]",
                "2026-11-21T13:31:03.450000Z 4 files.main files.put unix:root 192.0.2.1:5 "
                f"argv=[{'x' * 100}]",
                "2026-11-21T13:32:03.450000Z 5 exec.main exec.start anonymous 192.0.2.1:5 "
                'argv=["a=b", "", 1]',
                "2026-11-21T13:33:03.450000Z 6 audit audit.closed - -",
            ],
        )
        self.assertEqual((result.exit_code, result.stderr), (0, ""))

    def test_filters(self) -> None:
        """Patterns and times choose what is shown; all that are given have to fit."""
        for words, numbers in (
            ("--identity cert:*", "23"),
            ("--identity cert:anna", "2"),
            ("--identity CERT:anna", ""),
            ("--service files.*", "4"),
            ("--event exec.*", "235"),
            ("--event exec.* --identity cert:*", "23"),
            ("--event *.start --identity anonymous", "5"),
            ("--peer 192.0.2.*", "2345"),
            ("--peer 192.0.3.*", ""),
            ("--since 2026-11-21T13:31", "45"),
            ("--since 2026-11-21T13:31:03.450Z", "45"),
            ("--until 2026-11-21T13:31:03.450Z", "23"),
            ("--since 2026-11-21T14:30+01:00 --until 2026-11-21T13:32Z", "34"),
            ("--since 2026-11-21", "2345"),
            ("--since 2026-11-22", ""),
            ("--until 2026-11-21", ""),
        ):
            found = [line.split()[1] for line in self.shown(*words.split())]
            self.assertEqual("".join(found), numbers, words)

    def test_ago(self) -> None:
        """A time may be how long ago it was."""
        with mock.patch("time.time", return_value=BEGUN + 250):
            for ago, numbers in (("1m", "5"), ("90s", "45"), ("1h", "2345"), ("1d", "2345")):
                found = [line.split()[1] for line in self.shown("--since", ago)]
                self.assertEqual("".join(found), numbers, ago)

    def test_noTime(self) -> None:
        """What is no time is refused with examples of some."""
        for text in ("yesterday", "5", "2026-13-01", "", "99999999999999d"):
            result = self.invoke("show", "--since", text, self.path)
            self.assertEqual(result.exit_code, 125)
            self.assertIn("is no time; give one such as 2026-11-21", result.stderr)

    def test_json(self) -> None:
        """On demand the lines come as they stand in the files, so that they verify still."""
        result = self.invoke("show", "--json", *self.files)
        whole = b"".join(Path(path).read_bytes() for path in [*self.files[1:], self.files[0]])
        self.assertEqual(result.stdout_bytes, whole)
        result = self.invoke("show", "--json", "--identity", "cert:bob", *self.files)
        self.assertEqual(json.loads(result.stdout)["n"], 3)

    def test_bad(self) -> None:
        """Lines that are no records, or were changed, are shown as such, whatever is asked for."""
        self.change(self.path, b"audit.closed", b"audit.cl\x1bsed")
        with open(self.path, "ab") as file:
            file.write(b"\x1b[2Jnonsense \xff\n" + b"x" * 99_999 + b'\n{"n":7')
        count = Path(self.path).read_bytes().count(b"\n")
        result = self.invoke("show", "--identity", "nobody", *self.files)
        self.assertEqual(result.exit_code, 0)
        changed, nonsense, long, unfinished = result.stdout.splitlines()
        self.assertIn(f"{self.path}:{count - 2}: the line is not JSON", changed)
        self.assertIn(r"\x1b[2Jnonsense \xff", nonsense)
        self.assertIn(f"{self.path}:{count}: the line is longer than a record", long)
        self.assertLess(len(long), 600)
        self.assertIn("the line has no end: b'{\"n\":7'", unfinished)
        self.assertNotIn("\x1b", result.stdout)
        result = self.invoke("show", "--json", *self.files)
        self.assertEqual(len(result.stderr.splitlines()), 4)
        self.assertEqual(len(result.stdout.splitlines()), 5)

    def test_changed(self) -> None:
        """Of a record that was changed is shown what it says now."""
        self.change(self.path, b"audit.closed", b"audit.cloned")
        result = self.invoke("show", *self.files)
        self.assertIn(
            "the line does not match its own hash; it was changed: "
            "2026-11-21T13:33:03.450000Z 6 audit audit.cloned - -\n",
            result.stdout,
        )

    def test_cut(self) -> None:
        """A value that was cut is shown with its length."""
        clock = clockAt()
        path = str(self.directory / "other.log")
        log = AuditLog(path, clock, inThread=atOnce)
        log.open()
        log.record("e", service="s", peer="p", identity="i", text="x" * 99_999)
        log.record("e", service="s", peer="p", identity="i", text="y" * 999_999)
        log.close()
        result = self.invoke("show", "--event", "e", path)
        one, other = result.stdout.splitlines()
        self.assertRegex(one, r"text=x+\.\.\.\(99999 in all\)$")
        self.assertRegex(other, r"text=y+\.\.\.\(999999 in all\)$")

    def test_forged(self) -> None:
        """Members of any shape are shown, not tripped over."""
        path = self.directory / "odd.log"
        path.write_bytes(
            b'{"n":1,"time":5,"service":{"base64":"!"},"event":{"cut":[],"length":1,"sha256":"a"},'
            b'"identity":null,"previous":"","x":{"base64":5},"y":[[{}]],"a b\\u001b":1}\n'
        )
        result = self.invoke("show", "--since", "1h", str(path))
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(len(result.stdout.splitlines()), 1)
        self.assertNotIn("\x1b", result.stdout)

    def program(self, stdout: int) -> subprocess.Popen[bytes]:
        """Run the program as one of its own."""
        words = [sys.executable, "-c", "from twisted_netsuite.cli.main import main; main()"]
        return subprocess.Popen(
            [*words, "audit", "show", *self.files],
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parent.parent.parent,
        )

    def test_reader(self) -> None:
        """A reader that has enough is no failure; an output that takes nothing is told."""
        source, sink = os.pipe()
        os.close(source)
        program = self.program(sink)
        os.close(sink)
        self.assertEqual(program.communicate(timeout=60)[1], b"")
        self.assertEqual(program.returncode, 0)
        full = os.open("/dev/full", os.O_WRONLY)
        program = self.program(full)
        os.close(full)
        self.assertEqual(
            program.communicate(timeout=60)[1],
            b"netsuite: Standard output takes no more: no space left on device.\n",
        )
        self.assertEqual(program.returncode, 125)
