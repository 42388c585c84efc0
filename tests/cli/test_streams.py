"""
Standard input and output on the reactor: files, pipes, terminals, sockets, devices.
"""

from __future__ import annotations

import fcntl
import os
import pty
import socket
import subprocess
import sys
import tty
from collections.abc import Callable

from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.cli.terminal import DescriptorReactor, closed, drained, pipe
from twisted_netsuite.cli import streams
from twisted_netsuite.cli.streams import InputDescriptor, OutputDescriptor, written
from twisted_netsuite.errors import ConfigurationError, NetsuiteError

#: More than any pipe holds.
BIG = 3_000_000


class Taken:
    """A consumer that keeps what it gets, and may ask its producer to wait after each piece."""

    def __init__(self, pausing: bool = False) -> None:
        self.data = b""
        self.ended = False
        self.producer: IPushProducer
        self._pausing = pausing

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.ended = True

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.data += data
        if self._pausing:
            self.producer.pauseProducing()


class InputTests(SynchronousTestCase):
    """L{InputDescriptor}."""

    def setUp(self) -> None:
        self.reactor = DescriptorReactor()
        self.faults: list[NetsuiteError] = []

    def open(self, descriptor: int) -> InputDescriptor:
        """Take a descriptor for the input."""
        made = InputDescriptor(self.reactor, descriptor, self.faults.append)
        self.addCleanup(made.stopProducing)
        return made

    def assertReads(self, descriptor: int, expected: bytes) -> None:
        """All of the input is given on, and then its end, whatever the consumer's pace is."""
        taken = Taken(pausing=True)
        self.open(descriptor).begin(taken)
        for _ in range(1000):
            self.reactor.settle()
            if taken.ended:
                break
            taken.producer.resumeProducing()
        self.assertEqual(taken.data, expected)
        self.assertTrue(taken.ended)
        self.assertEqual(self.reactor.getReaders(), [])

    def test_pipe(self) -> None:
        """A pipe is read to its end."""
        near, far = pipe(self)
        os.write(far, b"a\xff\0" * 1000)
        os.close(far)
        self.assertReads(near, b"a\xff\0" * 1000)

    def test_emptyPipe(self) -> None:
        """The end of a pipe on which nothing came is told, which a reactor does by another call."""
        near, far = pipe(self)
        os.close(far)
        self.assertReads(near, b"")

    def test_file(self) -> None:
        """A file is read from where the descriptor stands, as others may have read before."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"head" + b"x" * BIG)
        descriptor = os.open(path, os.O_RDONLY)
        self.addCleanup(closed, descriptor)
        os.read(descriptor, 4)
        self.assertReads(descriptor, b"x" * BIG)

    def test_device(self) -> None:
        """The null device has nothing."""
        descriptor = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(closed, descriptor)
        self.assertReads(descriptor, b"")

    def test_socket(self) -> None:
        """A socket is read to its end."""
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        far.send(b"hello")
        far.close()
        self.assertReads(near.fileno(), b"hello")

    def test_terminal(self) -> None:
        """A terminal is read, and one that was hung up has ended."""
        far, near = pty.openpty()
        self.addCleanup(closed, far)
        self.addCleanup(closed, near)
        tty.setraw(near)
        taken = Taken()
        self.open(near).begin(taken)
        os.write(far, b"hello")
        self.reactor.settle()
        self.assertEqual(taken.data, b"hello")
        os.close(far)
        self.reactor.settle()
        self.assertTrue(taken.ended)
        self.assertEqual(self.faults, [])

    def test_notBeforeItBegins(self) -> None:
        """Nothing is read before somebody wants it, so that it is there for the next program."""
        near, far = pipe(self)
        os.write(far, b"hello")
        reader = self.open(near)
        self.reactor.settle()
        self.assertEqual(drained(near), b"hello")
        reader.begin(Taken())
        self.assertEqual(len(self.reactor.getReaders()), 1)

    def test_paused(self) -> None:
        """Nothing is read while the consumer has no room."""
        near, far = pipe(self)
        taken = Taken(pausing=True)
        self.open(near).begin(taken)
        os.write(far, b"one")
        self.reactor.settle()
        os.write(far, b"two")
        self.reactor.settle()
        self.assertEqual(taken.data, b"one")
        taken.producer.resumeProducing()
        self.reactor.settle()
        self.assertEqual(taken.data, b"onetwo")

    def test_stopped(self) -> None:
        """Once the command reads no more, nothing is read, also when it is asked to go on."""
        near, far = pipe(self)
        taken = Taken()
        self.open(near).begin(taken)
        taken.producer.stopProducing()
        taken.producer.resumeProducing()
        os.write(far, b"one")
        self.reactor.settle()
        self.assertEqual((taken.data, taken.ended), (b"", False))

    def test_stoppedBefore(self) -> None:
        """An input that was stopped before it began gives nothing, and registers with nobody."""
        near, _ = pipe(self)
        reader = self.open(near)
        reader.stopProducing()
        taken = Taken()
        reader.begin(taken)
        self.assertFalse(hasattr(taken, "producer"))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_unreadable(self) -> None:
        """An input that cannot be read is a fault, and never an end: what came was not all."""
        descriptor = os.open(".", os.O_RDONLY)
        self.addCleanup(closed, descriptor)
        taken = Taken()
        self.open(descriptor).begin(taken)
        self.reactor.settle()
        self.assertFalse(taken.ended)
        [error] = self.faults
        self.assertIn("cannot be read: is a directory; give another.", error.sentence)
        self.assertIsInstance(error, ConfigurationError)
        self.assertEqual(self.reactor.getReaders(), [])

    def test_strained(self) -> None:
        """What is read can be made something else on its way, or nothing."""
        near, far = pipe(self)
        taken = Taken()
        reader = InputDescriptor(
            self.reactor, near, self.faults.append, lambda data: data.replace(b"a", b"")
        )
        self.addCleanup(reader.stopProducing)
        reader.begin(taken)
        for piece in (b"banana", b"aaa"):
            os.write(far, piece)
            self.reactor.settle()
        self.assertEqual(taken.data, b"bnn")

    def test_staysBlocking(self) -> None:
        """Whatever the input is, the descriptor that others share is blocking while it is read."""
        near, _ = pipe(self)
        far, terminal = pty.openpty()
        one, two = socket.socketpair()
        for each in (far, terminal):
            self.addCleanup(closed, each)
        for end in (one, two):
            self.addCleanup(end.close)
        for descriptor in (near, terminal, one.fileno()):
            self.open(descriptor).begin(Taken())
            self.reactor.settle()
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            self.assertFalse(flags & os.O_NONBLOCK)

    def test_sharedPipe(self) -> None:
        """What another program has read first is waited for no more than anything else."""
        near, far = pipe(self)
        taken = Taken()
        reader = self.open(near)
        reader.begin(taken)
        os.write(far, b"x")
        os.read(near, 1)
        # The reactor has seen it before it was gone.
        self.assertIsNone(reader.doRead())
        self.assertEqual((taken.data, taken.ended), (b"", False))

    def test_maker(self) -> None:
        """The far side of a terminal is read itself: to open it again would make a new one."""
        maker, terminal = pty.openpty()
        for each in (maker, terminal):
            self.addCleanup(closed, each)
        tty.setraw(terminal)
        reader = self.open(maker)
        self.assertEqual(reader.fileno(), maker)
        taken = Taken()
        reader.begin(taken)
        os.write(terminal, b"hello")
        self.reactor.settle()
        self.assertEqual(taken.data, b"hello")


@implementer(IPushProducer)
class Source:
    """
    A producer that notes what it is told.

    @ivar told: the words, in order.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


@implementer(IPullProducer)
class Well:
    """
    Gives a piece whenever it is asked, so many times.

    @ivar given: pieces so far.
    @ivar stopped: how often it was stopped.
    """

    def __init__(self, output: OutputDescriptor, pieces: int) -> None:
        self.given = self.stopped = 0
        self._output = output
        self._pieces = pieces

    def resumeProducing(self) -> None:
        if self.given == self._pieces:
            self._output.unregisterProducer()
            return
        self.given += 1
        self._output.write(b"drop\n")

    def stopProducing(self) -> None:
        self.stopped += 1


class OutputTests(SynchronousTestCase):
    """L{OutputDescriptor}."""

    def setUp(self) -> None:
        self.reactor = DescriptorReactor()
        self.faults: list[NetsuiteError] = []
        self.breaks = 0

    def open(self, descriptor: int) -> OutputDescriptor:
        """Take a descriptor for the output."""

        def broken() -> None:
            self.breaks += 1

        made = OutputDescriptor(self.reactor, descriptor, broken, self.faults.append)
        self.addCleanup(made.close)
        return made

    def assertWrites(self, descriptor: int, read: Callable[[], bytes]) -> None:
        """All that is written comes out, at the reader's pace, and nothing blocks."""
        output = self.open(descriptor)
        source = Source()
        output.registerProducer(source, True)
        data = os.urandom(BIG)
        output.write(data)
        output.unregisterProducer()
        taken = output.whenTaken()
        found = b""
        for _ in range(100_000):
            if not self.reactor.getWriters():
                break
            found += read()
            self.reactor.turn()
        found += read()
        self.assertEqual(len(found), len(data))
        self.assertEqual(found, data)
        self.successResultOf(taken)

    def test_pipe(self) -> None:
        """A pipe takes all in its time."""
        near, far = pipe(self)
        self.assertWrites(far, lambda: drained(near))
        self.assertTrue(os.get_blocking(far))

    def test_pipeThatCannotBeOpenedAgain(self) -> None:
        """Where there is no /proc, a pipe takes all as well, and nothing blocks."""
        self.patch(streams, "_reopened", lambda descriptor, access: None)
        near, far = pipe(self)
        self.assertWrites(far, lambda: drained(near))

    def test_socket(self) -> None:
        """A socket takes all in its time."""
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.assertWrites(far.fileno(), lambda: drained(near.fileno()))
        self.assertTrue(os.get_blocking(far.fileno()))

    def test_terminal(self) -> None:
        """A terminal takes all in its time."""
        far, near = pty.openpty()
        self.addCleanup(closed, far)
        self.addCleanup(closed, near)
        tty.setraw(near)
        self.assertWrites(near, lambda: drained(far))
        self.assertTrue(os.get_blocking(near))

    def test_file(self) -> None:
        """A file takes all at once, where the descriptor stands."""
        path = self.mktemp()
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        self.addCleanup(closed, descriptor)
        os.write(descriptor, b"head ")
        output = self.open(descriptor)
        output.write(b"x" * BIG)
        self.assertFalse(output.pending)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"head " + b"x" * BIG)

    def test_device(self) -> None:
        """The null device takes all at once."""
        descriptor = os.open(os.devnull, os.O_WRONLY)
        self.addCleanup(closed, descriptor)
        output = self.open(descriptor)
        output.write(b"x" * BIG)
        self.assertFalse(output.pending)

    def test_backPressure(self) -> None:
        """A producer waits from the moment that something is kept until nothing is."""
        near, far = pipe(self)
        output = self.open(far)
        source = Source()
        output.registerProducer(source, True)
        output.write(b"x")
        self.assertEqual(source.told, [])
        output.write(b"x" * BIG)
        output.write(b"x")
        self.assertEqual(source.told, ["pause"])
        self.assertTrue(output.pending)
        got = 0
        while output.pending:
            self.assertEqual(source.told, ["pause"])
            got += len(drained(near))
            self.reactor.turn()
        self.assertEqual(source.told, ["pause", "resume"])
        self.assertEqual(got + len(drained(near)), BIG + 2)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_idle(self) -> None:
        """While nobody reads, the reactor has nothing to do: a stalled pager costs no time."""
        _, far = pipe(self)
        output = self.open(far)
        output.write(b"x" * BIG)
        self.reactor.settle()
        self.assertFalse(self.reactor.turn())

    def test_lateProducer(self) -> None:
        """A producer that comes while something is kept waits at once."""
        _, far = pipe(self)
        output = self.open(far)
        output.write(b"x" * BIG)
        source = Source()
        output.registerProducer(source, True)
        self.assertEqual(source.told, ["pause"])
        self.assertRaises(RuntimeError, output.registerProducer, Source(), True)

    def test_pull(self) -> None:
        """A producer that has to be asked is asked, as long as there is room."""
        near, far = pipe(self)
        output = self.open(far)
        output.registerProducer(Well(output, 5), False)
        taken = output.whenTaken()
        self.reactor.settle()
        self.successResultOf(taken)
        self.assertEqual(drained(near), b"drop\n" * 5)

    def test_broken(self) -> None:
        """When nobody reads any more that is told once, and all that comes is dropped."""
        near, far = pipe(self)
        output = self.open(far)
        os.close(near)
        for _ in range(3):
            output.write(b"x")
        self.assertTrue(output.broken)
        self.assertEqual((self.breaks, self.faults, output.pending), (1, [], False))
        self.successResultOf(output.whenTaken())

    def test_brokenLater(self) -> None:
        """A reader that leaves in the middle lets the producer come to its end."""
        near, far = pipe(self)
        output = self.open(far)
        source = Source()
        output.registerProducer(source, True)
        output.write(b"x" * BIG)
        taken = output.whenTaken()
        self.assertNoResult(taken)
        os.close(near)
        self.reactor.settle()
        self.assertEqual((self.breaks, source.told), (1, ["pause", "resume"]))
        self.successResultOf(taken)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_pullBroken(self) -> None:
        """One that is asked is stopped when nobody reads any more, and the reactor is not kept
        busy; so is one that comes later."""
        near, far = pipe(self)
        output = self.open(far)
        well = Well(output, BIG)
        output.registerProducer(well, False)
        taken = output.whenTaken()
        os.close(near)
        self.reactor.turn()
        self.assertEqual((self.breaks, well.stopped), (1, 1))
        self.successResultOf(taken)
        self.assertEqual(self.reactor.getWriters(), [])
        output.unregisterProducer()
        late = Well(output, BIG)
        output.registerProducer(late, False)
        self.assertEqual((late.stopped, late.given), (1, 0))
        self.assertEqual(self.reactor.getWriters(), [])

    def test_brokenSocket(self) -> None:
        """A socket whose other end is gone is broken as a pipe is."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        output = self.open(far.fileno())
        near.close()
        output.write(b"x")
        self.assertTrue(output.broken)

    def test_full(self) -> None:
        """An output that takes no more for another reason is a fault, told once and in words."""
        descriptor = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(closed, descriptor)
        output = self.open(descriptor)
        output.write(b"x")
        output.write(b"x")
        self.assertEqual(
            [each.sentence for each in self.faults],
            ["The output takes no more: no space left on device; give it another place to go."],
        )
        self.assertFalse(output.broken)
        self.successResultOf(output.whenTaken())

    def test_notForWriting(self) -> None:
        """A descriptor that was opened for reading only is not opened again for more."""
        path = self.mktemp()
        os.mkfifo(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(closed, descriptor)
        output = self.open(descriptor)
        self.assertEqual(output.fileno(), descriptor)

    def test_whenTaken(self) -> None:
        """It waits for the producer to go, and for what is kept; who gives up disturbs nothing."""
        near, far = pipe(self)
        output = self.open(far)
        output.registerProducer(Source(), True)
        first, second = output.whenTaken(), output.whenTaken()
        second.cancel()
        self.failureResultOf(second)
        output.write(b"x" * BIG)
        output.unregisterProducer()
        self.assertNoResult(first)
        while output.pending:
            drained(near)
            self.reactor.turn()
        self.successResultOf(first)

    def test_written(self) -> None:
        """To wait for what is written there need be no end of the producer."""
        near, far = pipe(self)
        output = self.open(far)
        output.registerProducer(Source(), True)
        self.successResultOf(written(output))
        output.registerProducer(Source(), True)
        output.write(b"x" * BIG)
        waiting = written(output)
        self.assertNoResult(waiting)
        while output.pending:
            drained(near)
            self.reactor.turn()
        self.successResultOf(waiting)

    def test_close(self) -> None:
        """To close it leaves open what it writes to, and no descriptor of its own."""
        _, far = pipe(self)
        before = set(os.listdir("/proc/self/fd"))
        output = OutputDescriptor(self.reactor, far)
        output.write(b"x" * BIG)
        output.close()
        output.close()
        self.assertEqual(set(os.listdir("/proc/self/fd")), before)
        os.fstat(far)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_interfaces(self) -> None:
        """Both are what they say."""
        near, far = pipe(self)
        reader = InputDescriptor(self.reactor, near)
        self.addCleanup(reader.stopProducing)
        verifyObject(IPushProducer, reader)
        self.assertEqual(reader.logPrefix(), "input")
        self.assertEqual(self.open(far).logPrefix(), "output")


#: Tells what holdStandard makes of descriptors that are closed, in a process of its own.
HOLD = """
import os, sys
from twisted_netsuite.cli.streams import holdStandard
holdStandard()
made = os.open("/dev/null", os.O_RDONLY)
print("out"); print("err", file=sys.stderr)
sys.exit(made)
"""


class HoldTests(SynchronousTestCase):
    """L{streams.holdStandard}."""

    def end(self, shell: str) -> subprocess.CompletedProcess[bytes]:
        """Run it behind redirections of a shell."""
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -c "$1" {shell}', sys.executable, HOLD],
            capture_output=True,
            check=False,
        )

    def test_closed(self) -> None:
        """What is opened next never gets the number of a standard stream that was closed."""
        for shell, out, err in (
            ("", b"out\n", b"err\n"),
            ("<&-", b"out\n", b"err\n"),
            (">&-", b"", b"err\n"),
            ("2>&-", b"out\n", b""),
            ("<&- >&- 2>&-", b"", b""),
        ):
            done = self.end(shell)
            self.assertGreater(done.returncode, 2, shell)
            self.assertEqual((done.stdout, done.stderr), (out, err), shell)
