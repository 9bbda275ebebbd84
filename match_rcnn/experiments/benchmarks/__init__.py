"""Benchmarks: ``tools/benchmark.py NAME`` runs this package's module ``NAME``.

A benchmark module has a docstring (shown by ``--help``), ``add_arguments(parser)`` and
``run(args) -> Result``. It measures the fast path and its reference in one run, checks in that
same run that both give the same answer, and states goals as ratios.
"""

from match_rcnn.experiments.benchmarks.harness import (
    Measurement,
    Result,
    alternate,
    machine,
    measure,
)

__all__ = ["Measurement", "Result", "alternate", "machine", "measure"]
