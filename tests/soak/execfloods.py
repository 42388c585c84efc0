"""
Remote commands at sizes that take minutes: gigabytes on both streams, a million frames, and a
server that is killed again and again.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.integration.execwire import ExecTestCase, memory, packed
from tests.integration.processes import BIN, scratch
from tests.integration.test_native_restart import RestartCase
from twisted_netsuite.rexec.messages import Credit, End
from twisted_netsuite.rexec.outcome import Exited

#: Bytes on each stream.
SIZE = 5 * 2**30

#: Seconds for them: 20 MB/s.
LONG = 600

#: Bytes by which a service may grow meanwhile.
GROWTH = 32 * 2**20

#: Frames about nothing.
FRAMES = 1_000_000

#: How often the server is killed, and commands that are begun before each time.
KILLS, CROWD = 40, 30


class FloodTests(ExecTestCase):
    """Much of everything."""

    def test_bothStreams(self) -> None:
        """Five gigabytes on each stream at once come whole through our program: their digests are
        those that the command computed over there; neither end keeps them in memory."""
        directory = scratch(self)
        sums = directory / "sums"
        script = f"""
        set -e
        mkfifo {directory}/1 {directory}/2
        sha256sum <{directory}/1 >{sums}.1 &
        sha256sum <{directory}/2 >{sums}.2 &
        pattern() {{ yes "$1 0123456789 abcdefghijklmnopqrstuvwxyz" | head -c {SIZE}; }}
        pattern out | tee {directory}/1 &
        pattern err | tee {directory}/2 >&2 &
        wait
        """
        command: Sequence[str | Path] = [
            *(BIN / "netsuite", "exec", self.address, "--", "bash", "-c", script)
        ]
        before = memory(self.twistd)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.addCleanup(process.kill)
        found: dict[str, tuple[int, str]] = {}

        def take(name: str) -> None:
            count, digest = 0, hashlib.sha256()
            while data := getattr(process, name).read1(2**20):
                count += len(data)
                digest.update(data)
            found[name] = (count, digest.hexdigest())

        readers = [threading.Thread(target=take, args=(name,)) for name in ("stdout", "stderr")]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(LONG)
        self.assertEqual(process.wait(LONG), 0)
        for name, number in (("stdout", 1), ("stderr", 2)):
            digest = Path(f"{sums}.{number}").read_text().split()[0]
            self.assertEqual(found[name], (SIZE, digest), name)
        self.assertLess(memory(self.twistd) - before, GROWTH)

    def test_tinyFrames(self) -> None:
        """A million frames about a command that is over are read past, in constant memory."""
        wire = self.wire()
        wire.socket.settimeout(LONG)
        done = wire.run("true")
        before = memory(self.twistd)
        late = packed(Credit(channel=done.end.channel, stream="stdout", count=1))
        wire.socket.sendall(late * FRAMES)
        self.assertEqual(wire.run("echo", "on").stdout, b"on\n")
        self.assertLess(memory(self.twistd) - before, GROWTH)

    def test_manyCommands(self) -> None:
        """After ten thousand commands the service holds what it held after a hundred."""
        wire = self.wire()
        for _ in range(100):
            wire.run("/bin/echo", "hello")
        before = memory(self.twistd)
        for _ in range(10_000):
            wire.run("/bin/echo", "hello")
        self.assertLess(memory(self.twistd) - before, 2**21)


class KilledTests(RestartCase):
    """A server that never ends as it should."""

    def test_once(self) -> None:
        """However often it is killed among commands that begin and end, no key runs a command
        twice, and none that was told to have ended is forgotten."""
        rng = random.Random(5)
        told: dict[str, End] = {}
        begun: list[str] = []
        for number in range(KILLS):
            # Half of what is kept may be one identity's.
            running = self.serve(**{"max-kept": 4 * KILLS * CROWD})
            wire = self.wire(running)
            # Some of before, and some new ones.
            keys = rng.sample(begun, min(len(begun), 10))
            keys += [f"{number}-{each}" for each in range(CROWD - len(keys))]
            begun += [key for key in keys if key not in begun]
            for key in keys:
                script = f"echo {key} >>{self.counter}; sleep 0.0{len(key)}"
                wire.start(script, key=key, onDisconnect="detach", ttl=3600)
            for _ in range(rng.randint(0, 2 * CROWD)):
                record = wire.read()
                if isinstance(record, End):
                    key = keys[record.channel - 1]
                    if key in told:
                        self.assertEqual(record.outcome, told[key].outcome, key)
                    told[key] = record
                if isinstance(record, End) and record.channel == len(keys):
                    break
            self.crash(running)
            ran = self.counted()
            self.assertEqual(sorted(set(ran)), sorted(ran))
        finished = [key for key, end in told.items() if end.outcome == Exited(code=0)]
        self.assertLessEqual(set(finished), set(self.counted()))
        self.assertGreater(len(finished), KILLS)


# Trial would run these as this module's own.
del ExecTestCase, RestartCase
