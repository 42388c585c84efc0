"""
Patterns of names: what people expect who know rsync and gitignore, and no pattern that takes long.
"""

from __future__ import annotations

import time
from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import examples
from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.files.patterns import (
    EVERYTHING,
    MAX_PATTERN,
    MAX_RULES,
    Patterns,
    Rule,
)

#: Of these names are made, and patterns: few bytes, so that they often match.
ALPHABET = b"ab-\xff\n]"


def matches(pattern: bytes, name: bytes) -> bool:
    """Tell whether a pattern matches a name; a slash at its end says that it is a directory."""
    return Patterns([Rule(False, pattern)]).excludes(name.removesuffix(b"/"), name.endswith(b"/"))


class ExpectedTests(SynchronousTestCase):
    """What a pattern matches, and what it does not."""

    def assertMatches(self, pattern: bytes, yes: list[bytes], no: list[bytes]) -> None:
        """A pattern matches all of the first names, and none of the others."""
        self.assertEqual([n for n in (*yes, *no) if matches(pattern, n)], yes, pattern)

    def test_withoutSlash(self) -> None:
        """A pattern without a slash is looked for at any depth, as a whole part."""
        self.assertMatches(b"a", [b"a", b"a/", b"x/a", b"x/y/a/"], [b"ab", b"ba", b"a/x", b"A"])

    def test_star(self) -> None:
        """A star stands for anything within a part, also for nothing, and passes no slash."""
        self.assertMatches(b"*.o", [b".o", b"a.o", b"x/a.o", b"\n\xff.o"], [b"a.o/x", b"a.oo"])
        self.assertMatches(b"a*b*c", [b"abc", b"axbxc", b"abcbc"], [b"ab", b"acb", b"ab/c"])
        self.assertMatches(b"/a/*/c", [b"a/b/c"], [b"a/c", b"a/b/b/c", b"x/a/b/c"])
        self.assertMatches(b"a/*", [b"a/b", b"a/b/"], [b"a", b"a/", b"a/b/c"])
        self.assertMatches(b"/*", [b"a", b"a/"], [b"a/b", b"a/b/"])
        self.assertMatches(b"*", [b"a", b".hidden", b"a/b", b"a/"], [])

    def test_question(self) -> None:
        """A question mark stands for one byte, and for no slash."""
        self.assertMatches(b"a?c", [b"abc", b"x/a\nc", b"a\xffc"], [b"ac", b"abbc", b"a/c"])

    def test_rooted(self) -> None:
        """A pattern with a slash before or in it begins at the top of the tree."""
        self.assertMatches(b"/a", [b"a", b"a/"], [b"x/a"])
        self.assertMatches(b"a/b", [b"a/b"], [b"x/a/b", b"a/b/c", b"a"])
        self.assertMatches(b"/a/b/", [b"a/b/"], [b"a/b", b"x/a/b/"])

    def test_directoriesOnly(self) -> None:
        """A slash at the end means directories only, and roots nothing."""
        self.assertMatches(b"a/", [b"a/", b"x/a/"], [b"a", b"x/a"])
        self.assertMatches(b"*/", [b"a/", b"x/a/"], [b"a", b"x/a"])

    def test_twoStars(self) -> None:
        """Two stars pass slashes; as a whole part they stand for no part, too."""
        self.assertMatches(b"a/**/b", [b"a/b", b"a/x/b", b"a/x/y/b/"], [b"ab", b"a/xb", b"x/a/b"])
        self.assertMatches(b"**/a", [b"a", b"x/a", b"x/y/a"], [b"xa", b"a/x"])
        self.assertMatches(b"**/a/b", [b"a/b", b"x/a/b"], [b"xa/b"])
        self.assertMatches(b"a/**", [b"a/x", b"a/x/", b"a/x/y"], [b"a", b"a/", b"x/a/y"])
        self.assertMatches(b"/**/b/**/c", [b"b/c", b"x/b/y/b/c"], [b"b", b"c", b"bc"])
        self.assertMatches(b"a**b", [b"ab", b"a/b", b"axx/yb", b"q/a/b"], [b"qa/b", b"a/bq"])
        self.assertMatches(b"/a**", [b"a", b"a/", b"ab", b"a/b"], [b"b/a"])
        self.assertMatches(b"**x*y", [b"x/xy", b"xzy", b"a/xy"], [b"x/y"])
        self.assertMatches(b"**", [b"a", b"a/", b"a/b"], [])
        self.assertMatches(b"a/**/", [b"a/x/", b"a/x/y/"], [b"a/", b"a/x"])

    def test_threeStars(self) -> None:
        """Three stars behind a slash stand for the directory and all that is below."""
        self.assertMatches(b"/a/***", [b"a", b"a/", b"a/b", b"a/b/c"], [b"ab", b"x/a"])
        self.assertMatches(b"***", [b"a", b"a/b/"], [])

    def test_sets(self) -> None:
        """Brackets hold bytes, ranges and classes, or what is none of them, and never a slash."""
        self.assertMatches(b"[a-c]", [b"a", b"b", b"c"], [b"d", b"-", b""])
        self.assertMatches(b"[!a-c]", [b"d", b"-", b"\xff", b"\n"], [b"a", b"b"])
        self.assertMatches(b"[^a]", [b"d", b"^"], [b"a"])
        self.assertMatches(b"[]-]x", [b"]x", b"-x"], [b"ax"])
        self.assertMatches(b"[!]]", [b"a"], [b"]"])
        self.assertMatches(b"[a-]", [b"a", b"-"], [b"b"])
        self.assertMatches(rb"[\]\\a]", [b"]", b"\\", b"a"], [b"b"])
        self.assertMatches(b"[\x80-\xff]", [b"\x80", b"\xc3"], [b"\x7f", b"\xc3\xa4"])
        self.assertMatches(b"x[.-0]y", [b"x.y", b"x0y"], [b"x/y"])
        self.assertMatches(b"x[!a]y", [b"xby"], [b"xay", b"x/y"])
        self.assertMatches(b"[[:digit:]_]", [b"1", b"_"], [b"a", b":", b"["])
        self.assertMatches(b"[![:upper:]]", [b"a", b"1"], [b"A", b"Z"])
        self.assertMatches(b"[[:punct:]]", [b"!", b"[", b"`", b"~", b"_"], [b"a", b" ", b"0"])

    def test_nothingLeft(self) -> None:
        """A set that nothing is left of matches nothing."""
        self.assertMatches(b"[!\x01-\xff]", [], [b"a", b"\xff"])

    def test_backslash(self) -> None:
        """A backslash takes the meaning from what is behind it, and stands for nothing itself."""
        self.assertMatches(rb"\*", [b"*"], [b"a", b"\\*"])
        self.assertMatches(rb"\[a]", [b"[a]"], [b"a"])
        self.assertMatches(rb"a\\b", [b"a\\b"], [b"ab"])
        self.assertMatches(rb"\a", [b"a"], [b"\\a"])

    def test_plain(self) -> None:
        """What has a meaning in regular expressions has none here."""
        for name in (b"a+", b"(a", b"a|b", b"^a$", b"{1}", b".", b"#x", b" ", b"a\nb"):
            if name != b".":
                self.assertMatches(name, [name], [b"a", b"aa"])
        self.assertMatches(b"a.c", [b"a.c"], [b"abc"])
        self.assertMatches(b"a", [], [b"a\n"])


class RuleTests(SynchronousTestCase):
    """Many rules at once."""

    def test_first(self) -> None:
        """The first rule that matches decides, and a name that none matches is taken."""
        rules = [Rule(True, b"keep.o"), Rule(False, b"*.o"), Rule(True, b"*")]
        patterns = Patterns([*rules, Rule(False, b"a")])
        self.assertFalse(patterns.excludes(b"x/keep.o", False))
        self.assertTrue(patterns.excludes(b"x/other.o", False))
        self.assertFalse(patterns.excludes(b"a", False))
        self.assertFalse(Patterns([Rule(False, b"a")]).excludes(b"b", False))

    def test_alternatives(self) -> None:
        """A pattern that is two in one counts as one rule."""
        patterns = Patterns([Rule(False, b"a/***"), Rule(True, b"b"), Rule(False, b"c")])
        self.assertEqual(
            [patterns.excludes(name, False) for name in (b"a", b"a/x", b"b", b"c", b"d")],
            [True, True, False, True, False],
        )

    def test_none(self) -> None:
        """Without rules nothing is left out, and that can be asked before."""
        self.assertFalse(EVERYTHING)
        self.assertFalse(EVERYTHING.excludes(b"a", True))
        self.assertTrue(Patterns([Rule(True, b"a")]))


class RefusedTests(SynchronousTestCase):
    """What can be no pattern is refused at once, with what to do."""

    def assertRefused(self, pattern: bytes, why: str) -> None:
        """A pattern is refused in one sentence."""
        error = self.assertRaises(ConfigurationError, Patterns, [Rule(False, pattern)])
        self.assertIn(why, error.sentence)
        self.assertTrue(error.sentence.startswith("The pattern '") and error.sentence[-1] == ".")
        self.assertEqual(error.sentence, error.sentence.replace("\x1b", ""))

    def test_refused(self) -> None:
        """Each of these would match nothing, or not what was meant."""
        self.assertRefused(b"[a", "no ']'")
        self.assertRefused(b"[]", "no ']'")
        self.assertRefused(b"[a/b]", "no ']'")
        self.assertRefused(b"[a-", "no ']'")
        self.assertRefused(b"[c-a]", "ends before it begins")
        self.assertRefused(b"[[:latin:]]", "'latin' in its brackets is no class")
        self.assertRefused(b"[[:", "is no class")
        self.assertRefused(b"a\\", "double that")
        self.assertRefused(b"a\\/b", "double that")
        self.assertRefused(b"[a\\", "double that")
        self.assertRefused(b"", "an empty part")
        self.assertRefused(b"/", "an empty part")
        self.assertRefused(b"a//b", "an empty part")
        self.assertRefused(b"a//", "an empty part")
        self.assertRefused(b"./a", "'.'")
        self.assertRefused(b"../a", "'..'")
        self.assertRefused(b"a\0", "NUL")
        self.assertRefused(b"\x1b[2J", "no ']'")
        self.assertRefused(b"a" * (MAX_PATTERN + 1), "4001 bytes")

    def test_many(self) -> None:
        """More rules than a person writes are refused, with how many there are."""
        rule = Rule(False, b"a")
        error = self.assertRaises(ConfigurationError, Patterns, [rule] * (MAX_RULES + 1))
        self.assertIn(str(MAX_RULES + 1), error.sentence)


# Patterns as trees: what they are written as, and what they match, each made in its own way.

Atom = tuple[str, bytes]
literals = st.sampled_from([bytes([byte]) for byte in ALPHABET]).map(lambda byte: ("is", byte))
sets = st.tuples(st.sampled_from(["in", "out"]), st.sampled_from([b"a", b"ab", b"-", b"b\xff"]))
wild = st.sampled_from([("any", b""), ("star", b""), ("cross", b"")])
atoms = st.one_of(literals, literals, sets, wild)
partsOfPatterns = st.one_of(st.lists(atoms, min_size=1, max_size=6), st.just([("all", b"")]))
trees = st.tuples(st.booleans(), st.lists(partsOfPatterns, min_size=1, max_size=4), st.booleans())
partsOfNames = st.binary(min_size=1, max_size=5).map(
    lambda raw: bytes(ALPHABET[byte % len(ALPHABET)] for byte in raw)
)
names = st.lists(partsOfNames, min_size=1, max_size=4).map(b"/".join)


def tidied(part: list[Atom]) -> list[Atom]:
    """Let no star stand beside another, and no part be two stars that is not meant so."""
    kept: list[Atom] = []
    for atom in part:
        if not (kept and kept[-1][0] in ("star", "cross") and atom[0] in ("star", "cross")):
            kept.append(atom)
    return [("all", b"")] if kept == [("cross", b"")] else kept


def written(rooted: bool, parts: list[list[Atom]], only: bool) -> bytes:
    """Write a pattern."""
    text = b"/".join(b"".join(writtenAtom(*atom) for atom in part) for part in parts)
    return (b"/" if rooted else b"") + text + (b"/" if only else b"")


def writtenAtom(kind: str, data: bytes) -> bytes:
    """Write what stands for one thing."""
    match kind:
        case "is":
            return b"\\" + data if data == b"]" else data
        case "in":
            return b"[" + data + b"]"
        case "out":
            return b"[!" + data + b"]"
        case "any":
            return b"?"
        case "star":
            return b"*"
        case _:
            return b"**"


def expected(rooted: bool, parts: list[list[Atom]], only: bool, name: bytes, folder: bool) -> bool:
    """Tell by trying everything whether a pattern matches."""
    if only and not folder:
        return False
    if not rooted and len(parts) == 1:
        parts = [[("all", b"")], *parts]
    flat: list[Atom] = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == [("all", b"")]:
            flat.append(("below", b"") if last else ("folders", b""))
        else:
            flat += part
            flat += [] if last else [("is", b"/")]

    @cache
    def tried(at: int, place: int) -> bool:
        if at == len(flat):
            return place == len(name)
        kind, data = flat[at]
        ends = range(place, len(name) + 1)
        match kind:
            case "below":
                return place < len(name)
            case "folders":
                starts = [end for end in ends if end == place or name[end - 1 : end] == b"/"]
                return any(tried(at + 1, end) for end in starts)
            case "cross":
                return any(tried(at + 1, end) for end in ends)
            case "star":
                within = [end for end in ends if b"/" not in name[place:end]]
                return any(tried(at + 1, end) for end in within)
        byte = name[place : place + 1]
        right = byte == data if kind == "is" else byte not in (b"", b"/")
        if kind in ("in", "out"):
            right = right and (byte in data) == (kind == "in")
        return right and tried(at + 1, place + 1)

    return tried(0, 0)


class ReferenceTests(SynchronousTestCase):
    """The regular expressions, beside a matcher that tries everything."""

    @settings(max_examples=examples(1000), deadline=None)
    @given(tree=trees, name=names, folder=st.booleans())
    @example(
        (True, [[("cross", b""), ("is", b"a"), ("star", b""), ("is", b"b")]], False), b"a/ab", False
    )
    @example((True, [[("all", b"")], [("all", b"")]], True), b"a/b", True)
    def test_same(
        self, tree: tuple[bool, list[list[Atom]], bool], name: bytes, folder: bool
    ) -> None:
        """A pattern matches just what trying everything finds that it matches."""
        rooted, rawParts, only = tree
        parts = [tidied(part) for part in rawParts]
        pattern = written(rooted, parts, only)
        self.assertEqual(
            matches(pattern, name + b"/" if folder else name),
            expected(rooted, parts, only, name, folder),
            (pattern, name, folder),
        )

    @settings(max_examples=examples(500), deadline=None)
    @given(pattern=st.text("ab*?[]!-\\/:^", max_size=12).map(str.encode), name=names)
    def test_any(self, pattern: bytes, name: bytes) -> None:
        """Whatever is written is a pattern or is refused; nothing else comes of it."""
        try:
            patterns = Patterns([Rule(False, pattern)])
        except ConfigurationError:
            return
        self.assertIn(patterns.excludes(name, False), (True, False))


class TimeTests(SynchronousTestCase):
    """No pattern takes long, whatever it is matched with."""

    def test_linear(self) -> None:
        """What takes a matcher that tries everything longer than the world is old is done at once,
        with the longest names."""
        long = b"/".join([b"a" * 255] * 15) + b"/" + b"a" * 100
        parts = b"/".join([b"a" * 60] * 60)
        for pattern in (
            b"*a" * 100 + b"b",
            b"**a" * 100 + b"b",
            b"**/*a*a*a*a*a*a*a*a*a*a*a*b",
            b"**/a*/" * 30 + b"b",
            b"**a*a*a*a" * 50 + b"/b",
            b"/" + b"*?" * 60 + b"/**/" + b"*a?" * 60 + b"**/x",
            b"**?" * 1000 + b"b",
            b"**" + b"?" * 250 + b"b",
        ):
            patterns = Patterns([Rule(False, pattern)])
            for name in (long, parts, b"a" * 255):
                start = time.process_time()
                self.assertFalse(patterns.excludes(name, False))
                self.assertLess(time.process_time() - start, 1.0, (pattern, len(name)))
