"""What setup.py states: lower bounds that are tried, and all files that the package needs."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def stated():
    """The arguments of ``setup``."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", found.update)
        runpy.run_path(str(ROOT / "setup.py"))
    return found


@pytest.fixture(scope="module")
def wanted(stated):
    """Every requirement, extras among them."""
    return {*stated["install_requires"], *chain.from_iterable(stated["extras_require"].values())}


def bounds_of(requirements):
    return dict(one.split(";")[0].split(">=") for one in requirements if ">=" in one)


def test_the_lowest_versions_are_those_of_setup(stated, wanted):
    """All that every user needs; of the extras, those that the list has."""
    bounds = bounds_of(wanted)
    lines = (ROOT / "requirements" / "lowest.txt").read_text().splitlines()
    lowest = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert bounds_of(stated["install_requires"]).keys() <= lowest.keys() <= bounds.keys()
    for name, version in lowest.items():
        assert f"{version}.".startswith(f"{bounds[name]}."), name


def test_every_file_beside_the_modules_is_installed(stated):
    package = ROOT / "match_rcnn"
    missing = [
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
        if not any(
            fnmatch(path.relative_to(ROOT / name.replace(".", "/")).as_posix(), pattern)
            for name, patterns in stated["package_data"].items()
            for pattern in patterns
            if path.is_relative_to(ROOT / name.replace(".", "/"))
        )
    ]
    assert missing == []


def test_every_module_that_is_imported_is_declared(wanted):
    """Third-party names in the package's import statements, by the project that installs them."""
    projects = {
        "cv2": "opencv-python-headless",
        "PIL": "Pillow",
        "yaml": "PyYAML",
        "faiss": "faiss-cpu",
        "jinja2": "Jinja2",
        "markupsafe": "MarkupSafe",
    }
    declared = {re.split("[><=]", name)[0] for name in wanted}
    #: The other host; what is brought by those that are declared, or only tried for.
    known = {"detectron2", "match_rcnn", "yacs", "triton", "setuptools"}
    imported = set()
    for file in (ROOT / "match_rcnn").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).split(".")[0])
    third = {m for m in imported if m not in sys.stdlib_module_names} - known
    assert {projects.get(module, module) for module in third} <= declared


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in ("match_rcnn", "configs", "samples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / "source" / part, ignore=ignored)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder / "source" / file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    done = subprocess.run([*command, folder / "source"], capture_output=True, text=True)
    if "No matching distribution" in done.stderr or "No module named pip" in done.stderr:
        pytest.skip("setuptools cannot be fetched here to build a wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder / "site")
    shutil.rmtree(folder / "source")
    return folder / "site"


def test_the_wheel_has_the_command_and_the_configs(installed):
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "match-rcnn = match_rcnn.cli:main" in entry.read_text()
    configs = {path.name for path in (installed / "match_rcnn/configs").glob("*.yaml")}
    assert configs == {path.name for path in (ROOT / "configs").glob("*.yaml")}
    samples = {path.name for path in (installed / "match_rcnn/samples").glob("*.jpg")}
    assert samples == {path.name for path in (ROOT / "samples").glob("*.jpg")}


def test_the_wheel_predicts_from_another_folder(installed, model_file, write_photos, tmp_path):
    """With a config that the package holds, by name."""
    write_photos(tmp_path / "photos", {"a/x.png": (64, 96), "b/x.png": (96, 64)})
    command = [sys.executable, "-m", "match_rcnn", "predict", "photos", "--weights", model_file]
    done = subprocess.run(
        [*command, "--config", "quickstart_match", "--output", "out", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 2
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == ["a/x.png", "b/x.png"]
