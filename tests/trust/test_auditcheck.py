"""
Verifying audit logs: whatever is done to a file, the first line that differs is the one reported.
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust.auditcheck import Fault, Report, entries, parseHead, verify
from twisted_netsuite.trust.auditrecord import (
    MAX_RECORD,
    NOTHING_BEFORE,
    Head,
    encodeMembers,
    openRecord,
    sealRecord,
    timestamp,
)


def chain(count: int, salt: str = "", n: int = 0, previous: str = NOTHING_BEFORE) -> list[bytes]:
    """Write records that follow one another; lines with their newlines."""
    lines = []
    for number in range(n + 1, n + count + 1):
        members = encodeMembers({"event": "e", "text": f"{salt}{number}"})
        line, sealed = sealRecord(number, timestamp(number), members, previous)
        previous = sealed.digest
        lines.append(line + b"\n")
    return lines


def sealAnew(line: bytes, old: bytes, new: bytes) -> bytes:
    """Change a record as one does who knows how its hash is made."""
    sealed = openRecord(line[:-1])
    start = line.index(b'"event"')
    end = line.index(b',"previous"')
    members = line[start:end].replace(old, new)
    return sealRecord(sealed.head.n, sealed.time, members, sealed.previous)[0] + b"\n"


class LogFilesCase(SynchronousTestCase):
    """Files of a log."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = str(self.directory / "audit.log")

    def write(self, lines: list[bytes], name: str = "audit.log") -> str:
        """Write a file."""
        path = self.directory / name
        path.write_bytes(b"".join(lines))
        return str(path)

    def check(self, lines: list[bytes], head: Head | None = None) -> Report:
        """Verify some lines."""
        return verify([self.write(lines)], head=head)

    def faultOf(self, lines: list[bytes], head: Head | None = None) -> Fault:
        """Tell what is wrong with some lines."""
        fault = self.check(lines, head).fault
        assert fault is not None
        self.assertEqual(fault.file, self.path)
        self.assertTrue(fault.sentence.endswith("."))
        return fault

    def assertFault(self, lines: list[bytes], number: int, *words: str) -> None:
        """Something is wrong with a line, and the sentence says so."""
        fault = self.faultOf(lines)
        self.assertEqual(fault.line, number, fault)
        for word in words:
            self.assertIn(word, fault.sentence)


class ChangeTests(LogFilesCase):
    """Changes of one file."""

    def test_right(self) -> None:
        """A log as it was written is right: how many, from when to when, up to which head."""
        lines = chain(5)
        self.assertEqual(
            self.check(lines),
            Report(5, 1, timestamp(1), timestamp(5), openRecord(lines[4][:-1]).head, None, None),
        )
        self.assertEqual(self.check([]), Report(0, 0, "", "", None, None, None))

    def test_kinds(self) -> None:
        """Each kind of change is called what it looks like."""
        lines = chain(6)
        changed = [*lines[:2], lines[2].replace(b'"3"', b'"4"'), *lines[3:]]
        self.assertFault(changed, 3, "does not match its own hash", "was changed")
        self.assertFault([*lines[:2], b"nonsense\n", *lines[3:]], 3, "not JSON")
        self.assertFault([*lines[:2], b"{}\n", *lines[2:]], 3, "no audit record")
        self.assertFault([*lines[:2], *lines[3:]], 3, "record 3 was removed")
        self.assertFault([*lines[:2], *lines[4:]], 3, "records 3 to 4 were removed")
        self.assertFault(lines[1:], 1, "begins with record 2", "--from-middle")
        swapped = [*lines[:2], lines[3], lines[2], *lines[4:]]
        self.assertFault(swapped, 3, "Record 4 stands where 3 is due", ":4", "swapped or moved")
        self.assertFault([lines[1], lines[0], *lines[2:]], 1, ":2", "swapped or moved")
        self.assertFault([*lines[:3], *lines[2:]], 4, "stands here twice", "doubled")
        self.assertFault([*lines[:4], *lines[1:]], 5, "Record 2 stands where 5 is due")
        self.assertFault([b"x" * MAX_RECORD + b"\n", *lines], 1, "longer than")

    def test_sealedAnew(self) -> None:
        """A change that is given a new hash is found in the line behind it."""
        lines = chain(4)
        changed = sealAnew(lines[1], b'"2"', b'"9"')
        openRecord(changed[:-1])
        self.assertFault([lines[0], changed, *lines[2:]], 3, "one of the two was changed")

    def test_insertedAnew(self) -> None:
        """A record that was put between others with all that it needs is found behind it."""
        lines = chain(4)
        [extra] = chain(1, "forged", 2, openRecord(lines[1][:-1]).digest)
        self.assertFault([*lines[:2], extra, *lines[2:]], 4, "Record 3 stands where 4 is due")

    def test_writtenAnew(self) -> None:
        """A log that was written anew from some line on is found by a head noted since."""
        lines = chain(6)
        forged = lines[:3] + chain(3, "forged", 3, openRecord(lines[2][:-1]).digest)
        self.assertIsNone(self.check(forged).fault)
        self.assertIsNone(self.check(forged, openRecord(lines[1][:-1]).head).fault)
        fault = self.faultOf(forged, openRecord(lines[4][:-1]).head)
        self.assertEqual(fault.line, 5)
        self.assertIn("another hash than was noted", fault.sentence)

    def test_cutShort(self) -> None:
        """Last lines that were removed are found by a head, and only by one."""
        lines = chain(5)
        head = openRecord(lines[4][:-1]).head
        self.assertIsNone(self.check(lines[:3]).fault)
        self.assertIsNone(self.check(lines, head).fault)
        fault = self.faultOf(lines[:3], head)
        self.assertEqual(fault.line, 4)
        self.assertIn("ends with record 3, and record 5 was noted", fault.sentence)
        self.assertIn("last lines were removed", fault.sentence)
        fault = self.faultOf([*lines[:3], lines[3][:50]], head)
        self.assertEqual(fault.line, 4)
        self.assertIn("last lines were removed", self.faultOf([], head).sentence)

    def test_first(self) -> None:
        """A first record that says another was before it is found."""
        self.assertFault(chain(2, previous="ab" * 32), 1, "was changed")

    def test_unfinished(self) -> None:
        """A last line without its end is told, and is no fault, as the log may be written now."""
        lines = chain(3)
        for end in (1, 50, len(lines[2]) - 1):
            report = self.check([*lines[:2], lines[2][:end]])
            self.assertIsNone(report.fault)
            self.assertEqual(report.records, 2)
            assert report.unfinished is not None
            self.assertEqual(report.unfinished.place, f"{self.path}:3")

    def test_endTakenAway(self) -> None:
        """A whole last line with something else for its newline is a fault."""
        lines = chain(3)
        self.assertFault([*lines[:2], lines[2][:-1] + b"x"], 3, "something else for its end")
        self.assertFault([*lines, b"x" * MAX_RECORD], 4, "longer than")

    def test_binary(self) -> None:
        """A file of any bytes is a fault in its first line, and no more than that."""
        self.assertFault([os.urandom(1000).replace(b"\n", b"") + b"\n"], 1, "not JSON")
        self.assertFault([b"\0" * 1_000_000], 1, "longer than")

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_any(self, data: st.DataObject) -> None:
        """
        A byte changed, a line removed, two swapped, one doubled, one inserted: the line reported is
        the first that differs from what was written.
        """
        lines = chain(data.draw(st.integers(2, 8)))
        changed = self.mangled(lines, data)
        differing = next(
            (
                number
                for number, line in enumerate(changed)
                if number >= len(lines) or line != lines[number]
            ),
            None,
        )
        if differing is None:
            # Lines are missing at the end, if at all.
            report = self.check(changed, openRecord(lines[-1][:-1]).head)
            if changed == lines:
                self.assertIsNone(report.fault)
                return
            differing = len(changed)
        else:
            report = self.check(changed)
        assert report.fault is not None
        self.assertEqual(report.fault.line, differing + 1, report.fault)
        self.assertEqual(report.records, differing)

    def mangled(self, lines: list[bytes], data: st.DataObject) -> list[bytes]:
        """Do one thing to a log."""
        places = st.integers(0, len(lines) - 1)
        match data.draw(st.sampled_from(["byte", "remove", "swap", "double", "insert"])):
            case "byte":
                whole = bytearray(b"".join(lines))
                whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
                return _lines(bytes(whole))
            case "remove":
                at = data.draw(places)
                return lines[:at] + lines[at + 1 :]
            case "swap":
                one, other = data.draw(places), data.draw(places)
                swapped = list(lines)
                swapped[one], swapped[other] = lines[other], lines[one]
                return swapped
            case "double":
                what, at = data.draw(places), data.draw(places)
                return lines[:at] + [lines[what]] + lines[at:]
        foreign = st.one_of(
            st.binary(max_size=99).map(lambda line: line.replace(b"\n", b"") + b"\n"),
            # Not the first: a chain can begin with any.
            st.sampled_from(chain(9, "other")[1:]),
        )
        at = data.draw(places)
        return lines[:at] + [data.draw(foreign)] + lines[at:]


def _lines(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]] + (
        [data.rpartition(b"\n")[2]] if not data.endswith(b"\n") else []
    )


class FilesTests(LogFilesCase):
    """Logs of several files."""

    def setUp(self) -> None:
        super().setUp()
        self.lines = chain(30)
        self.paths = [
            self.write(self.lines[start : start + 3], f"audit.log.{start // 3 + 1}")
            for start in range(0, 27, 3)
        ]
        self.paths.append(self.write(self.lines[27:]))

    def test_anyOrder(self) -> None:
        """Files are put in order, whatever order and names they are given with."""
        for paths in (self.paths, self.paths[::-1], sorted(self.paths)):
            report = verify(paths)
            self.assertEqual((report.fault, report.records), (None, 30))
        for number, path in enumerate(self.paths):
            os.rename(path, self.directory / f"{9 - number}-old")
        report = verify([str(path) for path in self.directory.iterdir()])
        self.assertEqual((report.fault, report.records), (None, 30))

    def test_twice(self) -> None:
        """A file that is given twice, or has two names, is read once."""
        os.link(self.path, f"{self.path}.11")
        self.assertIsNone(verify([*self.paths, self.path, f"{self.path}.11"]).fault)

    def test_empty(self) -> None:
        """A file that has just been begun, and is empty, is none to complain of."""
        self.write([], "audit.log.new")
        self.assertIsNone(verify([f"{self.path}.new", *self.paths]).fault)

    def test_missingFile(self) -> None:
        """A file that is not given is missed where the next begins."""
        fault = verify(self.paths[:3] + self.paths[4:]).fault
        assert fault is not None
        self.assertEqual((fault.file, fault.line), (self.paths[4], 1))
        self.assertIn("records 10 to 12 were removed, or in a file", fault.sentence)

    def test_fromMiddle(self) -> None:
        """The first files may be missing only where that is said."""
        fault = verify(self.paths[3:]).fault
        assert fault is not None
        self.assertEqual((fault.file, fault.line), (self.paths[3], 1))
        self.assertIn("records 1 to 9", fault.sentence)
        report = verify(self.paths[3:], fromMiddle=True)
        self.assertEqual((report.fault, report.begins, report.records), (None, 10, 21))

    def test_headBefore(self) -> None:
        """A head that was noted before the files begin is of no use, which is told."""
        head = openRecord(self.lines[1][:-1]).head
        fault = verify(self.paths[3:], head=head, fromMiddle=True).fault
        assert fault is not None
        self.assertIn("give the files before it", fault.sentence)

    def test_badFirstLine(self) -> None:
        """A file whose first line was changed has its place by its name."""
        self.write([b"{}\n", *self.lines[10:12]], "audit.log.4")
        for paths in (self.paths, self.paths[::-1]):
            fault = verify(paths).fault
            assert fault is not None
            self.assertEqual((fault.file, fault.line), (self.paths[3], 1))

    def test_cutFile(self) -> None:
        """A file but the last that ends within a line was cut."""
        path = self.write([*self.lines[9:11], self.lines[11][:70]], "audit.log.4")
        fault = verify(self.paths).fault
        assert fault is not None
        self.assertEqual((fault.file, fault.line), (path, 3))
        self.assertIn("was cut", fault.sentence)

    def test_unreadable(self) -> None:
        """A file that cannot be read is told in a sentence."""
        for path, reason in (
            (str(self.directory / "nothing"), "no such file"),
            (str(self.directory), "is a directory"),
            ("a\0b", "null"),
        ):
            error = self.assertRaises(ConfigurationError, verify, [self.path, path])
            self.assertIn(repr(path), error.sentence)
            self.assertIn(reason, error.sentence)

    def test_standardInput(self) -> None:
        """A dash is standard input, which has to come alone, as it can be read only once."""
        source, sink = os.pipe()
        os.write(sink, b"".join(self.lines[:3]))
        os.close(sink)
        with open(source, "rb") as file:
            self.patch(sys, "stdin", SimpleNamespace(buffer=file))
            error = self.assertRaises(ConfigurationError, verify, ["-", self.path])
            self.assertIn("given alone", error.sentence)
            self.assertEqual(verify(["-"]).records, 3)
            self.assertFalse(file.closed)

    def test_memory(self) -> None:
        """A log, and a line, of any length takes the memory of a line."""
        path = self.write(chain(20_000), "large")
        long = self.write([b"x" * 20_000_000], "long")
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        verify([path])
        verify([long])
        for _ in entries([path, long]):
            pass
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)


class EntryTests(LogFilesCase):
    """L{entries}."""

    def test_goodAndBad(self) -> None:
        """Every line comes, good or bad, with what can be read of it."""
        lines = chain(3)
        changed = lines[1].replace(b'"2"', b'"9"')
        path = self.write([lines[0], changed, b"\xff\n", b"x" * 99_999 + b"\n", lines[2], b'{"n"'])
        found = list(entries([path]))
        self.assertEqual(
            [(each.line.number, each.fault) for each in found],
            [
                (1, ""),
                (2, "does not match its own hash; it was changed"),
                (3, "is not JSON; it was changed, cut or inserted"),
                (4, "is longer than a record"),
                (5, ""),
                (6, "has no end"),
            ],
        )
        self.assertEqual([each.members.get("text") for each in found[:3]], ["1", "9", None])


class HeadTests(SynchronousTestCase):
    """L{parseHead}."""

    def test_forms(self) -> None:
        """A head is read as it is printed; anything else is refused."""
        head = Head(17, "0a" * 32)
        self.assertEqual(parseHead(f" {head}\n"), head)
        for text in (
            "",
            "17",
            f"0:{head.hash}",
            f"17:{head.hash}a",
            f"x:{head.hash}",
            "1:" + "G" * 64,
        ):
            error = self.assertRaises(ConfigurationError, parseHead, text)
            self.assertIn("give N:HASH", error.sentence)
