"""
Who may import whom, and that an import does nothing else.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted_netsuite

PACKAGE = "twisted_netsuite"
SOURCE = Path(twisted_netsuite.__file__).parent

SERVICES = ("echo", "rexec", "files", "chat", "proxy")
SERVED = [[service] for service in SERVICES]

#: What our modules may use of others, beside the standard library; Twisted stands for the libraries
#: that it brings along, too.
TWISTED = frozenset(
    {"twisted", "zope", "OpenSSL", "cryptography", "constantly", "service_identity"}
)
RECORDS = frozenset({"msgspec"})
COMMANDS = frozenset({"click", "tqdm"})

#: What only one service uses.
OWN = {"files": frozenset({"blake3"})}

#: The rooms of a service that only count, compare and write records.
PURE = (
    "machine",
    "classicmachine",
    "outcome",
    "messages",
    "flow",
    "serverchannel",
    "clientchannel",
    "clientmachine",
    "names",
    "digests",
)

#: The rooms of services that commands of the program use.
CLIENTS = (
    *("client", "classicclient", "remote", "resume", "messages", "outcome"),
    *("transfer", "trees", "sync", "plan", "patterns", "itemize", "flights", "progress"),
    *("localtree", "remotetree", "localstore", "root", "store", "disk", "digests", "names"),
    "entries",
)

#: The only functions that may ask for the reactor: they run a whole program.
MAY_ASK_REACTOR = {"twisted_netsuite.ops.launch", "twisted_netsuite.cli.run"}


def allowed(module: str) -> tuple[frozenset[str], tuple[str, ...]] | None:
    """
    Tell what a module may import.

    @param module: its name below the package, such as C{echo.tap}.
    @return: packages of others, and modules of ours with all that is below them; L{None} for a
        module that has no place in the house.
    """
    top, _, room = module.partition(".")
    match top, room:
        case "" | "errors", "":
            return frozenset(), ()
        case "wire", _:
            return RECORDS, ("wire", "errors")
        case "net", _:
            return TWISTED, ("net", "trust", "wire", "errors")
        case "trust", _:
            return TWISTED | RECORDS, ("trust", "wire", "errors")
        case "ops", "suite":
            return TWISTED, ("ops", "errors", *(f"{service}.tap" for service in SERVICES))
        case "ops", _:
            return TWISTED | RECORDS, ("ops", "net", "trust", "wire", "errors")
        case "cli", _:
            rooms = [f"{service}.{room}" for service in SERVICES for room in CLIENTS]
            ours = ("cli", "ops.config", "net", "trust", "wire", "errors", "__version__")
            return TWISTED | RECORDS | COMMANDS, (*ours, *rooms)
        case "testing", "":
            return TWISTED, ("net", "wire", "errors", "rexec.launch")
    if top not in SERVICES:
        return None
    pure = tuple(f"{top}.{name}" for name in PURE)
    there = {path.stem for path in (SOURCE / top).glob("*.py")}
    own = (*(f"{top}.{name}" for name in sorted(there - {"__init__", "tap"})), *pure)
    libraries = OWN.get(top, frozenset())
    match room:
        case "":
            return frozenset(), ()
        case "machine" | "classicmachine" | "clientmachine":
            return frozenset(), ("wire", "errors")
        case "keeper":
            return frozenset(), ()
        case _ if room in PURE:
            return RECORDS | libraries, (*pure, "wire", "errors")
        case "commands" | "ledger" | "recording":
            return TWISTED | RECORDS, (*own, "net", "trust", "wire", "errors")
        case "tap":
            return TWISTED | RECORDS, (*own, "net", "trust", "ops", "errors")
        case _ if room in there:
            return TWISTED | libraries, (*own, "net", "trust", "wire", "errors")
    return None


def imports(tree: ast.AST) -> Iterator[str]:
    """List what is imported below a node, at any depth; C{from a import b} is C{a.b}."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)


def atImport(node: ast.AST) -> Iterator[str]:
    """List what is imported when the module is: all but what stands inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from imports(child)
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from atImport(child)


def faults(module: str, source: str) -> list[str]:
    """
    Find what a module imports against the rules.

    @param module: its full name.
    @param source: its text.
    @return: a line for each fault.
    """
    rule = allowed(module.removeprefix(PACKAGE).removeprefix("."))
    if rule is None:
        return [f"{module} has no place in the house"]
    others, ours = rule
    tree = ast.parse(source)
    found = []
    for name in imports(tree):
        top, _, below = name.partition(".")
        if top == PACKAGE:
            right = any(below == ok or below.startswith(f"{ok}.") for ok in ours)
        else:
            right = top in sys.stdlib_module_names or top in others
        if name.startswith("twisted.internet.reactor"):
            right = module in MAY_ASK_REACTOR and name not in atImport(tree)
        if not right:
            found.append(f"{module} imports {name}")
    return found


def modules() -> dict[str, Path]:
    """List our modules, by full name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


class RuleTests(SynchronousTestCase):
    """The rules, tried on modules that keep them and on modules that do not."""

    def test_every(self) -> None:
        """Each module of the package imports only what its room may."""
        found = [
            fault
            for module, path in modules().items()
            for fault in faults(module, path.read_text())
        ]
        self.assertEqual(found, [])

    def test_kept(self) -> None:
        """What the layout allows is no fault."""
        for module, source in (
            ("wire.header", "import msgspec\nfrom twisted_netsuite.errors import Denied"),
            ("echo.machine", "from enum import Enum\nfrom twisted_netsuite.wire.machine import M"),
            ("chat.messages", "import msgspec"),
            ("net.limits", "from twisted.internet.defer import Deferred"),
            ("rexec.flow", "from twisted_netsuite.rexec.messages import Tally"),
            ("rexec.command", "from twisted_netsuite.rexec.flow import Count"),
            ("rexec.commands", "import msgspec"),
            ("rexec.keeper", "import signal"),
            ("echo.protocol", "from twisted_netsuite.echo.machine import TABLE"),
            ("echo.tap", "from twisted_netsuite.ops.launch import makerFor"),
            ("ops.suite", "from twisted_netsuite.echo.tap import KIND"),
            ("ops.launch", "def f():\n    from twisted.internet import reactor"),
            ("cli.echo", "import click\nfrom twisted_netsuite.echo.client import connectEcho"),
        ):
            self.assertEqual(faults(f"{PACKAGE}.{module}", source), [])

    def test_broken(self) -> None:
        """Each rule that is broken is a fault, also inside a function or a condition."""
        for module, source in (
            ("errors", "import msgspec"),
            ("wire.header", "import twisted"),
            ("wire.header", "def f():\n    from twisted.python import log"),
            ("wire.header", "from twisted_netsuite.net import limits"),
            ("echo.machine", "from twisted_netsuite.echo.protocol import Echo"),
            ("echo.machine", "import msgspec"),
            ("chat.messages", "if TYPE_CHECKING:\n    from twisted.internet import defer"),
            ("net.limits", "from twisted_netsuite.ops.config import Kind"),
            ("net.limits", "from twisted_netsuite import echo"),
            ("echo.protocol", "from twisted_netsuite.ops.config import Kind"),
            ("echo.protocol", "from twisted_netsuite.echo.tap import KIND"),
            ("echo.protocol", "from twisted_netsuite.proxy.protocol import Proxy"),
            ("echo.protocol", "from ..proxy.protocol import Proxy"),
            ("echo.tap", "from twisted_netsuite.proxy.tap import KIND"),
            ("ops.launch", "from twisted_netsuite.echo.tap import KIND"),
            ("ops.launch", "from twisted.internet import reactor"),
            ("ops.launch", "class A:\n    from twisted.internet import reactor"),
            ("ops.config", "def f():\n    from twisted.internet import reactor"),
            ("echo.tap", "def f():\n    import twisted.internet.reactor"),
            ("cli.echo", "from twisted_netsuite.echo.protocol import Echo"),
            ("cli.echo", "from twisted_netsuite.ops.launch import launch"),
            ("cli.exec", "from twisted_netsuite.rexec.process import ProcessSpawner"),
            ("rexec.flow", "from twisted.internet.defer import Deferred"),
            ("rexec.serverchannel", "from twisted_netsuite.rexec.command import Command"),
            ("rexec.machine", "from twisted_netsuite.rexec.messages import Start"),
            ("rexec.command", "import msgspec"),
            ("rexec.keeper", "from twisted_netsuite.errors import NetsuiteError"),
            ("rexec.keeper", "def f():\n    from twisted.internet import fdesc"),
            ("rexec.keeper", "import msgspec"),
            ("testing", "from twisted_netsuite.echo.protocol import Echo"),
            ("helpers", ""),
            ("echo.helpers", ""),
        ):
            self.assertEqual(len(faults(f"{PACKAGE}.{module}", source)), 1, (module, source))


class ImportTests(SynchronousTestCase):
    """What an import does, each time in a fresh interpreter."""

    def effects(self, names: list[str], unwanted: str) -> str:
        """
        Import modules one after the other.

        @param names: the modules.
        @param unwanted: a module that must not be loaded by them.
        @return: all output: the first module that loads it, if there is one.
        """
        script = (
            "import importlib, sys\n"
            f"for name in {names!r}:\n"
            "    importlib.import_module(name)\n"
            f"    if {unwanted!r} in sys.modules:\n"
            "        raise SystemExit(name)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", script],
            cwd=SOURCE.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return run.stdout + run.stderr

    def test_wireAndMachines(self) -> None:
        """The wire, every machine, all records and what they stand on load no Twisted."""
        names = [
            name
            for name in modules()
            if name.startswith((f"{PACKAGE}.wire", f"{PACKAGE}.errors"))
            or (name.split(".")[1:2] in SERVED and name.rpartition(".")[2] in PURE)
        ]
        self.assertIn(f"{PACKAGE}.rexec.outcome", names)
        self.assertIn(f"{PACKAGE}.files.digests", names)
        self.assertEqual(self.effects([PACKAGE, *names], "twisted"), "")

    def test_keeper(self) -> None:
        """The keeper is a program of the standard library alone: it loads nothing of ours, not even
        the package, and so nothing that could hold or slow what it does."""
        keeper = SOURCE / "rexec" / "keeper.py"
        script = (
            "import runpy, sys\n"
            f"runpy.run_path({str(keeper)!r}, run_name='keeper')\n"
            "others = {name.partition('.')[0] for name in sys.modules}\n"
            "print(sorted(others - sys.stdlib_module_names - {'__main__'}))\n"
        )
        command = [sys.executable, "-I", "-S", "-c", script]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual((run.stdout, run.stderr), ("[]\n", ""))

    def test_noReactor(self) -> None:
        """No module installs a reactor, opens a window or prints: not even a tap."""
        names = [name for name in modules() if not name.endswith(".__main__")]
        self.assertGreater(len(names), 40)
        self.assertEqual(self.effects(names, "twisted.internet.reactor"), "")

    def test_noticed(self) -> None:
        """A module that does load what is unwanted would be found."""
        self.assertIn(
            "twisted.internet.task",
            self.effects(["json", "twisted.internet.task"], "twisted.internet.defer"),
        )
