"""
Patterns of a policy for texts: one argument, a path, the name of an environment variable. No files,
no identities and no decisions; hosts have patterns of their own.

A pattern errs on the safe side of the rule that it stands in: I{narrow}, where a rule allows, its
wildcards leave out what has tricked such lists before (a leading dash, C{..}, a newline); I{wide},
where a rule denies, they take these in. There is no backtracking: however long a text is, it is
gone through once.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

#: Characters of one pattern: more than any path or argument that a person writes down.
MAX_PATTERN = 4096

#: Characters of a text that a pattern with a slash looks into: what Linux takes as a path.
MAX_PATH = 4096

#: Names of environment variables that make a program load or run something else, or split words
#: otherwise: what sudo takes out, and what runtimes have added since, in whatever case, as some
#: programs take both. It can never be complete, so it is no list of what is let through: where a
#: rule allows, wildcards are bound to a family of names, and leave these out even there.
DANGEROUS_NAMES = re.compile(
    r"LD_.*|_RLD.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|LOCPATH|NLSPATH|MALLOC_.*"
    r"|PATH|CDPATH|FPATH|IFS|ENV|BASH_.*|BASHOPTS|SHELLOPTS|SHELL|PS4|PROMPT_COMMAND|GLOBIGNORE"
    r"|ZDOTDIR|NULLCMD|READNULLCMD|TMPPREFIX|HOME|USER|LOGNAME|TMPDIR|XDG_.*"
    r"|TERMCAP|TERMINFO|TERMINFO_DIRS|TERMPATH|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS|RESOLV_.*"
    r"|PYTHON.*|PERL.*|RUBY.*|GEM_.*|NODE_.*|JAVA_.*|_JAVA_.*|JDK_.*|CLASSPATH|LUA_.*|GIT_.*"
    r"|EDITOR|VISUAL|PAGER|BROWSER|LESS.*|MANPAGER|SUDO_.*|SSH_.*|OPENSSL_.*|SSL_.*|KRB5.*"
    r"|TAR_OPTIONS|RSYNC_.*|GZIP|ZIPOPT|UNZIP|MAKEFLAGS|MFLAGS|GNUMAKEFLAGS|MAKEFILES"
    r"|NPM_CONFIG_.*|PIP_.*|CARGO_.*|RUSTC.*|RUSTFLAGS|GOFLAGS|GOPATH|GOROOT|GOPROXY|GOTOOLCHAIN"
    r"|CC|CXX|LD|.*_PROXY|CURL_.*|WGETRC|PGSERVICEFILE|PGSYSCONFDIR|PSQL.*|MYSQL_.*|DOCKER_.*"
    r"|KUBECONFIG|GNUPGHOME|AWS_.*|DOTNET_.*|CORECLR_.*|PHPRC|PHP_.*",
    re.IGNORECASE,
)

#: What stands before the first wildcard of a name where a rule allows: the name of a family such
#: as LC_, which tells what the variables are for. Nobody can know all that a mere * lets through.
_FAMILY = re.compile(r"[^*?\[]{2,}_")

_WILD = re.compile(r"[*?\[]")


class Glob:
    """
    A text in which C{*} stands for any characters, C{?} for one and C{[abc]}, C{[a-z]}, C{[!abc]}
    for one of some; case counts, and there is no other way to escape than C{[*]}.
    """

    __slots__ = ("_lastWidth", "_runs", "literal", "text")

    def __init__(self, text: str) -> None:
        """
        @param text: the pattern.
        @raise ValueError: when it is none; the sentence goes on after its name and value.
        """
        _checkLength(text)
        self.text = text
        #: Whether it stands for nothing but itself.
        self.literal = not _WILD.search(text)
        runs = _runs(text)
        #: Empty where nothing is to be looked for: to compile thousands of names takes seconds.
        self._runs = [re.compile("".join(run), re.DOTALL) for run in runs if not self.literal]
        self._lastWidth = len(runs[-1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def matches(self, text: str, wide: bool = False) -> bool:
        """
        Tell whether a whole text fits.

        @param text: anything.
        @param wide: whether wildcards take in a leading dash, newlines and NUL.
        @return: whether it does.
        """
        if self.literal:
            return text == self.text
        if not wide and (_dashed(text, self.text) or "\n" in text or "\0" in text):
            return False
        return self.fits(text)

    def fits(self, text: str) -> bool:
        """
        Tell whether a whole text fits the bare pattern.

        @param text: anything.
        @return: whether it does, with no regard to what is dangerous.
        """
        if self.literal:
            return text == self.text
        if len(self._runs) == 1:
            return self._runs[0].fullmatch(text) is not None
        first, *middle, last = self._runs
        found = first.match(text)
        # A run matches texts of one length only, so what the last one matches begins here.
        end = len(text) - self._lastWidth
        if found is None or end < found.end() or last.fullmatch(text, end) is None:
            return False
        for run in middle:
            # The leftmost place leaves the most to what follows, so no other need be tried.
            found = run.search(text, found.end(), end)
            if found is None:
                return False
        return True


def _dashed(text: str, pattern: str) -> bool:
    return text.startswith("-") and not pattern.startswith("-")


def _checkLength(text: str) -> None:
    if len(text) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN} characters, this one {len(text)}")
    if "\0" in text:
        raise ValueError("nothing that is matched can hold a NUL; leave it out")


_TOKEN = re.compile(r"\[(?P<not>!?)(?P<set>\]?[^\]]*)\]|(?P<one>\?)|(?P<plain>.)", re.DOTALL)


def _runs(text: str) -> list[list[str]]:
    """Translate what stands between stars: for each character of a text, what matches it."""
    runs: list[list[str]] = [[]]
    position = 0
    while position < len(text):
        if text[position] == "*":
            runs.append([])
            position += 1
            continue
        found = _TOKEN.match(text, position)
        assert found is not None
        runs[-1].append(_translated(found))
        position = found.end()
    return runs


def _translated(found: re.Match[str]) -> str:
    if found["one"]:
        return "."
    if (plain := found["plain"]) is not None:
        if plain == "[":
            raise ValueError("a [ is never closed; write [[] for the character itself")
        return re.escape(plain)
    if found["set"].startswith("^") and not found["not"]:
        raise ValueError("[^ is another way to write [! to some programs only; write [!...]")
    if not found["set"]:
        raise ValueError("[] stands for nothing; write the characters between the brackets")
    return f"[{'^' if found['not'] else ''}{_set(found['set'])}]"


def _set(characters: str) -> str:
    """Translate what stands between brackets, where only a dash between two others is special."""
    parts = []
    position = 0
    while position < len(characters):
        first = characters[position]
        if characters[position + 1 : position + 2] == "-" and position + 2 < len(characters):
            last = characters[position + 2]
            if last < first:
                raise ValueError(f"{first}-{last} is a range that runs backwards; turn it round")
            parts.append(f"{re.escape(first)}-{re.escape(last)}")
            position += 3
        else:
            parts.append(re.escape(first))
            position += 1
    return "".join(parts)


class PathGlob:
    """
    A pattern with slashes: wildcards stay within one part of a path, C{**} as a whole part stands
    for any number of parts, also none.

    @cvar DOTS: parts that lead elsewhere than they say.
    """

    __slots__ = ("_parts", "_shortest", "literal", "text")

    DOTS = frozenset({".", ".."})

    def __init__(self, text: str) -> None:
        """
        @param text: the pattern.
        @raise ValueError: when it is none.
        """
        _checkLength(text)
        self.text = text
        #: Whether it stands for nothing but itself.
        self.literal = not _WILD.search(text)
        self._parts = _parts(text)
        #: What the shortest forms of paths fit. What a C{..} behind C{**} takes back is not known.
        climbs = "**" in text and ".." in text.split("/")
        self._shortest = self._parts if climbs else _parts(shortest(text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def matches(self, text: str, wide: bool = False) -> bool:
        """
        Tell whether a whole text fits.

        @param text: anything; more than L{MAX_PATH} characters are no path.
        @param wide: whether wildcards take in C{.}, C{..}, empty parts, a leading dash, newlines
            and NUL, and whether the path as it is without such parts is looked at, too.
        @return: whether it does; a text that is too long fits wherever that denies.
        """
        if text == self.text and self.literal:
            return True
        if len(text) > MAX_PATH:
            return wide
        if wide:
            return _fit(self._parts, text, True) or _fit(self._shortest, shortest(text), True)
        if self.literal or _dashed(text, self.text) or "\n" in text or "\0" in text:
            return False
        return _fit(self._parts, text, False)


def shortest(path: str) -> str:
    """
    Write a path without what changes nothing of where it leads, as far as it alone can tell.

    @param path: from the root on or not.
    @return: without C{.}, C{..} behind a name, and slashes that are not needed.
    """
    # normpath keeps two slashes at the beginning, as POSIX lets these mean something. Linux does
    # not.
    return posixpath.normpath(re.sub("^//+", "/", path))


def _parts(text: str) -> list[Glob | None]:
    parts: list[Glob | None] = []
    for part in text.split("/"):
        if "**" in part and part != "**":
            raise ValueError("** stands alone between slashes; write * within a part")
        parts.append(None if part == "**" else Glob(part))
    return parts


def _fit(pattern: Sequence[Glob | None], text: str, wide: bool) -> bool:
    runs: list[list[Glob]] = [[]]
    for part in pattern:
        if part is None:
            runs.append([])
        else:
            runs[-1].append(part)
    parts = text.split("/")
    first, *middle = runs
    if not _allFit(first, parts[: len(first)], wide):
        return False
    if not middle:
        return len(parts) == len(first)
    last = middle.pop()
    start, end = len(first), len(parts) - len(last)
    if end < start or not _allFit(last, parts[end:], wide):
        return False
    for run in middle:
        while not _allFit(run, parts[start : min(start + len(run), end)], wide):
            if not _skipped(parts[start : start + 1], wide) or start >= end:
                return False
            start += 1
        start += len(run)
    return _skipped(parts[start:end], wide)


def _allFit(globs: Sequence[Glob], parts: Sequence[str], wide: bool) -> bool:
    return len(globs) == len(parts) and all(map(_fits, globs, parts, [wide] * len(parts)))


def _fits(glob: Glob, part: str, wide: bool) -> bool:
    if glob.literal:
        return part == glob.text
    return (wide or (part != "" and part not in PathGlob.DOTS)) and glob.fits(part)


def _skipped(parts: Sequence[str], wide: bool) -> bool:
    return wide or PathGlob.DOTS.isdisjoint(parts)


def compilePattern(text: str) -> Glob | PathGlob:
    """
    Read a pattern for one argument: one with a slash is a pattern for paths.

    @param text: the pattern.
    @return: matches texts.
    @raise ValueError: when it is none.
    """
    if "/" in text:
        return PathGlob(text)
    if "**" in text:
        raise ValueError("** is for paths; write * for any text, or a last ... for more arguments")
    return Glob(text)


class AbsolutePath(PathGlob):
    """A pattern for a path from the root on, written the shortest way."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        """
        @param text: the pattern.
        @raise ValueError: when it does not begin with a slash, or leads up.
        """
        super().__init__(text)
        if why := unusualPath(text):
            raise ValueError(f"{why}; write the whole path as it is")


def unusualPath(path: str) -> str:
    """
    Tell what keeps a path from being the only way to write what it names.

    @param path: such as C{/usr/bin/git}.
    @return: what is wrong, after "it", or nothing.
    """
    if not path.startswith("/"):
        return "it does not begin with a slash"
    if "\0" in path:
        return "it holds a NUL"
    if len(path) > MAX_PATH:
        return f"it has more than {MAX_PATH} characters"
    parts = path[1:].split("/") if path != "/" else []
    if not PathGlob.DOTS.isdisjoint(parts):
        return "it holds a part . or .."
    return "it holds an empty part" if "" in parts else ""


class VariableName(Glob):
    """A pattern for names of environment variables; dangerous ones only by their full names."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        """
        @param text: the pattern.
        @raise ValueError: when no name can fit.
        """
        super().__init__(text)
        if not text or "=" in text:
            raise ValueError("a name holds at least one character and no =; write such as LC_*")

    @property
    def bound(self) -> bool:
        """Whether it stands for one name, or for names of one family."""
        return self.literal or _FAMILY.match(self.text) is not None

    @property
    def risky(self) -> bool:
        """Whether it stands for one of L{DANGEROUS_NAMES}, or for nothing but these."""
        return DANGEROUS_NAMES.fullmatch(_WILD.split(self.text)[0]) is not None

    def matches(self, text: str, wide: bool = False) -> bool:
        """
        Tell whether a name fits.

        @param text: the name.
        @param wide: whether wildcards take in L{DANGEROUS_NAMES}.
        @return: whether it does.
        """
        if not wide and not self.literal and DANGEROUS_NAMES.fullmatch(text):
            return False
        return super().matches(text, wide)
