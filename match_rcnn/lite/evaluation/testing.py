"""Printing, checking and flattening results: ``{task: {metric: value}}``."""

import logging
import math
import sys
from collections.abc import Mapping
from typing import Any

from ..config import CfgNode

logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log results in lines that can be copied into a spreadsheet.

    Metrics of a single category ("AP-skirt") are left out.
    """
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        shown = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(shown))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in shown.values()))


def verify_results(cfg: CfgNode, results: Mapping[str, Any]) -> bool:
    """Compare results with TEST.EXPECTED_RESULTS, a list of (task, metric, value, tolerance).

    Returns:
        True; what differs, or is missing, is logged and ends the program with exit code 1.
    """
    failed = [row for row in cfg.TEST.EXPECTED_RESULTS if not _as_expected(results, *row)]
    for task, metric, value, tolerance in failed:
        found = results.get(task, {}).get(metric, "missing")
        logger.error("%s/%s is %s, expected %s +- %s", task, metric, found, value, tolerance)
    if failed:
        sys.exit(1)
    return True


def _as_expected(
    results: Mapping[str, Any], task: str, metric: str, value: float, tolerance: float
) -> bool:
    actual = results.get(task, {}).get(metric)
    # NaN is never within the tolerance.
    return actual is not None and math.isfinite(actual) and abs(actual - value) <= tolerance


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """``{"bbox": {"AP": 1.0}}`` as ``{"bbox/AP": 1.0}``, at any depth."""
    parts = [
        {f"{key}/{name}": v for name, v in flatten_results_dict(value).items()}
        if isinstance(value, Mapping)
        else {key: value}
        for key, value in results.items()
    ]
    return {name: value for part in parts for name, value in part.items()}
