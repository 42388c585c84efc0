"""
The benchmark of files: what it takes for right and for wrong, and that its parts fit together.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.__main__ import RESULTS
from bench.files import crowd, page
from bench.files.clients.asking import summary
from bench.files.command import NAMES, PARTS, QUICK, concerned
from bench.files.contest import Part, Trial, run
from bench.files.contestants import CONTESTANTS, OURS, RSYNC, SCP, Contestant, Sides, Task
from bench.files.moves import BULK
from bench.files.resume import _written
from bench.files.scratch import Scratch, identities, makeFile, makeTree, requireSame, scratch
from bench.files.spending import command
from bench.measure import Rounds
from bench.processes import BenchFailure
from bench.servers import Place
from bench.targets import reached


class ScratchTests(SynchronousTestCase):
    """The files that are moved, and whether a copy is right."""

    def setUp(self) -> None:
        """Make a tree, and a copy of it."""
        self.folder = Path(self.mktemp())
        self.tree, self.copy = self.folder / "tree", self.folder / "copy"
        makeTree(self.tree, 103, 10)
        shutil.copytree(self.tree, self.copy)

    def test_tree(self) -> None:
        """A tree has the files that were asked for, and no two are the same."""
        contents = [path.read_bytes() for path in self.tree.rglob("*.bin")]
        self.assertEqual([len(each) for each in contents], [10] * 103)
        self.assertEqual(len(set(contents)), 103)
        self.assertEqual(len(list(self.tree.iterdir())), 2)

    def test_same(self) -> None:
        """A right copy is taken for one, of a tree and of a file."""
        requireSame(self.tree, self.copy)
        path = next(self.tree.rglob("*.bin"))
        requireSame(path, self.copy / path.relative_to(self.tree))

    def test_wrong(self) -> None:
        """One byte that is another, a file too few and one too many are noticed, each."""
        first = next(self.copy.rglob("*.bin"))
        right = first.read_bytes()
        first.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        self.assertRaises(BenchFailure, requireSame, self.tree, self.copy)
        self.assertRaises(
            BenchFailure, requireSame, self.tree / first.relative_to(self.copy), first
        )
        first.unlink()
        self.assertRaises(BenchFailure, requireSame, self.tree, self.copy)
        first.write_bytes(right)
        (self.copy / "more").touch()
        self.assertRaises(BenchFailure, requireSame, self.tree, self.copy)

    def test_nothing(self) -> None:
        """A copy that is not there is not right."""
        error = self.assertRaises(BenchFailure, requireSame, self.tree, self.folder / "none")
        self.assertEqual(str(error), "none is not there afterwards")

    def test_identities(self) -> None:
        """A file that was written again, with the same in it, is not what it was."""
        before = identities(self.copy)
        self.assertEqual(identities(self.copy), before)
        first = next(self.copy.rglob("*.bin"))
        other = first.with_name("other")
        shutil.copy2(first, other)
        other.replace(first)
        self.assertNotEqual(identities(self.copy), before)

    def test_written(self) -> None:
        """Space that is kept for a file, and holes in it, do not count as written."""
        path = self.folder / "partial"
        self.assertEqual(_written(path), 0)
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2**20)
            self.assertEqual(_written(path), 0)
            os.pwrite(file.fileno(), b"x" * 2**18, 2**19)
            self.assertEqual(_written(path), 2**18)

    def test_removed(self) -> None:
        """Nothing is left when the benchmark has ended, also when it has failed."""
        with contextlib.suppress(BenchFailure), scratch(1, self.folder) as made:
            makeFile(made.served / "source", 3)
            self.assertTrue(made.local.is_dir())
            raise BenchFailure
        self.assertEqual(sorted(os.listdir(self.folder)), ["copy", "tree"])

    def test_noRoom(self) -> None:
        """What does not fit is not begun, and the sentence says what to do."""
        with self.assertRaises(BenchFailure) as caught, scratch(2**60, self.folder):
            self.fail("it was begun")
        self.assertIn("name another directory with --data", str(caught.exception))


class CommandTests(SynchronousTestCase):
    """Clients that are run."""

    def test_cpu(self) -> None:
        """The CPU time of a client has that of its children."""
        script = "import os; os.system('i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done')"
        with command(["python3", "-c", script]) as both:
            used = both.end()
        with command(["python3", "-c", "import os; os.system(':')"]) as alone:
            self.assertGreater(used, alone.end())

    def test_failed(self) -> None:
        """One that fails is a failure, with the last that it said."""
        words = ["sh", "-c", "echo first >&2; echo last >&2; exit 3"]
        with command(words) as running:
            error = self.assertRaises(BenchFailure, running.end)
        self.assertEqual(str(error), "sh: status 3: last")

    def test_killed(self) -> None:
        """One that is left behind is killed with its children."""
        with command(["sh", "-c", "sleep 1000 & wait"]) as running:
            self.assertFalse(running.ended)
        self.assertTrue(running.ended)


class RoundTests(SynchronousTestCase):
    """How the rounds go."""

    def setUp(self) -> None:
        """Have contestants that note when it is their turn."""
        self.turns: list[str] = []
        self.contestants = [
            Contestant(name, name, self._ready(name)) for name in ("one", "two", "three")
        ]
        folder = Path(self.mktemp())
        self.place = Scratch(folder, folder, "tmpfs")

    def _ready(self, name: str) -> Callable[[Place, Path, str], Iterator[Sides]]:
        def ready(where: Place, served: Path, cipher: str) -> Iterator[Sides]:
            self.turns.append(name)
            yield Sides(None, lambda task, here, there: [name])

        return ready

    def measured(self, trial: Callable[[Trial], None], within: float = 100.0) -> list[object]:
        part = replace(BULK, prepare=lambda place, size: None, trial=trial)
        size = replace(QUICK, rounds=3, within=within)
        with contextlib.redirect_stderr(io.StringIO()):
            rounds = run(part, self.contestants, size, self.place, "")
        return [rounds.figures, rounds.failures]

    def test_order(self) -> None:
        """Each round is begun by another contestant, and has all of them."""
        self.measured(lambda trial: None)
        self.assertEqual(
            self.turns,
            ["one", "two", "three", "two", "three", "one", "three", "one", "two"],
        )

    def test_failure(self) -> None:
        """Who fails keeps the figures that it had, and the others are measured all the same."""

        def trial(trial: Trial) -> None:
            trial.figures["before"] = 1.0
            if trial.sides.words(Task.GET, "", "") == ["two"]:
                raise BenchFailure("it broke")
            trial.figures["after"] = 2.0

        figures, failures = self.measured(trial)
        whole = {"before": 1.0, "after": 2.0}
        self.assertEqual(figures, [{"one": whole, "two": {"before": 1.0}, "three": whole}] * 3)
        self.assertEqual(
            failures,
            [{"round": each, "competitor": "two", "why": "it broke"} for each in (1, 2, 3)],
        )

    def test_within(self) -> None:
        """When the time is over no other round begins, and what there is counts."""
        figures, _ = self.measured(lambda trial: None, within=-1.0)
        self.assertEqual(figures, [{"one": {}, "two": {}, "three": {}}])


class PartTests(SynchronousTestCase):
    """The parts fit together."""

    def _keys(self, part: Part) -> list[str]:
        return [measure.key for measure in part.measures]

    def test_names(self) -> None:
        """All that a part names are contestants, its baseline among them; and none is left out."""
        known = {each.name for each in CONTESTANTS}
        self.assertEqual({name for part in PARTS.values() for name in part.names}, known)
        for part in PARTS.values():
            self.assertIn(part.baseline, part.names)
            self.assertEqual([each.name for each in part.among([])], [part.baseline])

    def test_concerned(self) -> None:
        """Who measures some contestants only has the parts that they are in."""
        self.assertTrue(all(concerned(name, None) for name in NAMES))
        self.assertEqual([name for name in NAMES if concerned(name, [SCP])], ["tls", "trees"])
        self.assertIn("crowd", [name for name in NAMES if concerned(name, [OURS])])

    def test_targets(self) -> None:
        """Each target is about a measure and contestants of its part."""
        for part in PARTS.values():
            keys = self._keys(part)
            self.assertEqual(len(keys), len(set(keys)))
            for target in part.targets:
                self.assertIn(target.measure.key, keys)
                self.assertIn(target.of, part.names)
                self.assertIn(target.over or target.of, part.names)

    def test_columns(self) -> None:
        """The tables of the page show measures that there are."""
        keys = {name: self._keys(part) for name, part in PARTS.items()}
        keys["crowd"] = [measure.key for measure in crowd.MEASURES]
        self.assertEqual(set(page.COLUMNS), set(keys))
        for name, columns in page.COLUMNS.items():
            for each in columns.values():
                self.assertEqual(set(each) - set(keys[name]), set())


class AskingTests(SynchronousTestCase):
    """How soon a service answers."""

    def test_summary(self) -> None:
        """A few long answers are seen in the share of the time that they took."""
        found = summary([0.001] * 997 + [0.019, 0.1, 0.4], 10.0)
        self.assertEqual((found["answers"], found["p50_ms"], found["max_ms"]), (1000, 1.0, 400.0))
        self.assertEqual(found["p99_ms"], 1.0)
        self.assertAlmostEqual(found["late_percent"], 5.0)


class TargetTests(SynchronousTestCase):
    """Figures that are held against targets."""

    def test_ratio(self) -> None:
        """A ratio is taken within each round, and its median is judged."""
        rounds = Rounds()
        for ours, theirs in ((3.0, 1.0), (1.0, 2.0), (2.0, 1.0)):
            rounds.figures.append({OURS: {"get_gbps": ours}, RSYNC: {"get_gbps": theirs}})
        (found,) = reached(BULK.targets, rounds)
        self.assertEqual((found.spread.median, found.spread.minimum, found.met), (2.0, 0.5, True))


class PageTests(SynchronousTestCase):
    """The page about performance."""

    def test_tables(self) -> None:
        """Its tables of files are what the results hold."""
        _, begins, rest = page.PAGE.read_text().partition(page.BEGIN)
        shown, ends, _ = rest.partition(page.END)
        self.assertTrue(begins and ends)
        self.assertEqual(shown, page.tables(RESULTS))
