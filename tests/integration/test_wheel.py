"""
The wheel: what is in it, and that it works outside the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import scratch

CHECKOUT = Path(__file__).parents[2]

#: What goes into a wheel is made of these.
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "twisted_netsuite", "twisted")

#: From this one on setuptools builds wheels without help.
WHEEL_BUILDER = (70, 1)

#: What the plugins are called.
PLUGINS = {"netsuite", *(f"netsuite-{n}" for n in ("echo", "exec", "files", "chat", "proxy"))}


def _isolated() -> bool:
    """Whether the build backend must be fetched, as there is none here that can."""
    try:
        found = version("setuptools")
    except PackageNotFoundError:
        return True
    return tuple(int(part) for part in found.split(".")[:2]) < WHEEL_BUILDER


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


class WheelTests(SynchronousTestCase):
    """A wheel built from a copy of the checkout."""

    def build(self, directory: Path) -> Path:
        """
        Build the wheel.

        @param directory: for the copy and the wheel.
        @return: the wheel.
        """
        copy = directory / "copy"
        copy.mkdir()
        for name in SOURCES:
            source = CHECKOUT / name
            if source.is_dir():
                unwanted = shutil.ignore_patterns("__pycache__", "dropin.cache")
                shutil.copytree(source, copy / name, ignore=unwanted)
            else:
                shutil.copy(source, copy)
        # A folder of tests that must stay out, however packages are found.
        shutil.copytree(Path(__file__).parent, copy / "tests" / "integration")
        isolation = [] if _isolated() else ["--no-isolation"]
        command = [sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", str(directory)]
        _run(*command, str(copy), cwd=directory)
        (wheel,) = directory.glob("*.whl")
        return wheel

    def install(self, wheel: Path, directory: Path) -> Path:
        """
        Install the wheel where our dependencies are to be had, and our checkout is not.

        @param wheel: to be installed.
        @param directory: for the environment.
        @return: the environment's programs.
        """
        home = directory / "venv"
        venv.create(home, with_pip=False, symlinks=True)
        python = home / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        _run(*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel), cwd=directory)
        # Links in a directory that is named in a .pth file are not followed any further, so an
        # editable installation there stays hidden.
        (site,) = home.glob("lib/python3*/site-packages")
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return home / "bin"

    def test_wheel(self) -> None:
        """Plugins, types and the welcome are in it, tests are not; installed, it works."""
        directory = scratch(self)
        wheel = self.build(directory)
        names = set(zipfile.ZipFile(wheel).namelist())
        self.assertLessEqual(
            {
                "twisted/plugins/netsuite.py",
                "twisted_netsuite/py.typed",
                "twisted_netsuite/files/welcome/welcome.txt",
                "twisted_netsuite/ops/suite.py",
            },
            names,
        )
        tops = {name.split("/")[0] for name in names}
        self.assertEqual({"twisted", "twisted_netsuite"}, {t for t in tops if "dist-info" not in t})
        self.assertEqual([], [name for name in names if name.startswith("twisted/__init__")])
        self.assertEqual([], [name for name in names if "plugins/__init__" in name])

        programs = self.install(wheel, directory)
        where = "import twisted_netsuite; print(twisted_netsuite.__file__)"
        found = _run(programs / "python", "-c", where, cwd=directory)
        self.assertTrue(found.startswith(str(directory)), found)
        self.assertIn("netsuite, version ", _run(programs / "netsuite", "--version", cwd=directory))
        twistd = "from twisted.scripts.twistd import run; run()"
        listed = _run(programs / "python", "-c", twistd, "--help", cwd=directory)
        self.assertEqual(PLUGINS, {word for word in listed.split() if word in PLUGINS})
        checked = _run(programs / "python", "-c", twistd, "netsuite", "--check", cwd=directory)
        self.assertIn("the configuration is right (5 services)", checked)
