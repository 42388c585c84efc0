"""
Patterns for texts: what fits, what never does, and how long it takes to say so.
"""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.trust.patterns import (
    MAX_PATH,
    MAX_PATTERN,
    AbsolutePath,
    Glob,
    PathGlob,
    VariableName,
    compilePattern,
    unusualPath,
)

#: Seconds in which the longest text is decided, with room for a busy machine.
SOON = 0.5


def slowly(pattern: str, text: str) -> bool:
    """Match as the definition says, trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(slowly(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and slowly(pattern[1:], text[1:])


def slowlyParts(pattern: list[str], parts: list[str]) -> bool:
    """Match the parts of a path as the definition says, trying everything."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(
            slowlyParts(pattern[1:], parts[skipped:])
            for skipped in range(len(parts) + 1)
            if not {".", ".."} & set(parts[:skipped])
        )
    if not parts:
        return False
    wild = "*" in pattern[0] or "?" in pattern[0]
    fits = slowly(pattern[0], parts[0]) and not (wild and parts[0] in ("", ".", ".."))
    return fits and slowlyParts(pattern[1:], parts[1:])


def named(path: str) -> tuple[bool, list[str]]:
    """Go through a path part by part, and tell whether from the root, and where one ends."""
    absolute = path.startswith("/")
    at: list[str] = []
    for part in path.split("/"):
        if part == ".." and at and at[-1] != "..":
            at.pop()
        elif part == ".." and absolute:
            pass
        elif part not in ("", "."):
            at.append(part)
    return absolute, at


class GlobTests(SynchronousTestCase):
    """L{Glob}."""

    def assertFits(self, pattern: str, *texts: str) -> None:
        """Each text fits, where a rule allows and where it denies."""
        for text in texts:
            self.assertTrue(Glob(pattern).matches(text), (pattern, text))
            self.assertTrue(Glob(pattern).matches(text, True), (pattern, text))

    def assertUnfit(self, pattern: str, *texts: str) -> None:
        """No text fits, wherever."""
        for text in texts:
            self.assertFalse(Glob(pattern).matches(text), (pattern, text))
            self.assertFalse(Glob(pattern).matches(text, True), (pattern, text))

    def test_wildcards(self) -> None:
        """A star is any characters, a question mark one, brackets one of some."""
        self.assertFits("log", "log")
        self.assertUnfit("log", "Log", "logs", "lo", "")
        self.assertFits("*", "", "a", "a b", "/etc/passwd", "ü\udcff")
        self.assertFits("a*b*c", "abc", "axbxc", "abcbc")
        self.assertUnfit("a*b*c", "acb", "abcd", "ab")
        self.assertUnfit("ab*ba", "aba")
        self.assertUnfit("a*bb*b", "abb")
        self.assertFits("?[0-9]", "a1", "ü9")
        self.assertUnfit("?[0-9]", "1", "ab", "a12")
        self.assertFits("[!a-c]x", "dx", "!x")
        self.assertUnfit("[!a-c]x", "ax", "x")

    def test_ordinaryCharacters(self) -> None:
        """What is special elsewhere is not here."""
        for text in (
            "a.b",
            "a+",
            "(a)",
            "a|b",
            "^a$",
            "a\\d",
            "{1}",
            "a\\",
            "]",
            "~",
            "a\tb",
            "\\*",
        ):
            if text != "\\*":
                self.assertFits(text, text)
        self.assertFits("\\*", "\\anything")
        self.assertUnfit("a.b", "axb")

    def test_sets(self) -> None:
        """In brackets only a dash between two characters and a first exclamation mark mean more."""
        for pattern, fitting, unfit in (
            ("[[]", "[", "]"),
            ("[]]", "]", "["),
            ("[!]]", "a", "]"),
            ("[*]", "*", "a"),
            ("[?]", "?", "a"),
            ("x[-a]", "x-", "xb"),
            ("x[a-]", "x-", "xb"),
            ("[a^]", "^", "b"),
            ("[!^]", "a", "^"),
            ("[\\d]", "\\", "5"),
            ("[a!]", "!", "b"),
            ("[&&a]", "&", "b"),
            ("[a-c-e]", "e", "d"),
        ):
            self.assertFits(pattern, fitting)
            self.assertUnfit(pattern, unfit)

    def test_refused(self) -> None:
        """What cannot be meant is refused, in words."""
        for pattern, words in (
            ("[a", "never closed"),
            ("[", "never closed"),
            ("a[]", "stands for nothing"),
            ("[!]", "stands for nothing"),
            ("[z-a]", "backwards"),
            ("[^a]", r"write \[!\.\.\.\]"),
            ("[^]", r"write \[!\.\.\.\]"),
            ("a\0", "NUL"),
            ("a" * (MAX_PATTERN + 1), str(MAX_PATTERN)),
        ):
            with self.assertRaisesRegex(ValueError, words):
                Glob(pattern)
        Glob("a" * MAX_PATTERN)

    def test_leadingDash(self) -> None:
        """No wildcard lets an option in, unless the pattern begins with a dash itself."""
        for pattern in ("*", "?*", "[-a]*", "[!b]*", "*x", "[-]x"):
            self.assertFalse(Glob(pattern).matches("-x"), pattern)
            self.assertTrue(Glob(pattern).matches("-x", True), pattern)
        self.assertFits("-*", "-x", "--output=x")
        self.assertFits("--format=*", "--format=-x")
        self.assertFits("-x", "-x")
        self.assertFits("a*", "a-x")

    def test_newlineAndNul(self) -> None:
        """No wildcard lets a newline or a NUL in where a rule allows; all do where it denies."""
        for text in ("a\nb", "\n", "a\n", "a\0b"):
            self.assertFalse(Glob("*").matches(text), repr(text))
            self.assertTrue(Glob("*").matches(text, True), repr(text))
        self.assertFalse(Glob("a").matches("a\n"))
        self.assertFalse(Glob("a*[b]").matches("ab\n", True))
        self.assertFits("a\nb", "a\nb")

    @given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
    def test_definition(self, pattern: str, text: str) -> None:
        """What fits is what fits by the definition."""
        self.assertEqual(Glob(pattern).matches(text), slowly(pattern, text))

    @given(st.text(), st.text())
    def test_anything(self, pattern: str, text: str) -> None:
        """Any pattern is read or refused in words; what fits narrowly fits widely."""
        try:
            glob = Glob(pattern)
        except ValueError:
            return
        self.assertLessEqual(glob.matches(text), glob.matches(text, True))
        escaped = re.sub(r"[*?\[]", r"[\g<0>]", text)
        if "\0" not in text:
            self.assertTrue(Glob(escaped).matches(text, True))

    def test_time(self) -> None:
        """A megabyte is decided at once, also by what makes others try everything."""
        text = "a" * 1_000_000
        for pattern in ("*a" * 30 + "*b*", "*[ab]" * 30 + "*c*", "a*" * 100 + "b", "*b*a", "*"):
            began = time.process_time()
            Glob(pattern).matches(text)
            self.assertLess(time.process_time() - began, SOON, pattern)


class PathGlobTests(SynchronousTestCase):
    """L{PathGlob}."""

    def fits(self, pattern: str, text: str, wide: bool = False) -> bool:
        """Tell whether a path fits."""
        return PathGlob(pattern).matches(text, wide)

    def test_parts(self) -> None:
        """A star stays within one part."""
        self.assertTrue(self.fits("/srv/*", "/srv/a"))
        self.assertTrue(self.fits("/srv/*.log", "/srv/.log"))
        for path in ("/srv/a/b", "/srv/", "/srv", "/srv//", "srv/a", "/srv/a/"):
            self.assertFalse(self.fits("/srv/*", path), path)
        self.assertTrue(self.fits("https://h/*", "https://h/a"))

    def test_anyDepth(self) -> None:
        """Two stars are any number of parts, also none."""
        for path in ("/srv", "/srv/", "/srv/a", "/srv/a/b", "/srv//a"):
            self.assertTrue(self.fits("/srv/**", path), path)
        self.assertFalse(self.fits("/srv/**", "/srvx"))
        self.assertTrue(self.fits("/**/x", "/x"))
        self.assertTrue(self.fits("/**/a/**/b", "/a/a/c/b"))
        self.assertFalse(self.fits("/**/a/**/b", "/b/a"))
        self.assertTrue(self.fits("/**/**", "/"))

    def test_up(self) -> None:
        """No wildcard leads up, or stands for a part that is a dot."""
        for pattern in (
            "/srv/*/x",
            "/srv/**/x",
            "/srv/**",
            "/srv/??/x",
            "/srv/.*/x",
            "/srv/[.]*/x",
        ):
            for part in (".", ".."):
                self.assertFalse(self.fits(pattern, f"/srv/{part}/x"), (pattern, part))
        self.assertFalse(self.fits("/srv/**", "/srv/a/../../etc/passwd"))
        self.assertTrue(self.fits("/srv/**", "/srv/..."))

    def test_wide(self) -> None:
        """Where a rule denies, no other way to write a path gets around it."""
        for path in ("/etc/passwd", "/etc//passwd", "/etc/./passwd", "/srv/../etc/passwd"):
            self.assertTrue(self.fits("/etc/*", path, True), path)
            self.assertTrue(self.fits("/etc/passwd", path, True), path)
        self.assertTrue(self.fits("/etc/*", "/etc/a\nb", True))
        self.assertTrue(self.fits("/etc/**", "/etc/../x", True))
        self.assertTrue(self.fits("*/x", "-/x", True))
        self.assertFalse(self.fits("/etc/*", "/srv/passwd", True))

    def test_slashes(self) -> None:
        """Where a rule denies, slashes at the beginning and dots change nothing."""
        for pattern in ("/etc/shadow", "//etc/shadow", "/etc/./shadow", "/srv/../etc/shadow",
                        "/etc/*", "//etc/*", "/./etc/sh?dow", "/*/../etc/shado[w]", "/etc/**/",
                        "/**", "/**/shadow"):  # fmt: skip
            for path in ("/etc/shadow", "//etc/shadow", "///etc/shadow", "//etc/../etc/shadow",
                         "/../etc/shadow", "//../..//etc/shadow", "//./etc//shadow/"):  # fmt: skip
                self.assertTrue(self.fits(pattern, path, True), (pattern, path))
        self.assertTrue(self.fits("a/b", "./a//b", True))
        self.assertFalse(self.fits("/a/b", "a/b", True))

    @given(
        st.lists(st.sampled_from(["a", "b", ".", "..", ""]), max_size=8),
        st.lists(st.sampled_from(["a", "b", ".", "..", ""]), max_size=8),
        st.sampled_from(["/", "//", "///", ""]),
        st.sampled_from(["/", "//", "///", ""]),
    )
    def test_spellings(self, one: list[str], other: list[str], begin: str, start: str) -> None:
        """What denies one spelling of a path denies all that name the same."""
        pattern, path = begin + "/".join(one), start + "/".join(other)
        # As the kernel goes, were there no links; from a directory other than the root.
        if named(pattern) == named(path):
            self.assertTrue(self.fits(pattern, path, True), (pattern, path))
            if "/" in pattern:
                self.assertTrue(compilePattern(pattern).matches(path, True), (pattern, path))

    def test_narrow(self) -> None:
        """Where a rule allows, a leading dash, a newline or a NUL is never taken in."""
        self.assertFalse(self.fits("*/x", "-/x"))
        self.assertTrue(self.fits("/*", "/-x"))
        for character in "\n\0":
            self.assertFalse(self.fits("/srv/*", f"/srv/a{character}b"))
            self.assertFalse(self.fits("/srv/**", f"/srv/a{character}b"))

    def test_refused(self) -> None:
        """Two stars within a part are refused."""
        for pattern in ("/a**", "/**a", "/***"):
            with self.assertRaisesRegex(ValueError, "alone between slashes"):
                PathGlob(pattern)

    def test_long(self) -> None:
        """What is too long for a path fits where that denies."""
        path = "/srv/" + "a" * MAX_PATH
        self.assertFalse(self.fits("/srv/**", path))
        self.assertTrue(self.fits("/other/**", path, True))
        self.assertTrue(self.fits("/srv/**", path[:MAX_PATH]))

    @given(
        st.lists(st.sampled_from(["**", "*", "a", "b", "a*", "..", ""]), min_size=1, max_size=6),
        st.lists(st.sampled_from(["a", "b", "ab", ".", "..", ""]), min_size=1, max_size=6),
    )
    def test_definition(self, pattern: list[str], parts: list[str]) -> None:
        """What fits is what fits by the definition, and what fits narrowly fits widely."""
        glob, path = PathGlob("/".join(pattern)), "/".join(parts)
        self.assertEqual(glob.matches(path), slowlyParts(pattern, parts))
        self.assertLessEqual(glob.matches(path), glob.matches(path, True))

    def test_time(self) -> None:
        """The longest path, and a megabyte that is none, are decided at once."""
        for path in ("/a" * (MAX_PATH // 2), "/a" * 500_000):
            for wide in (False, True):
                began = time.process_time()
                self.fits("/**/a" * 50 + "/b/**/c", path, wide)
                self.assertLess(time.process_time() - began, SOON)


class CompileTests(SynchronousTestCase):
    """L{compilePattern}."""

    def test_sort(self) -> None:
        """A slash makes a pattern one for paths."""
        self.assertIsInstance(compilePattern("/a/*"), PathGlob)
        self.assertIsInstance(compilePattern("a*"), Glob)
        self.assertTrue(compilePattern("*").matches("/a/../b"))
        with self.assertRaisesRegex(ValueError, "last ..."):
            compilePattern("**")


class AbsolutePathTests(SynchronousTestCase):
    """L{AbsolutePath} and L{unusualPath}."""

    def test_usual(self) -> None:
        """A whole path, written the shortest way, is taken."""
        for path in ("/", "/a", "/a/b.c", "/...", "/a b", "/a/**"):
            self.assertEqual(unusualPath(path), "")
            AbsolutePath(path)

    def test_unusual(self) -> None:
        """Every other way to write one is refused, in words."""
        for path, why in (
            ("", "slash"),
            ("a", "slash"),
            ("./a", "slash"),
            ("~/a", "slash"),
            ("/a/", "empty"),
            ("//a", "empty"),
            ("//", "empty"),
            ("/a/./b", r"\.\."),
            ("/a/..", r"\.\."),
            ("/a\0", "NUL"),
            ("/" + "a" * MAX_PATH, str(MAX_PATH)),
        ):
            self.assertRegex(unusualPath(path), why)
            with self.assertRaises(ValueError):
                AbsolutePath(path)


class VariableNameTests(SynchronousTestCase):
    """L{VariableName}."""

    def test_dangerous(self) -> None:
        """No wildcard lets in what makes programs run something else; its full name does."""
        for name in ("PATH", "LD_PRELOAD", "BASH_ENV", "ENV", "IFS", "PYTHONPATH", "PERL5OPT",
                     "GIT_SSH_COMMAND", "NODE_OPTIONS", "BASH_FUNC_x%%", "SHELLOPTS"):  # fmt: skip
            self.assertFalse(VariableName("*").matches(name), name)
            self.assertFalse(VariableName(f"{name[:2]}*").matches(name), name)
            self.assertTrue(VariableName(name).matches(name), name)
            self.assertTrue(VariableName("*").matches(name, True), name)

    def test_harmless(self) -> None:
        """Other names fit as texts do."""
        self.assertTrue(VariableName("LC_*").matches("LC_ALL"))
        self.assertTrue(VariableName("*").matches("LANG"))
        self.assertFalse(VariableName("LANG").matches("lang"))

    def test_refused(self) -> None:
        """What can be no name is refused."""
        for name in ("", "A=b", "="):
            with self.assertRaises(ValueError):
                VariableName(name)
