"""
From a configuration to a running application: build, check, listen, and say what listens.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO, cast

from twisted.application.service import MultiService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IListeningPort
from twisted.python.util import runAsEffectiveUser

from twisted_netsuite.errors import ConfigurationError
from twisted_netsuite.net.binding import checkBinds, requireApart
from twisted_netsuite.net.listening import ListeningService, portName
from twisted_netsuite.net.mtls import ServerTLSFactory
from twisted_netsuite.net.names import peerName
from twisted_netsuite.ops.config import GuardedConfig, Kind, ServiceConfig
from twisted_netsuite.ops.guards import GuardedApplication, Guards
from twisted_netsuite.ops.options import PluginOptions, ServiceOptions, absolute
from twisted_netsuite.trust.oversight import UNSEEN, Oversight
from twisted_netsuite.wire.text import cleanText

#: Open descriptors that a process asks for, if it may: all five services at their default limits
#: take some 4,000, of which the proxy takes two a connection.
DESCRIPTORS = 16_384

#: A kind of service, the name of this one, and its configuration.
Planned = tuple[Kind[Any], str, ServiceConfig]


def launch(options: PluginOptions, planned: Sequence[Planned], source: str = "") -> MultiService:
    """
    Build the services of one application.

    @param options: with C{check} and C{table}.
    @param planned: what to build.
    @param source: the file that it was read from; empty for the command line.
    @return: a service with all of them, which listens once it is started.
    @raise SystemExit: with one sentence and status 1 when something is wrong, while nothing has
        been daemonised; with status 0 when only a check was asked for.
    """
    from twisted.internet import reactor

    try:
        guards = Guards(reactor)
        services = build(planned, reactor, source, guards)
        if options["check"]:
            count = "1 service" if len(planned) == 1 else f"{len(planned)} services"
            print(f"{options.pluginName}: the configuration is right ({count}).")
            raise SystemExit(0)
        _allowDescriptors()
        for service in services:
            with _blaming(source, service.name or "", len(planned)):
                service.prepare()
                asServer(options, service.furnish)
                checkBinds(service.addresses)
        # Last, as it leaves a record behind, and one of a service that never began tells nothing.
        with _blaming(source, "", 1):
            guards.open()
    except ConfigurationError as error:
        raise SystemExit(cleanText(f"{options.pluginName}: {error.sentence}")) from error
    application = GuardedApplication(guards, reactor)
    for service in services:
        service.setServiceParent(application)
    if options["table"]:
        TableService(services, cast(TextIO, sys.__stdout__)).setServiceParent(application)
    return application


def asServer(options: PluginOptions, act: Callable[[], object]) -> None:
    """
    Do something as the user that C{twistd} will become.

    @param options: the plugin's, below C{twistd}'s own with C{uid} and C{gid}.
    @param act: what to do.
    """
    twistd = getattr(options, "parent", None) or {}
    uid, gid = twistd.get("uid"), twistd.get("gid")
    # Without the right to become somebody else it ends soon, and says so.
    if (uid is None and gid is None) or os.geteuid() != 0:
        act()
        return
    groups = os.getgroups()
    if uid is None:
        uid = 0
    else:
        user = pwd.getpwuid(uid)
        gid = user.pw_gid if gid is None else gid
        os.setgroups(os.getgrouplist(user.pw_name, gid))
    try:
        runAsEffectiveUser(uid, gid, act)
    finally:
        os.setgroups(groups)


def _allowDescriptors() -> None:
    """Let the limits of our services be reached: many systems begin with 1024 descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def build(
    planned: Sequence[Planned], reactor: object, source: str = "", guards: Guards | None = None
) -> list[ListeningService]:
    """
    Build services.

    @param planned: what to build.
    @param reactor: what they will run on.
    @param source: the file that it was read from; empty for the command line.
    @param guards: opens what stands over them.
    @return: services that listen once they are started.
    @raise ConfigurationError: naming the file and the service when they are not plain, the value,
        and what to do.
    """
    services: list[ListeningService] = []
    guards = guards or Guards(reactor)
    for kind, name, config in planned:
        with _blaming(source, name, len(planned)):
            built = kind.build(config, reactor, _oversight(guards, name, config))
        for service in built:
            service.name = name if service.name is None else f"{name}/{service.name}"
            services.append(service)
    with _blaming(source, "", 1):
        requireApart([address for service in services for address in service.addresses])
    return services


def _oversight(guards: Guards, name: str, config: ServiceConfig) -> Oversight:
    if not isinstance(config, GuardedConfig):
        return UNSEEN
    paths = (absolute(path) if path else "" for path in (config.policy, config.audit))
    return guards.over(name, *paths)


@contextlib.contextmanager
def _blaming(source: str, name: str, count: int) -> Iterator[None]:
    """Name the file and the service at fault, where the command line does not make them plain."""
    try:
        yield
    except ConfigurationError as error:
        words = [source, name if source or count > 1 else ""]
        where = "".join(f"{word}: " for word in words if word)
        raise ConfigurationError(where + error.sentence) from error


def makerFor(kind: Kind[Any]) -> Callable[[ServiceOptions], MultiService]:
    """
    Make the C{makeService} of a service's plugin.

    @param kind: the service.
    @return: a function for C{makeService} in a C{tap} module.
    """

    def makeService(options: ServiceOptions) -> MultiService:
        """Build the service from its options."""
        return launch(options, [(kind, kind.name, options.config)])

    return makeService


class TableService(Service):
    """Prints what is listening, once the services before it have started."""

    def __init__(self, services: Sequence[ListeningService], output: TextIO) -> None:
        """
        @param services: what to show.
        @param output: where to print.
        """
        self._services = services
        self._output = output

    def startService(self) -> None:
        """Print the table."""
        super().startService()
        rows = [("SERVICE", "ADDRESS", "DIALECT", "TRY")]
        for service in self._services:
            rows += [
                (
                    service.name or "",
                    portName(port),
                    service.dialect,
                    tried(service.example(dialled(port)), port),
                )
                for port in service.ports
            ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        form = "  ".join(f"{{:{width}}}" for width in widths) + "  {}"
        lines = [form.format(*row) for row in rows]
        # The table is for who looks on; that nobody does is no reason not to serve.
        with contextlib.suppress(OSError):
            print(*lines, sep="\n", file=self._output, flush=True)


def tried(example: str, port: IListeningPort) -> str:
    """
    Add to a line to try a service with what a client needs where it listens by C{mtls:}.

    @param example: C{netsuite COMMAND ...}.
    @param port: listens.
    @return: the line, perhaps with a client's certificate.
    """
    if not isinstance(getattr(port, "factory", None), ServerTLSFactory):
        return example
    program, command, rest = example.split(" ", 2)
    return f"{program} {command} --cert CLIENT.pem --ca CA.pem {rest}"


def dialled(port: IListeningPort) -> str:
    """
    Tell how a client on this machine writes the address of a port.

    @param port: listens.
    @return: an ADDRESS of the C{netsuite} program.
    """
    host = port.getHost()
    if not isinstance(host, IPv4Address | IPv6Address):
        return peerName(host)
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.host, host.host)
    address = peerName(type(host)(host.type, here, host.port))
    return f"udp:{address}" if host.type == "UDP" else address
