import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from match_rcnn.utils.parallel import available_cores, ordered_map

sys.path.insert(0, str(Path(__file__).parent))
jobs = importlib.import_module("parallel_jobs")


@pytest.mark.parametrize("workers", [1, 2, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_in_order(workers, count):
    with ordered_map(jobs.square, count, workers) as results:
        assert list(results) == [i * i for i in range(count)]


def test_slow_results_keep_their_place():
    with ordered_map(jobs.slow_at_first, 6, 2) as results:
        assert list(results) == list(range(6))


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_at_their_place(workers):
    with ordered_map(partial(jobs.fail_at, 3), 6, workers) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="at 3"):
            next(results)
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_noticed():
    with ordered_map(partial(jobs.kill_at, 2), 6, 2) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(RuntimeError, match="worker process died"):
            next(results)


def test_leaving_early_ends_the_workers():
    with ordered_map(jobs.square, 1000, 2) as results:
        next(results)
    assert multiprocessing.active_children() == []


def test_little_is_computed_ahead(tmp_path):
    with ordered_map(partial(jobs.mark, tmp_path), 50, 2) as results:
        next(results)
        time.sleep(0.3)
        # 0 was taken; its worker went on to 2 and waits, the other one holds 1
        assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2"}


def test_beside_other_threads():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with ordered_map(abs, 3, 2) as results:
            assert list(results) == [0, 1, 2]
    finally:
        stop.set()
        thread.join()


def test_available_cores():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


ORPHANS = """
import os, time
from match_rcnn.utils.parallel import ordered_map

def own_number(index):
    time.sleep(0.01)
    return os.getpid()

with ordered_map(own_number, 10_000_000, 2) as results:
    print(next(results), next(results), flush=True)
    for result in results:
        pass
"""


def runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_of_a_killed_process_end():
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        workers = list(map(int, process.stdout.readline().split()))
        assert len(set(workers)) == 2
        assert all(map(runs, workers))
        process.kill()
    deadline = time.monotonic() + 5
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(runs, workers))
