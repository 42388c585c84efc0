"""
Sums of what identities keep, in memory: to add them up anew for each file would take too long.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from twisted_netsuite.files.allowance import Allowance, Sum

#: Identities whose sums are in memory, and for each of them rules; others are summed up again.
MAX_SUMMED, MAX_RULES = 256, 64


class Sums:
    """The sums of one ledger."""

    def __init__(self, counted: Callable[[str, str], Iterable[tuple[bytes, int, int]]]) -> None:
        """
        @param counted: lists all that counts for an identity in a root: names, bytes, and files.
        """
        self._counted = counted
        self._sums: OrderedDict[tuple[str, str], dict[tuple[str, ...] | None, Sum]] = OrderedDict()

    def __len__(self) -> int:
        """Tell of how many identities and roots there are sums."""
        return len(self._sums)

    def clear(self) -> None:
        """Believe none of them any more."""
        self._sums.clear()

    def sum(self, owner: str, root: str, allowance: Allowance) -> Sum:
        """
        Give the sum of what somebody keeps.

        @param owner: who.
        @param root: the whole path of the root.
        @param allowance: says of which names.
        @return: the sum, which goes on to be counted.
        """
        rules = self._sums.setdefault((owner, root), {})
        self._sums.move_to_end((owner, root))
        if len(self._sums) > MAX_SUMMED:
            self._sums.popitem(last=False)
        paths = allowance.paths
        key = None if paths is None else tuple(path.text for path in paths)
        if key not in rules:
            if len(rules) >= MAX_RULES:
                rules.clear()
            sums = Sum(paths)
            for counted in self._counted(owner, root):
                sums.add(*counted)
            rules[key] = sums
        return rules[key]

    def count(self, owner: str, root: str, name: bytes, bytes: int, files: int) -> None:
        """
        Count something in all sums that are about it.

        @param owner: whose it is.
        @param root: the whole path of the root.
        @param name: from there on.
        @param bytes: how many more; fewer when it is negative.
        @param files: likewise.
        """
        for sums in self._sums.get((owner, root), {}).values():
            sums.add(name, bytes, files)
