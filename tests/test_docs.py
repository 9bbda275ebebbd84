"""What pages tell people to type works; what pages, docstrings and messages point to is there."""

import argparse
import re
import runpy
import shlex
from itertools import chain
from pathlib import Path

import pytest

from match_rcnn import cli
from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.utils.shipped import config_file

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("[!.]*/*.md"))]
#: Files that pages name and users make.
MADE = ("datasets/deepfashion2",)
SOURCES = [
    file
    for folder in ("match_rcnn", "tools", "tests", "configs")
    for suffix in ("py", "yaml", "json")
    for file in sorted((ROOT / folder).rglob(f"*.{suffix}"))
    if file != Path(__file__)
]


def name(file):
    return str(file.relative_to(ROOT))


def blocks(page, kind):
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands():
    """(page, command, its arguments) of every line of every shell block; the files of tools/ are
    commands of other names."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                tools = [word for word in words if re.fullmatch(r"(\./)?tools/\w+\.py", word)]
                if tools:
                    source = (ROOT / tools[0]).read_text()
                    words = words[words.index(tools[0]) + 1 :]
                    yield name(page), re.search(r'tool\("(.*)"\)', source)[1], words
                elif words[:1] == ["match-rcnn"] and not words[1].startswith("-"):
                    two = " ".join(words[1:3])
                    command = two if two in cli.COMMANDS else words[1]
                    yield name(page), command, words[1 + len(command.split()) :]


COMMANDS = list(commands())


def told(command):
    return f"{command[0]}-{command[1]}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    """Others' only in their form: nothing is fetched."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text()):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            found = re.fullmatch(r"https?://(\w[\w-]*\.)+\w+(/[\w./%#?=&~-]*)?", link)
        else:
            file = page.parent / target if target else page
            found = file.is_file() and (not anchor or anchor in anchors(file))
        broken += [] if found else [link]
    assert broken == []


def anchors(page):
    """Of its headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.*?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_and_keys_that_pages_name_are_there(page):
    text = page.read_text()
    folders = r"(?<![\w/])(?:tools|tests|configs|docs|datasets|requirements)/"
    files = set(re.findall(folders + r"[\w/-]+\.\w+", text))
    gone = [file for file in sorted(files) if not (ROOT / file).exists()]
    assert [file for file in gone if not file.startswith(MADE)] == []
    keys = set(re.findall(r"`((?:[A-Z][A-Z_0-9]+\.)+[A-Z_0-9]+)[ `:]", text))
    # Below a node that the page has named, a key may stand without the node's own.
    known = [key.split(".") for key in config_keys(get_match_rcnn_cfg())]
    assert keys <= {".".join(parts[start:]) for parts in known for start in range(len(parts))}


def config_keys(node, path=""):
    for key, value in node.items():
        yield path + key
        if hasattr(value, "items"):
            yield from config_keys(value, f"{path}{key}.")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[1] == "train"], ids=told)
def test_training_commands_are_understood(command):
    args = cli.command_parser("train").parse_args(command[2])
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config_file(args.config_file)))
    cfg.merge_from_list(args.opts)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[1] != "train"], ids=told)
def test_other_commands_have_the_flags_that_pages_name(command):
    _, tool, words = command
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert flags <= set(options(cli.command_parser(tool)))


def options(parser):
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for other in action.choices.values():
                yield from options(other)


def test_the_slurm_script_is_the_one_in_tools():
    (shown,) = blocks(ROOT / "docs" / "training.md", "bash")
    assert shown == (ROOT / "tools" / "train.sbatch").read_text()


def test_sources_point_to_pages_that_are_there():
    missing = {}
    for file in SOURCES:
        text = file.read_text(encoding="utf-8")
        pages = set(re.findall(r"\bdocs/[\w-]+\.md", text))
        gone = {page for page in pages if not (ROOT / page).exists()}
        gone |= set(re.findall(r"\bPAPER(?:\.md|:? section)|\bHOST\.md|\bDESIGN\.md", text))
        if gone:
            missing[name(file)] = sorted(gone)
    assert missing == {}


def test_the_index_lists_every_page():
    text = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in text} == set()


def test_the_site_leads_to_every_page():
    site = runpy.run_path(str(ROOT / "docs" / "site" / "conf.py"))
    pages = {site["root_doc"], *chain.from_iterable(site["NAVIGATION"].values())}
    written = {name(page.with_suffix("")) for page in PAGES}
    written |= {name(page.with_suffix("")) for page in ROOT.glob("docs/reference/*")}
    assert written == pages


def test_the_command_reference_has_every_argument():
    site = runpy.run_path(str(ROOT / "docs" / "site" / "conf.py"))
    text = "\n".join(site["command_reference"]())
    for command in cli.COMMANDS:
        assert f"\n## match-rcnn {command}\n" in text
        flags = set(options(cli.command_parser(command)))
        assert {flag for flag in flags if flag not in text} == set()


def test_the_readme_lists_every_package():
    text = (ROOT / "README.md").read_text()
    packages = {path.parent.name for path in (ROOT / "match_rcnn").glob("*/__init__.py")}
    assert {one for one in packages if f"`match_rcnn/{one}`" not in text} == set()
