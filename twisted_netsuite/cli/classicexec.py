"""
C{netsuite exec} in the classic dialects.
"""

from __future__ import annotations

from typing import Any, cast

from twisted_netsuite.cli.run import writeOut
from twisted_netsuite.net.addresses import parseConnect
from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.rexec.classicclient import Dialect, connectClassic


async def runCommand(
    reactor: Any,
    address: str,
    command: str,
    dialect: str,
    timeout: float,
    files: TrustFiles | None = None,
) -> int:
    """
    Run a command and print its output.

    @param reactor: connects.
    @param address: an ADDRESS.
    @param command: a command line for the server's shell.
    @param dialect: what the server speaks.
    @param timeout: seconds that may pass without a byte.
    @param files: to connect by TLS with; C{None} for plain text.
    @return: the exit status: the command's own where the dialect tells it.
    """
    endpoint = parseConnect(reactor, address, files)
    session = await connectClassic(
        endpoint, reactor, dialect=cast(Dialect, dialect), name=address, timeout=timeout
    )
    answer = await session.run(command)
    await session.close()
    writeOut(answer.output)
    return answer.status or 0
