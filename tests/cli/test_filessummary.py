"""
What is said of files that are not replaced, and of what cannot be done.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.cli import filessummary as module
from twisted_netsuite.files.entries import TreeEntry
from twisted_netsuite.files.plan import Clash, Plan


class PlanTests(SynchronousTestCase):
    """Plans that are printed."""

    def sums(self, plan: Plan) -> str:
        """Print one, and take its last line."""
        said: list[str] = []
        self.patch(module, "say", said.append)
        self.patch(module, "writeOut", lambda data: None)
        module.writePlan(plan, sending=True, asJson=False, quiet=False)
        (line,) = said
        return line

    def test_sums(self) -> None:
        """Its sums tell what is kept though it differs, and what cannot be done, where there is
        some."""
        clash = Clash(TreeEntry(b"a", False), TreeEntry(b"a", True))
        for plan, sums in (
            (Plan(unchanged=2), "2 unchanged, 0 to remove."),
            (Plan(kept=1), "0 unchanged, 1 kept, as it differs, 0 to remove."),
            (Plan(kept=2), "0 unchanged, 2 kept, as they differ, 0 to remove."),
            (Plan(clashes=[clash]), "0 unchanged, 0 to remove, 1 conflict."),
            (Plan(clashes=[clash] * 2), "0 unchanged, 0 to remove, 2 conflicts."),
        ):
            self.assertEqual(self.sums(plan), f"0 files to transfer, 0 bytes; {sums}")

    def test_named(self) -> None:
        """Of files that are named one by one, those that are there are kept where nothing is
        replaced."""
        ours = TreeEntry(b"a", False, 1)
        plan = module.planOfFiles([(ours, ours), (ours, None)], clobber=False)
        self.assertEqual((plan.kept, plan.unchanged, plan.files), (1, 0, 1))
