"""
The page about the audit log's format keeps its promises: its verifier finds what it says.
"""

from __future__ import annotations

import io
import json
import re
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from tests.trust.auditdisk import atOnce, clockAt, note
from twisted_netsuite.trust.audit import AuditLog
from twisted_netsuite.trust.auditrecord import openRecord

PAGE = Path(__file__).parent.parent.parent / "docs/protocol/audit-log.md"


class VerifierTests(SynchronousTestCase):
    """The ten lines of Python."""

    def setUp(self) -> None:
        [source] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        self.script = Path(self.mktemp())
        self.script.write_text(source)
        path = str(self.mktemp())
        log = AuditLog(path, clockAt(), inThread=atOnce)
        log.open()
        for text in ("grüß", "\udcff", "x" * 100_000):
            note(log, text)
        log.close()
        self.head = log.head
        self.lines = Path(path).read_bytes().splitlines(keepends=True)

    def verify(self, lines: list[bytes]) -> str:
        """Run the script; give what it prints, or what it ends with."""
        self.patch(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"".join(lines))))
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                runpy.run_path(str(self.script))
        except SystemExit as end:
            return str(end.code)
        except ValueError:
            return "not JSON"
        return printed.getvalue()

    def test_right(self) -> None:
        """It finds a log right that is, and prints its head."""
        self.assertEqual(self.verify(self.lines), f"5 records, head {self.head}\n")
        self.assertEqual(self.verify([]), "0 records\n")

    def test_wrong(self) -> None:
        """It finds every changed byte, and lines that are missing, doubled or moved."""
        for place in range(len(self.lines[1]) - 1):
            line = bytearray(self.lines[1])
            line[place] ^= 1
            found = self.verify([self.lines[0], bytes(line), *self.lines[2:]])
            self.assertIn("record 1 was changed", found)
        first, second, *rest = self.lines
        for lines in (
            [first, *rest],
            [second, *rest],
            [second, first, *rest],
            [first, *self.lines],
        ):
            self.assertIn("does not follow", self.verify(lines))

    def test_example(self) -> None:
        """The record that the page shows is one."""
        [shown] = re.findall(r"^```json\n(.*?)\n```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        self.assertEqual(openRecord(shown.encode()).head.n, json.loads(shown)["n"])
