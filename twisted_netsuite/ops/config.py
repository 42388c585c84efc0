"""
Configuration of services: what a service can be told, from where, and what is wrong with it.

A service's options are the fields of one struct. The same struct reads a table of the TOML file and
the options of its C{twistd} plugin, so that both know the same words and give the same answers.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.admission import ConnectionLimits
from twisted_netsuite.net.listening import ListeningService
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.wire.words import didYouMean, kebab

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
PerSource = Annotated[
    int,
    msgspec.Meta(
        ge=0,
        description="Connections at a time from one source, which is an IPv4 address or an IPv6 "
        "/64; 0: no bound.",
    ),
]
Listen = Annotated[
    tuple[str, ...],
    msgspec.Meta(
        min_length=1,
        description="Where to listen; may be given many times: a Twisted server endpoint string, "
        "or udp:PORT[:interface=ADDR] where the service speaks datagrams.",
    ),
]


class ServiceConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kebab
):
    """What every service can be told; each service adds its own fields."""

    listen: Listen


class StreamConfig(ServiceConfig, frozen=True, kw_only=True):
    """What every service of streams can be told."""

    maxConnections: Annotated[Count, msgspec.Meta(description="Connections at a time.")] = 1000
    idleTimeout: Annotated[
        Seconds,
        msgspec.Meta(
            description="Seconds without a byte before a connection is given up; 0: never."
        ),
    ] = 600.0

    maxPerSource: PerSource = ConnectionLimits.maxPerSource
    maxPending: Annotated[
        Count,
        msgspec.Meta(
            description="Connections at a time that have not proven who they are; one more ends "
            "the oldest."
        ),
    ] = ConnectionLimits.maxPending
    connectionRate: Annotated[
        Seconds,
        msgspec.Meta(
            description="New connections a second from one source, of which two seconds' worth may "
            "come at once; 0: no bound."
        ),
    ] = ConnectionLimits.connectionRate
    penalty: Annotated[
        Seconds,
        msgspec.Meta(
            description="Seconds for which a source is turned away after its fourth failure to "
            "prove who it is, twice as many after each further one up to 600; 0: never."
        ),
    ] = ConnectionLimits.penalty
    handshakeTimeout: Annotated[
        float, msgspec.Meta(gt=0, description="Seconds for a TLS handshake.")
    ] = ConnectionLimits.handshakeTimeout
    firstMessageTimeout: Annotated[
        Seconds,
        msgspec.Meta(description="Seconds until the first byte; 0: as for idle-timeout."),
    ] = ConnectionLimits.firstMessageTimeout

    def limits(self) -> ConnectionLimits:
        """
        Gather what bounds the connections.

        @return: for the service's factory.
        """
        return ConnectionLimits(
            maxConnections=self.maxConnections,
            idleTimeout=self.idleTimeout,
            maxPerSource=self.maxPerSource,
            maxPending=self.maxPending,
            connectionRate=self.connectionRate,
            penalty=self.penalty,
            handshakeTimeout=self.handshakeTimeout,
            firstMessageTimeout=self.firstMessageTimeout,
        )


class GuardedConfig(StreamConfig, frozen=True, kw_only=True):
    """What every service can be told that does something for its peers."""

    policy: Annotated[
        str, msgspec.Meta(description="A policy file, which says who may do what here.")
    ] = ""
    audit: Annotated[
        str,
        msgspec.Meta(description="An audit log, in which each act is written before it is done."),
    ] = ""


C = TypeVar("C", bound=ServiceConfig)


@dataclass(frozen=True)
class Kind(Generic[C]):
    """
    One sort of service.

    @ivar name: its name in the configuration file and in the plugin's name.
    @ivar config: its configuration.
    @ivar build: makes its services from a configuration, a reactor, and what stands over them,
        without listening yet; raises L{ConfigurationError}.
    """

    name: str
    config: type[C]
    build: Callable[[C, Any, Oversight], Sequence[ListeningService]]


@dataclass(frozen=True)
class Field:
    """
    One thing that a service can be told.

    @ivar name: the word for it, in a file and behind C{--}.
    @ivar attribute: the struct's name for it.
    @ivar description: one or two sentences.
    @ivar default: what holds without it, or C{msgspec.NODEFAULT}.
    @ivar repeated: whether it takes many values.
    @ivar flag: whether it is yes or no.
    @ivar choices: the only words it takes, if there are few.
    """

    name: str
    attribute: str
    description: str
    default: Any
    repeated: bool
    flag: bool
    choices: tuple[str, ...]


def fieldsOf(config: type[ServiceConfig]) -> list[Field]:
    """
    List what a service can be told.

    @param config: its configuration.
    @return: in the order of definition.
    """
    hints = get_type_hints(config, include_extras=True)
    return [_field(field, hints[field.name]) for field in msgspec.structs.fields(config)]


def _field(field: msgspec.structs.FieldInfo, hint: Any) -> Field:
    metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
    plain = get_args(hint)[0] if metas else hint
    choices = get_args(plain) if get_origin(plain) is Literal else ()
    return Field(
        name=field.encode_name,
        attribute=field.name,
        description=" ".join(m.description for m in metas if m.description),
        default=field.default,
        repeated=get_origin(plain) is tuple,
        flag=plain is bool,
        choices=choices,
    )


def readConfig(
    config: type[C], values: Mapping[str, Any], name: Callable[[str], str], strict: bool = True
) -> C:
    """
    Make a configuration from plain values.

    @param config: the struct to make.
    @param values: field name to value.
    @param name: turns the path of a field, such as C{listen[0]}, into what a person knows it by.
    @param strict: whether a number may not be given as a string.
    @return: the configuration.
    @raise ConfigurationError: naming the field, the value, and what it takes.
    """
    try:
        return msgspec.convert(values, config, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_explain(str(error), config, values, name)) from error


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_AT = re.compile(r"(.*) - at `\$\.(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(int|float|str|bool|array)`(?:, got .*)?([^,`]*)")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
}
_ELEMENT = re.compile(r"[^.\[]+\[(\d+)\]")


def _explain(
    message: str,
    config: type[ServiceConfig],
    values: Mapping[str, Any],
    name: Callable[[str], str],
) -> str:
    fields = {field.name: field for field in fieldsOf(config)}
    if found := _UNKNOWN.match(message):
        return f"{name(found[1])} is not known; {didYouMean(found[1], fields)}"
    if found := _MISSING.match(message):
        description = fields[found[1]].description
        return f"{name(found[1])} is missing; give {description[:1].lower() + description[1:]}"
    found = _AT.fullmatch(message)
    path, message = (found[2], found[1]) if found else ("", message)
    field = fields.get(re.split(r"[.\[]", path)[0])
    if field is None:
        return f"{name(path)}: {message}."
    given = values.get(field.name)
    if found := _ELEMENT.fullmatch(path):
        given = given[int(found[1])] if isinstance(given, Sequence) else given
    if field.choices:
        return f"{name(path)} is {given!r}; give one of {', '.join(field.choices)}."
    if found := _EXPECTED.match(message):
        return f"{name(path)} is {given!r}; give {_WORDS[found[1]]}{found[2]}."
    return f"{name(path)} is {given!r}: {message[:1].lower() + message[1:]}."


def loadFile(path: str) -> dict[str, Any]:
    """
    Read a TOML file.

    @param path: the file.
    @return: its tables.
    @raise ConfigurationError: when it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"The file {path!r} cannot be read: {(error.strerror or str(error)).lower()}; "
            "give one that can."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"The file {path!r} is not UTF-8 at byte {error.start}; save it as UTF-8."
        ) from error
    except RecursionError as error:
        raise ConfigurationError(
            f"The file {path!r} holds brackets in brackets without end; mend that."
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"The file {path!r} is not TOML: {str(error)[:1].lower() + str(error)[1:]}; "
            "mend that line."
        ) from error


def readSuite(
    path: str, kinds: Mapping[str, Kind[Any]]
) -> list[tuple[Kind[Any], str, ServiceConfig]]:
    """
    Read a configuration file, in which each table C{[KIND.NAME]} is one service.

    @param path: the file.
    @param kinds: the sorts of service there are, by name.
    @return: a kind, a name and a configuration for each service, in the file's order.
    @raise ConfigurationError: naming the file, the path in it, and what to do.
    """
    services: list[tuple[Kind[Any], str, ServiceConfig]] = []
    for kindName, instances in loadFile(path).items():
        if kindName not in kinds:
            raise ConfigurationError(
                f"{path}: {kindName} is no service; {didYouMean(kindName, kinds)}"
            )
        kind = kinds[kindName]
        if not isinstance(instances, dict) or not instances:
            raise ConfigurationError(
                f"{path}: {kindName} holds no service; write a table [{kindName}.NAME]."
            )
        for name, values in instances.items():
            where = f"{path}: {kindName}.{name}"
            if not isinstance(values, dict):
                raise ConfigurationError(
                    f"{where} is not a table; write it below a line [{kindName}.NAME]."
                )
            config = readConfig(kind.config, values, f"{where}.{{}}".format)
            services.append((kind, f"{kindName}.{name}", config))
    if not services:
        raise ConfigurationError(f"{path}: no service is in it; write a table such as [echo.main].")
    return services
