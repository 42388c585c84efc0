"""
How Sphinx makes the documentation: pages by MyST, the API below C{api} by pydoctor.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

from twisted_netsuite import __version__

ROOT = Path(__file__).resolve().parent.parent

project = "twisted_netsuite"
copyright = "the authors of twisted_netsuite"
release = version = __version__

extensions = ["myst_parser", "pydoctor.sphinx_ext.build_apidocs"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False

pydoctor_args = [
    f"--project-name={project}",
    f"--project-version={release}",
    f"--project-base-dir={ROOT}",
    "--docformat=epytext",
    "--html-output={outdir}/api",
    str(ROOT / "twisted_netsuite"),
]


def setup(app: Sphinx) -> None:
    """
    Teach pydoctor two things.

    It is imported only here, as it registers directives that Sphinx must have registered before.
    """
    from pydoctor import astutils
    from pydoctor.extensions import zopeinterface

    # It takes every string in an annotation for code, also the descriptions in calls such as
    # Annotated[int, Meta(description="...")]: let it leave calls alone.
    astutils._AnnotationStringParser.visit_Call = lambda self, node: node

    # It knows an interface by its bases, and does not read Twisted's.
    zopeinterface.interface_prog = re.compile(
        rf"{zopeinterface.interface_prog.pattern}|twisted\.internet\.interfaces\.I[A-Z]\w*$"
    )
