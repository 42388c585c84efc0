"""
The documentation keeps its promises: its links lead somewhere, its commands exist, its numbers and
tables are those of the code, and its exchanges and examples work.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import click
import msgspec
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    clientFromString,
)
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, readBody

from docs.examples import client, embed, notes
from docs.examples import commands as commandsExample
from docs.examples import files as filesExample
from twisted_netsuite.chat.classic import Switchboard
from twisted_netsuite.chat.messages import decodeForConsole, decodeForService, encodeLine
from twisted_netsuite.cli.chat import loadContacts
from twisted_netsuite.cli.main import main as netsuite
from twisted_netsuite.echo.native import NativeEchoFactory
from twisted_netsuite.echo.protocol import EchoFactory
from twisted_netsuite.errors import ConfigurationError, NotFound
from twisted_netsuite.files import classicmachine as classicFilesMachine
from twisted_netsuite.files import clientmachine as filesClientMachine
from twisted_netsuite.files import digests, uploads
from twisted_netsuite.files import machine as filesMachine
from twisted_netsuite.files import messages as filesMessages
from twisted_netsuite.files.classic import ClassicGetFactory
from twisted_netsuite.files.client import connectFiles
from twisted_netsuite.files.disk import ThreadedDisk
from twisted_netsuite.files.localstore import LocalStore
from twisted_netsuite.files.memorystore import MemoryStore
from twisted_netsuite.files.native import FilesFactory
from twisted_netsuite.files.permit import Permit
from twisted_netsuite.files.root import Root
from twisted_netsuite.files.roots import Roots
from twisted_netsuite.net.addresses import StreamAddress
from twisted_netsuite.net.conversation import DatagramConversation, converse
from twisted_netsuite.net.sessionclient import connectSession
from twisted_netsuite.ops.config import Field, ServiceConfig, fieldsOf, readSuite
from twisted_netsuite.ops.launch import build
from twisted_netsuite.ops.suite import KINDS
from twisted_netsuite.proxy import machine as proxyMachine
from twisted_netsuite.rexec import classicmachine, commands, outcome
from twisted_netsuite.rexec import machine as execMachine
from twisted_netsuite.rexec.allow import allowed
from twisted_netsuite.rexec.classic import ClassicExecFactory, Dialect
from twisted_netsuite.rexec.client import connectExec
from twisted_netsuite.rexec.messages import RECORDS
from twisted_netsuite.rexec.native import ExecFactory
from twisted_netsuite.rexec.permit import ownPath
from twisted_netsuite.rexec.process import ProcessSpawner
from twisted_netsuite.trust.audit import AuditNotes
from twisted_netsuite.trust.ca import Authority
from twisted_netsuite.trust.identity import ownIdentity
from twisted_netsuite.trust.oversight import UNSEEN, Oversight
from twisted_netsuite.trust.policy import PolicyFile
from twisted_netsuite.wire import sessionmachine
from twisted_netsuite.wire.machine import Table
from twisted_netsuite.wire.session import Record, SessionCodec

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs/examples"
PAGES = sorted(ROOT.glob("*.md")) + [
    page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts
]

#: A sentence with which C{twistd} refuses, other than those that depend on the machine: on its
#: addresses, and on its files.
REFUSED = re.compile(r"netsuite-?\w*: (?!Cannot listen|The root|Recordings)")

#: Seconds in which a server on loopback has to answer.
PATIENCE = 10.0


def page(name: str) -> str:
    """Read a page, named from the checkout's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Find what stands between fences of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it, with the first line of what it prints."""

    page: str
    words: tuple[str, ...]
    answer: str

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def shownCommands() -> Iterator[Shown]:
    """Find every command line of ours that a page shows."""
    for each in PAGES:
        for block in blocks(each.read_text(encoding="utf-8"), "console"):
            lines = block.splitlines()
            for line, following in zip(lines, [*lines[1:], ""], strict=True):
                if not line.startswith("$ "):
                    continue
                words = _firstCommand(line[2:])
                if words[0] in ("twistd", "netsuite"):
                    yield Shown(str(each.relative_to(ROOT)), words, following)


def _firstCommand(line: str) -> tuple[str, ...]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word and set(word) <= set("|;&"):
            break
        words.append(word)
    return tuple(words)


class LinkTests(SynchronousTestCase):
    """Links between the pages."""

    def test_relative(self) -> None:
        """Every relative link leads to a file of the project."""
        broken = [
            f"{each.relative_to(ROOT)}: {target}"
            for each in PAGES
            for target in re.findall(r"\]\(([^)\s]+)\)", each.read_text(encoding="utf-8"))
            if not re.match(r"\w+:", target)
            and not (each.parent / target.partition("#")[0]).exists()
        ]
        self.assertEqual(broken, [])

    def test_readmeKnowsEveryPage(self) -> None:
        """The README leads to every how-to and every protocol page."""
        links = re.findall(r"\((docs/[^)\s]+\.md)\)", page("README.md"))
        for folder in ("howto", "protocol"):
            there = {f"docs/{folder}/{each.name}" for each in (ROOT / "docs" / folder).glob("*.md")}
            self.assertEqual(there - set(links), set())


class CommandTests(SynchronousTestCase):
    """Command lines of C{twistd} and C{netsuite} in the pages."""

    def test_some(self) -> None:
        """The pages show commands of both programs: the tests below have something to look at."""
        programs = [shown.words[0] for shown in shownCommands()]
        self.assertGreater(programs.count("twistd"), 20)
        self.assertGreater(programs.count("netsuite"), 20)

    def test_twistd(self) -> None:
        """Every C{twistd} line is understood, or ends with just the sentence that is shown."""
        for shown in shownCommands():
            # What is wrong with a file is no example to keep.
            if shown.words[0] == "twistd" and "bad.toml" not in shown.words:
                self._parseTwistd(shown)

    def _parseTwistd(self, shown: Shown) -> None:
        words = [self._located(word) for word in shown.words[1:] if word != "--help"]
        options = ServerOptions()
        try:
            options.parseOptions(words)
        except SystemExit as end:
            self.assertEqual(str(end.code), shown.answer, str(shown))
            return
        plugin: Any = options.subOptions
        planned = getattr(plugin, "planned", None) or [(plugin.kind, "", plugin.config)]
        if "is right" in shown.answer:
            self.assertIn(f"({len(planned)} services)", shown.answer, str(shown))
        elif REFUSED.match(shown.answer):
            error = self.assertRaises(ConfigurationError, build, planned, MemoryReactorClock())
            self.assertEqual(f"{plugin.pluginName}: {error.sentence}", shown.answer, str(shown))

    def _located(self, word: str) -> str:
        return str(EXAMPLES / Path(word).name) if word.endswith(".toml") else word

    def test_netsuite(self) -> None:
        """Every C{netsuite} line names a command, and only options that it has."""
        for shown in shownCommands():
            if shown.words[0] == "netsuite":
                self._parseNetsuite(shown)

    def _parseNetsuite(self, shown: Shown) -> None:
        context = click.Context(netsuite)
        name, command, rest = netsuite.resolve_command(context, list(shown.words[1:]))
        assert command is not None
        try:
            command.make_context(name, rest, parent=context)
        except click.UsageError as error:
            self.fail(f"{shown}: {error.format_message()}")


class PythonTests(SynchronousTestCase):
    """Python in the pages."""

    def test_imports(self) -> None:
        """What a page imports from the package is there."""
        for each in PAGES:
            for block in blocks(each.read_text(encoding="utf-8"), "python"):
                for node in ast.walk(ast.parse(block)):
                    if isinstance(node, ast.ImportFrom) and node.module:
                        for alias in node.names:
                            getattr(import_module(node.module), alias.name)

    def test_factories(self) -> None:
        """Every factory that the page about embedding lists is where it says."""
        names = re.findall(r"`((?:\w+\.)+[A-Z]\w+)\(", page("docs/howto/embed.md"))
        self.assertGreater(len(names), 5)
        for name in names:
            constant(name)

    def test_digests(self) -> None:
        """The digest that the page about native files shows is that of the code, for any number
        of chunks."""
        (shown,) = blocks(page("docs/protocol/files.md"), "python")
        found: dict[str, Any] = {}
        exec(shown, found)
        self.assertEqual(found["CHUNK"], digests.CHUNK)
        for size in (0, 1, digests.CHUNK, digests.CHUNK + 1, 3 * digests.CHUNK):
            data = bytes(range(250)) * (size // 250 + 1)
            pieces = [
                digests.digestOf(data[at * digests.CHUNK : min(size, (at + 1) * digests.CHUNK)])
                for at in range(digests.chunks(size))
            ]
            self.assertEqual(found["digestOf"](data[:size]), digests.combined(pieces))

    def test_faults(self) -> None:
        """Each row of the pages about faults names tests, all of which are there."""
        for name, usual in (("exec", "test_native_faults"), ("files", "test_files_faults")):
            text = page(f"docs/protocol/{name}-faults.md")
            rows = re.findall(r"^\| (?!fault |-).*$", text, re.M)
            self.assertGreater(len(rows), 50)
            for row in rows:
                named = re.findall(r"`([a-z_.]*)((?:\w+)Tests[.\w]*)`", row.rpartition(" | ")[2])
                self.assertNotEqual(named, [], row)
                for module, test in named:
                    where = f"tests.{module or f'integration.{usual}.'}"
                    reduce(getattr, test.split("."), import_module(where.rstrip(".")))

    def test_failures(self) -> None:
        """The page about the clients lists every class of failure with its exit status."""
        rows = re.findall(
            r"^\| `(\w+)` \| .* \| (\d+) \|$", page("docs/howto/client.md"), re.MULTILINE
        )
        errors = import_module("twisted_netsuite.errors")
        known = {cls.__name__: cls.exitStatus for cls in errors.NetsuiteError.__subclasses__()}
        self.assertEqual({name: int(status) for name, status in rows}, known)


def constant(name: str) -> Any:
    """Find what a page names, from the package on."""
    module = name.split(".")
    attributes: list[str] = []
    while True:
        try:
            found = import_module(".".join(["twisted_netsuite", *module]))
        except ModuleNotFoundError:
            attributes.insert(0, module.pop())
        else:
            return reduce(_attribute, attributes, found)


def _attribute(of: Any, name: str) -> Any:
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return next(each.default for each in msgspec.structs.fields(of) if each.name == name)
    return getattr(of, name)


class NumberTests(SynchronousTestCase):
    """Limits that the pages name."""

    def test_limits(self) -> None:
        """Every limit in a table has the value that the code has."""
        rows = [
            (each.name, name, value)
            for each in PAGES
            for name, value in re.findall(
                r"^\| `((?:\w+\.)+\w+)` \| ([\d.]+) \|",
                each.read_text(encoding="utf-8"),
                re.MULTILINE,
            )
        ]
        self.assertGreater(len(rows), 25)
        for where, name, value in rows:
            self.assertEqual(constant(name), float(value), f"{where}: {name}")

    def test_answersToDatagrams(self) -> None:
        """The page about echo tells how many bytes an empty datagram can be answered with."""
        most = constant("net.datagrams.largestAnswer")(0)
        self.assertIn(f"answered with {most} bytes", page("docs/protocol/echo.md"))

    def test_loopPorts(self) -> None:
        """The page about echo names the ports that are not answered."""
        *ports, last = sorted(constant("net.datagrams.LOOP_PORTS"))
        listed = f"{', '.join(map(str, ports))} or {last}"
        self.assertIn(f"from port {listed},", page("docs/protocol/echo.md"))


class StateTests(SynchronousTestCase):
    """Tables of states in the protocol pages."""

    def assertShows(self, name: str, table: Table[Any, Any, Any], heading: str = "") -> None:
        """Check that a page, or what stands below one heading, shows just the transitions of a
        machine."""
        rows = [
            "| " + " | ".join((state.value, symbol.value, effect.value, following.value)) + " |"
            for (state, symbol), (effect, following) in table.items()
        ]
        states: type[Enum] = type(next(iter(table))[0])
        starts = tuple(f"| {state.value} |" for state in states)
        text = page(name)
        below = text.partition(f"\n{heading}\n")[2].partition("\n#")[0] if heading else text
        shown = [line for line in below.splitlines() if line.startswith(starts)]
        self.assertEqual(sorted(shown), sorted(rows))

    def test_exec(self) -> None:
        """The pages about exec show its machines."""
        self.assertShows("docs/protocol/exec-classic.md", classicmachine.TABLE)
        # The two ends do different things in the same states.
        native = "docs/protocol/exec.md"
        self.assertShows(native, execMachine.SERVER_TABLE, "### The server's end")
        self.assertShows(native, execMachine.CLIENT_TABLE, "### The client's end")

    def test_files(self) -> None:
        """The pages about files show their machines."""
        self.assertShows("docs/protocol/files-get.md", classicFilesMachine.TABLE)
        native = "docs/protocol/files.md"
        for heading, table in (
            ("### What is sent: GET, LIST, MANIFEST", filesMachine.SENDING_TABLE),
            ("### What is received: PUT, JOIN, PUT-BUNDLE", filesMachine.RECEIVING_TABLE),
        ):
            self.assertShows(native, table, heading)
        for heading, ours in (
            (
                "### A question: STAT, HASH, MKDIR, RENAME, REMOVE, CHANGE",
                filesClientMachine.QUESTION_TABLE,
            ),
            ("### A list: LIST, MANIFEST", filesClientMachine.LIST_TABLE),
            ("### A file that is fetched: GET", filesClientMachine.GET_TABLE),
            ("### A file that is sent: PUT, JOIN", filesClientMachine.PUT_TABLE),
            ("### A bundle: GET-BUNDLE, PUT-BUNDLE", filesClientMachine.BUNDLE_TABLE),
        ):
            self.assertShows(native, ours, heading)

    def test_proxy(self) -> None:
        """The page about the proxy shows its machine."""
        self.assertShows("docs/protocol/proxy.md", proxyMachine.TABLE)

    def test_session(self) -> None:
        """The page about sessions shows both machines."""
        both = {**sessionmachine.SERVER_TABLE, **sessionmachine.CLIENT_TABLE}
        self.assertShows("docs/protocol/session.md", both)


class RecordTests(SynchronousTestCase):
    """Tables of records in the protocol pages."""

    def assertRecords(self, name: str, records: Iterable[type[Record]]) -> None:
        """Check that a page has a row for each record, which names each of its fields."""
        rows = {
            name: row
            for row in page(name).splitlines()
            if re.match(r"\| `[a-z-]+`(, `[a-z-]+`)* \| (C|S|both) \|", row)
            for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])
        }
        self.assertEqual(set(rows), {record.__struct_config__.tag for record in records})
        for record in records:
            for field in record.__struct_encode_fields__:
                self.assertIn(f"`{field}`", rows[str(record.__struct_config__.tag)])

    def test_exec(self) -> None:
        """The page about native exec has a row for each record that there is, which names each of
        its fields."""
        self.assertRecords("docs/protocol/exec.md", RECORDS)

    def test_files(self) -> None:
        """So does the page about native files; and it names what is in facts, in entries and in
        the files of bundles."""
        self.assertRecords("docs/protocol/files.md", filesMessages.RECORDS)
        for line, struct in (
            ("- *Facts* are a map", filesMessages.Facts),
            ("- An entry of a list is a map", filesMessages.Listed),
            ("- A file that is asked for in a GET-BUNDLE is a map", filesMessages.Chosen),
            ("- A file that comes in a PUT-BUNDLE is a map", filesMessages.Offered),
            ("- What became of a file of a bundle is a map", filesMessages.Bundled),
        ):
            shown = page("docs/protocol/files.md").partition(line)[2].partition("\n- ")[0]
            for field in struct.__struct_encode_fields__:
                self.assertIn(f"`{field}`", shown)

    def test_filesSenders(self) -> None:
        """The page about native files says of each record who sends it."""
        both = {"body", "holes"}
        for record in filesMessages.RECORDS:
            tag = str(record.__struct_config__.tag)
            who = "both" if tag in both else "C" if record in filesMessages.REQUESTS else "S"
            self.assertIn(f"\n| `{tag}` | {who} |", page("docs/protocol/files.md"))

    def test_filesEvents(self) -> None:
        """The page about the audit log has a row for each act with files that the protocol's page
        names."""
        events = set(re.findall(r"`(files\.[a-z.]+)`[,| ]", page("docs/protocol/files.md")))
        rows = set(re.findall(r"^\| `(files\.[a-z.]+)` \|", page("docs/howto/audit.md"), re.M))
        self.assertEqual(events, rows)
        self.assertGreater(len(rows), 7)

    def test_outcomes(self) -> None:
        """The page about native exec has a row for each kind of outcome, which names each of its
        fields."""
        table, _, _ = page("docs/protocol/exec.md").partition("| kind |")[2].partition("\n\n")
        rows = {row.split("`")[1]: row for row in table.splitlines() if row.startswith("| `")}
        kinds = get_args(outcome.Outcome)
        self.assertEqual(set(rows), {kind.__struct_config__.tag for kind in kinds})
        for kind in kinds:
            for field in kind.__struct_encode_fields__:
                self.assertIn(f"`{field}`", rows[kind.__struct_config__.tag])


def keyRow(field: Field) -> str:
    """Write the row of a key, as the page about configuration has it."""
    default = "" if field.default is msgspec.NODEFAULT else f"`{_toml(field.default)}`"
    description = field.description.replace("|", "\\|")
    return f"| `{field.name}` | {_takes(field)} | {default} | {description} |"


def _toml(value: Any) -> str:
    return json.dumps(value)


def _takes(field: Field) -> str:
    if field.repeated:
        return "array of strings"
    if field.choices:
        return ", ".join(f'`"{choice}"`' for choice in field.choices)
    kind = str if field.default is msgspec.NODEFAULT else type(field.default)
    return {bool: "`true`, `false`", int: "integer", float: "number", str: "string"}[kind]


def keySection(name: str, config: type[ServiceConfig]) -> str:
    """Write what the page about configuration has about one kind of service."""
    head = [
        f"### [{name}.NAME]",
        "",
        "| key | takes | default | what it does |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *map(keyRow, fieldsOf(config))]) + "\n"


class ConfigurationTests(SynchronousTestCase):
    """Keys of the configuration file, and the example of one."""

    maxDiff = None

    def test_keys(self) -> None:
        """The page about configuration has every key of every kind as the code has it."""
        sections = "\n".join(keySection(name, kind.config) for name, kind in KINDS.items())
        _, _, shown = page("docs/howto/configure.md").partition("### [echo.NAME]")
        self.assertEqual("### [echo.NAME]" + shown, sections)

    def test_right(self) -> None:
        """The configuration that the page begins with is right."""
        shown, *_ = blocks(page("docs/howto/configure.md"), "toml")
        names = [name for _, name, _ in readSuite(self.written(shown), KINDS)]
        self.assertEqual(names, ["echo.main", "echo.as-it-came", "files.here", "proxy.echo"])

    def test_wrong(self) -> None:
        """Each configuration with a fault is answered with the sentence below it."""
        _, *wrong = blocks(page("docs/howto/configure.md"), "toml")
        answers = blocks(page("docs/howto/configure.md"), "console")
        for shown, answer in zip(wrong, answers, strict=True):
            path = self.written(shown)
            error = self.assertRaises(ConfigurationError, readSuite, path, KINDS)
            sentence = error.sentence.replace(path, "/srv/bad.toml")
            self.assertEqual(answer.splitlines()[1], f"netsuite: {sentence}")

    def written(self, toml: str) -> str:
        """Write a configuration file."""
        path = str(self.mktemp())
        Path(path).write_text(toml, encoding="utf-8")
        return path

    def test_example(self) -> None:
        """The example is right, has every kind, and can be built."""
        planned = readSuite(str(EXAMPLES / "classic.toml"), KINDS)
        self.assertEqual({kind.name for kind, _, _ in planned}, set(KINDS))
        for kind, _, config in planned:
            for service in kind.build(config, MemoryReactorClock(), UNSEEN):
                if isinstance(service.factory, ClassicGetFactory):
                    service.factory.root.close()

    def test_secureExample(self) -> None:
        """The example with certificates, a policy and an audit log can be built as it stands."""
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority.create(directory / "ca")
        authority.issueServer("localhost")
        (directory / "shared").mkdir()
        for name in ("secure.toml", "policy.toml"):
            (directory / name).write_bytes((EXAMPLES / name).read_bytes())
            (directory / name).chmod(0o600)
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(directory)
        reactor: Any = MemoryReactorClock()
        services = build(readSuite("secure.toml", KINDS), reactor)
        self.assertEqual([service.name for service in services], ["exec.main", "files.main"])
        self.assertIsInstance(services[1].factory, FilesFactory)
        # Its policy has a quota, and that is counted.
        self.assertEqual(services[1].uncounted, "")  # type: ignore[attr-defined]
        for service in services:
            for address in service.addresses:
                assert isinstance(address, StreamAddress)
                self.assertTrue(address.authenticates)

    def test_exampleDialects(self) -> None:
        """The example has a shell in each dialect of exec."""
        planned = readSuite(str(EXAMPLES / "classic.toml"), KINDS)
        shells = [config for kind, _, config in planned if kind.name == "exec"]
        dialects = {config.dialect for config in shells if config.allowShell}  # type: ignore[attr-defined]
        self.assertEqual(dialects, {"raw", "length", "header"})

    def test_contacts(self) -> None:
        """The contact list is right, and is the one that the page about chat shows."""
        self.assertEqual(
            loadContacts(str(EXAMPLES / "contacts.toml")),
            {"desk": ("127.0.0.1", 7425), "nobody": ("127.0.0.1", 7426)},
        )
        (shown,) = blocks(page("docs/howto/chat.md"), "toml")
        self.assertIn(shown, page("docs/examples/contacts.toml"))


class OperatorLineTests(SynchronousTestCase):
    """Lines of the operators' socket."""

    def test_lines(self) -> None:
        """Each line that the page shows is read, and written again, as it stands."""
        toConsole, toService = blocks(page("docs/protocol/chat-plain.md"), "json")
        for line in toConsole.encode().splitlines():
            self.assertEqual(encodeLine(decodeForConsole(line)), line)
        for line in toService.encode().splitlines():
            self.assertEqual(encodeLine(decodeForService(line)), line)


def exchanges(name: str) -> list[list[tuple[str, bytes]]]:
    """Find the exchanges of a page: for each, who sends what."""
    return [
        [(line[0], ast.literal_eval(line[3:])) for line in block.splitlines()]
        for block in blocks(page(name), "text")
        if block.startswith("C: ")
    ]


def sharedDirectory(path: str) -> str:
    """Make the directory of which the pages' exchanges tell."""
    directory = Path(path)
    directory.mkdir()
    (directory / "my notes.txt").write_bytes(b"hello\n")
    return path


def realReactor() -> Any:
    """Find the reactor that trial runs; imported late, as importing it installs it."""
    from twisted.internet import reactor

    return reactor


class ExchangeTests(TestCase):
    """Exchanges of the protocol pages, with real sockets on loopback."""

    async def replay(self, factory: Factory, exchange: list[tuple[str, bytes]]) -> None:
        """Send what the client sends, and expect what the server answers."""
        reactor = realReactor()
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        self.addCleanup(factory.abortConnections)  # type: ignore[attr-defined]
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        conversation = await converse(endpoint, reactor, "the server")
        for who, data in exchange:
            if who == "C":
                conversation.write(data)
            else:
                self.assertEqual(await conversation.readExactly(len(data), PATIENCE), data)
        conversation.close()

    async def test_echo(self) -> None:
        """Echo answers as its page shows."""
        reactor = realReactor()
        (exchange,) = exchanges("docs/protocol/echo.md")
        await self.replay(EchoFactory(reactor), exchange)

    async def test_exec(self) -> None:
        """Exec answers in each dialect as its page shows."""
        reactor = realReactor()
        dialects: tuple[Dialect, ...] = ("raw", "length", "header")
        shown = exchanges("docs/protocol/exec-classic.md")
        for dialect, exchange in zip(dialects, shown, strict=True):
            spawner = ProcessSpawner(reactor)
            self.addCleanup(spawner.stop)
            factory = ClassicExecFactory(reactor, dialect, spawner, allowShell=True)
            await self.replay(factory, exchange)

    async def test_nativeExec(self) -> None:
        """Native exec answers as its page shows: windows, ends, and a refusal."""
        reactor = realReactor()
        (exchange,) = exchanges("docs/protocol/exec.md")
        # Their names are chance.
        self.patch(commands, "_newId", lambda: "3dqzm5ho4knmsgfqg2la")
        oversight = UNSEEN.under(allowed(["cat"], ownPath()))
        await self.replay(ExecFactory(reactor, oversight), exchange)

    async def test_session(self) -> None:
        """A session begins, is kept and ends as its page shows."""
        reactor = realReactor()
        (exchange,) = exchanges("docs/protocol/session.md")
        await self.replay(NativeEchoFactory(reactor), exchange)

    async def test_notes(self) -> None:
        """The example of a service over sessions keeps notes for whom its policy lets."""
        reactor = realReactor()
        who = str(ownIdentity())
        path = self.mktemp()
        text = f"""
            [identities]
            "{who}" = ["writer"]
            [[roles.writer.files]]
            paths = ["/notes"]
            actions = ["write"]
        """
        Path(path).write_text(text)
        Path(path).chmod(0o600)
        audit = AuditNotes()
        oversight = Oversight("notes", PolicyFile(path), audit)
        socket = os.path.join(tempfile.mkdtemp(), "s")
        self.addCleanup(shutil.rmtree, os.path.dirname(socket))
        endpoint = UNIXServerEndpoint(reactor, socket)
        factory = notes.NotesFactory(reactor, oversight)
        port: Any = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        codec = SessionCodec((notes.Keep, notes.Kept))
        client = UNIXClientEndpoint(reactor, socket)
        session = await connectSession(client, reactor, codec, service="notes", name="notes")
        for asked in ("milk", ""):
            session.send(notes.Keep(text=asked))
            self.assertEqual(await session.next(PATIENCE), notes.Kept(text="milk"))
        self.assertEqual([each["identity"] for each in audit.records], [who, who])
        await session.close()

    async def test_nativeFiles(self) -> None:
        """Native files are put, sent, listed and refused as their page shows."""
        reactor = realReactor()
        (exchange,) = exchanges("docs/protocol/files.md")
        store = MemoryStore(now=lambda: 1795293477_000000000)
        # Their names are chance.
        chance = SimpleNamespace(token_bytes=lambda count: b"0123456789abcdef"[:count])
        self.patch(uploads, "secrets", chance)
        roots = Roots("/srv/files", lambda path: store)
        factory = FilesFactory(reactor, Permit(UNSEEN, roots, writable=True))
        await factory.open()
        await self.replay(factory, exchange)

    async def test_files(self) -> None:
        """Files are sent, and refused, as their page shows."""
        reactor = realReactor()
        (exchange,) = exchanges("docs/protocol/files-get.md")
        root = Root(sharedDirectory(self.mktemp()))
        self.addCleanup(root.close)
        await self.replay(ClassicGetFactory(reactor, root), exchange)

    async def test_chat(self) -> None:
        """A line to a chat without an operator is answered as its page shows."""
        clock = realReactor()
        (exchange,) = exchanges("docs/protocol/chat-plain.md")
        port = clock.listenUDP(0, Switchboard(clock).listen(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        conversation = DatagramConversation(clock, "127.0.0.1", port.getHost().port)
        socket = clock.listenUDP(0, conversation)
        self.addCleanup(socket.stopListening)
        for (_, asked), (_, answered) in zip(exchange[::2], exchange[1::2], strict=True):
            self.assertEqual(await conversation.ask(asked, PATIENCE), answered)


class EmbedTests(TestCase):
    """The example of an application that embeds services."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.reactor = realReactor()
        anywhere = "tcp:0:interface=127.0.0.1"
        self.application = await embed.start(self.reactor, anywhere, anywhere, anywhere)

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.application.stop()

    def address(self, name: str) -> str:
        """Tell where one of its services is."""
        port: Any = self.application.ports[name]
        return f"127.0.0.1:{port.getHost().port}"

    async def readPage(self) -> bytes:
        """Get the site's page."""
        url = f"http://{self.address('site')}/".encode()
        response: Any = await Agent(self.reactor).request(b"GET", url)
        body: bytes = await readBody(response)
        return body

    async def test_proxyToEcho(self) -> None:
        """Its proxy leads to its echo, and its page counts the connections of both."""
        self.assertEqual(await self.readPage(), b"echo: 0\nproxy: 0\n")
        endpoint = clientFromString(self.reactor, f"tcp:{self.address('proxy')}")
        conversation = await converse(endpoint, self.reactor, "the proxy")
        conversation.write(b"hello")
        self.assertEqual(await conversation.readExactly(5, PATIENCE), b"HELLO")
        self.assertEqual(await self.readPage(), b"echo: 1\nproxy: 1\n")
        conversation.close()

    async def test_stop(self) -> None:
        """When it stops, the connections of its clients end."""
        endpoint = clientFromString(self.reactor, f"tcp:{self.address('proxy')}")
        conversation = await converse(endpoint, self.reactor, "the proxy")
        conversation.write(b"hello")
        await conversation.readExactly(5, PATIENCE)
        await self.application.stop()
        with self.assertRaisesRegex(Exception, "broke before an answer came"):
            await conversation.readChunk(PATIENCE)


class CommandsTests(TestCase):
    """The example of an application that embeds exec, and is its client."""

    async def setUp(self) -> None:  # type: ignore[override]
        reactor = realReactor()
        self.port, self.factory = await commandsExample.serve(reactor, "tcp:0:interface=127.0.0.1")
        host: Any = self.port.getHost()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port)
        self.session = await connectExec(endpoint, reactor, name=f"127.0.0.1:{host.port}")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.session.close()
        await maybeDeferred(self.port.stopListening)
        await self.factory.abortConnections()

    async def test_inOrder(self) -> None:
        """A command reads what it is given, and what it wrote comes back."""
        answer = await commandsExample.inOrder(self.session, [b"b", b"c", b"a"])
        self.assertEqual(answer, [b"a", b"b", b"c"])

    async def test_atOnce(self) -> None:
        """Many run at once over one session, each with its own output."""
        answers = await commandsExample.atOnce(self.session, range(1, 21))
        self.assertEqual(answers, [str(number).encode() for number in range(1, 21)])

    async def test_counted(self) -> None:
        """A stream comes whole."""
        self.assertEqual(await commandsExample.counted(self.session, 100_000), 100_000)

    async def test_givenUp(self) -> None:
        """A command that is cancelled has gone before the session's next has ended."""
        self.assertEqual(await commandsExample.givenUp(self.session), "given up")
        await commandsExample.inOrder(self.session, [b"a"])
        self.assertEqual(await self.session.commands(), [])

    async def test_refused(self) -> None:
        """What is not allowed is refused, in one sentence."""
        self.assertEqual(
            await commandsExample.refused(self.session),
            "the policy of this service does not allow it to anonymous.",
        )

    async def test_main(self) -> None:
        """All of it prints what the page shows."""
        _, _, below = page("docs/howto/embed.md").partition("$ python docs/examples/commands.py\n")
        shown = below.partition("```")[0].replace("unix:anna", str(ownIdentity()))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            await commandsExample.main(realReactor())
        self.assertEqual(printed.getvalue(), shown)


class FilesTests(TestCase):
    """The example of an application that embeds files, and is its client."""

    async def setUp(self) -> None:  # type: ignore[override]
        reactor = realReactor()
        self.port, self.factory = await filesExample.serve(reactor, "tcp:0:interface=127.0.0.1")
        self.disk = ThreadedDisk(reactor)
        self.disk.start()
        host: Any = self.port.getHost()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port)
        self.session = await connectFiles(endpoint, reactor, name="the server")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.session.close()
        self.disk.stop()
        await maybeDeferred(self.port.stopListening)
        await self.factory.abortConnections()

    async def test_back(self) -> None:
        """What was put comes back the same, and is counted and not replaced."""
        text = bytes(range(250)) * 100
        back = await filesExample.thereAndBack(self.session, self.disk, text)
        self.assertEqual(back, text)
        self.assertEqual(await filesExample.counted(self.session, b"/notes/a.txt"), len(text))
        answer = await filesExample.refused(self.session, self.disk, b"/notes/a.txt")
        self.assertIn("exists already", answer)

    async def test_givenUp(self) -> None:
        """A transfer that is cancelled takes nothing else with it."""
        await filesExample.thereAndBack(self.session, self.disk, b"text")
        answer = await filesExample.givenUp(self.session, self.disk, b"/notes/a.txt")
        self.assertEqual(answer, "given up")
        self.assertEqual(await filesExample.counted(self.session, b"/notes/a.txt"), 4)

    async def test_main(self) -> None:
        """All of it prints what the page shows."""
        _, _, below = page("docs/howto/embed.md").partition("$ python docs/examples/files.py\n")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            await filesExample.main(realReactor())
        self.assertEqual(printed.getvalue(), below.partition("```")[0])


class ClientTests(TestCase):
    """The example of the client APIs."""

    async def serve(self, factory: Any) -> str:
        """Listen for the test, and tell where."""
        reactor = realReactor()
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(factory.abortConnections)
        self.addCleanup(port.stopListening)
        return f"127.0.0.1:{port.getHost().port}"

    async def test_shout(self) -> None:
        """Its echo client gets an answer to each text."""
        reactor = realReactor()
        address = await self.serve(EchoFactory(reactor))
        answers = await client.shout(reactor, address, [b"hello", b"world"])
        self.assertEqual(answers, [b"HELLO", b"WORLD"])

    async def test_run(self) -> None:
        """Its exec client gets output and exit status."""
        reactor = realReactor()
        spawner = ProcessSpawner(reactor)
        self.addCleanup(spawner.stop)
        factory = ClassicExecFactory(reactor, "header", spawner, allowShell=True)
        answer = await client.run(reactor, await self.serve(factory), "echo hello; exit 3")
        self.assertEqual((answer.output, answer.status), (b"hello\n", 3))

    async def test_fetch(self) -> None:
        """Its file client gets a file, and fails with L{NotFound} where there is none."""
        reactor = realReactor()
        root = Root(sharedDirectory(self.mktemp()))
        self.addCleanup(root.close)
        address = await self.serve(ClassicGetFactory(reactor, root))
        self.assertEqual(await client.fetch(reactor, address, "my notes.txt"), b"hello\n")
        with self.assertRaises(NotFound):
            await client.fetch(reactor, address, "nothing.txt")

    async def serveFiles(self, directory: Path) -> str:
        """Serve a directory, that may be changed."""
        reactor = realReactor()
        roots = Roots(str(directory), lambda path: LocalStore(Root(path)))
        factory = FilesFactory(reactor, Permit(UNSEEN, roots, writable=True))
        await factory.open()
        return await self.serve(factory)

    def shownByPage(self) -> dict[str, Any]:
        """Define what the page defines."""
        found: dict[str, Any] = {}
        for shown in blocks(page("docs/howto/client.md"), "python"):
            exec(shown, found)
        return found

    def directories(self) -> tuple[Path, Path]:
        """Make one for each end."""
        here, there = Path(self.mktemp()), Path(self.mktemp())
        here.mkdir()
        there.mkdir()
        return here, there

    async def test_nativeFiles(self) -> None:
        """The native files client of the page puts a file, and gets it back."""
        here, there = self.directories()
        (here / "here.txt").write_bytes(b"hello\n")
        exchange = self.shownByPage()["exchange"]
        answer = await exchange(realReactor(), await self.serveFiles(there), str(here))
        self.assertEqual(answer, ([b"a.txt"], b"hello\n"))
        self.assertEqual(list((there / "notes").iterdir()), [])

    async def test_mirror(self) -> None:
        """Its function for a tree makes the server's as the one that is here."""
        reactor = realReactor()
        here, there = self.directories()
        (here / "a").write_bytes(b"a")
        (here / "b").write_bytes(b"b")
        (there / "old").mkdir()
        (there / "old" / "c").write_bytes(b"c")
        address = await self.serveFiles(there)
        disk, store = ThreadedDisk(reactor), LocalStore(Root(str(here)))
        disk.start()
        self.addCleanup(disk.stop)
        self.addCleanup(store.close)
        endpoint = clientFromString(reactor, f"tcp:{address}")
        async with await connectFiles(endpoint, reactor, name=address) as session:
            mirror = self.shownByPage()["mirror"]
            self.assertEqual(await mirror(session, store, disk, str(here), b"/"), (2, 2))
        self.assertEqual({each.name for each in there.iterdir()}, {"a", "b"})

    async def test_ask(self) -> None:
        """Its chat client gets the answer to its line."""
        clock = realReactor()
        port = clock.listenUDP(0, Switchboard(clock).listen(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        answer = await client.ask(clock, "127.0.0.1", port.getHost().port, "hello")
        self.assertEqual(answer, "No operator is here; your message is kept.")
