"""
How a new authority comes into a directory, beside nothing or in another's place; nothing is issued
here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.trust.certificates import commonName
from twisted_netsuite.trust.durable import Draft, DurableDirectory
from twisted_netsuite.trust.issued import ISSUED, openIndex, records
from twisted_netsuite.trust.signing import MODES, readAuthority

#: The directory of the authorities that were in this directory before.
REPLACED = "replaced"


def found(path: Path, contents: Mapping[str, bytes], now: datetime, force: bool) -> Path | None:
    """
    Put an authority into a directory.

    @param path: the directory, which is made, for its owner alone, when it is not there.
    @param contents: of the authority's own files, by name, in the order in which they are to
        appear.
    @param now: the time.
    @param force: whether it may replace another, which is then kept below L{REPLACED}.
    @return: where the one before is kept, if there was one.
    @raise ConfigurationError: when that cannot be done, or must not; then all is as it was.
    """
    with _newPlace(path) as directory:
        directory.refuseForeign()
        directory.lock()
        directory.refuseOthers()
        old = Old.within(directory)
        if old and not force:
            _refuseReplacing(directory, old)
        return _replace(directory, contents, old, now)


@contextmanager
def _newPlace(path: Path) -> Iterator[DurableDirectory]:
    made = not os.path.lexists(path)
    try:
        if made:
            with DurableDirectory(path.parent) as parent, parent.make(path.name):
                pass
        with DurableDirectory(path) as directory:
            yield directory
    except BaseException:
        if made:
            with suppress(OSError):
                os.rmdir(path / ISSUED)
            with suppress(OSError):
                os.rmdir(path)
        raise


@dataclass(frozen=True)
class Old:
    """
    What is in a directory in which an authority is to be.

    @ivar files: the names of an authority's own files.
    @ivar records: the names of the certificates that it issued.
    """

    files: tuple[str, ...]
    records: tuple[str, ...]

    @classmethod
    def within(cls, directory: DurableDirectory) -> Old:
        """Look for it."""
        files = tuple(name for name in MODES if directory.has(name))
        if not directory.has(ISSUED):
            return cls(files, ())
        with openIndex(directory) as index:
            return cls(files, tuple(records(index)))

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.files or self.records)


def _refuseReplacing(directory: DurableDirectory, old: Old) -> NoReturn:
    what = " and ".join(old.files) or f"certificates in {ISSUED}"
    with suppress(ConfigurationError):
        own = readAuthority(directory)
        what = (
            f"the CA {commonName(own)!r}, valid until "
            f"{own.not_valid_after_utc:%F} (certificates issued: {len(old.records)})"
        )
    raise ConfigurationError(
        f"{str(directory.path)!r} already holds {what}; choose another directory, or add --force "
        f"to put a new CA in its place and keep this one in {str(directory.path / REPLACED)!r}."
    )


def _replace(
    directory: DurableDirectory, contents: Mapping[str, bytes], old: Old, now: datetime
) -> Path | None:
    with ExitStack() as stack:

        def drafted(name: str, data: bytes) -> Draft:
            return stack.enter_context(directory.draft(name, data, MODES[name]))

        drafts = [drafted(name, data) for name, data in contents.items()]
        # Written before anything is changed, so that the way back needs no room on the disk.
        back = [drafted(name, directory.read(name) or b"") for name in old.files]
        index = stack.enter_context(directory.make(ISSUED))
        kept = _keep(directory, index, old, now) if old else None
        _publishAll(directory, drafts, back)
        # The new authority knows them for another's, and leaves them out, if they stay.
        with suppress(ConfigurationError):
            index.remove(old.records)
    return kept


def _keep(directory: DurableDirectory, index: DurableDirectory, old: Old, now: datetime) -> Path:
    # What is kept is an authority's directory, too, so that one can still list and revoke there.
    with (
        directory.make(REPLACED) as replaced,
        replaced.make(f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}") as kept,
        kept.make(ISSUED) as keptIndex,
    ):
        directory.copyTo(kept, old.files)
        index.copyTo(keptIndex, old.records)
        return kept.path


def _publishAll(directory: DurableDirectory, drafts: list[Draft], back: list[Draft]) -> None:
    there = {draft.name for draft in back}
    new: list[str] = []
    try:
        for draft in drafts:
            directory.publish(draft, replace=draft.name in there)
            if draft.name not in there:
                new.append(draft.name)
    except BaseException:
        with suppress(ConfigurationError):
            directory.remove(new)
        for draft in back:
            with suppress(ConfigurationError):
                directory.publish(draft, replace=True)
        raise
