"""
Programs for a whole screen over C{netsuite exec -t}, in a terminal that is resized: tmux's.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from functools import partial
from pathlib import Path

from tests.integration.processes import BIN, ServedTestCase, eventually, scratch
from tests.peers.programs import program, run

#: The first size of the terminal, and the second.
FIRST, SECOND = (80, 24), (100, 40)


class ScreenTests(ServedTestCase):
    """An editor and a list of processes."""

    suite = """
    [exec.main]
    listen = ["tcp:0:interface=127.0.0.1"]
    allow-any = true
    """

    def setUp(self) -> None:
        """Start the service, and a terminal with a shell in it."""
        self.tmux = program("tmux", "tmux")
        super().setUp()
        self.directory = scratch(self)
        self.address = self.twistd.place("exec.main").text
        (cols, rows) = FIRST
        self.tell(
            *("-f", "/dev/null", "new-session", "-d", "-x", str(cols), "-y", str(rows)),
            *("env", "-i", "PS1=ready> ", "TERM=screen", "LC_ALL=C.UTF-8", "HOME=/"),
            *(f"PATH={BIN}:/usr/bin:/bin", "bash", "--norc", "--noprofile"),
        )
        self.addCleanup(self.tell, "kill-server")
        self.shows("ready>")

    def tell(self, *words: str) -> str:
        """Tell tmux something, on a socket of its own."""
        return run(self.tmux, "-S", str(self.directory / "tmux"), *words).decode()

    def type(self, *keys: str) -> None:
        """Press keys, as tmux names them, or type a text."""
        self.tell("send-keys", *keys)

    def screen(self) -> str:
        """Capture the screen as text."""
        return self.tell("capture-pane", "-p")

    def shows(self, *texts: str) -> str:
        """
        Wait until the screen shows texts.

        @param texts: all of these.
        @return: the screen.
        """
        try:
            eventually(partial(self._showsAll, texts), f"a screen with {texts}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.screen()}") from error
        return self.screen()

    def _showsAll(self, texts: tuple[str, ...]) -> bool:
        screen = self.screen()
        return all(text in screen for text in texts)

    def resize(self) -> None:
        """Give the terminal its second size."""
        self.tell("resize-window", "-x", str(SECOND[0]), "-y", str(SECOND[1]))

    def settings(self) -> str:
        """Ask the terminal how it is set."""
        path = self.directory / "settings"
        path.unlink(missing_ok=True)
        self.type(f"stty -g >{path}.new; mv {path}.new {path}", "Enter")
        eventually(path.exists, "the settings of the terminal")
        return path.read_text()

    def command(self, *argv: str) -> str:
        """Write a command that runs something over there."""
        return shlex.join(["netsuite", "exec", "-t", self.address, "--", *argv])

    def keep(self, name: str, screen: str) -> None:
        """Keep a screen for who wants to look at it."""
        directory = os.environ.get("NETSUITE_KEEP_SCREENS")
        if directory:
            (Path(directory) / f"{name}.txt").write_text(screen)

    def test_editor(self) -> None:
        """vim over there fills the terminal here, also one that is resized under it; what is typed
        arrives, the file is saved, and the terminal is as it was before."""
        vim = program("vim.tiny", "vim-tiny")
        path = self.directory / "file.txt"
        path.write_text("".join(f"line {number}\n" for number in range(1, 101)))
        before = self.settings()
        self.type(self.command(vim, "-u", "NONE", "-N", str(path)), "Enter")
        small = self.shows("line 1\n", "line 23\n")
        self.assertNotIn("line 24\n", small)
        self.resize()
        large = self.shows("line 1\n", "line 39\n")
        self.assertNotIn("line 40\n", large)
        self.type(":set lines? columns?", "Enter")
        self.shows("lines=40", "columns=100")
        self.type("Enter")
        self.type("ggOwritten over netsuite: naïve 你好", "Escape")
        self.keep("vim", self.shows("written over netsuite: naïve 你好"))
        self.type(":wq", "Enter")
        self.shows("ready>")
        self.assertTrue(path.read_text().startswith("written over netsuite: naïve 你好\nline 1\n"))
        self.type("echo status=$?", "Enter")
        self.shows("status=0")
        self.assertEqual(self.settings(), before)

    def test_interactive(self) -> None:
        """top draws again in the new size, obeys keys, and leaves the terminal as it was."""
        top = program("top", "procps")
        before = self.settings()
        self.type(self.command(top, "-d", "0.5"), "Enter")
        self.shows("PID", "%CPU", "load average")
        self.resize()
        eventually(lambda: len(self.screen().rstrip().split("\n")) > FIRST[1], "more lines")
        screen = self.shows("PID", "load average")
        self.keep("top", screen)
        self.type("q")
        self.shows("ready>")
        self.assertEqual(self.settings(), before)

    def test_keys(self) -> None:
        """Ctrl-C, Ctrl-Z and Ctrl-D belong to the shell over there, which does with them what a
        shell does; its end is the end here, with its status."""
        before = self.settings()
        self.type(self.command("env", "PS1=there> ", "bash", "--norc", "--noprofile"), "Enter")
        self.shows("\nthere>")
        self.type("sh -c 'echo runs; exec sleep 1000'", "Enter")
        self.shows("\nruns")
        self.type("C-c")
        self.type("echo interrupted=$?", "Enter")
        self.shows("interrupted=130")
        self.type("cat", "Enter")
        self.type("hello", "Enter")
        self.shows("hello\nhello")
        self.type("C-d")
        self.type("stty size", "Enter")
        self.shows("24 80")
        self.resize()
        self.type("stty size", "Enter")
        self.shows("40 100")
        self.type("exit 7", "Enter")
        self.shows("ready>")
        self.type("echo status=$?", "Enter")
        self.shows("status=7")
        self.assertEqual(self.settings(), before)

    def test_restored(self) -> None:
        """The terminal is as it was before when our program is ended by a signal, when the server
        is gone, and when one leaves by the escape."""
        before = self.settings()
        word = ("sh", "-c", "stty raw -echo; echo on; sleep 1000")
        for number in ("TERM", "HUP", "INT"):
            self.type("clear", "Enter")
            self.type(self.command(*word), "Enter")
            self.shows("\non")
            self.signal(number)
            self.left()
            self.type("echo back", "Enter")
            self.shows("ready> echo back\nback")
            self.assertEqual(self.settings(), before, number)
        self.type("clear", "Enter")
        self.type(self.command(*word), "Enter")
        self.shows("\non")
        self.type("Enter", "~", ".")
        self.left()
        self.type("echo again", "Enter")
        self.shows("ready> echo again\nagain")
        self.assertEqual(self.settings(), before)

    def children(self) -> list[str]:
        """Find what the shell runs: our program."""
        shell = self.tell("display-message", "-p", "#{pane_pid}").strip()
        return Path(f"/proc/{shell}/task/{shell}/children").read_text().split()

    def left(self) -> None:
        """Wait for the shell: what is typed before that is thrown away."""
        eventually(lambda: not self.children(), "the end of our program")

    def signal(self, name: str) -> None:
        """Send our program a signal."""
        for child in self.children():
            subprocess.run(["kill", f"-{name}", child], check=True)
