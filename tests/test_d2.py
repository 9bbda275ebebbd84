import ast
import os
import subprocess
import sys
from pathlib import Path

import match_rcnn.d2 as d2

ROOT = Path(__file__).parent.parent
SEAM = ROOT / "match_rcnn" / "d2.py"


def host_imports(branch, root):
    """{module below the host's root: imported names} of one branch of the seam."""
    found = {}
    for node in branch:
        if isinstance(node, ast.ImportFrom) and node.module.startswith(root):
            names = found.setdefault(node.module[len(root) :], set())
            names.update(alias.asname or alias.name for alias in node.names)
    return found


def test_both_hosts_give_the_same_names():
    tree = ast.parse(SEAM.read_text())
    choice = next(n for n in tree.body if isinstance(n, ast.If) and n.orelse)
    lite = host_imports(choice.body, "match_rcnn.lite")
    upstream = host_imports(choice.orelse, "detectron2")
    assert upstream.pop("") == {"HOST_VERSION"}
    assert lite == upstream


def run_with_host(host):
    return subprocess.run(
        [sys.executable, "-c", "import match_rcnn.d2 as d2; print(d2.HOST)"],
        env={**os.environ, "MATCH_RCNN_HOST": host},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unknown_host_is_refused_with_the_known_ones():
    done = run_with_host("mmdet")
    assert done.returncode != 0
    assert "must be one of auto, detectron2, lite; got 'mmdet'" in done.stderr


def test_lite_can_be_asked_for():
    assert run_with_host("lite").stdout.strip() == "lite"


def test_the_host_is_named_in_the_log(caplog):
    with caplog.at_level("INFO", logger="match_rcnn"):
        d2.log_host()
    assert caplog.messages == [f"host: {d2.HOST} {d2.HOST_VERSION}"]
