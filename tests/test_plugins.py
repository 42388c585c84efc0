"""
C{twistd} finds our plugins, each under a name that is nobody else's.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from twisted_netsuite.ops.options import PluginOptions

CHECKOUT = Path(__file__).parent.parent

NAMES = {
    "netsuite",
    "netsuite-echo",
    "netsuite-exec",
    "netsuite-files",
    "netsuite-chat",
    "netsuite-proxy",
}


def plugins() -> list[Any]:
    """Find every service that C{twistd} knows here."""
    return list(getPlugins(IServiceMaker))


def ours() -> list[Any]:
    """Find those of this project."""
    return [plugin for plugin in plugins() if plugin.module.startswith("twisted_netsuite.")]


class PluginTests(SynchronousTestCase):
    """The six plugins as C{twistd} sees them."""

    def test_names(self) -> None:
        """There are just the promised plugins."""
        self.assertEqual({plugin.tapname for plugin in ours()}, NAMES)

    def test_unique(self) -> None:
        """No other plugin has one of our names: C{twistd} would keep one of them, silently."""
        counted = Counter(plugin.tapname for plugin in plugins())
        self.assertEqual({name: counted[name] for name in NAMES}, dict.fromkeys(NAMES, 1))

    def test_modules(self) -> None:
        """Each plugin's module has an Options and a makeService that C{twistd} can use."""
        for plugin in ours():
            self.assertTrue(issubclass(plugin.options, usage.Options), plugin.tapname)
            self.assertTrue(callable(plugin.makeService), plugin.tapname)

    def test_ownName(self) -> None:
        """Error sentences begin with the name under which the plugin was called."""
        for plugin in ours():
            self.assertTrue(issubclass(plugin.options, PluginOptions))
            self.assertEqual(plugin.options.pluginName, plugin.tapname)

    def test_descriptions(self) -> None:
        """Each plugin is described by one sentence that fits on the line of a list."""
        for plugin in ours():
            self.assertRegex(plugin.description, r"\A[A-Z][^.]{10,70}\.\Z")

    def test_help(self) -> None:
        """Each plugin's help has a line about every option, and about what the plugin is."""
        for plugin in ours():
            options = plugin.options()
            text = str(options)
            for word in ("--check", "--table"):
                self.assertEqual(text.count(f"{word} "), 1, plugin.tapname)
            self.assertIn(plugin.options.longdesc.split()[0], text)
            for long in options.longOpt:
                self.assertIn(f"--{long}", text)


class FileTests(SynchronousTestCase):
    """The file in which they stand."""

    def test_noPackage(self) -> None:
        """Nothing makes C{twisted/} a package of ours, which would hide Twisted itself."""
        found = [str(path) for path in (CHECKOUT / "twisted").rglob("__init__.py*")]
        self.assertEqual(found, [])

    def test_importsNothing(self) -> None:
        """The plugin file imports only Twisted's ServiceMaker: listing plugins stays cheap."""
        tree = ast.parse((CHECKOUT / "twisted" / "plugins" / "netsuite.py").read_text())
        imported = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        self.assertEqual(
            [ast.unparse(node) for node in imported],
            ["from twisted.application.service import ServiceMaker"],
        )

    def test_listLoadsNothing(self) -> None:
        """Listing all plugins loads no module of ours."""
        script = (
            "import sys\n"
            "from twisted.application.service import IServiceMaker\n"
            "from twisted.plugin import getPlugins\n"
            "assert 'netsuite-echo' in {p.tapname for p in getPlugins(IServiceMaker)}\n"
            "print([n for n in sys.modules if n.startswith('twisted_netsuite')])\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", script],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((run.stdout, run.stderr), ("[]\n", ""))
