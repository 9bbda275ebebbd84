"""Words of descriptions by train_net: a run, what its files know, linear heads on its vectors."""

import json
import math

import pytest

from match_rcnn.d2 import read_plain
from match_rcnn.data.sources.deepfashion_labels import FOLDERS
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.utils.files import read_json
from tests.data import deepfashion_trees as trees
from tests.engine.test_recognition import ROOT, lines, train_net

WORDS = ("denim", "dress", "jeans", "lace", "red")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    for name in ("category", "inshop"):
        getattr(trees, f"{name}_tree")(folder / "deepfashion" / FOLDERS[name])
    entries = [
        {"item": "id_00000001", "description": ["Red denim jeans, lace dress."]},
        {"item": "id_00000002", "description": "A red lace dress by nobody"},
    ]
    lists = folder / "deepfashion" / FOLDERS["inshop"] / "Anno"
    (lists / "list_description_inshop.json").write_text(json.dumps(entries))
    return folder


def arguments(config, output, *more):
    keys = {
        "OUTPUT_DIR": output,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.LOG_PERIOD": 1,
        "MODEL.RECOGNITION.CROP_SIZE": 32,
    }
    options = [word for pair in keys.items() for word in pair]
    return ("--config-file", ROOT / f"configs/{config}.yaml", *options, *more)


@pytest.fixture(scope="module")
def run(datasets, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    train_net(datasets, *arguments("words_quick", output))
    return output


def scores(run, dataset):
    return read_json(run / "inference" / f"deepfashion_{dataset}_test" / "scores.json")


def test_a_run_learns_words_and_is_scored_by_them(run):
    assert lines(run)[0]["total_loss"] == pytest.approx(math.log(len(WORDS)), abs=0.3)
    results = scores(run, "inshop")
    assert set(results) == {"inshop", "words"}
    assert 1 <= results["words"]["mean_rank"] <= len(WORDS)
    assert results["words"]["chance_rank"] == 3
    assert results["words"]["recall10"] == 100


def test_the_checkpoint_knows_the_words(run):
    content = read_plain(run / "model_final.pth")
    assert Taxonomy.from_dict(content["taxonomy"]).words == WORDS
    assert content["model"]["heads.WordHead.vectors"].shape == (5, 256)


def test_linear_heads_learn_on_its_vectors(run, datasets, tmp_path):
    weights = run / "model_final.pth"
    train_net(datasets, *arguments("words_linear_quick", tmp_path, "MODEL.WEIGHTS", weights))
    assert "category" in scores(tmp_path, "category")
    before, after = (read_plain(f)["model"] for f in (weights, tmp_path / "model_final.pth"))
    assert all((after[k] == v).all() for k, v in before.items() if "WordHead" not in k)
    # The embedding is the same vector, whichever head gives it.
    assert scores(tmp_path, "inshop")["inshop"] == scores(run, "inshop")["inshop"]


def test_another_vocabulary_is_refused(run, datasets, tmp_path):
    options = ("MODEL.WEIGHTS", run / "model_final.pth", "MODEL.RECOGNITION.WORDS.VOCABULARY", 3)
    with pytest.raises(ValueError, match="another vocabulary than the training set's 3 words"):
        train_net(datasets, *arguments("words_quick", tmp_path, *options))
