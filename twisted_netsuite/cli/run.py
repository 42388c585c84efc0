"""
Running one command of the C{netsuite} program on the reactor, and turning its end into a status.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from twisted_netsuite.errors import ConfigurationError, NetsuiteError
from twisted_netsuite.wire.text import cleanText

#: Seconds for which threads are waited for at the end: one that asks a name server that does not
#: answer cannot be stopped, and takes a minute.
THREADS_LIMIT = 1.0

#: What a shell reports of a program that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT


def run(main: Callable[[Any], Coroutine[Deferred[Any], Any, int]]) -> NoReturn:
    """
    Run a command and exit.

    @param main: gets the reactor, and returns the exit status.
    @raise SystemExit: always; a failure is one sentence on stderr and the status of its class.
    """
    from twisted.internet import reactor as installed

    for stream in (sys.stdout, sys.stderr):
        # A character that this terminal lacks is no reason to end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    reactor: Any = installed
    status = INTERRUPTED
    stopping = False
    work: Deferred[int] | None = None
    leaving: threading.Timer | None = None

    def begin() -> None:
        nonlocal work
        work = Deferred.fromCoroutine(main(reactor))
        work.addBoth(finish)

    def finish(result: int | Failure) -> None:
        nonlocal status
        if stopping:
            # However the command ends when it is interrupted, that is why.
            return
        status = report(result) if isinstance(result, Failure) else result
        # A signal may have stopped it in the same turn.
        with suppress(ReactorNotRunning):
            reactor.stop()

    def interrupted() -> None:
        nonlocal stopping, leaving
        if work is not None and not work.called:
            stopping = True
            work.cancel()
        leaving = threading.Timer(THREADS_LIMIT, leave)
        leaving.daemon = True
        leaving.start()

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)

    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    reactor.callWhenRunning(begin)
    reactor.run()
    if leaving is not None:
        leaving.cancel()
    raise SystemExit(status)


def report(failure: Failure) -> int:
    """
    Say on stderr what failed.

    @param failure: why the command ended.
    @return: the exit status for it.
    """
    error = failure.value
    if os.environ.get("NETSUITE_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, NetsuiteError):
        say(error.sentence)
        return error.exitStatus
    say(
        f"{type(error).__name__}: {error}; this is a fault of the program: "
        "run it again with NETSUITE_DEBUG=1 and report what it prints."
    )
    return NetsuiteError.exitStatus


def say(sentence: str) -> None:
    """
    Print one sentence for a person on stderr.

    @param sentence: what to say.
    """
    print(cleanText(f"netsuite: {sentence}"), file=sys.stderr)


def writeOut(data: bytes) -> None:
    """
    Write bytes to standard output as they are.

    @param data: what to write.
    @raise ConfigurationError: when standard output does not take it.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ConfigurationError(
            f"Standard output takes no more: {(error.strerror or str(error)).lower()}; "
            "give it another place to go."
        ) from error
