"""
What one identity may keep, and sums of what it keeps; which files these are is told elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_netsuite.errors import LimitExceeded
from twisted_netsuite.trust.patterns import AbsolutePath
from twisted_netsuite.trust.requests import asText
from twisted_netsuite.trust.rules import FilesRule


@dataclass(frozen=True)
class Allowance:
    """
    What one identity may keep.

    @ivar quota: bytes; C{None} for any number.
    @ivar fileQuota: files; C{None} for any number.
    @ivar maxSize: bytes of one file; C{None} for any number.
    @ivar paths: the names of which this is the sum; all of a root when there are none.
    """

    quota: int | None = None
    fileQuota: int | None = None
    maxSize: int | None = None
    paths: tuple[AbsolutePath, ...] | None = None

    @property
    def counted(self) -> bool:
        """Whether what is kept has to be counted."""
        return self.quota is not None or self.fileQuota is not None

    def under(self, rule: FilesRule) -> Allowance:
        """
        Tell what may be kept by a rule.

        @param rule: allows to write.
        @return: what it says; this where it says nothing.
        """
        if rule.quota is None and rule.fileQuota is None:
            maxSize = self.maxSize if rule.maxSize is None else rule.maxSize
            return Allowance(self.quota, self.fileQuota, maxSize, self.paths)
        return Allowance(
            self.quota if rule.quota is None else rule.quota,
            self.fileQuota if rule.fileQuota is None else rule.fileQuota,
            self.maxSize if rule.maxSize is None else rule.maxSize,
            rule.paths,
        )

    def requireSize(self, size: int) -> None:
        """
        Require that a file is not too large.

        @param size: its bytes.
        @raise LimitExceeded: when it is.
        """
        if self.maxSize is not None and size > self.maxSize:
            raise LimitExceeded(
                f"A file of {size} bytes is too large; here one may have {self.maxSize} (max-size)."
            )


class Sum:
    """
    What somebody keeps below a root, of the names that one rule is about.

    @ivar bytes: how many.
    @ivar files: how many.
    @ivar looked: the name up to which its files were looked at again.
    @ivar lookAgain: when to begin with that anew, in seconds since 1970.
    """

    def __init__(self, paths: tuple[AbsolutePath, ...] | None) -> None:
        """
        @param paths: the names; all when there are none.
        """
        self._paths = paths
        self.bytes = 0
        self.files = 0
        self.looked = b""
        self.lookAgain = 0.0

    def add(self, name: bytes, bytes: int, files: int) -> None:
        """
        Count something, if this is about its name.

        @param name: from the root on.
        @param bytes: how many more; fewer when it is negative.
        @param files: likewise.
        """
        if self.holds(name):
            self.bytes += bytes
            self.files += files

    def holds(self, name: bytes) -> bool:
        """
        Tell whether this is about a name.

        @param name: from the root on.
        @return: whether it is.
        """
        if self._paths is None:
            return True
        text = asText(name)
        return any(path.matches(text) for path in self._paths)

    def require(self, allowance: Allowance, bytes: int, files: int) -> None:
        """
        Require that more fits.

        @param allowance: how much there may be.
        @param bytes: how many more.
        @param files: likewise.
        @raise LimitExceeded: when it does not; what is no more is always right.
        """
        quota, most = allowance.quota, allowance.fileQuota
        if quota is not None and bytes > 0 and self.bytes + bytes > quota:
            raise LimitExceeded(
                f"You may keep {quota} bytes here and have {self.bytes}, so {bytes} more do not "
                "fit (quota); remove some files."
            )
        if most is not None and files > 0 and self.files + files > most:
            raise LimitExceeded(
                f"You may keep {most} files here and have {self.files} (file-quota); remove some."
            )
