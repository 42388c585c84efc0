"""
The C{twistd} plugin C{netsuite-files}: its configuration, options and services.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.files.allowance import Allowance
from twisted_netsuite.files.classic import ClassicGetFactory
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.quota import Quotas
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.net.addresses import (
    ListenAddress,
    StreamAddress,
    parseListen,
    privately,
    requireAuthentication,
)
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.net.rates import Pace
from twisted_netsuite.ops.auth import tokensFrom
from twisted_netsuite.ops.config import Count, GuardedConfig, Kind, Listen, PerSource
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import absolute, optionsFor
from twisted_netsuite.trust.decisions import Decision, Policy
from twisted_netsuite.trust.oversight import UNSEEN, Oversight
from twisted_netsuite.trust.rules import FilesRule

#: What only the native dialect can be told.
NATIVE = (
    *("writable", "links", "durable", "maxSize", "quota", "fileQuota", "state"),
    *("limitRate", "totalRate", "auth", "requireIdentity"),
)

#: Bytes, and numbers of files, that JSON and TOML readers hold without loss.
MOST = 2**53

Amount = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class FilesConfig(GuardedConfig, frozen=True, kw_only=True):
    """What the file service can be told."""

    root: Annotated[
        str,
        # An empty path would be the working directory, which nobody has asked for.
        msgspec.Meta(min_length=1, description="The directory of which the files are served."),
    ]
    listen: Listen = ("tcp:7021:interface=127.0.0.1",)
    dialect: Annotated[
        Literal["native", "get"],
        msgspec.Meta(description="What is spoken on the wire; get is the tutorials', read-only."),
    ] = "native"
    writable: Annotated[
        bool,
        msgspec.Meta(
            description="Let everybody who can reach the service change files. On loopback and "
            "Unix sockets only; elsewhere a policy says who may."
        ),
    ] = False
    links: Annotated[
        Literal["never", "inside"],
        msgspec.Meta(
            description="Whether symbolic links are followed that stay inside the root; a policy "
            "is asked about the name of the link alone."
        ),
    ] = "never"
    durable: Annotated[
        bool,
        msgspec.Meta(
            description="Have each file on the disk before its client is told that it is "
            "published, and each directory that was made and each name that was changed or removed "
            "before it is told that, also where the client does not ask for that."
        ),
    ] = False
    maxSize: Annotated[
        Amount,
        msgspec.Meta(
            description="Bytes of one file that is written, where no rule says; 0: no bound."
        ),
    ] = 0
    quota: Annotated[
        Amount,
        msgspec.Meta(
            description="Bytes that one identity may keep, where no rule says; 0: no bound."
        ),
    ] = 0
    fileQuota: Annotated[
        Amount,
        msgspec.Meta(
            description="Files that one identity may keep, where no rule says; 0: no bound."
        ),
    ] = 0
    state: Annotated[
        str,
        msgspec.Meta(
            description="A directory, outside of the root, in which is written down who keeps "
            "which files; quotas need it."
        ),
    ] = ""
    limitRate: Annotated[
        Amount,
        msgspec.Meta(
            description="Bytes a second, each way together, for each identity on all its "
            "connections; 0: no bound."
        ),
    ] = 0
    totalRate: Annotated[
        Amount,
        msgspec.Meta(
            description="Bytes a second for all identities together, who share them equally; 0: "
            "no bound."
        ),
    ] = 0
    auth: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="What checks the tokens of clients, as strcred names it, such as "
            "file:PATH; may be given many times. Clients without a name are refused then."
        ),
    ] = ()
    requireIdentity: Annotated[
        bool, msgspec.Meta(description="Refuse clients that prove no identity.")
    ] = False
    maxPerSource: PerSource = 200
    maxConnections: Annotated[
        Count, msgspec.Meta(description="Connections at a time; with get each has one file open.")
    ] = 400


class FilesService(ListeningService):
    """
    Listens for sessions, and finds what was kept before the first comes.

    @ivar uncounted: where a rule stands with a quota that nothing counts, which people learn at the
        start; empty when there is none.
    """

    uncounted = ""

    def startService(self) -> None:
        """
        Serve, and open what is served, as the user that the service runs as.

        @raise ConfigurationError: as L{ListeningService.startService} does.
        """
        super().startService()
        assert isinstance(self.factory, FilesFactory)
        # Nobody is let in before the reactor turns.
        self.factory.open().addErrback(self._notOpened)
        if self.uncounted:
            self.log.warn(
                "{name}: {rule} has a quota, and nothing counts: what it lets be written is "
                "refused; give a directory for that by state",
                name=self.name or "netsuite",
                rule=self.uncounted,
            )

    def _notOpened(self, failure: Failure) -> None:
        """End the process, as what is wrong at the start does: nothing would be served."""
        name = self.name or "netsuite"
        if failure.check(ConfigurationError):
            reason = failure.getErrorMessage()
            self.log.critical("{name}: nothing can be served: {reason}", name=name, reason=reason)
        else:
            self.log.failure("{name}: nothing can be served", failure, name=name)
        if self.running:
            reactor: Any = self._reactor
            reactor.callWhenRunning(reactor.stop)


def build(
    config: FilesConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @param oversight: what stands over it.
    @return: one service.
    @raise ConfigurationError: when an address or a directory cannot be used, options contradict
        each other, or more would be offered to other machines than is safe.
    """
    addresses = [parseListen(reactor, text, ("stream",)) for text in config.listen]
    build = _native if config.dialect == "native" else _classic
    return [build(config, reactor, oversight, addresses)]


def _native(
    config: FilesConfig,
    reactor: Any,
    oversight: Oversight,
    addresses: list[ListenAddress],
) -> ListeningService:
    named = config.requireIdentity or bool(config.auth)
    if config.writable:
        if oversight.guarded:
            raise ConfigurationError(
                "A policy says who may change what, and writable lets everybody; leave one of them "
                "out."
            )
        _requireLocal(addresses)
    elif oversight.guarded and not named:
        requireAuthentication(addresses, "anyone could try what the policy allows")
    if config.writable or oversight.guarded:
        addresses = [privately(reactor, address) for address in addresses]
    root = absolute(config.root)
    # What cannot be opened is told now; it is opened for good by whom the service runs as.
    Root(root, config.links).close()
    quotas = _quotas(config, oversight, root)

    def furnish() -> None:
        Root(root, config.links).close()
        if quotas is not None:
            quotas.check()

    permit = Permit(
        oversight,
        Roots(root, lambda path: LocalStore(Root(path, config.links))),
        writable=config.writable,
        durable=config.durable,
        allowance=Allowance(config.quota or None, config.fileQuota or None, config.maxSize or None),
        quotas=quotas,
    )
    factory = FilesFactory(
        reactor,
        permit,
        pace=Pace(reactor, config.limitRate or None, config.totalRate or None),
        tokens=tokensFrom(config.auth),
        requireIdentity=named,
        limits=config.limits(),
    )
    service = FilesService(
        reactor,
        addresses,
        factory=factory,
        dialect=config.dialect,
        example=lambda address: f"netsuite get {address}:/{_sample(root)} -",
        furnish=furnish,
    )
    if quotas is None:
        counted = (source for source, rule in _rules(oversight) if rule.quota or rule.fileQuota)
        service.uncounted = next(counted, "")
    return service


def _requireLocal(addresses: Iterable[ListenAddress]) -> None:
    for address in addresses:
        binds = address.binds()
        balanced = isinstance(address, StreamAddress) and address.balanced
        if balanced or not binds or not all(bind.local for bind in binds):
            raise ConfigurationError(
                f"{address.description!r} can be reached from other machines, and writable asks no "
                "one's name; write a policy file that says who may change what, or listen on a "
                "Unix socket, or on loopback by adding :interface=127.0.0.1."
            )


def _quotas(config: FilesConfig, oversight: Oversight, root: str) -> Quotas | None:
    if config.state:
        state = absolute(config.state)
        paths = [root, *(rule.root for _, rule in _rules(oversight) if rule.root)]
        for path in paths:
            if _within(state, path):
                raise ConfigurationError(
                    f"The state directory {state!r} lies in the root {path!r}, where clients could "
                    "read and change it; name another."
                )
        _requireOneName(config, paths)
        return Quotas(state)
    if config.quota or config.fileQuota:
        raise ConfigurationError(
            "quota and file-quota have to be counted; give a directory for that by state."
        )
    return None


def _requireOneName(config: FilesConfig, paths: list[str]) -> None:
    """Require that a file has one name: quotas count names, and two of one file are two files."""
    if config.links != "never":
        raise ConfigurationError(
            "Quotas count files by their names, and by links that are followed a file has more "
            "than one; leave out links, or state."
        )
    for path in paths:
        for other in paths:
            if path != other and _within(path, other):
                raise ConfigurationError(
                    f"The root {path!r} lies in the root {other!r}, so that files have two names, "
                    "and quotas count them by name; part the roots, or leave out state."
                )


def _rules(oversight: Oversight) -> list[tuple[str, FilesRule]]:
    """List the rules for files that hold now, each with where it stands."""
    found: list[tuple[str, FilesRule]] = []

    def look(policy: Policy) -> Decision:
        found.extend(
            (placed.source, placed.rule)
            for role in policy.roles.values()
            for placed in role.rules.get("files", ())
            if isinstance(placed.rule, FilesRule)
        )
        return Decision(False, "Nothing was asked.", False)

    oversight.decide(look)
    return found


def _within(path: str, root: str) -> bool:
    real, top = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath((real, top)) == top


def _classic(
    config: FilesConfig,
    reactor: Any,
    oversight: Oversight,
    addresses: list[ListenAddress],
) -> ListeningService:
    _requireDefaults(config)
    root = absolute(config.root)
    factory = ClassicGetFactory(reactor, Root(root), config.limits(), oversight)
    return ListeningService(
        reactor,
        addresses,
        factory=factory,
        dialect=config.dialect,
        example=lambda address: f"netsuite get --dialect get {address}:/{_sample(root)} -",
    )


def _requireDefaults(config: FilesConfig) -> None:
    """Refuse what the native dialect alone can be told."""
    fields = {field.name: field for field in msgspec.structs.fields(FilesConfig)}
    for name in NATIVE:
        if getattr(config, name) != fields[name].default:
            raise ConfigurationError(
                f"{fields[name].encode_name} is for the dialect native, and this is "
                f"{config.dialect}; leave it out, or give the other dialect."
            )


def _sample(root: str) -> str:
    """A file that can be got, so that the line to try it with works as it stands."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    # The line is printed: a name that a terminal would obey, or could not show, is no example.
    shown = (name for name in names if name.isascii() and name.isprintable())
    return shlex.quote(min(shown, default="NAME"))


KIND = Kind("files", FilesConfig, build)
Options = optionsFor(
    KIND,
    "Serves the files of one directory, confined to it; they can be changed where --writable or a "
    "policy says so.",
)
makeService = makerFor(KIND)
