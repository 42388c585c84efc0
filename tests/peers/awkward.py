"""
A tree of files whose names, modes, times and contents are as awkward as a file system allows, made
from a seed; it knows nothing of who copies it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

#: Bytes that a file system allows a name.
LONGEST = 255

#: Bytes that the path of an entry may have below the top: the server's own way to it comes on top,
#: and some of the programs that compare give the system no path of more than 4096 bytes.
LONGEST_PATH = 2000

#: Directories that one can be in: with those above the tree a server takes 64.
DEEPEST = 60

NAMES = (
    # No UTF-8.
    b"\xff\xfe\x80",
    b"caf\xe9",
    b"\xc3",
    b"\xed\xa0\x80",
    # Line ends, and what else does something to a terminal.
    b"new\nline",
    b"\n",
    b"carriage\rreturn",
    b"tab\tname",
    b"\x01\x02\x1f\x7f",
    b"\x1b[2J\x1b]0;title\x07",
    # What looks like an option, a place or a comment.
    b"-",
    b"--",
    b"-r",
    b"-n",
    b"--delete",
    b"--exclude=*",
    b"--help",
    b"+ *",
    b"- *",
    b"#comment",
    b"; rule",
    b"127.0.0.1:7021:",
    b"::module",
    # What a shell or a pattern takes for something else.
    b"*",
    b"?",
    b"**",
    b"[a-z]",
    b"[",
    b"]",
    b"{a,b}",
    b"~",
    b"!",
    b"&",
    b"|",
    b"$(touch x)",
    b"`touch y`",
    b"%s%n",
    b'quo"te',
    b"apo'strophe",
    b"back\\slash",
    b"\\",
    b"\\#012",
    # Blanks and dots.
    b" ",
    b" before",
    b"behind ",
    b"in the middle",
    b"dot.",
    b"...",
    b". ",
    b".hidden",
    b".~tmp~",
    # What other systems hold for the same.
    b"Case",
    b"case",
    b"CASE",
    "é".encode(),
    "e\N{COMBINING ACUTE ACCENT}".encode(),
    "ﬁ".encode(),
    b"fi",
    b"CON",
    b"nul.txt",
    # What is written from right to left, and what is not seen.
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe".encode(),
    "\N{HEBREW LETTER ALEF}\N{ARABIC LETTER BEH}".encode(),
    "\N{ZERO WIDTH SPACE}".encode(),
    "\N{ZERO WIDTH NO-BREAK SPACE}".encode(),
    "\N{LINE SEPARATOR}".encode(),
    "\N{GRINNING FACE}".encode(),
    # As long as names can be.
    b"x" * LONGEST,
    b"y" * LONGEST,
    "ü".encode() * (LONGEST // 2),
    b"\xff" * LONGEST,
    b"\n" * LONGEST,
)

FILE_MODES = (0o400, 0o600, 0o644, 0o640, 0o755, 0o711, 0o444, 0o666)
DIRECTORY_MODES = (0o755, 0o755, 0o755, 0o700, 0o711, 0o500, 0o555, 0o777)

_SECOND = 1_000_000_000

#: Nanoseconds since 1970: the first ones, before them, after 32 bits, with and without fractions.
TIMES = (
    0,
    1,
    _SECOND,
    -_SECOND,
    -86_400 * _SECOND - 1,
    999_999_999,
    1_000_000_000 * _SECOND,
    1_700_000_000_123_456_789,
    1_700_000_000_123_456_000,
    1_700_000_000_999_999_999,
    1_234_567_890 * _SECOND + 500_000_000,
    (2**31 - 1) * _SECOND,
    2**31 * _SECOND + 7,
    2**32 * _SECOND - 1,
)

#: Bytes of files: around what fits into one frame, and into one chunk.
SIZES = (0, 0, 0, 1, 2, 100, 511, 4096, 4097, 10_000)
LARGE = (64 * 1024 - 1, 64 * 1024 + 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 17)

#: Bytes of a file with holes.
SPARSE = 5 * 2**20


def makeAwkward(top: bytes, count: int, seed: int) -> None:
    """
    Make a tree.

    @param top: is made.
    @param count: entries below it, directories and files.
    @param seed: the same gives the same tree.
    """
    made = _Awkward(top, random.Random(seed))
    made.fill(count)
    made.settle()


def listed(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """
    Look at a tree as the system tells it.

    @param top: a directory.
    @return: names from the top on, with what is known of each, in no order.
    """
    waiting = [b""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(os.path.join(top, inside)) as found:
            for each in found:
                name = os.path.join(inside, each.name)
                yield name, each.stat(follow_symlinks=False)
                if each.is_dir(follow_symlinks=False):
                    waiting.append(name)


def makeRemovable(top: bytes) -> None:
    """
    Let the owner remove a tree in which he may not write.

    @param top: a directory; one that is not there is no fault.
    """
    for directory, names, _ in os.walk(top):
        for name in names:
            os.chmod(os.path.join(directory, name), 0o700)


class _Awkward:
    """One tree that is made."""

    def __init__(self, top: bytes, rng: random.Random) -> None:
        self._top = top
        self._rng = rng
        self._directories = [b""]
        # By their names below the top; what is made in one changes its time.
        self._entries: list[tuple[bytes, bool]] = []
        self._taken: set[bytes] = set()
        os.mkdir(top)

    def fill(self, count: int) -> None:
        """Make entries: each name as a file, a directory and in that, then any."""
        rng = self._rng
        for name in NAMES:
            self._place(b"", name, False)
            self._place(self._place(b"", name, True), name, False)
        self._sparse(b"sparse")
        for size in LARGE:
            self._file(b"large%d" % size, size)
        chain = b"chain"
        for number in range(DEEPEST):
            self._directory(chain)
            chain += b"/%d" % number
        while len(self._entries) < count:
            # Most files are where others are, and some directories stay empty.
            above = rng.choice(self._directories[-200:])
            self._place(above, rng.choice(NAMES), rng.random() < 0.1)

    def settle(self) -> None:
        """Set modes and times, what is in a directory before it."""
        rng = self._rng
        for name, directory in [*reversed(self._entries), (b"", True)]:
            path = os.path.join(self._top, name)
            os.utime(path, ns=(0, rng.choice(TIMES)))
            os.chmod(path, rng.choice(DIRECTORY_MODES if directory else FILE_MODES))

    def _place(self, above: bytes, name: bytes, directory: bool) -> bytes:
        """Make an entry, under a name that is like a given one when that is taken."""
        rng = self._rng
        full = os.path.join(above, name)
        if len(full) > LONGEST_PATH or full.count(b"/") > DEEPEST:
            above, full = b"", name
        while full in self._taken:
            number = b"%d" % rng.randrange(1_000_000)
            short = name[: LONGEST - len(number)]
            # What a name begins and ends with is what makes it awkward.
            at = rng.choice((0, len(short) // 2, len(short)))
            full = os.path.join(above, short[:at] + number + short[at:])
        if directory:
            self._directory(full)
        elif rng.random() < 0.001:
            self._file(full, rng.choice(LARGE))
        else:
            self._file(full, rng.choice(SIZES))
        return full

    def _directory(self, name: bytes) -> None:
        os.mkdir(os.path.join(self._top, name))
        self._directories.append(name)
        self._note(name, True)

    def _file(self, name: bytes, size: int) -> None:
        with open(os.path.join(self._top, name), "xb") as file:
            file.write(self._rng.randbytes(size))
        self._note(name, False)

    def _sparse(self, name: bytes) -> None:
        """Make a file with holes before, between and behind what is in it."""
        with open(os.path.join(self._top, name), "xb") as file:
            for at in (2**20 + 5, 4 * 2**20 - 3):
                file.seek(at)
                file.write(self._rng.randbytes(10))
            file.truncate(SPARSE)
        self._note(name, False)

    def _note(self, name: bytes, directory: bool) -> None:
        self._entries.append((name, directory))
        self._taken.add(name)
