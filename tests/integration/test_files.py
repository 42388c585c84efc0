"""
File download as the tutorial's client meets it.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration.processes import Place, ServedTestCase, eventually, netsuite
from tests.integration.tutorial import ACKNOWLEDGEMENTS, Refused, ask, get

BIG = bytes(range(256)) * 4000


class GetTests(ServedTestCase):
    """The dialect I{get}."""

    suite = """
    [files.main]
    dialect = "get"
    listen = ["tcp:0:interface=127.0.0.1", "unix:{dir}/files.sock"]
    root = "{dir}/root"
    """
    files = {
        "root/a.txt": b"alpha\n",
        "root/with two spaces.txt": b"spaces\n",
        "root/empty": b"",
        "root/big": BIG,
        "root/below/inner.txt": b"inner\n",
        "root/中文.txt": b"unicode\n",
        "secret.txt": b"secret\n",
    }

    def setUp(self) -> None:
        """Let links lead out of the root."""
        super().setUp()
        root = self.twistd.directory / "root"
        for name, target in (("link", "../secret.txt"), ("way", "..")):
            if not (root / name).is_symlink():
                os.symlink(target, root / name)

    def test_get(self) -> None:
        """Size, any acknowledgement, bytes: one file after another over one connection."""
        client = self.open("files.main")
        for acknowledgement in ACKNOWLEDGEMENTS:
            self.assertEqual(b"alpha\n", get(client, "a.txt", acknowledgement))
        self.assertEqual(b"inner\n", get(client, "below/inner.txt"))
        self.assertEqual(b"unicode\n", get(client, "中文.txt"))

    def test_big(self) -> None:
        """A file of many reads comes whole, and the next after it."""
        client = self.open("files.main")
        self.assertEqual(BIG, get(client, "big"))
        self.assertEqual(b"alpha\n", get(client, "a.txt"))

    def test_empty(self) -> None:
        """An empty file has the size 0 and no bytes."""
        self.assertEqual(b"", get(self.open("files.main"), "empty"))

    def test_spaces(self) -> None:
        """A name may hold spaces."""
        self.assertEqual(b"spaces\n", get(self.open("files.main"), "with two spaces.txt"))

    def test_missing(self) -> None:
        """A missing file is answered with an error at once, and the connection goes on."""
        client = self.open("files.main")
        error = self.assertRaises(Refused, get, client, "missing.txt")
        self.assertEqual("err: not-found: there is no such file.", str(error))
        self.assertEqual(b"alpha\n", get(client, "a.txt"))

    def test_acknowledgedRefusal(self) -> None:
        """The acknowledgement that a client sends after a refusal is swallowed."""
        place = self.twistd.place("files.main")
        client = self.open("files.main")
        ask(client, b"get missing.txt")
        client.send(ACKNOWLEDGEMENTS[0])
        eventually(lambda: _allRead(place), "the service has read the acknowledgement")
        self.assertEqual(b"alpha\n", get(client, "a.txt"))

    def test_confined(self) -> None:
        """No name and no link leads out of the root."""
        secret = self.twistd.directory / "secret.txt"
        names = ["../secret.txt", "below/../../secret.txt", "link", "way/secret.txt", str(secret)]
        client = self.open("files.main")
        for name in names:
            self.assertRaises(Refused, get, client, name)
        self.assertEqual(b"alpha\n", get(client, "/a.txt"))

    def test_directory(self) -> None:
        """A directory is no file."""
        error = self.assertRaises(Refused, get, self.open("files.main"), "below")
        self.assertTrue(str(error).startswith("err: denied: "))

    def test_unix(self) -> None:
        """The same program is served over AF_UNIX."""
        self.assertEqual(b"alpha\n", get(self.open("files.main", "unix"), "a.txt"))

    def test_program(self) -> None:
        """Our own client writes the file whole, and says in one line what it could not get."""
        place = self.twistd.place("files.main")
        source = f"{place.text}:/big"
        target = Path(self.mktemp())
        target.mkdir()
        done = netsuite("get", "--dialect", "get", source, cwd=target)
        self.assertEqual((0, "", ""), (done.returncode, done.stdout, done.stderr))
        self.assertEqual(BIG, (target / "big").read_bytes())
        done = netsuite("get", "--dialect", "get", f"{place.text}:/gone", cwd=target)
        self.assertEqual((127, ""), (done.returncode, done.stdout))
        self.assertRegex(done.stderr, r"\Anetsuite: .*'gone'.*\n\Z")
        self.assertEqual(["big"], os.listdir(target))


def _allRead(place: Place) -> bool:
    """Tell whether a service has read all that came to its port."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    waiting = [row[4].partition(":")[2] for row in rows if row[1].endswith(f":{place.port:04X}")]
    return not any(int(count, 16) for count in waiting)
