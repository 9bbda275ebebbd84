"""The documentation as a site, by Sphinx: ``make docs``.

Its root is the repository's, so that links are the same here and there. Nothing is fetched, by the
build or by the pages.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from sphinx.errors import ExtensionError  # noqa: E402

from match_rcnn import __version__, cli  # noqa: E402

project = "Match R-CNN"
release = __version__
root_doc = "docs/README"
include_patterns = ["README.md", "docs/**", "configs/*.md", "datasets/*.md", "samples/*.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
suppress_warnings = ["docutils"]  # docstrings are written to be read as they stand, (N, *shape)

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = project
html_show_sphinx = False
html_show_sourcelink = False
templates_path = ["templates"]
html_additional_pages = {"index": "index.html"}

#: The pages below each heading, in their order; from the root without their suffix.
NAVIGATION = {
    "First photo": [
        *("docs/first_photo", "docs/street_model", "docs/commands", "docs/serve", "docs/measures"),
    ],
    "Your own data": ["docs/your_data", "docs/deepfashion2", "datasets/README", "samples/README"],
    "Training": [
        *("docs/training", "docs/model", "configs/README", "docs/endurance", "docs/accuracy"),
    ],
    "Evaluation": ["docs/evaluation", "docs/recognition_protocols"],
    "Matching": ["docs/matching", "docs/ablation"],
    "Gallery": ["docs/gallery"],
    "Recognition systems": ["docs/systems", "docs/fashionnet", "docs/survey", "docs/attributes"],
    "Without torch, and fast": ["docs/export", "docs/benchmarks"],
    "detectron2": ["docs/detectron2", "docs/host_differences"],
    "Reference": ["docs/reference/commands", "docs/reference/python", "README"],
}


def setup(app):
    app.connect("source-read", complete)
    app.connect("build-finished", nothing_from_elsewhere)


def complete(app, page, source):
    """What is made anew at each build: the navigation, and the command reference."""
    if page == root_doc:
        source[0] += "".join(navigation())
    elif page == "docs/reference/commands":
        source[0] += "\n".join(command_reference())


def navigation() -> Iterator[str]:
    for heading, pages in NAVIGATION.items():
        entries = "\n".join(f"/{page}" for page in pages)
        yield f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{entries}\n```\n"


def command_reference() -> Iterator[str]:
    """Every command with its arguments, from the parsers that read them."""
    for name, summary in cli.COMMANDS.items():
        parser = cli.command_parser(name, f"match-rcnn {name}")
        yield from (f"\n## match-rcnn {name}", "", f"{summary.capitalize()}.", "")
        yield from ("```text", parser.format_help().rstrip(), "```")
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for other in action.choices.values():
                    yield from ("", "```text", other.format_help().rstrip(), "```")


def nothing_from_elsewhere(app, error):
    """A page that is looked at asks nobody else for anything."""
    fetched = re.compile(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["']?(?:https?:)?//""")
    if error is None:
        for page in Path(app.outdir).rglob("*.html"):
            if found := fetched.search(page.read_text(encoding="utf-8")):
                raise ExtensionError(f"{page} fetches {found[0]}...")
