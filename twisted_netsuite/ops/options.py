"""
The options of a C{twistd} plugin, made from the fields of its configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.cred import strcred
from twisted.cred.credentials import IUsernamePassword
from twisted.python import usage

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.ops.config import Field, Kind, ServiceConfig, fieldsOf, readConfig
from twisted_netsuite.wire.text import cleanText


class PluginOptions(usage.Options):
    """
    What all our plugins have in common.

    A wrong option ends the program with one sentence and status 1, in place of Twisted's whole page
    of usage.
    """

    pluginName = "netsuite"
    optFlags = [
        ["check", None, "Only check the configuration: start nothing, bind nothing."],
        ["table", None, "Print a table of what is listening, with a line to try each with."],
    ]

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Parse, or end the program.

        @param options: the words of the command line.
        @raise SystemExit: with one sentence, when they cannot be used.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            sentence = f"{str(error).rstrip('.')}; see twistd {self.pluginName} --help."
            raise SystemExit(cleanText(f"{self.pluginName}: {sentence}")) from error
        except ConfigurationError as error:
            raise SystemExit(cleanText(f"{self.pluginName}: {error.sentence}")) from error

    def parseArgs(self, *words: str) -> None:
        """
        Refuse what is no option.

        @param words: what is left of the command line.
        """
        if words:
            raise usage.UsageError(f"{words[0]!r} is not expected, as options begin with --")


class ServiceOptions(PluginOptions):
    """
    The options of one service's plugin.

    @ivar config: the configuration they add up to, once they are parsed.
    """

    kind: Kind[Any]
    config: ServiceConfig

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}

    def postOptions(self) -> None:
        """
        Read the configuration.

        @raise ConfigurationError: naming the option, its value, and what it takes.
        """
        for field in fieldsOf(self.kind.config):
            word = f"no-{field.name}" if field.flag and field.default else field.name
            if field.flag and self[word]:
                self.given[field.name] = not field.default
            elif not field.flag and not field.repeated and self[word] is not None:
                self.given[field.name] = self[word]
        self.config = readConfig(
            self.kind.config, self.given, lambda path: "--" + path.split("[")[0], strict=False
        )


def optionsFor(kind: Kind[Any], synopsis: str) -> type[ServiceOptions]:
    """
    Make the options class of a service's plugin.

    @param kind: the service.
    @param synopsis: a paragraph below the options.
    @return: a class for C{Options} in a C{tap} module.
    """
    parameters: list[list[Any]] = []
    flags: list[list[Any]] = [*PluginOptions.optFlags]
    members: dict[str, Any] = {"kind": kind, "pluginName": f"netsuite-{kind.name}"}
    for field in fieldsOf(kind.config):
        if field.flag:
            word = f"no-{field.name}" if field.default else field.name
            negation = "Turn off: " if field.default else ""
            flags.append([word, None, negation + field.description])
        elif field.repeated:
            members[f"opt_{field.name}"] = _gather(field)
        else:
            parameters.append([field.name, None, None, _described(field)])
    members |= {"optParameters": parameters, "optFlags": flags, "longdesc": synopsis}
    bases = (_AuthHelp, ServiceOptions) if "opt_auth" in members else (ServiceOptions,)
    return type("Options", bases, members)


class _AuthHelp(strcred.AuthOptionMixin):
    """Tells which checkers C{--auth} can name."""

    supportedInterfaces = (IUsernamePassword,)


def _gather(field: Field) -> Callable[[ServiceOptions, str], None]:
    def gather(self: ServiceOptions, value: str) -> None:
        self.given.setdefault(field.name, []).append(value)

    gather.__doc__ = _described(field)
    return gather


def _described(field: Field) -> str:
    words = [field.description]
    if field.choices:
        words.append(f"One of {', '.join(field.choices)}.")
    if field.default not in (msgspec.NODEFAULT, None, "", ()):
        default = ", ".join(field.default) if field.repeated else f"{field.default}"
        words.append(f"[default: {default}]")
    return " ".join(words)


def absolute(path: str) -> str:
    """
    Fix a path before C{twistd} changes its directory.

    @param path: as a person wrote it, perhaps with a C{~}.
    @return: from the root.
    """
    return os.path.abspath(os.path.expanduser(path))
