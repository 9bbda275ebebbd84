import json
from pathlib import Path

import pytest
import yaml

from match_rcnn.experiments.demo import DemoSize
from match_rcnn.experiments.street import Street
from match_rcnn.utils.files import write_json


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "ccp" / "annotations" / "pixel-level").mkdir(parents=True)
    return tmp_path / "ccp"


@pytest.fixture
def make(tmp_path, clone, monkeypatch):
    """A recipe whose commands are noted, and leave what the next ones need."""

    def made(**kwargs):
        street = Street(tmp_path / "out", clone, drawings=DemoSize(4, 2, 64), **kwargs)
        street.commands = []

        def tool(name, *words):
            street.commands.append((name, words))
            if name == "train":
                folder = Path(words[words.index("OUTPUT_DIR") + 1])
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "model_final.pth").write_text(folder.name)
                if "street_match" not in folder.name and folder.name != "quickstart":
                    (folder / "model_ema.pth").write_text(f"average of {folder.name}")
                write = json.dumps({"ccp_validation/bbox/AP": 30.0})
                (folder / "metrics.json").write_text(write)
            elif name == "pack":
                write_json(Path(words[words.index("--summary") + 1]), {"sha256": "0"})
            elif "--output" in words:
                target = Path(words[words.index("--output") + 1])
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.suffix == ".json":
                    target.write_text("{}")

        monkeypatch.setattr(street.steps, "tool", tool)
        return street

    return made


def trainings(street):
    return [words for name, words in street.commands if name == "train"]


def value(words, key):
    return words[words.index(key) + 1]


def test_each_training_starts_from_what_the_one_before_left(make):
    street = make()
    summary = street.run()
    assert [Path(value(w, "OUTPUT_DIR")).name for w in trainings(street)] == list(Street.CONFIGS)
    starts = [value(w, "MODEL.WEIGHTS") for w in trainings(street)[1:]]
    assert [Path(s).relative_to(street.output).as_posix() for s in starts] == [
        "quickstart/model_final.pth",
        "street/model_ema.pth",
        "street_words/model_ema.pth",
    ]
    assert all("--resume" in words for words in trainings(street))
    packed = next(words for name, words in street.commands if name == "pack")
    assert value(packed, "--weights").endswith("street_match/model_final.pth")
    assert summary["metrics"] == {"ccp_validation/bbox/AP": 30.0}


def test_without_photos_with_words_that_stage_goes_on_with_the_rest(make):
    street = make()
    street.run()
    words = trainings(street)[2]
    assert value(words, "DATASETS.TRAIN") == "('ccp_train', 'deepfashion2_train')"
    assert "convert clothing" not in dict(street.commands)


def test_photos_with_words_get_boxes_by_the_model_so_far_once(make, tmp_path):
    street = make(clothing=tmp_path / "clothing")
    street.run()
    commands = dict(street.commands)
    assert value(commands["convert clothing"], "--weights").endswith("street/model_ema.pth")
    assert "DATASETS.TRAIN" not in trainings(street)[2]
    entries = yaml.safe_load((street.data / "street.yaml").read_text())
    assert set(entries) == {"ccp_train", "ccp_validation", "clothing_train"}
    assert entries["clothing_train"]["images"] == str(tmp_path / "clothing" / "images")
    street.commands.clear()
    street.run()
    assert "convert clothing" not in dict(street.commands)


def test_what_was_made_with_other_settings_is_refused(make):
    make().run()
    with pytest.raises(ValueError, match=r"SOLVER\.MAX_ITER was '2700', is '5'"):
        make(iterations=(None, 5, None, None)).run()


def test_boxes_of_another_model_are_refused(make, tmp_path):
    street = make(clothing=tmp_path / "clothing")
    street.run()
    (street.output / "street" / "model_ema.pth").write_text("of another training")
    with pytest.raises(ValueError, match="weights was"):
        street._label(tmp_path / "clothing", street.output / "street" / "model_ema.pth")


def test_another_folder_in_place_of_the_clone_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no clone of github\.com/bearpaw"):
        Street(tmp_path / "out", tmp_path)
