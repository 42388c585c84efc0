"""
The native files service as it is used: C{twistd} and the C{netsuite} program, killed on the way,
with readers and writers at once, and over mutual TLS.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import (
    BIN,
    PATIENCE,
    Twistd,
    eventually,
    freePort,
    netsuite,
    scratch,
    started,
)
from tests.trust.certificates import authority, clientBundle, endpoint, serverFiles
from twisted_netsuite.files.names import RESERVED

SIZE = 20 * 2**20

#: Bytes a second at which there is time to kill somebody.
SLOW = 4 * 2**20

POLICY = b"""
[identities]
"cert:*" = ["owner"]

[[roles.owner.files]]
actions = ["read", "write", "delete"]
"""


def sha256(path: Path) -> str:
    """Digest a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begun(path: Path) -> bool:
    """Tell whether 2 MiB of a file of random bytes have come, beside where it will be."""
    for each in path.iterdir():
        with contextlib.suppress(FileNotFoundError), each.open("rb") as file:
            file.seek(2 * 2**20)
            if os.fsencode(each.name).startswith(RESERVED) and any(file.read(4096)):
                return True
    return False


class ProgramTests(SynchronousTestCase):
    """What a person types."""

    def setUp(self) -> None:
        self.here = scratch(self)
        self.root = self.here / "root"
        self.root.mkdir()
        self.file = self.here / "big"
        self.file.write_bytes(os.urandom(SIZE))

    def serve(self, *words: str, port: int = 0) -> Twistd:
        """Start a service of the root."""
        twistd = started(
            self,
            *("netsuite-files", "--root", str(self.root)),
            *("--listen", f"tcp:{port}:interface=127.0.0.1", *words),
        )
        self.address = twistd.places[0].text
        return twistd

    def run_(self, *words: str) -> str:
        """Run a command that has to succeed."""
        done = netsuite(*words, cwd=self.here)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        process = subprocess.Popen(
            [str(BIN / "netsuite"), *words],
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        """End a command that may have ended."""
        if process.poll() is None:
            process.kill()
        process.communicate()

    def assertClean(self, directory: Path, *names: str) -> None:
        """Nothing is there but these files: no half of any."""
        self.assertEqual(sorted(os.listdir(directory)), sorted(names))

    def assertQuiet(self, twistd: Twistd) -> None:
        """Nothing went wrong in a service."""
        self.assertNotIn("Traceback", twistd.log())

    def test_there_and_back(self) -> None:
        """A file is the same at both ends, over one connection and over several."""
        twistd = self.serve("--writable")
        for jobs in ("1", "3"):
            self.run_("put", "-q", "-j", jobs, "big", f"{self.address}:/there")
            self.run_("get", "-q", "-j", jobs, f"{self.address}:/there", "back")
            self.assertEqual(sha256(self.root / "there"), sha256(self.file))
            self.assertEqual(sha256(self.here / "back"), sha256(self.file))
            (self.here / "back").unlink()
            (self.root / "there").unlink()
        self.assertClean(self.root)
        self.assertQuiet(twistd)

    def test_serverKilled(self) -> None:
        """A PUT whose server is killed publishes nothing, and the same command goes on with it."""
        port = freePort()
        twistd = self.serve("--writable", port=port)
        words = ("put", "-q", "--retries", "0", "big", f"{self.address}:/there")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        eventually(lambda: begun(self.root), "some of the file")
        twistd.signal(signal.SIGKILL)
        twistd.wait()
        _, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, err.count("\n")), (125, 1), err)
        self.assertNotIn("there", os.listdir(self.root))
        twistd = self.serve("--writable", port=port)
        self.run_(*words)
        self.assertEqual(sha256(self.root / "there"), sha256(self.file))
        self.assertClean(self.root, "there")
        self.assertQuiet(twistd)

    def test_serverStopped(self) -> None:
        """A server that is told to stop keeps what has come, and what it kept is gone on with."""
        port = freePort()
        twistd = self.serve("--writable", port=port)
        words = ("put", "--retries", "0", "big", f"{self.address}:/there")
        process = self.begin(*words, "-q", "--limit-rate", str(SLOW))
        eventually(lambda: begun(self.root), "some of the file")
        twistd.signal(signal.SIGTERM)
        self.assertEqual(twistd.wait(), -signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        left = [os.fsencode(each) for each in os.listdir(self.root)]
        self.assertEqual([each.startswith(RESERVED) for each in left], [True, True])
        self.assertNotIn("there", os.listdir(self.root))
        self.assertQuiet(twistd)
        twistd = self.serve("--writable", port=port)
        self.run_(*words)
        self.assertEqual(sha256(self.root / "there"), sha256(self.file))
        self.assertClean(self.root, "there")

    def test_clientKilled(self) -> None:
        """A GET that is killed leaves nothing under the name, and the same command goes on."""
        twistd = self.serve()
        (self.root / "there").write_bytes(self.file.read_bytes())
        target = self.here / "target"
        target.mkdir()
        words = ("get", "-q", f"{self.address}:/there", "target/back")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        eventually(lambda: begun(target), "some of the file")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse((target / "back").exists())
        self.run_(*words)
        self.assertEqual(sha256(target / "back"), sha256(self.file))
        self.assertClean(target, "back")
        self.assertQuiet(twistd)

    def test_putterKilled(self) -> None:
        """A PUT whose client is killed leaves nothing under the name, and is gone on with."""
        twistd = self.serve("--writable")
        words = ("put", "-q", "big", f"{self.address}:/there")
        process = self.begin(*words, "--limit-rate", str(SLOW))
        eventually(lambda: begun(self.root), "some of the file")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertNotIn("there", os.listdir(self.root))
        self.run_(*words)
        self.assertEqual(sha256(self.root / "there"), sha256(self.file))
        self.assertClean(self.root, "there")
        self.assertQuiet(twistd)

    def test_writers(self) -> None:
        """Of two who write one name every reader gets one whole version."""
        twistd = self.serve("--writable")
        versions = []
        for name in ("one", "two"):
            path = self.here / name
            path.write_bytes(os.urandom(3 * 2**20))
            versions.append(sha256(path))
        self.run_("put", "-q", "one", f"{self.address}:/there")
        writers: list[Any] = []
        for turn in range(4):
            words = ("put", "-q"), (f"{self.address}:/there",)
            writers += [self.begin(*words[0], name, *words[1]) for name in ("one", "two")]
            while any(each.poll() is None for each in writers):
                self.assertIn(sha256(self.root / "there"), versions)
            if not turn % 2:
                self.run_("get", "-q", f"{self.address}:/there", "back")
                self.assertIn(sha256(self.here / "back"), versions)
                (self.here / "back").unlink()
        self.assertEqual([each.returncode for each in writers], [0] * len(writers))
        self.assertClean(self.root, "there")
        self.assertQuiet(twistd)

    def test_readOnly(self) -> None:
        """A server that may only be read refuses with one sentence."""
        twistd = self.serve()
        done = netsuite("put", "-q", "big", f"{self.address}:/there", cwd=self.here)
        self.assertEqual(done.returncode, 126)
        self.assertRegex(done.stderr, r"\Anetsuite: [^\n]*\n\Z")
        self.assertClean(self.root)
        self.assertQuiet(twistd)

    def test_sync(self) -> None:
        """A tree that was synchronized there and back is the same."""
        twistd = self.serve("--writable")
        tree = self.here / "tree"
        for number in range(200):
            path = tree / f"d{number % 7}" / f"e{number % 3}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(number * 50))
        (tree / "large").write_bytes(os.urandom(3 * 2**20 + 1))
        (tree / "empty").touch()
        self.run_("sync", "-q", "tree/", f"{self.address}:/")
        self.run_("sync", "-q", f"{self.address}:/", "back/")
        for place in (self.root, self.here / "back"):
            same = subprocess.run(
                ["diff", "-r", str(tree), str(place)],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual((same.returncode, same.stdout), (0, ""))
        self.assertQuiet(twistd)


class MutualTests(SynchronousTestCase):
    """Mutual TLS."""

    def test_mutual(self) -> None:
        """Who has a certificate that the policy knows puts and gets, and nobody else does."""
        here = scratch(self)
        (here / "root").mkdir()
        (here / "policy.toml").write_bytes(POLICY)
        twistd = started(
            self,
            *("netsuite-files", "--root", str(here / "root")),
            *("--policy", str(here / "policy.toml"), "--listen", endpoint(serverFiles())),
        )
        address = f"127.0.0.1:{twistd.places[0].port}"
        file = here / "big"
        file.write_bytes(os.urandom(SIZE // 4))
        ca = ("--ca", str(authority().certificatePath))
        mine = (*ca, "--cert", clientBundle())
        for words in (("put", "-q", "big", f"{address}:/f"), ("get", "-q", f"{address}:/f", "b")):
            done = netsuite(*words, *mine, cwd=here)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sha256(here / "b"), sha256(file))
        done = netsuite("get", "-q", f"{address}:/f", "c", *ca, cwd=here)
        self.assertNotEqual(done.returncode, 0)
        self.assertFalse((here / "c").exists())
        self.assertNotIn("Traceback", twistd.log())
