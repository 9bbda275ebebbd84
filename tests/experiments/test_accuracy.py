import json

import pytest

from match_rcnn.experiments import accuracy
from match_rcnn.experiments.accuracy import CANDIDATES, Accuracy, flat, holds, markdown


def gain(difference, low, high):
    return {"values": [20.0, 22.0], "difference": difference, "interval": [low, high]}


@pytest.mark.parametrize(
    ("box", "mask", "expected"),
    [
        (gain(2, 1, 3), gain(0, -1, 1), True),
        (gain(0, -1, 1), gain(2, 1, 3), True),
        (gain(1, -0.1, 3), gain(1, -0.1, 3), False),  # not sure of either
        (gain(2, 1, 3), gain(-2, -3, -1), False),  # surely worse in the other
    ],
)
def test_a_candidate_holds_by_the_protocol(box, mask, expected):
    assert holds({"bbox/AP": box, "segm/AP": mask}) is expected


def test_the_table_says_gains_with_their_intervals():
    row = {name: gain(1.5, 0.5, 2.5) for name in ("bbox/AP", "bbox/AP50", "segm/AP", "segm/AP50")}
    rows = {"baseline": {"words": "baseline", **row}, "mirror": {"words": "mirrored", **row}}
    text = markdown({"rows": rows, "seeds": [1, 2], "iterations": 40})
    assert "trainings of 40 iterations" in text
    plain, other = text.splitlines()[-2:]
    assert plain.split(" | ")[1] == other.split(" | ")[1] == "21.0 ± 1.4"
    assert plain.endswith("|  |  |  |")
    assert other.endswith("| +1.5 (+0.5 to +2.5) | +1.5 (+0.5 to +2.5) | yes |")


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Whose commands are noted; an evaluation leaves results, with views better ones."""
    truth = {
        "images": [{"id": i, "width": 100, "height": 100} for i in range(1, 9)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 8, "bbox": [0, 0, 20, 20], "area": 400}
            | {"iscrowd": 0, "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]]}
            for i in range(1, 9)
        ],
    }
    (tmp_path / "ccp").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "ccp" / f"{split}.json").write_text(json.dumps(truth))
    weights = tmp_path / "start.pth"
    weights.write_bytes(b"weights")
    found = Accuracy(tmp_path / "out", tmp_path, weights, 5)
    found.commands = []

    def tool(name, *words):
        found.commands.append(words)
        folder = tmp_path / words[words.index("OUTPUT_DIR") + 1]
        if "--eval-only" not in words:
            for file in ("model_final.pth", "model_ema.pth"):
                (folder / file).write_bytes(str(words).encode())
            return
        good = "TEST.AUG.ENABLED" in words
        place = folder / "inference" / "ccp_validation"
        place.mkdir(parents=True)
        shape = {"size": [100, 100], "counts": ""}
        for task, key in (("bbox", "bbox"), ("segm", "segmentation")):
            rows = [
                {"image_id": i, "category_id": 8, "score": 0.5}
                | {key: [0 if good or i < 5 else 50, 0, 20, 20] if task == "bbox" else shape}
                for i in range(1, 9)
            ]
            (place / f"{task}_results.json").write_text(json.dumps(rows if task == "bbox" else []))

    monkeypatch.setattr(found.steps, "tool", tool)
    monkeypatch.setattr(accuracy, "MEASURED", ("bbox",))
    return found


def test_what_changes_only_the_use_is_not_trained_again(experiment):
    summary = experiment.run(["mirror", "average", "colour"], [1, 2])
    trained = [words for words in experiment.commands if "--eval-only" not in words]
    assert len(trained) == 2 * 2  # baseline and colour
    evaluated = [words for words in experiment.commands if "--eval-only" in words]
    assert len(evaluated) == 2 * 4
    assert {words[words.index("SEED") + 1] for words in trained} == {"1", "2"}
    assert summary["rows"]["mirror"]["bbox/AP"]["difference"] > 40
    assert summary["rows"]["average"]["bbox/AP"]["difference"] == 0
    assert summary["iterations"] == 5
    average = next(w for w in evaluated if "average-1" in w[w.index("OUTPUT_DIR") + 1])
    assert average[-1].endswith("baseline-1/model_ema.pth")


def test_what_is_there_is_passed_over_and_other_settings_are_refused(experiment):
    experiment.run(["mirror"], [1])
    before = len(experiment.commands)
    experiment.run(["mirror"], [1])
    assert len(experiment.commands) == before
    experiment.options = (*experiment.options, "SOLVER.BASE_LR", "0.5")
    with pytest.raises(ValueError, match=r"SOLVER\.BASE_LR was '0\.001', is '0\.5'"):
        experiment.run(["mirror"], [1])


def test_unknown_candidates_are_named(experiment):
    with pytest.raises(ValueError, match="no such candidate: luck; there are baseline, "):
        experiment.run(["luck"], [1])


def test_every_candidate_changes_one_thing_of_a_config_that_has_it():
    from match_rcnn.config import get_match_rcnn_cfg

    for name, candidate in CANDIDATES.items():
        cfg = get_match_rcnn_cfg()
        cfg.merge_from_file("configs/street_quick.yaml")
        before = cfg.dump()
        cfg.merge_from_list(flat({**candidate.training, **candidate.use}))
        changed = cfg.dump() != before or candidate.average
        assert changed == (name not in ("baseline", "drawings")), name
