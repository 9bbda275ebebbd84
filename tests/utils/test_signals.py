"""Helper processes that ignore SIGTERM must not keep their parent from ending."""

import subprocess
import sys

_PROGRAM = """
import multiprocessing, time
from match_rcnn.utils.signals import ignore_preemption, kill_helpers_at_exit

def helper(ready):
    ignore_preemption()
    ready.set()
    time.sleep(120)

context = multiprocessing.get_context("fork")
ready = context.Event()
kill_helpers_at_exit()
process = context.Process(target=helper, args=(ready,), daemon=True)
process.start()
assert ready.wait(20)
"""


def test_a_parent_ends_although_its_helpers_ignore_sigterm() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], timeout=60, check=False)
    assert done.returncode == 0
