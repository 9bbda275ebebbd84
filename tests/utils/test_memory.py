"""Memory between blocks that are in use goes back to the system."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from match_rcnn.utils.memory import bound_primitives, give_back

#: 64 MiB of blocks below the size that glibc maps one by one, of which every 64th stays in use.
SCRIPT = """
from match_rcnn.utils.memory import give_back

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

blocks = [bytearray(65536) for _ in range(1024)]
kept = blocks[::64]
del blocks
before = held()
give_back()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what freed memory does is glibc's")
def test_gaps_go_back():
    script = [sys.executable, "-c", SCRIPT]
    root = Path(__file__).parents[2]
    done = subprocess.run(script, cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 48


def test_what_the_user_has_set_stays(monkeypatch):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.delenv(name, raising=False)
    bound_primitives()
    assert int(os.environ[name]) < 1024
    monkeypatch.setenv(name, "7")
    bound_primitives()
    assert os.environ[name] == "7"


def test_any_c_library_will_do():
    give_back()
