import time

import numpy as np

from match_rcnn.experiments.benchmarks.harness import Result, alternate, measure


def test_peak_memory_is_what_the_function_takes_beyond_the_present():
    held = np.ones(50 * 2**20, np.uint8)
    measured = measure(lambda: np.ones(100 * 2**20, np.uint8).sum(), runs=1, warmup=0)
    assert 95 <= measured.peak_mib <= 130
    assert held.sum() == held.size


def test_functions_run_in_turn_and_warmup_is_not_counted():
    calls = []
    pair = alternate([lambda: calls.append("a"), lambda: time.sleep(0.01)], runs=2, warmup=1)
    assert calls == ["a"] * 3
    assert pair[0].seconds < 0.01 <= pair[1].seconds
    assert pair[0].runs == 2


def test_a_failed_check_makes_the_result_incorrect():
    result = Result(
        "x", [{"way": "ours", "s": 1.0}], {"speed": 2.0}, {"speed": 10.0}, {"same": False}
    )
    assert not result.correct
    assert "FAILED" in result.table()
    assert "goal: at least 10" in result.table()
    assert result.to_json()["machine"]["cores"] >= 1
