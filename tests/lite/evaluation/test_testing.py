import logging
import math
import re

import pytest

from match_rcnn.lite.config import get_cfg
from match_rcnn.lite.evaluation import flatten_results_dict, print_csv_format, verify_results


def test_flat_names():
    nested = {"bbox": {"AP": 1, "by size": {"small": 2}}, "time": 3, "segm": {}}
    assert flatten_results_dict(nested) == {"bbox/AP": 1, "bbox/by size/small": 2, "time": 3}


def test_lines_to_copy(caplog):
    with caplog.at_level(logging.INFO):
        print_csv_format({"bbox": {"AP": 12.34567, "AP50": math.nan, "AP-skirt": 1.0}, "speed": 3})
    assert [record.message for record in caplog.records] == [
        "copypaste: Task: bbox",
        "copypaste: AP,AP50",
        "copypaste: 12.3457,nan",
        "copypaste: speed=3",
    ]


def expecting(*rows):
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [list(row) for row in rows]
    return cfg


def test_results_as_expected():
    results = {"bbox": {"AP": 38.5}, "segm": {"AP": 35.0}}
    assert verify_results(expecting(), {})
    assert verify_results(expecting(("bbox", "AP", 38.0, 0.5), ("segm", "AP", 35.0, 0.0)), results)


@pytest.mark.parametrize(
    "results",
    [
        {"bbox": {"AP": 38.75}},
        {"bbox": {"AP": math.nan}},
        {"bbox": {"AP50": 38.0}},
        {"segm": {"AP": 38.0}},
    ],
)
def test_results_not_as_expected(results, caplog):
    with pytest.raises(SystemExit) as ended:
        verify_results(expecting(("bbox", "AP", 38.0, 0.5)), results)
    assert ended.value.code == 1
    expected = r"bbox/AP is (38.75|nan|missing), expected 38.0 \+- 0.5"
    assert re.fullmatch(expected, caplog.messages[-1])
