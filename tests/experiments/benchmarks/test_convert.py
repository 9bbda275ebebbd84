import argparse
import json

import pytest

from match_rcnn.data.conversion import convert
from match_rcnn.experiments.benchmarks import convert as benchmark
from match_rcnn.experiments.benchmarks.convert import equal_output, make_data_set, plain_loop


def test_small_run():
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    flags = ["--images", "30", "--runs", "1", "--memory-images", "10", "40"]
    result = benchmark.run(parser.parse_args(flags))
    assert result.checks == {"equal output": True, "memory is flat": True}
    assert result.goals["speed"] == 10
    assert result.ratios["speed"] > 0
    assert [row["way"] for row in result.rows] == [
        "plain loop",
        "ours, 1 process",
        "ours, 2 processes",
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["annotations"].pop(),
        lambda value: value["annotations"].reverse(),
        lambda value: value["annotations"][3].update(area=1),
        lambda value: value["annotations"][3]["keypoints"].append(0),
        lambda value: value["images"][2].pop("license"),
        lambda value: value["categories"][2].update(name="coat"),
        lambda value: value.pop("licenses"),
    ],
)
def test_unlike_output_is_noticed(tmp_path, change):
    make_data_set(tmp_path / "data", 5)
    ours, plain = tmp_path / "ours.json", tmp_path / "plain.json"
    convert(tmp_path / "data", "train", ours)
    plain_loop(tmp_path / "data", plain)
    assert equal_output(ours, plain)
    value = json.loads(ours.read_bytes())
    change(value)
    ours.write_text(json.dumps(value))
    assert not equal_output(ours, plain)


def test_data_set_depends_on_the_seed_only(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_data_set(tmp_path / name, 3, seed)
    a, b, c = (
        [(tmp_path / name / "train/annos" / f"{n:06d}.json").read_bytes() for n in (1, 2, 3)]
        for name in "abc"
    )
    assert a == b
    assert a != c
