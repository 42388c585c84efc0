"""
What one peer asks to do with files, and the records of it in the audit log; nothing here reads or
writes a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_netsuite.errors import Denied, InvalidName, LimitExceeded, NetsuiteError
from twisted_netsuite.files.names import Parts, join, split
from twisted_netsuite.trust.auditvalue import Value
from twisted_netsuite.trust.decisions import Decision
from twisted_netsuite.trust.identity import Identity
from twisted_netsuite.trust.oversight import Oversight, causeOf
from twisted_netsuite.trust.requests import Action

if TYPE_CHECKING:
    from twisted_netsuite.files.permit import Move, Permit, Place

#: Why a name cannot be changed to one of another root.
APART = "The two names are kept in different places; copy the file, and remove the old one."


class Access:
    """
    Decides for one peer, and writes down what it does.

    Each request fires once it is in the audit log, and fails with L{Denied}, L{InvalidName} or
    L{AuditUnavailable}; then nothing may be done.

    @ivar identity: who the peer is.
    @ivar address: its address.
    """

    def __init__(
        self, permit: Permit, oversight: Oversight, identity: Identity, address: str
    ) -> None:
        """
        @param permit: decides.
        @param oversight: has the audit log.
        @param identity: who the peer is.
        @param address: its address.
        """
        self.identity = identity
        self.address = address
        self._permit = permit
        self._oversight = oversight

    # What is asked.

    def read(self, name: bytes) -> Deferred[Place]:
        """
        Ask to read a file, also for its digest.

        @param name: as the peer has written it.
        @return: fires with where it is.
        """
        return self._begin("files.read", "read", name)

    def list(self, name: bytes) -> Deferred[Place]:
        """
        Ask to look at a file or into a directory.

        @param name: as the peer has written it.
        @return: fires with where it is; of what is in it L{shows} tells what may be told.
        """
        return self._begin("files.list", "read", name)

    def write(self, name: bytes, size: int) -> Deferred[Place]:
        """
        Ask to write a file; L{wrote} comes after that.

        @param name: as the peer has written it.
        @param size: its bytes.
        @return: fires with where it may be.
        """
        return self._begin("files.write.start", "write", name, size=size)

    def makeDirectory(self, name: bytes) -> Deferred[Place]:
        """
        Ask to make a directory.

        @param name: as the peer has written it.
        @return: fires with where it may be.
        """
        return self._begin("files.mkdir", "write", name)

    def remove(self, name: bytes) -> Deferred[Place]:
        """
        Ask to remove a file or directory.

        @param name: as the peer has written it.
        @return: fires with where it is.
        """
        return self._begin("files.remove", "delete", name)

    def change(self, name: bytes, mode: int | None, mtime: int | None) -> Deferred[Place]:
        """
        Ask to change what is known of a file or directory.

        @param name: as the peer has written it.
        @param mode: permission bits; C{None} to leave them.
        @param mtime: in nanoseconds since 1970; C{None} to leave it.
        @return: fires with where it is.
        """
        told: dict[str, Value] = {}
        if mode is not None:
            told["mode"] = f"{mode:o}"
        if mtime is not None:
            told["mtime"] = mtime
        return self._begin("files.change", "write", name, **told)

    def rename(self, name: bytes, to: bytes) -> Deferred[Move]:
        """
        Ask to give a file or directory another name: to delete it here, and to write it there.

        What may not be read here cannot get a name by which it may be.

        @param name: as the peer has written it.
        @param to: the new one, likewise.
        @return: fires with what to make.
        """
        told: dict[str, Value] = {"path": _shown(name), "to": _shown(to)}
        try:
            source, target = split(name), split(to)
        except InvalidName as error:
            return self._refuse("files.rename", error, **told)
        told = {"path": join(source), "to": join(target)}
        here = self._permit.decide(self.identity, "delete", source)
        there = self._permit.decide(self.identity, "write", target)
        denied = self._moveDenied(source, target, here, there)
        if denied is None and self._permit.rootOf(here) != self._permit.rootOf(there):
            return self._refuse("files.rename", Denied(APART), **told)
        begun = self._oversight.begin(
            "files.rename", denied or here, peer=self.address, identity=self.identity, **told
        )
        place = partial(self._permit.place, self.identity)
        return begun.addCallback(
            lambda _: self._permit.move(place(here, source), place(there, target), self._below)
        )

    def _below(self, source: Parts, target: Parts, size: int) -> Decision | None:
        """Tell what denies to move something of some bytes, if anything does."""
        there = self._permit.decide(self.identity, "write", target)
        denied = self._moveDenied(source, target, there=there)
        if denied is None:
            self._permit.allowance(there).requireSize(size)
        return denied

    def _moveDenied(
        self,
        source: Parts,
        target: Parts,
        here: Decision | None = None,
        there: Decision | None = None,
    ) -> Decision | None:
        """Tell what denies to move something, if anything does."""
        decide = self._permit.decide
        here = here or decide(self.identity, "delete", source)
        if not here.allowed:
            return here
        there = there or decide(self.identity, "write", target)
        if not there.allowed:
            return there
        if self._permit.guarded:
            hidden = decide(self.identity, "read", source)
            if not hidden.allowed and decide(self.identity, "read", target).allowed:
                return hidden
        return None

    def shows(self, place: Place) -> Callable[[Parts], bool] | None:
        """
        Tell what of a directory the peer may know.

        @param place: the directory, as L{list} has given it.
        @return: given the name of something in it or below it, from the root on, tells whether it
            may be read, and so is listed; C{None} when all may be. Can be called in a thread.
        """
        if not self._permit.guarded:
            return None

        def shown(parts: Parts) -> bool:
            decision = self._permit.decide(self.identity, "read", parts)
            # What is read by that name is another file, when its root is another.
            return decision.allowed and self._permit.rootOf(decision) == place.root

        return shown

    # What was done.

    def wrote(self, place: Place, size: int, digest: bytes) -> None:
        """
        Write down that a file was published.

        @param place: which.
        @param size: its bytes.
        @param digest: its digest.
        """
        self._oversight.note(
            "files.write",
            peer=self.address,
            identity=self.identity,
            path=place.name,
            size=size,
            digest=digest.hex(),
        )

    def made(self, above: Iterable[Parts]) -> None:
        """
        Write down that directories were made, as another was to be in them.

        @param above: their names.
        """
        for parts in above:
            self._oversight.note(
                "files.mkdir", peer=self.address, identity=self.identity, path=join(parts)
            )

    def refused(self, act: str, place: Place, failure: Failure, **told: Value) -> Failure:
        """
        Write down that something was refused after all, of which there is a record that it may be
        done.

        @param act: what, as C{files.rename}.
        @param place: with what.
        @param failure: why it was not done; what is no refusal is not written down.
        @param told: what else stands in that record.
        @return: the same.
        """
        error = failure.value
        if isinstance(error, (Denied, LimitExceeded, InvalidName)):
            decision = Decision(False, causeOf(error), place.decision.durable)
            written = self._oversight.begin(
                act, decision, peer=self.address, identity=self.identity, path=place.name, **told
            )
            written.addErrback(lambda denied: denied.trap(Denied) and None)
        return failure

    # Deciding and writing down.

    def _begin(self, act: str, action: Action, name: bytes, **told: Value) -> Deferred[Place]:
        try:
            parts = split(name)
        except InvalidName as error:
            return self._refuse(act, error, path=_shown(name), **told)
        decision = self._permit.decide(self.identity, action, parts)
        begun = self._oversight.begin(
            act,
            decision,
            peer=self.address,
            identity=self.identity,
            path=join(parts),
            **told,
        )
        return begun.addCallback(lambda _: self._permit.place(self.identity, decision, parts))

    def _refuse(self, act: str, error: NetsuiteError, **told: Value) -> Deferred[Any]:
        """Write down that somebody has tried what can never be."""
        decision = Decision(False, error.sentence, False)
        begun = self._oversight.begin(
            act, decision, peer=self.address, identity=self.identity, **told
        )

        def refuse(denied: Failure) -> NoReturn:
            raise error

        return begun.addErrback(refuse)


def _shown(name: bytes) -> bytes:
    return b"/" + name.lstrip(b"/")
