"""
Bodies of sessions over real sockets: large ones, slow and vanishing readers, and others meanwhile.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, serverFromString, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.testing import StringTransport
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.test_session import (
    HELLO_ECHO,
    PATIENCE,
    echoed,
    memory,
    readRecord,
    realReactor,
    selfSigned,
)
from tests.net.test_framed import packed
from twisted_netsuite.echo.messages import RECORDS, Echo
from twisted_netsuite.echo.native import NativeEcho, NativeEchoFactory
from twisted_netsuite.errors import ConnectionFailed
from twisted_netsuite.files.client import connectFiles
from twisted_netsuite.files.digests import CHUNK
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.files.transfer import getStream
from twisted_netsuite.net.bulktls import BulkTLSTransport
from twisted_netsuite.net.sendfile import SEND_A_TURN, Part
from twisted_netsuite.net.sessionclient import ClientSession, helloFor, openSession
from twisted_netsuite.trust.oversight import Oversight
from twisted_netsuite.wire.session import Record, SessionCodec

#: More than all buffers between two programs hold.
SIZE = 64 * 1024 * 1024

#: Bytes that may be on their way: what the kernel keeps for a reader that does not read.
BUFFERS = 16 * 1024 * 1024


#: Bytes of a file that is on the disk alone: many chunks, and whole pages.
COLD = 16 * CHUNK

#: How often the system is asked to take it out of memory: it leaves what somebody uses just then.
EVICTIONS = 15


class Taker:
    """
    What both ends do with a body: they digest it.

    @ivar taken: bytes that have come.
    """

    taken = 0

    def expect(self, count: int) -> None:
        """Take a body."""
        self.wanted = count
        self.taken = 0
        self.digest = hashlib.blake2b()
        cast(Any, self).receiveRaw(count, self.take)

    def take(self, data: bytes | memoryview) -> None:
        """Be the sink."""
        self.digest.update(data)
        self.taken += len(data)


class Archive(Taker, NativeEcho):
    """Sends its file for C{get}, in one body, and takes one for C{put}."""

    readsOn = True
    path: ClassVar[Path]
    #: What the senders of bodies have heard.
    heard: ClassVar[list[int | Failure]]

    def recordReceived(self, record: Record) -> None:
        """Send, take, or echo."""
        assert isinstance(record, Echo)
        word, _, number = record.data.partition(b" ")
        if word == b"get":
            self.get(int(number))
        elif word == b"put":
            self.expect(int(number))
        elif word == b"digest":
            self.sendRecord(Echo(data=self.digest.hexdigest().encode()))
        else:
            super().recordReceived(record)

    def get(self, size: int) -> None:
        """Send the file."""
        descriptor = os.open(self.path, os.O_RDONLY)

        def read(offset: int, count: int) -> Deferred[bytes]:
            return deferToThread(os.pread, descriptor, count, offset)

        def done(found: int | Failure) -> None:
            os.close(descriptor)
            self.heard.append(found)
            if isinstance(found, int):
                self.sendRecord(Echo(data=b"missing %d" % found))

        sending = self.sendBody(
            Echo(data=b"body %d" % size), Part(size, read, descriptor=descriptor)
        )
        sending.addBoth(done)


class Customer(Taker, ClientSession):
    """Takes bodies where they are announced."""

    readsOn = True

    def recordReceived(self, record: Record) -> None:
        """Take a body, or keep a record."""
        assert isinstance(record, Echo)
        word, _, number = record.data.partition(b" ")
        if word == b"body":
            self.expect(int(number))
        else:
            super().recordReceived(record)

    async def ask(self, data: bytes) -> bytes:
        """Say something, and tell what comes next."""
        self.send(Echo(data=data))
        record = await self.next(PATIENCE)
        assert isinstance(record, Echo)
        return record.data


class BulkTLSFactory(TLSMemoryBIOFactory):
    """TLS as our endpoints have it."""

    protocol = BulkTLSTransport


class BodyTestCase(TestCase):
    """An archive in this process."""

    timeout = 120

    def setUp(self) -> None:
        self.reactor = realReactor()
        self.path = Path(self.mktemp())
        block = os.urandom(1 << 20)
        with self.path.open("wb") as file:
            for number in range(SIZE >> 20):
                file.write(struct.pack("!I", number) + block[4:])
        Archive.path = self.path
        Archive.heard = []
        self.factory = NativeEchoFactory(self.reactor)
        self.factory.protocol = Archive

    def digest(self) -> str:
        """Digest the file."""
        return hashlib.blake2b(self.path.read_bytes()).hexdigest()

    async def listen(self, description: str, wrap: Callable[[Any], Any] = lambda f: f) -> Any:
        """Serve, and tell where."""
        endpoint = serverFromString(self.reactor, description)
        port = await endpoint.listen(wrap(self.factory))
        self.addCleanup(self.factory.abortConnections)
        self.addCleanup(port.stopListening)
        return port.getHost()

    async def serve(self) -> int:
        """Serve on loopback, and tell the port."""
        number: int = (await self.listen("tcp:0:interface=127.0.0.1")).port
        return number

    async def serveTLS(self, wrapping: type[TLSMemoryBIOFactory]) -> Any:
        """Serve with TLS, and tell the way there."""
        certificate = selfSigned()
        host = await self.listen(
            "tcp:0:interface=127.0.0.1",
            lambda factory: wrapping(certificate.options(), False, factory),
        )
        options = optionsForClientTLS("localhost", trustRoot=certificate)
        plain = clientFromString(self.reactor, f"tcp:127.0.0.1:{host.port}")
        return wrapClientTLS(options, plain)

    async def connect(self, endpoint: Any) -> Customer:
        """Open a session."""
        hello = helloFor("echo")
        opening = openSession(
            Customer,
            endpoint,
            self.reactor,
            SessionCodec(RECORDS),
            hello,
            name="archive",
            timeout=PATIENCE,
        )
        session = await opening
        self.addCleanup(session.close)
        return session

    async def exchange(self, session: Customer) -> None:
        """Fetch the file, send it back, and see that both ends have had the same."""
        self.assertEqual(await session.ask(b"get %d" % SIZE), b"missing 0")
        self.assertEqual((session.taken, session.digest.hexdigest()), (SIZE, self.digest()))
        descriptor = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        part = Part(SIZE, lambda offset, count: os.pread(descriptor, count, offset), 0, descriptor)
        self.assertEqual(await session.sendBody(Echo(data=b"put %d" % SIZE), part), 0)
        self.assertEqual((await session.ask(b"digest")).decode(), self.digest())


class ThereAndBackTests(BodyTestCase):
    """A large file, fetched in one body and sent back in one."""

    async def test_tcp(self) -> None:
        """Over TCP, sent by the kernel."""
        endpoint = clientFromString(self.reactor, f"tcp:127.0.0.1:{await self.serve()}")
        await self.exchange(await self.connect(endpoint))

    async def test_unix(self) -> None:
        """Over a Unix socket, sent by the kernel."""
        path = os.path.relpath(self.mktemp() + ".sock")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        await self.listen(f"unix:{path}")
        await self.exchange(await self.connect(clientFromString(self.reactor, f"unix:{path}")))

    async def test_tls(self) -> None:
        """Over TLS, Twisted's and ours."""
        for wrapping in (TLSMemoryBIOFactory, BulkTLSFactory):
            await self.exchange(await self.connect(await self.serveTLS(wrapping)))

    async def test_bothAtOnce(self) -> None:
        """Both ends send at once, and neither waits for the other for ever."""
        endpoint = clientFromString(self.reactor, f"tcp:127.0.0.1:{await self.serve()}")
        session = await self.connect(endpoint)
        descriptor = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        part = Part(SIZE, lambda offset, count: os.pread(descriptor, count, offset), 0, descriptor)
        session.send(Echo(data=b"get %d" % SIZE))
        sent = session.sendBody(Echo(data=b"put %d" % SIZE), part)
        self.assertEqual(await session.next(PATIENCE), Echo(data=b"missing 0"))
        self.assertEqual(await sent, 0)
        self.assertEqual((await session.ask(b"digest")).decode(), self.digest())
        self.assertEqual(session.digest.hexdigest(), self.digest())


class ReaderTests(BodyTestCase):
    """Readers that are slow, or go away."""

    def fetch(self, port: int, act: Callable[[socket.socket], Any]) -> Any:
        """Ask for the file by a blocking socket, in a thread."""

        def run() -> Any:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
                stream.sendall(packed(HELLO_ECHO))
                readRecord(stream)
                stream.sendall(echoed(b"get %d" % SIZE))
                assert readRecord(stream) == Echo(data=b"body %d" % SIZE)
                return act(stream)

        return deferToThread(run)

    async def serveOthers(self, port: int) -> None:
        """See that another session is served."""
        other = await self.connect(clientFromString(self.reactor, f"tcp:127.0.0.1:{port}"))
        for _ in range(20):
            self.assertEqual(await other.ask(b"x"), b"x")

    async def test_slow(self) -> None:
        """A reader that does not read costs no memory, and then has everything."""
        port = await self.serve()
        goOn: Deferred[None] = Deferred()
        before = memory()

        def slowly(stream: socket.socket) -> bytes:
            # Meanwhile others are served.
            blockingCallFromThread(self.reactor, lambda: cast(Any, goOn))
            return _digest(stream, SIZE)

        fetching = self.fetch(port, slowly)
        await self.serveOthers(port)
        self.assertEqual(Archive.heard, [])
        self.assertLess(memory() - before, BUFFERS)
        goOn.callback(None)
        self.assertEqual(await fetching, self.digest().encode())
        self.assertEqual(Archive.heard, [0])

    async def test_slowTLS(self) -> None:
        """Over TLS no more of the file is read than such a reader takes."""
        asked = 0
        pread = os.pread

        def noting(descriptor: int, count: int, offset: int) -> bytes:
            nonlocal asked
            asked += count
            return pread(descriptor, count, offset)

        self.patch(os, "pread", noting)
        endpoint = await self.serveTLS(BulkTLSFactory)
        slow = await self.connect(endpoint)
        other = await self.connect(endpoint)
        slow.send(Echo(data=b"get %d" % SIZE))
        slow.hold(True)
        for _ in range(200):
            self.assertEqual(await other.ask(b"x"), b"x")
        self.assertLess(asked, BUFFERS)
        slow.hold(False)
        self.assertEqual(await slow.next(PATIENCE), Echo(data=b"missing 0"))
        self.assertEqual(slow.digest.hexdigest(), self.digest())

    async def test_goesAway(self) -> None:
        """A reader that goes away in the middle, by a close or a reset, ends its session alone."""
        port = await self.serve()

        def leave(stream: socket.socket) -> None:
            stream.recv(1 << 20)

        def reset(stream: socket.socket) -> None:
            leave(stream)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        for act in (leave, reset):
            Archive.heard.clear()
            with capturedLogs() as events:
                await self.fetch(port, act)
                while not Archive.heard:
                    await self.serveOthers(port)
            (failure,) = Archive.heard
            assert isinstance(failure, Failure)
            self.assertIsNotNone(failure.check(ConnectionFailed))
            causes = [event["cause"] for event in events if "cause" in event]
            # One that leaves without unread bytes may look as if it had just closed.
            self.assertIn(len(causes), (1,) if act is reset else (0, 1), causes)

    async def test_shorter(self) -> None:
        """A file that becomes shorter meanwhile ends in zeros, and the session goes on."""
        port = await self.serve()
        truncated: Deferred[None] = Deferred()

        def read(stream: socket.socket) -> tuple[bytes, Any]:
            head = _exactly(stream, 1 << 20)
            blockingCallFromThread(self.reactor, lambda: cast(Any, truncated))
            return head + _exactly(stream, SIZE - len(head)), readRecord(stream)

        whole = self.path.read_bytes()
        fetching = self.fetch(port, read)
        await self.serveOthers(port)
        os.truncate(self.path, 1 << 20)
        truncated.callback(None)
        data, end = await fetching
        (missing,) = Archive.heard
        assert isinstance(missing, int)
        self.assertGreater(missing, 0)
        self.assertEqual(end, Echo(data=b"missing %d" % missing))
        self.assertEqual((data[: 1 << 20], data[-missing:]), (whole[: 1 << 20], bytes(missing)))


class TurnTests(BodyTestCase):
    """Who is served meanwhile."""

    def setUp(self) -> None:
        super().setUp()
        #: The sockets that have sent, in order, and 0 for each turn of the reactor.
        self.order: list[int] = []
        sendfile = os.sendfile

        def noting(out: int, source: int, offset: int, count: int) -> int:
            sent = sendfile(out, source, offset, count)
            self.assertLessEqual(sent, SEND_A_TURN)
            self.order.append(out)
            return sent

        self.patch(os, "sendfile", noting)

    def tick(self) -> None:
        """Note a turn."""
        self.order.append(0)
        if not self.over:
            self.reactor.callLater(0, self.tick)

    async def fetchAll(self, count: int) -> list[Customer]:
        """Fetch the file so many times at once."""
        endpoint = clientFromString(self.reactor, f"tcp:127.0.0.1:{await self.serve()}")
        sessions = [await self.connect(endpoint) for _ in range(count)]
        self.over = False
        self.tick()
        asking = [Deferred.fromCoroutine(each.ask(b"get %d" % SIZE)) for each in sessions]
        for found in await gatherResults(asking):
            self.assertEqual(found, b"missing 0")
        self.over = True
        for session in sessions:
            self.assertEqual(session.taken, SIZE)
        return sessions

    async def test_others(self) -> None:
        """Between any two pieces of one connection everything else in the process has its turn."""
        await self.fetchAll(1)
        self.assertGreaterEqual(len([out for out in self.order if out]), SIZE // SEND_A_TURN)
        for first, second in zip(self.order, self.order[1:], strict=False):
            self.assertFalse(first and second, "Two pieces left in one turn.")

    async def test_fair(self) -> None:
        """Two that send at once have their turns alike: neither is done before the other has got
        a quarter."""
        await self.fetchAll(2)
        sent = [out for out in self.order if out]
        first, second = sorted(set(sent))
        ends = {out: len(sent) - 1 - sent[::-1].index(out) for out in (first, second)}
        early, late = sorted((first, second), key=lambda out: ends[out])
        others = sent[: ends[early]].count(late)
        self.assertGreater(others, sent.count(late) // 4)


class ColdTests(TestCase):
    """Files of the files service that are not in memory when somebody asks for them."""

    timeout = 120

    def setUp(self) -> None:
        self.reactor = realReactor()
        self.root = Path(self.mktemp())
        self.root.mkdir()
        self.data = os.urandom(COLD)
        path = self.root / "cold"
        with path.open("wb") as file:
            file.write(self.data)
            file.flush()
            os.fsync(file.fileno())
        self.looking = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, self.looking)
        mapped = mmap.mmap(self.looking, COLD, mmap.MAP_PRIVATE)
        self.addCleanup(mapped.close)
        #: All of the file, of which nothing is ever read here.
        self.mapped = (ctypes.c_char * COLD).from_buffer(mapped)
        self.addCleanup(delattr, self, "mapped")
        self.sent: list[tuple[int, int]] = []
        #: Of what was sent, where it was not in memory just before.
        self.cold: list[int] = []
        sendfile = os.sendfile

        def noting(out: int, source: int, offset: int, count: int) -> int:
            pages = range(offset // mmap.PAGESIZE, -(-(offset + count) // mmap.PAGESIZE))
            self.cold.extend(sorted(self.coldPages().intersection(pages)))
            sent = sendfile(out, source, offset, count)
            self.sent.append((offset, sent))
            return sent

        self.patch(os, "sendfile", noting)

    def coldPages(self) -> set[int]:
        """Tell at which pages of the file a reader would have to wait for the disk. A read with
        RWF_NOWAIT tells that, too, but asks for the page, and finds it where the disk is quick."""
        found = (ctypes.c_ubyte * (COLD // mmap.PAGESIZE))()
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(ctypes.addressof(self.mapped))
        self.assertEqual(libc.mincore(address, ctypes.c_size_t(COLD), found), 0)
        return {page for page, state in enumerate(found) if not state & 1}

    def makeCold(self) -> None:
        """Have the file on the disk alone."""
        for _ in range(EVICTIONS):
            os.posix_fadvise(self.looking, 0, 0, os.POSIX_FADV_DONTNEED)
            if len(self.coldPages()) == COLD // mmap.PAGESIZE:
                return
        raise SkipTest("the file system of the tests keeps files in memory, as tmpfs does")

    async def fetch(self) -> bytes:
        """Serve the directory, and fetch the file."""
        permit = Permit(
            Oversight("files"), Roots(str(self.root), lambda path: LocalStore(Root(path)))
        )
        factory = FilesFactory(self.reactor, permit)
        await factory.open()
        self.addCleanup(factory.abortConnections)
        endpoint = serverFromString(self.reactor, "tcp:0:interface=127.0.0.1")
        port = cast(Any, await endpoint.listen(factory))
        self.addCleanup(port.stopListening)
        there = clientFromString(self.reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        taken = StringTransport()
        async with await connectFiles(there, self.reactor, name="archive") as session:
            await getStream([session], b"/cold", taken)
        data: bytes = taken.value()
        return data

    async def test_get(self) -> None:
        """When the reactor lets the kernel send a part of a file that was on the disk alone, each
        page of that part is in memory by then, so that the reactor never waits for the disk: a
        thread has read it before, as it has digested it."""
        self.makeCold()
        self.assertEqual(await self.fetch(), self.data)
        self.assertEqual(sum(count for _, count in self.sent), COLD)
        self.assertEqual(self.cold, [])


class ReactorTests(TestCase):
    """The same with each reactor of Twisted's for this system."""

    timeout = 120

    async def test_every(self) -> None:
        """A file arrives whole, and a reader that goes away is heard of once."""
        path = self.mktemp()
        Path(path).write_bytes(os.urandom(20_000_003))
        for name in ("epoll", "poll", "select", "asyncio"):
            found = await deferToThread(
                subprocess.run,
                [sys.executable, "-c", PROGRAM, name, path],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            self.assertEqual((found.stdout, found.stderr), ("whole\nlost 1 failed 1\n", ""), name)


PROGRAM = dedent(
    """
    import os, socket, sys
    from importlib import import_module
    import_module(f"twisted.internet.{sys.argv[1]}reactor").install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Factory
    from twisted.internet.threads import deferToThread
    from twisted_netsuite.net.frames import FrameReceiver
    from twisted_netsuite.net.sendfile import Part

    source = os.open(sys.argv[2], os.O_RDONLY)
    size = os.fstat(source).st_size
    read = lambda offset, count: os.pread(source, count, offset)
    lost, failed = [], []

    class Sender(FrameReceiver):
        clock = reactor

        def frameReceived(self, frame):
            sending = self.sendFrameWithBody(b"body", Part(size, read, 0, source))
            sending.addErrback(failed.append)
            self.sendFrame(b"end")

        def connectionLost(self, reason):
            lost.append(reason)
            self.stopFrames()
            if failed:
                reactor.callLater(0.1, finish)

    def finish():
        print("lost", len(lost) - 1, "failed", len(failed))
        reactor.stop()

    def client(port):
        wanted = b"\\0\\0\\0\\4body" + os.pread(source, size, 0) + b"\\0\\0\\0\\3end"
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(b"\\0\\0\\0\\1x")
            data = take(stream, len(wanted))
            print("whole" if data == wanted else "broken", flush=True)
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(b"\\0\\0\\0\\1x")
            take(stream, 100_000)

    def take(stream, count):
        data = bytearray()
        while len(data) < count:
            piece = stream.recv(min(1 << 16, count - len(data)))
            assert piece
            data += piece
        return bytes(data)

    port = reactor.listenTCP(0, Factory.forProtocol(Sender), interface="127.0.0.1")
    reactor.callWhenRunning(deferToThread, client, port.getHost().port)
    reactor.run()
    """
)


def _exactly(stream: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        piece = stream.recv(min(1 << 20, count - len(found)))
        assert piece
        found += piece
    return bytes(found)


def _digest(stream: socket.socket, count: int) -> bytes:
    return hashlib.blake2b(_exactly(stream, count)).hexdigest().encode()
