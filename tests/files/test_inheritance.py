"""
What a file has of the one that it replaces: nobody reads or writes the new one who could not do
that with the old one.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.files.test_target import NAME, OLD, TargetCase, digestOfAll
from twisted_netsuite.files import inheritance
from twisted_netsuite.files.publishing import usualMode
from twisted_netsuite.files.wholefile import publishWhole

#: Accounts and groups that are not this process's.
ANNA, OTHERS = 1234, 4321

ACL = "system.posix_acl_access"

_NOBODY = 0xFFFFFFFF


def acl(group: int, user: int, mask: int, other: int = 0) -> bytes:
    """Write a list: read and write for its owner, and what is given here for the file's group, for
    Anna, for both of them at the most, and for others."""
    entries = (1, 6, _NOBODY), (2, user, ANNA), (4, group, _NOBODY), (16, mask, _NOBODY)
    written = (struct.pack("<HHI", *entry) for entry in (*entries, (32, other, _NOBODY)))
    return struct.pack("<I", 2) + b"".join(written)


class InheritanceCase(TargetCase):
    """A file that is replaced."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid():
            raise SkipTest("only root can give files away")
        self.addCleanup(os.umask, os.umask(0o022))
        usualMode.cache_clear()
        self.addCleanup(usualMode.cache_clear)
        os.chmod(self.path, 0o755)

    def old(self, mode: int, owner: int = ANNA, group: int = OTHERS) -> None:
        """Have a file."""
        self.file.unlink(missing_ok=True)
        self.file.write_bytes(OLD)
        os.chown(self.file, owner, group)
        os.chmod(self.file, mode)

    def replace(self, **fields: Any) -> tuple[int, int, int]:
        """Replace it, in both ways; tell owner, group and mode."""
        before, held = os.stat(self.file), self.aclOf()
        found = [self.found(self.put, b"new", **fields)]
        self.old(before.st_mode, before.st_uid, before.st_gid)
        if held is not None:
            os.setxattr(self.file, ACL, held)
        wanted = self.want(b"new", **{"mode": None, **fields})
        found.append(self.found(publishWhole, self.directory, NAME, wanted, b"new"))
        self.assertEqual(found[0], found[1])
        return found[0][:3]

    def found(self, put: Any, *args: Any, **fields: Any) -> tuple[int, int, int, bytes | None]:
        """Put it; say what it is then."""
        put(*args, **({"mode": None, **fields} if put == self.put else {}))
        self.assertOnly(b"new")
        status = os.stat(self.file)
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), self.aclOf()

    def aclOf(self) -> bytes | None:
        """Tell its list."""
        try:
            return os.getxattr(self.file, ACL)
        except OSError as error:
            self.assertEqual(error.errno, errno.ENODATA)
            return None

    def setAcl(self, value: bytes, where: Any = None, name: str = ACL) -> None:
        """Give it a list."""
        try:
            os.setxattr(where or self.file, name, value)
        except OSError as error:
            raise SkipTest("this file system has no access control lists") from error

    def forbid(self, *forbidden: str) -> None:
        """Be an account that may not do these."""

        def refuse(file: int, *args: Any) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        class Os:
            def __getattr__(self, name: str) -> Any:
                return refuse if name in forbidden else getattr(os, name)

        self.patch(inheritance, "os", Os())


class OwnerTests(InheritanceCase):
    """Owner and group."""

    def test_kept(self) -> None:
        """Both are kept where that is allowed, whether a mode is asked for or not; so are the
        bits, if none is."""
        self.old(0o660)
        self.assertEqual(self.replace(), (ANNA, OTHERS, 0o660))
        self.assertEqual(self.replace(mode=0o640), (ANNA, OTHERS, 0o640))

    def test_replaces(self) -> None:
        """They are kept where only a certain file may be replaced."""
        self.old(0o660)
        self.put(b"new", mode=None, replaces=digestOfAll(OLD))
        status = os.stat(self.file)
        self.assertEqual((status.st_uid, status.st_gid), (ANNA, OTHERS))

    def test_refused(self) -> None:
        """Where they cannot be kept, nobody gets in by the new group, nor as one of the others now,
        who could not before."""
        self.forbid("fchown")
        for mode, safe in (
            (0o660, 0o600),
            (0o664, 0o644),
            (0o644, 0o644),
            (0o604, 0o600),
            (0o750, 0o700),
        ):
            self.old(mode)
            self.assertEqual(self.replace(), (0, 0, safe))

    def test_asked(self) -> None:
        """A mode that is asked for is what the file gets."""
        self.forbid("fchown")
        self.old(0o600)
        self.assertEqual(self.replace(mode=0o664), (0, 0, 0o664))

    def test_unseen(self) -> None:
        """Until the file has the old group nobody can read it."""
        modes = []

        class Os:
            def __getattr__(self, name: str) -> Any:
                if name != "fchown":
                    return getattr(os, name)
                return self.fchown

            def fchown(self, file: int, owner: int, group: int) -> None:
                modes.append((owner, stat.S_IMODE(os.fstat(file).st_mode)))
                os.fchown(file, owner, group)

        self.patch(inheritance, "os", Os())
        self.old(0o660)
        self.replace()
        self.assertEqual(modes, [(-1, 0o600), (ANNA, 0o660)] * 2)

    def test_planted(self) -> None:
        """In a directory such as /tmp nothing is taken from a file that just anybody has put
        there; what its owner has put there counts."""
        os.chmod(self.path, 0o1777)
        self.old(0o666)
        self.assertEqual(self.replace(), (0, 0, 0o644))
        os.chown(self.path, ANNA, 0)
        self.old(0o666)
        self.assertEqual(self.replace(), (ANNA, OTHERS, 0o666))


class AclTests(InheritanceCase):
    """Access control lists."""

    def test_kept(self) -> None:
        """A list is kept with the group."""
        self.old(0o600)
        self.setAcl(acl(group=0, user=6, mask=6))
        self.assertEqual(self.replace(), (ANNA, OTHERS, 0o660))
        self.assertEqual(self.aclOf(), acl(group=0, user=6, mask=6))

    def test_asked(self) -> None:
        """With a mode that is asked for its group bits are those of the mask, as of any file with
        a list."""
        self.old(0o600)
        self.setAcl(acl(group=0, user=6, mask=6))
        self.assertEqual(self.replace(mode=0o644), (ANNA, OTHERS, 0o644))
        self.assertEqual(self.aclOf(), acl(group=0, user=6, mask=4, other=4))

    def test_refused(self) -> None:
        """Where the list or the group cannot be kept, the file is its owner's alone: what the bits
        say of the group is the mask."""
        for forbidden in (("setxattr",), ("fchown",), ("getxattr",)):
            self.old(0o600)
            self.setAcl(acl(group=0, user=6, mask=6, other=4))
            self.forbid(*forbidden)
            self.assertEqual(self.replace()[2], 0o600)
            self.assertIsNone(self.aclOf())

    def test_inherited(self) -> None:
        """Nobody gets in by the list that the directory gives to new files."""
        self.setAcl(acl(group=6, user=6, mask=6), self.path, "system.posix_acl_default")
        self.old(0o660)
        os.removexattr(self.file, ACL)
        os.chmod(self.file, 0o660)
        self.patch(self, "old", self.withoutAcl(self.old))
        self.replace()
        self.assertIsNone(self.aclOf())

    def withoutAcl(self, old: Any) -> Any:
        """Make files that get no list."""

        def make(mode: int, *args: int) -> None:
            old(mode, *args)
            os.removexattr(self.file, ACL)
            os.chmod(self.file, mode)

        return make

    def test_unsupported(self) -> None:
        """Where there are no lists, the bits are those of the old file."""

        class Os:
            def __getattr__(self, name: str) -> Any:
                return unsupported if "xattr" in name else getattr(os, name)

        def unsupported(*args: Any, **options: Any) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        self.patch(inheritance, "os", Os())
        self.old(0o660)
        self.assertEqual(self.replace(), (ANNA, OTHERS, 0o660))
