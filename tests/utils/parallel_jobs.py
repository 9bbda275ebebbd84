"""Jobs for workers, in a module that they find under its name however they are started: pytest's
own name for a test module may be another's in a spawned process."""

import os
import signal
import time


def square(index):
    return index * index


def slow_at_first(index):
    time.sleep(0.05 if index == 0 else 0)
    return index


def fail_at(place, index):
    if index == place:
        raise ValueError(f"at {index}")
    return index


def kill_at(place, index):
    if index == place:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def mark(folder, index):
    (folder / str(index)).touch()
    return b"x" * 1_000_000
