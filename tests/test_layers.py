"""The order of the layers: lower ones never import higher ones. Read from the source, so that
imports inside of functions count as well."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "match_rcnn"

#: From the lowest to the highest; those of one line stand side by side.
LAYERS = (
    ("utils",),
    ("lite",),
    ("d2",),
    ("data",),
    ("structures",),
    ("modeling",),
    ("config",),
    ("retrieval",),
    ("inference",),
    ("predictor", "onnx", "evaluation"),
    ("catalogue", "engine"),
    ("reporting", "serving"),
    ("experiments",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
#: The hosts themselves, which only the seam imports.
HOSTS = ("detectron2", "match_rcnn.lite")


def imports(path):
    """What a file of the package imports, by full names; a ``from`` import gives both its module
    and each name in it."""
    package = (ROOT / path).relative_to(ROOT).with_suffix("").parts
    if package[-1] == "__init__":
        package = (*package[:-1], "")
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def part(module):
    """The layer's part that a module of the package belongs to; None for others."""
    names = module.split(".")
    return names[1] if names[0] == "match_rcnn" and len(names) > 1 else None


FILES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py"))


def is_in(module, package):
    return module == package or module.startswith(f"{package}.")


def test_every_part_has_its_place():
    parts = {path.parts[1].removesuffix(".py") for path in FILES} - {"__init__"}
    assert parts == set(HEIGHT)


def test_lower_layers_import_no_higher_ones():
    wrong = [
        f"{path} imports {module}"
        for path in FILES
        if len(path.parts) > 2 or path.stem in HEIGHT
        for own in [path.parts[1].removesuffix(".py")]
        for module in sorted(imports(path))
        for other in [part(module)]
        if other in HEIGHT and other != own and HEIGHT[other] >= HEIGHT[own]
    ]
    assert wrong == []


def test_lite_knows_nothing_of_match_rcnn_but_utils():
    wrong = [
        f"{path} imports {module}"
        for path in FILES
        if path.parts[1] == "lite"
        for module in sorted(imports(path))
        if part(module) not in (None, "lite", "utils")
    ]
    assert wrong == []


def test_only_the_seam_imports_a_host():
    tools = [path.relative_to(ROOT) for path in (ROOT / "tools").glob("*.py")]
    wrong = [
        f"{path} imports {module}"
        for path in (*FILES, *tools)
        if path.parts[1] not in ("lite", "d2.py")
        for module in sorted(imports(path))
        if any(is_in(module, host) for host in HOSTS)
    ]
    assert wrong == []


def test_nothing_imports_experiments_but_the_commands():
    wrong = [
        str(path)
        for path in FILES
        if path.parts[1] not in ("experiments", "commands")
        and any(is_in(module, "match_rcnn.experiments") for module in imports(path))
    ]
    assert wrong == []


@pytest.mark.parametrize("tool", sorted((ROOT / "tools").glob("*.py")), ids=lambda p: p.stem)
def test_tools_hold_no_logic(tool):
    """A tool is a command of another name."""
    assert imports(tool.relative_to(ROOT)) == {"match_rcnn.cli", "match_rcnn.cli.tool"}
    assert len(ast.parse(tool.read_text(encoding="utf-8")).body) == 3  # what, import, call


COMMANDS = sorted((PACKAGE / "commands").glob("[!_]*.py"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.stem)
def test_commands_hold_no_logic(command):
    """Arguments in, one call, an answer: a command imports nothing that computes."""
    tree = ast.parse(command.read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, ast.ClassDef)]
    computing = {"numpy", "torch", "torchvision", "cv2", "PIL", "pycocotools", "scipy"}
    assert not {module.split(".")[0] for module in imports(command.relative_to(ROOT))} & computing
