"""
The words of C{netsuite exec}: what is made of them, and what is refused.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite.cli.classicexec as classic
import twisted_netsuite.cli.exechosts as hosts
import twisted_netsuite.cli.execnative as native
import twisted_netsuite.cli.run as running
import twisted_netsuite.cli.streams as streams
from twisted_netsuite.cli.exec import LONGEST
from twisted_netsuite.cli.execnative import Server, Wish
from twisted_netsuite.cli.login import Login
from twisted_netsuite.cli.main import main
from twisted_netsuite.net.tlscontext import TrustFiles
from twisted_netsuite.rexec.messages import MAX_TTL

HOST = Server("h:1")
LS = ("ls", "-l")


class WordsTests(SynchronousTestCase):
    """What a command line calls."""

    def setUp(self) -> None:
        self.called: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.held = 0
        self.patch(running, "run", self.run_)
        self.patch(streams, "holdStandard", self.hold)
        for module, *names in (
            (native, "execute", "detached", "attach", "kill", "listCommands"),
            (hosts, "runOnHosts"),
            (classic, "runCommand"),
        ):
            for name in names:
                self.patch(module, name, self.noted(name))

    def hold(self) -> None:
        """Note that the standard streams were seen to."""
        self.held += 1

    def noted(self, name: str) -> Any:
        """Stand for what a command line calls."""

        async def note(reactor: object, *args: Any, **kwargs: Any) -> int:
            self.assertEqual(reactor, "reactor")
            self.called.append((name, args, kwargs))
            return 7

        return note

    def run_(self, call: Any) -> NoReturn:
        """Call it at once."""
        raise SystemExit(self.successResultOf(Deferred.fromCoroutine(call("reactor"))))

    def invoke(self, *words: str) -> Result:
        """Run C{netsuite exec}."""
        return CliRunner().invoke(main, ["exec", *words], prog_name="netsuite")

    def assertCalls(self, words: str, name: str, *args: Any, **kwargs: Any) -> None:
        """A command line calls just this, and its status is the program's."""
        self.called.clear()
        self.held = 0
        result = self.invoke(*words.split())
        self.assertEqual(self.called, [(name, args, kwargs)], f"{words}: {result.output}")
        self.assertEqual((result.exit_code, self.held), (7, 1))

    def assertRefused(self, words: str, *parts: str) -> None:
        """A command line is refused in one sentence, before anything is done."""
        self.called.clear()
        result = self.invoke(*words.split())
        self.assertEqual((result.exit_code, self.called, result.stdout), (125, [], ""), words)
        self.assertRegex(result.stderr, r"\Anetsuite: [^\n]+\n\Z")
        for part in parts:
            self.assertIn(part, result.stderr)

    def assertWishes(self, words: str, **wish: Any) -> None:
        """A command line wishes just this of one server."""
        self.assertCalls(words, "execute", HOST, Wish(**{"argv": LS, **wish}))

    def test_native(self) -> None:
        """Without anything else it is native, and all words are those of the command."""
        self.assertWishes("h:1 -- ls -l")
        self.assertWishes("h:1 ls", argv=("ls",))
        self.assertWishes("--dialect int32 h:1 -- ls -l")
        self.assertWishes("h:1 -- ps -- -x", argv=("ps", "--", "-x"))

    def test_options(self) -> None:
        """Each option is a wish, before or behind the address."""
        self.assertWishes("-i h:1 -- ls -l", stdin=True)
        self.assertWishes("h:1 -t -- ls -l", stdin=True, terminal=True)
        self.assertWishes("h:1 --tty --stdin -- ls -l", stdin=True, terminal=True)
        self.assertWishes(
            "h:1 --env A=b --env C=d=e --env E= -- ls -l", env={"A": "b", "C": "d=e", "E": ""}
        )
        self.assertWishes("h:1 --cwd /tmp --as www -- ls -l", cwd="/tmp", account="www")
        self.assertWishes("h:1 --shell -- ls -l", shell=True)
        self.assertWishes("h:1 --timeout 0.5 -- ls -l", timeLimit=0.5)
        self.assertWishes("h:1 --on-disconnect kill -- ls -l")
        for words in ("detach:2h", "detach --ttl 2h", "detach --ttl 7200"):
            self.assertWishes(
                f"h:1 --on-disconnect {words} -- ls -l", onDisconnect="detach", ttl=7200
            )

    def test_ownOptions(self) -> None:
        """From the first word of the command on nothing is an option of this program."""
        for words in ("h:1 rm -i f", "h:1 -- rm -i f", "-- h:1 rm -i f"):
            self.assertWishes(words, argv=("rm", "-i", "f"))
        self.assertWishes("h:1 -i rm -i --key k", argv=("rm", "-i", "--key", "k"), stdin=True)
        self.assertWishes("h:1 ls -t --help", argv=("ls", "-t", "--help"))
        self.assertWishes("h:1 ls -l")
        self.assertWishes("h:1 env -- -i", argv=("env", "--", "-i"))
        self.assertWishes("h:1 --cwd ls ls -l", cwd="ls")

    def test_key(self) -> None:
        """What has a key goes on without its client, so that the next call finds it."""
        self.assertWishes("h:1 --key k -- ls -l", key="k", onDisconnect="detach")
        self.assertWishes("h:1 --key k --ttl 2h ls -l", key="k", onDisconnect="detach", ttl=7200)
        self.assertWishes("h:1 --key k --on-disconnect kill ls -l", key="k")
        self.assertWishes("h:1 --key k --on-disconnect kill --ttl 60 ls -l", key="k", ttl=60)
        self.assertWishes(
            "h:1 --key k --on-disconnect detach:1h ls -l",
            key="k",
            onDisconnect="detach",
            ttl=3600,
        )
        wish = Wish(LS, onDisconnect="detach", key="k")
        self.assertCalls("h:1 --detach --key k -- ls -l", "detached", HOST, wish)

    def test_server(self) -> None:
        """Who one is, and how to connect, is said as for the other commands."""
        token = self.mktemp()
        with open(token, "w") as file:
            file.write("sesame\n")
        os.chmod(token, 0o600)
        self.assertCalls(
            f"h:1 --user bob --token-file {token} --cert a --ca b --crl c --connect-timeout 3 ls",
            "execute",
            Server("h:1", TrustFiles("a", "b", "c"), Login("bob", "sesame"), 3.0),
            Wish(("ls",)),
        )
        self.assertRefused("h:1 --user bob -- ls", "belong together")
        self.assertRefused("h:1 --cert a -- ls", "--cert needs --ca")

    def test_detach(self) -> None:
        """What is detached outlives the connection, and has no use for this process's streams."""
        wish = Wish(LS, onDisconnect="detach")
        self.assertCalls("h:1 --detach -- ls -l", "detached", HOST, wish)
        wish = Wish(LS, onDisconnect="detach", ttl=86400)
        self.assertCalls("h:1 --detach --ttl 1d -- ls -l", "detached", HOST, wish)
        self.assertCalls("h:1 --detach --on-disconnect detach:1d -- ls -l", "detached", HOST, wish)
        self.assertRefused("h:1 --detach -t -- ls", "--detach leaves at once, so it takes no --tty")
        self.assertRefused("h:1 --detach -i -- ls", "takes no --stdin")
        self.assertRefused("h:1 --detach --on-disconnect kill -- ls", "no --on-disconnect kill")

    def test_ttl(self) -> None:
        """How long something is kept is for what is kept, and said once."""
        self.assertRefused("h:1 --ttl 1d -- ls", "--ttl is for --detach, --key and --on-disconnect")
        self.assertRefused("h:1 --on-disconnect detach:1d --ttl 1d -- ls", "leave one of them out")
        self.assertRefused("h:1 --detach --ttl 1w -- ls", "no span of time", "'--ttl'")
        self.assertRefused("h:1 --detach --ttl 31d -- ls", "30d is the most")
        self.assertEqual(LONGEST, MAX_TTL)

    def test_missing(self) -> None:
        """What is missing is named."""
        self.assertRefused("", "Missing argument 'ADDRESS'", "see netsuite exec --help")
        self.assertRefused("h:1", "Missing argument 'ARGV...'")
        self.assertRefused("h:1 --", "Missing argument 'ARGV...'")
        self.assertRefused("--hosts a:1", "Missing argument 'ARGV...'")

    def test_wrong(self) -> None:
        """What cannot be is named, with what can."""
        self.assertRefused("h:1 -l ls", "No such option")
        self.assertRefused("h:1 --env A -- ls", "'A' is no variable; give NAME=VALUE")
        self.assertRefused("h:1 --env =b -- ls", "'=b' is no variable")
        for word in ("keep", "kill:1d", "detach:", "detach:soon", "Kill"):
            self.assertRefused(f"h:1 --on-disconnect {word} -- ls", "'--on-disconnect'")
        for seconds in ("0", "-1", "nan", "soon"):
            for option in ("--timeout", "--connect-timeout"):
                self.assertRefused(f"h:1 {option}={seconds} -- ls", f"'{option}'")
        self.assertRefused("--dialect odd h:1 ls", "'odd' is not one of", "'length'")

    def test_classic(self) -> None:
        """In a classic dialect the words are one line, and there are 60 seconds for an answer."""
        self.assertCalls("--dialect raw h:1 uname", "runCommand", "h:1", "uname", "raw", 60.0, None)
        self.assertCalls(
            "--dialect header --timeout 5 --ca ca h:1 -- ls -l",
            "runCommand",
            *("h:1", "ls -l", "header", 5.0, TrustFiles("", "ca")),
        )
        self.assertRefused("--dialect raw h:1", "Missing argument 'ARGV...'")

    def test_nativeOnly(self) -> None:
        """What a classic dialect does not have is refused with it."""
        for option in (
            *("-t", "-i", "--env A=b", "--cwd /", "--as x", "--shell", "--detach", "--key k"),
            *("--on-disconnect kill", "--ttl 1d", "--hosts a", "--block", "--prefix", "-P 3"),
            *("--user x", "--token-file x", "--connect-timeout 3"),
        ):
            self.assertRefused(f"--dialect raw {option} -- h:1 ls", "is for --dialect int32")

    def test_hosts(self) -> None:
        """Many servers get the same wish."""
        self.assertCalls(
            "--hosts a:1,b:2 -- ls -l",
            "runOnHosts",
            *([Server("a:1"), Server("b:2")], Wish(LS)),
            parallel=32,
            blocks=False,
        )
        self.assertCalls(
            "--hosts a:1 -P 5 --block --timeout 3 --env A=b --connect-timeout 2 -- ls",
            "runOnHosts",
            *([Server("a:1", timeout=2.0)], Wish(("ls",), timeLimit=3.0, env={"A": "b"})),
            parallel=5,
            blocks=True,
        )
        self.assertCalls(
            "--hosts a:1 -- ps a:1",
            "runOnHosts",
            *([Server("a:1")], Wish(("ps", "a:1"))),
            parallel=32,
            blocks=False,
        )

    def test_hostsFile(self) -> None:
        """They may stand in a file; one that cannot be read is named."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("a:1\n")
        self.assertCalls(
            f"--hosts @{path} -- ls",
            "runOnHosts",
            *([Server("a:1")], Wish(("ls",))),
            parallel=32,
            blocks=False,
        )
        self.assertRefused("--hosts @/no/where -- ls", "'/no/where' cannot be read")
        self.assertRefused("--hosts , -- ls", "names no server")
        self.assertRefused("--hosts a:1 --hosts , -- ls", "names no server")
        self.assertCalls(
            f"--hosts b:2,a:1 --hosts @{path} --hosts c:3 -- ls",
            "runOnHosts",
            *([Server("b:2"), Server("a:1"), Server("c:3")], Wish(("ls",))),
            parallel=32,
            blocks=False,
        )

    def test_hostsApart(self) -> None:
        """No server is taken for the command, and no command for a server."""
        self.assertRefused("--hosts a:1 b:2 ls", "With --hosts, ARGV stands behind --, and 'b:2'")
        self.assertRefused("--hosts a:1 b:2 -- ls", "'b:2' is before it")
        self.assertRefused("b:2 --hosts a:1 -- ls", "'b:2' cannot be one beside it")

    def test_hostsTake(self) -> None:
        """What there is one of cannot be given to many, and what is for many not to one."""
        for option in ("-t", "-i", "--detach", "--on-disconnect detach", "--ttl 1d", "--key k"):
            self.assertRefused(f"--hosts a:1 {option} -- ls", "is for a single ADDRESS")
        for option in ("--block", "--prefix", "-P 3"):
            self.assertRefused(f"h:1 {option} -- ls", "is for --hosts")
        for count in ("0", "1001", "x"):
            self.assertRefused(f"--hosts a:1 -P {count} -- ls", "'--parallel'")

    def test_ps(self) -> None:
        """The first word may be that of another command."""
        self.assertCalls("ps h:1", "listCommands", HOST, asJson=False)
        self.assertCalls("ps --json h:1", "listCommands", HOST, asJson=True)
        self.assertRefused("ps", "Missing argument 'ADDRESS'", "see netsuite exec ps --help")

    def test_attach(self) -> None:
        """Attach takes an ID, and what is to be given."""
        for words, stdin, raw, fromStart in (
            ("", False, False, False),
            ("-i", True, False, False),
            ("-t", True, True, False),
            ("--from-start", False, False, True),
        ):
            self.assertCalls(
                f"attach h:1 abc {words}",
                "attach",
                *(HOST, "abc"),
                stdin=stdin,
                raw=raw,
                fromStart=fromStart,
            )
        self.assertRefused("attach h:1", "Missing argument 'ID'")

    def test_kill(self) -> None:
        """Kill takes an ID, and the name of a signal in any form."""
        for words, name in (
            ("", None),
            ("--signal HUP", "HUP"),
            ("--signal sigusr1", "USR1"),
            ("--signal 9", "KILL"),
        ):
            self.assertCalls(f"kill h:1 abc {words}", "kill", HOST, "abc", name)
        self.assertRefused("kill h:1", "Missing argument 'ID'")
        self.assertRefused("kill h:1 abc --signal 99", "99 is the number of no signal")

    def test_help(self) -> None:
        """Help shows every form, and that of each command."""
        for words in ((), ("ps",), ("attach",), ("kill",)):
            for option in ("-h", "--help"):
                result = self.invoke(*words, option)
                self.assertEqual(result.exit_code, 0)
                self.assertIn(" ".join(("Usage: netsuite exec", *words)), result.stdout)
        text = self.invoke("--help").stdout
        for part in ("ps ADDRESS", "attach ADDRESS ID", "kill ADDRESS ID", "--hosts", "~."):
            self.assertIn(part, text)
        self.assertEqual(self.called, [])
