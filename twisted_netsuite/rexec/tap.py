"""
The C{twistd} plugin C{netsuite-exec}: its configuration, options and services.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.addresses import (
    ListenAddress,
    StreamAddress,
    parseListen,
    privately,
    requireAuthentication,
)
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.ops.auth import tokensFrom
from twisted_netsuite.ops.config import Count, GuardedConfig, Kind, Listen, PerSource
from twisted_netsuite.ops.launch import makerFor
from twisted_netsuite.ops.options import absolute, optionsFor
from twisted_netsuite.rexec.allow import allowed
from twisted_netsuite.rexec.classic import ClassicExecFactory
from twisted_netsuite.rexec.collect import CommandLimits
from twisted_netsuite.rexec.commands import ExecLimits
from twisted_netsuite.rexec.launch import Launch
from twisted_netsuite.rexec.ledger import Ledger
from twisted_netsuite.rexec.messages import MAX_TTL, MOST_TIME
from twisted_netsuite.rexec.native import ExecFactory
from twisted_netsuite.rexec.permit import Terms, ownPath, readPath
from twisted_netsuite.rexec.process import ProcessSpawner
from twisted_netsuite.rexec.recording import Recording, prepareRecordings
from twisted_netsuite.trust.oversight import UNSEEN, Oversight

#: What only the native dialect can be told.
NATIVE = (
    *("allow", "allowAny", "auth", "requireIdentity", "path", "state", "record"),
    *("maxCommands", "maxKept", "keepLimit", "maxTtl", "drain"),
)

#: What only the classic dialects can be told.
CLASSIC = ("allowShell", "encoding")

#: Bytes that JSON and TOML readers hold as numbers without loss.
MOST_BYTES = 2**53

#: Bytes that are kept of a stream at least: what a pipe holds, so a command is not held up sooner
#: than by a shell's.
LEAST_KEPT = 64 * 1024

#: Commands at a time, or kept ones: each is some kilobytes of memory, and looked at at each start.
MOST_COMMANDS = 100_000

#: Seconds that a stop may take: who waits longer had better not stop the service.
MOST_DRAIN = 24 * 3600.0

Bytes = Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]
Commands = Annotated[int, msgspec.Meta(ge=1, le=MOST_COMMANDS)]


class ExecConfig(GuardedConfig, frozen=True, kw_only=True):
    """What the exec service can be told."""

    listen: Listen = ("tcp:7512:interface=127.0.0.1",)
    dialect: Annotated[
        Literal["int32", "raw", "length", "header"],
        msgspec.Meta(
            description="What is spoken on the wire: int32 is the native one, the others are the "
            "tutorials'."
        ),
    ] = "int32"
    allow: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="A command that everybody who can reach the service may run, as 'df **'; * "
            "stands for one argument, and ** at the end for any more, options among them, with "
            "which many programs write files or run others; may be given many times. On loopback "
            "and Unix sockets only."
        ),
    ] = ()
    allowAny: Annotated[
        bool,
        msgspec.Meta(
            description="Let everybody who can reach the service run everything that its user "
            "can. On loopback and Unix sockets only."
        ),
    ] = False
    allowShell: Annotated[
        bool,
        msgspec.Meta(
            description="In the classic dialects, give every command to /bin/sh; without it each "
            "is refused. Whoever can reach the service can then do whatever its user can."
        ),
    ] = False
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
    state: Annotated[
        str,
        msgspec.Meta(
            description="A directory for what is kept of commands that have a key or may be "
            "detached; without it there are none of these."
        ),
    ] = ""
    record: Annotated[
        str,
        msgspec.Meta(
            description="A directory in which all that commands write is recorded, as asciicast "
            "files, up to 64 MiB of each command; input is not."
        ),
    ] = ""
    path: Annotated[
        str,
        msgspec.Meta(
            description="Directories in which programs are looked for, with colons between them; "
            "by default those of the server's own PATH."
        ),
    ] = ""
    outputLimit: Annotated[
        Bytes,
        msgspec.Meta(
            description="Bytes of output at which a command is ended; 0: 1 MiB in the classic "
            "dialects, which keep it in memory, and no bound in int32."
        ),
    ] = 0
    timeLimit: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=MOST_TIME,
            description="Seconds after which a command is ended; 0: 300 in the classic dialects, "
            "and no bound in int32.",
        ),
    ] = 0.0
    maxCommands: Annotated[
        Commands,
        msgspec.Meta(
            description="Commands that run at a time, of which one identity has at most half."
        ),
    ] = ExecLimits.commands
    maxKept: Annotated[
        Commands,
        msgspec.Meta(
            description="Commands that are kept in state at a time, of which one identity has at "
            "most half."
        ),
    ] = ExecLimits.kept
    keepLimit: Annotated[
        int,
        msgspec.Meta(
            ge=LEAST_KEPT,
            le=MOST_BYTES,
            description="Bytes that are kept of each stream of such a command; when they are not "
            "taken, the command waits.",
        ),
    ] = ExecLimits.spool
    maxTtl: Annotated[
        int,
        msgspec.Meta(
            ge=1, le=MAX_TTL, description="Seconds that a client may have a command kept."
        ),
    ] = ExecLimits.ttl
    drain: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            le=MOST_DRAIN,
            description="Seconds that commands may take to finish when the service stops, before "
            "they are ended.",
        ),
    ] = 0.0
    encoding: Annotated[
        str,
        msgspec.Meta(
            description="In the classic dialects, the encoding of the answers, such as gbk."
        ),
    ] = "utf-8"
    maxPerSource: PerSource = 32
    maxConnections: Annotated[
        Count,
        msgspec.Meta(
            description="Connections at a time; in the classic dialects each has one command and "
            "its output."
        ),
    ] = 64


class ExecService(ListeningService):
    """
    Listens for sessions, and finds what was kept before the first comes.

    @ivar allowsNothing: whether every command is refused, which people learn at the start.
    """

    allowsNothing = False

    def startService(self) -> None:
        """
        Serve, and read what is kept, as the user that the service runs as.

        Where that cannot be used after all, what would be kept is refused.

        @raise ConfigurationError: as L{ListeningService.startService} does.
        """
        super().startService()
        assert isinstance(self.factory, ExecFactory)
        # Nobody is let in before the reactor turns.
        self.factory.open().addErrback(self._notOpened)
        if self.allowsNothing:
            self.log.warn(
                "{name}: nothing is allowed, so every command is refused; allow some by --allow or "
                "a policy",
                name=self.name or "netsuite",
            )

    def _notOpened(self, failure: Failure) -> None:
        failure.trap(ConfigurationError)
        self.log.error(
            "{name}: nothing is kept: {reason}",
            name=self.name or "netsuite",
            reason=failure.getErrorMessage(),
        )


def build(
    config: ExecConfig, reactor: Any, oversight: Oversight = UNSEEN
) -> list[ListeningService]:
    """
    Build the service.

    @param config: what it was told.
    @param reactor: what it will run on.
    @param oversight: what stands over it.
    @return: one service.
    @raise ConfigurationError: when an address, a directory or the encoding cannot be used, options
        contradict each other, or more would be offered to other machines than is safe.
    """
    native = config.dialect == "int32"
    _requireDefaults(config, CLASSIC if native else NATIVE)
    addresses = [parseListen(reactor, text, ("stream",)) for text in config.listen]
    build = _native if native else _classic
    return [build(config, reactor, oversight, addresses)]


def _requireDefaults(config: ExecConfig, names: Iterable[str]) -> None:
    """Refuse what the other dialects alone can be told."""
    defaults = {field.name: field for field in msgspec.structs.fields(ExecConfig)}
    for name in names:
        field = defaults[name]
        if getattr(config, name) != field.default:
            other = "a classic dialect" if config.dialect == "int32" else "the dialect int32"
            hint = "; allow-any lets clients run everything" if name == "allowShell" else ""
            raise ConfigurationError(
                f"{field.encode_name} is for {other}, and this is {config.dialect}{hint}; "
                "leave it out, or give another dialect."
            )


def _native(
    config: ExecConfig,
    reactor: Any,
    oversight: Oversight,
    addresses: list[ListenAddress],
) -> ListeningService:
    terms = Terms(
        path=readPath(config.path) if config.path else ownPath(),
        timeLimit=config.timeLimit or None,
        outputLimit=config.outputLimit or None,
    )
    named = config.requireIdentity or bool(config.auth)
    if config.allow or config.allowAny:
        if oversight.guarded:
            raise ConfigurationError(
                "A policy says who may run what, and allow and allow-any let everybody; leave one "
                "of them out."
            )
        oversight = oversight.under(allowed(config.allow, terms.path, config.allowAny))
        _requireLocal(addresses)
        addresses = [privately(reactor, address) for address in addresses]
    elif oversight.guarded:
        if not named:
            requireAuthentication(addresses, "anyone could try what the policy allows")
        addresses = [privately(reactor, address) for address in addresses]
    state = absolute(config.state) if config.state else ""
    record = absolute(config.record) if config.record else ""
    ledger = Ledger(state, reactor) if state else None
    factory = ExecFactory(
        reactor,
        oversight,
        spawner=ProcessSpawner(reactor),
        terms=terms,
        bounds=ExecLimits(config.maxCommands, config.maxKept, config.keepLimit, config.maxTtl),
        ledger=ledger,
        recorder=partial(_record, reactor, record) if record else None,
        drain=config.drain,
        tokens=tokensFrom(config.auth),
        requireIdentity=named,
        limits=config.limits(),
    )

    def furnish() -> None:
        if record:
            prepareRecordings(record)
        if ledger is not None:
            ledger.check()

    service = ExecService(
        reactor,
        addresses,
        factory=factory,
        dialect=config.dialect,
        example=lambda address: f"netsuite exec {address} uname",
        furnish=furnish,
    )
    service.allowsNothing = not oversight.guarded
    return service


def _record(reactor: Any, directory: str, id: str, launch: Launch, owner: str) -> Recording:
    term = launch.env.get(b"TERM", b"dumb").decode("ascii", "replace")
    return Recording(
        directory, id, launch.argv, reactor, terminal=launch.terminal, term=term, title=owner
    )


def _requireLocal(addresses: list[ListenAddress]) -> None:
    for address in addresses:
        binds = address.binds()
        balanced = isinstance(address, StreamAddress) and address.balanced
        if balanced or not binds or not all(bind.local for bind in binds):
            raise ConfigurationError(
                f"{address.description!r} can be reached from other machines, and allow and "
                "allow-any ask no one's name; write a policy file that says who may run what, or "
                "listen on a Unix socket, or on loopback by adding :interface=127.0.0.1."
            )


def _classic(
    config: ExecConfig,
    reactor: Any,
    oversight: Oversight,
    addresses: list[ListenAddress],
) -> ListeningService:
    assert config.dialect != "int32"
    if config.allowShell and oversight.guarded:
        raise ConfigurationError(
            "A policy says who may use a shell, and allow-shell would let everybody; leave one of "
            "them out."
        )
    if config.allowShell or oversight.guarded:
        danger = "anyone could run commands, as allow-shell asks no one's name"
        guarded = "anyone could try what the policy allows"
        requireAuthentication(addresses, danger if config.allowShell else guarded)
        addresses = [privately(reactor, address) for address in addresses]
    try:
        factory = ClassicExecFactory(
            reactor,
            config.dialect,
            ProcessSpawner(reactor),
            allowShell=config.allowShell,
            encoding=config.encoding,
            commandLimits=CommandLimits(
                config.outputLimit or CommandLimits.output,
                config.timeLimit or CommandLimits.seconds,
            ),
            limits=config.limits(),
            oversight=oversight,
        )
    except LookupError as error:
        raise ConfigurationError(
            f"The encoding {config.encoding!r} is not known; give one such as utf-8 or gbk."
        ) from error
    return ListeningService(
        reactor,
        addresses,
        factory=factory,
        dialect=config.dialect,
        example=lambda address: f"netsuite exec --dialect {config.dialect} {address} uname",
    )


KIND = Kind("exec", ExecConfig, build)
Options = optionsFor(
    KIND,
    "Runs commands: those that --allow names, or a policy allows, for clients of the native "
    "dialect; lines for a shell for those of the tutorials' three dialects.",
)
makeService = makerFor(KIND)
