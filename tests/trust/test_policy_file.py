"""
The policy file: who may have written it, and what a reload changes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.logger import LogLevel
from twisted.logger import globalLogPublisher as publisher
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.policy import MAX_SIZE, PolicyFile, loadPolicy, loadText

ANNA = Identity("cert", "anna")
RIGHT = '[identities]\n"cert:*" = ["x"]\n[[roles.x.files]]\npaths = ["/a"]\n'


class FileTestCase(SynchronousTestCase):
    """Has a policy file."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.write(RIGHT)

    def write(self, content: str | bytes, mode: int = 0o600) -> None:
        """Write the file."""
        data = content.encode() if isinstance(content, str) else content
        Path(self.path).write_bytes(data)
        Path(self.path).chmod(mode)

    def refusal(self) -> str:
        """Tell why the file is not taken, without its name."""
        error = self.assertRaises(ConfigurationError, loadPolicy, self.path)
        sentence: str = error.sentence
        return sentence.replace(self.path, "FILE")


class LoadTests(FileTestCase):
    """L{loadPolicy} and L{loadText}."""

    def test_right(self) -> None:
        """A file that is right is taken, and names itself in what it decides."""
        answer = loadPolicy(self.path).files(ANNA, "read", "/a")
        self.assertEqual(answer.source, f"{self.path}:3")

    def test_modes(self) -> None:
        """A file that others may change is refused, with the command that mends it."""
        for mode in (0o620, 0o602, 0o666, 0o777):
            self.write(RIGHT, mode)
            self.assertEqual(
                self.refusal(),
                "The policy 'FILE' can be changed by others than its owner; run chmod go-w FILE.",
            )
        for mode in (0o600, 0o644, 0o444, 0o755):
            self.write(RIGHT, 0o600)
            Path(self.path).chmod(mode)
            loadPolicy(self.path)

    def test_owner(self) -> None:
        """A file of another account is refused, but not by somebody who only looks at it."""
        real = os.fstat

        def foreign(descriptor: int) -> os.stat_result:
            status = list(real(descriptor))
            status[stat.ST_UID] = os.geteuid() + 54321
            return os.stat_result(status)

        self.patch(os, "fstat", foreign)
        self.assertRegex(
            self.refusal(), r"belongs to another account \(uid \d+\).*; run chown root"
        )
        self.assertEqual(loadText(self.path, ours=False), RIGHT)

    def test_rootsFile(self) -> None:
        """A file of root's is taken by every account."""
        real = os.fstat

        def roots(descriptor: int) -> os.stat_result:
            status = list(real(descriptor))
            status[stat.ST_UID] = 0
            return os.stat_result(status)

        self.patch(os, "fstat", roots)
        self.patch(os, "geteuid", lambda: 12345)
        loadPolicy(self.path)

    def test_size(self) -> None:
        """A file that is too large is refused; one that is just not is read."""
        self.write(RIGHT + "#" * (MAX_SIZE - len(RIGHT)))
        loadPolicy(self.path)
        self.write(RIGHT + "#" * (MAX_SIZE - len(RIGHT) + 1))
        self.assertEqual(
            self.refusal(), "The policy 'FILE' has more than 262144 bytes; is it the right file?"
        )

    def test_noFile(self) -> None:
        """What is no regular file, or none at all, is refused at once."""
        os.unlink(self.path)
        self.assertRegex(self.refusal(), "cannot be read: no such file or directory; give a file")
        os.mkfifo(self.path, 0o600)
        self.assertEqual(self.refusal(), "The policy 'FILE' is no regular file; give one.")
        os.unlink(self.path)
        os.mkdir(self.path, 0o700)
        self.assertRegex(self.refusal(), "regular file|is a directory")
        error = self.assertRaises(ConfigurationError, loadPolicy, "a\0b")
        self.assertTrue(error.sentence.isprintable(), error.sentence)

    def test_notUtf8(self) -> None:
        """A file that is not UTF-8 is refused with its line."""
        self.write(b"# a\n# \xff\n")
        self.assertEqual(self.refusal(), "FILE:2: this line is not UTF-8; save the file as UTF-8.")

    def test_fault(self) -> None:
        """The first fault is told with its line, and how many more there are."""
        self.write("a = 1")
        self.assertEqual(
            self.refusal(),
            "FILE:1: a is not known; there are identities, roles, audit.",
        )
        self.write("\na = 1\nb = 2")
        self.assertRegex(self.refusal(), r"^FILE:2: .* \(1 fault more: netsuite policy check lists")
        self.write("\na = 1\nb = 2\nc = 3")
        self.assertRegex(self.refusal(), r"^FILE:2: .* \(2 faults more: ")


class PolicyFileTests(FileTestCase):
    """L{PolicyFile}."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[dict[str, object]] = []
        publisher.addObserver(self.events.append)  # type: ignore[arg-type]
        self.addCleanup(publisher.removeObserver, self.events.append)  # type: ignore[arg-type]

    def logged(self, level: object) -> list[str]:
        """List what was logged."""
        return [
            str(event["log_format"]).format(**event)
            for event in self.events
            if event.get("log_level") is level
            and event.get("log_namespace", "").endswith("PolicyFile")  # type: ignore[attr-defined]
        ]

    def test_first(self) -> None:
        """The first reading is refused when the file is not right."""
        self.write("a = 1")
        self.assertRaises(ConfigurationError, PolicyFile, self.path)

    def test_reload(self) -> None:
        """What the file says holds after a reload, and not before."""
        file = PolicyFile(self.path)
        self.write(RIGHT.replace("/a", "/b"))
        self.assertTrue(file.policy.files(ANNA, "read", "/a").allowed)
        self.assertIs(file.reload(), True)
        self.assertFalse(file.policy.files(ANNA, "read", "/a").allowed)
        self.assertTrue(file.policy.files(ANNA, "read", "/b").allowed)
        self.assertEqual(self.logged(LogLevel.info), [f"The policy {self.path} was read again."])

    def test_bad(self) -> None:
        """A file that is not right changes nothing, and is one line in the log."""
        file = PolicyFile(self.path)
        held = file.policy
        self.write(RIGHT + "paths = 3\n")
        self.assertIs(file.reload(), False)
        self.assertIs(file.policy, held)
        (line,) = self.logged(LogLevel.error)
        self.assertEqual(
            line,
            f"{self.path}:5: this is not TOML: cannot overwrite a value at column 10; mend it. "
            "The policy stays as it was before.",
        )

    def test_eachWay(self) -> None:
        """So does one that is gone, may be changed by others, or has a fault in its last line."""
        file = PolicyFile(self.path)
        held = file.policy
        self.write(RIGHT + "[[roles.x.exec]]\n")
        self.assertFalse(file.reload())
        self.write(RIGHT, 0o666)
        self.assertFalse(file.reload())
        os.unlink(self.path)
        self.assertFalse(file.reload())
        self.assertIs(file.policy, held)
        self.assertEqual(len(self.logged(LogLevel.error)), 3)
        self.write(RIGHT)
        self.assertTrue(file.reload())

    def test_braces(self) -> None:
        """A path and a fault that hold braces are logged as they are."""
        self.path += "{0}{path}"
        self.write(RIGHT)
        file = PolicyFile(self.path)
        self.write('[identities]\n"cert:{x}" = ["{y}"]')
        self.assertFalse(file.reload())
        self.assertIn('"{y}"', self.logged(LogLevel.error)[0])
