"""FashionNet's parts by train_net: a run of some steps, resumed, evaluated; on either host."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from match_rcnn.d2 import default_argument_parser
from match_rcnn.data.sources.deepfashion_labels import FOLDERS
from match_rcnn.data.synthetic.deepfashion import generate
from match_rcnn.engine.run import train_or_evaluate
from tests.data import deepfashion_trees as trees

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A few photos of each benchmark, for DETECTRON2_DATASETS."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in ("category", "inshop", "consumer2shop"):
        getattr(trees, f"{name}_tree")(folder / "deepfashion" / FOLDERS[name])
    return folder


TRAIN = "('deepfashion_category_train','deepfashion_consumer2shop_train')"
TEST = "('deepfashion_category_test','deepfashion_inshop_test','deepfashion_consumer2shop_test')"


def arguments(output, iterations, *flags):
    keys = {
        "OUTPUT_DIR": output,
        "DATASETS.TRAIN": TRAIN,
        "DATASETS.TEST": TEST,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.MAX_ITER": 4,
        "SOLVER.CHECKPOINT_PERIOD": iterations,
        "SOLVER.LOG_PERIOD": 1,
        "MODEL.RECOGNITION.CROP_SIZE": 32,
        "MODEL.RECOGNITION.STAGES.LENGTHS": (1, 1),
    }
    options = [word for pair in keys.items() for word in pair]
    return ("--config-file", ROOT / "configs/fashionnet_quick.yaml", *flags, *options)


def lines(run):
    return [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]


def train_net(datasets, *words):
    """As tools/train_net.py does, in this process."""
    args = default_argument_parser().parse_args([str(word) for word in words])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(datasets))
        return train_or_evaluate(args)


@pytest.fixture(scope="module")
def run(datasets, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    train_net(datasets, *arguments(output, 2))
    return output


def test_a_run_trains_in_turns_and_is_scored(run):
    found = lines(run)
    first, second = found[0], found[1]
    assert first["loss_landmarks"] > 0
    assert second["loss_category"] > 0
    last = found[-1]
    one = "deepfashion_category_test/"
    assert last[f"{one}category/top3"] == 100  # of three
    assert 0 < last[f"{one}landmarks/ne_mean"] < 5
    assert "deepfashion_inshop_test/inshop/hit20" in last
    assert "deepfashion_consumer2shop_test/attributes/collar shape_top3" in last


def test_the_files_score_as_the_trainer_did(run, run_tool, datasets, tmp_path):
    """What was predicted, by tools/evaluate_results.py."""
    own = {name: run / "inference" / f"deepfashion_{name}_test" for name in FOLDERS}
    roots = {name: datasets / "deepfashion" / folder for name, folder in FOLDERS.items()}
    output = tmp_path / "scores.json"
    files = ("--split", "test", "--predictions", own["category"] / "predictions.npz")
    where = ("--task", "recognition", "--root", roots["category"], "--output", output)
    run_tool("evaluate_results", *where, *files)
    scores = json.loads(output.read_text())
    name, key = "consumer2shop", "deepfashion_consumer2shop_test/consumer2shop/hit1"
    files = ("--embeddings", own[name] / "predictions.npz", "--output", output)
    run_tool("evaluate_results", "--task", name, "--root", roots[name], *files)
    retrieval = json.loads(output.read_text())
    assert retrieval["hit"]["1"] == pytest.approx(lines(run)[-1][key] / 100)
    assert scores["images"] == 1
    with np.load(own["category"] / "predictions.npz") as arrays:
        assert arrays["category_scores"].shape == (1, 3)
        assert arrays["attribute_scores"].shape == (1, 5)
        assert arrays["landmarks"].shape == (1, 8, 2)
        assert arrays["embeddings"].shape == (1, 64)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(run, datasets, tmp_path):
    (tmp_path / "model_0000001.pth").write_bytes((run / "model_0000001.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    train_net(datasets, *arguments(tmp_path, 2, "--resume"))
    assert lines(tmp_path)[0]["iteration"] == 2
    one, other = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (run, tmp_path)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_heads_on_frozen_vectors(run, datasets, tmp_path):
    """On a run's weights: its checkpoint is whole, and the base's but for the heads."""
    base = run / "model_final.pth"
    keys = ("MODEL.RECOGNITION.FROZEN", "True", "MODEL.WEIGHTS", base)
    train_net(datasets, *arguments(tmp_path, 2), *keys)
    one, other = (
        torch.load(file, weights_only=True)["model"] for file in (base, tmp_path / base.name)
    )
    assert one.keys() == other.keys()
    changed = {name.split(".")[0] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"heads"}


@pytest.fixture(scope="module")
def pair_network(run, datasets, tmp_path_factory):
    """WTBI's network on a run's frozen vectors."""
    output = tmp_path_factory.mktemp("pair_network")
    train_net(
        datasets, *on_frozen(output, run, "['CategoryHead','EmbeddingHead','SimilarityHead']")
    )
    return output


def on_frozen(output, base, heads, *keys):
    own = {
        "MODEL.RECOGNITION.FROZEN": True,
        "MODEL.RECOGNITION.HEADS": heads,
        "MODEL.RECOGNITION.SIMILARITY.NAME": "PairNetwork",
        "MODEL.WEIGHTS": base / "model_final.pth",
        "TEST.SHORTLIST": 2,
    }
    words = [word for pair in own.items() for word in pair]
    return (*arguments(output, 2), *words, "SOLVER.MAX_ITER", 2, *keys)


def test_a_similarity_s_order_is_scored_beside_the_embedding_s(pair_network):
    last = lines(pair_network)[-1]
    for task in ("inshop", "consumer2shop"):
        name = f"deepfashion_{task}_test/{task}"
        most = last[f"{name}_embedding/shortlist_recall"]
        assert 0 <= last[f"{name}/hit1"] <= most
        assert last[f"{name}/hit5"] == last[f"{name}_embedding/hit5"]
    with np.load(pair_network / "inference/deepfashion_inshop_test/predictions.npz") as arrays:
        assert "vector" not in arrays  # what a similarity compares is no result


def test_copies_leave_the_network_that_they_start_from(pair_network, datasets, tmp_path):
    copies = ("MODEL.RECOGNITION.SIMILARITY.PAIR.PER_CATEGORY", True)
    heads = "['CategoryHead','EmbeddingHead','SimilarityHead']"
    train_net(datasets, *on_frozen(tmp_path, pair_network, heads, *copies))
    one, other = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (pair_network, tmp_path)
    )
    layers = [name for name in one if "similarity.layers" in name]
    assert layers
    assert all(torch.equal(one[name], other[name]) for name in layers)
    assert any("similarity.differences" in name for name in other)


def test_copies_need_categories(pair_network, datasets, tmp_path):
    copies = ("MODEL.RECOGNITION.SIMILARITY.PAIR.PER_CATEGORY", True)
    heads = "['EmbeddingHead','SimilarityHead']"
    with pytest.raises(ValueError, match=r"no feature 'category'.*CategoryHead"):
        train_net(datasets, *on_frozen(tmp_path, pair_network, heads, *copies))


def test_an_oracle_says_so(run, datasets):
    weights = ("MODEL.WEIGHTS", run / "model_final.pth", "TEST.ORACLE_LANDMARKS", "True")
    found = train_net(datasets, *arguments(run, 2, "--eval-only"), *weights)
    assert "oracle_category" in found["deepfashion_category_test"]
    assert all(task.startswith("oracle_") for own in found.values() for task in own)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TEST", "('deepfashion_inshop_query',)", "evaluate deepfashion_inshop_test"),
        ("DATASETS.TRAIN", "('deepfashion_category_train',)", "no item with two images"),
        ("MODEL.TAXONOMY", "deepfashion2", "MODEL.TAXONOMY has 13 categories"),
    ],
)
def test_bad_settings(key, value, message, datasets, tmp_path):
    words = (*arguments(tmp_path, 2), "SOLVER.MAX_ITER", 1, key, value)
    with pytest.raises(ValueError, match=message):
        train_net(datasets, *words)


def test_changed_wishes_on_frozen_vectors(run, run_tool, tmp_path):
    """FLAM's parts on a run's vectors: trained, scored by the protocol, and from the file alike."""
    root = tmp_path / "deepfashion/category"
    generate(root, "category", 16, 0, 24, size=64, progress=False)
    keys = ("--config-file", ROOT / "configs/flam_quick.yaml")
    keys += ("MODEL.WEIGHTS", run / "model_final.pth")
    keys += ("MODEL.RECOGNITION.MANIPULATION.TYPES", "('sleeve','fit')")
    _, _, *options = arguments(tmp_path / "run", 2)
    sets = {"TRAIN": "('deepfashion_fine_train',)", "TEST": "('deepfashion_fine_test',)"}
    options += [word for part, name in sets.items() for word in (f"DATASETS.{part}", name)]
    train_net(tmp_path, *keys, *options)
    *steps, last = lines(tmp_path / "run")
    assert max(step["loss_discriminator"] for step in steps) > 0  # of a batch without a pair: 0
    own = tmp_path / "run/inference/deepfashion_fine_test/predictions.npz"
    where = ("--task", "manipulation", "--root", root, "--split", "test", "--predictions", own)
    run_tool("evaluate_results", *where, "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["gallery"] == 24
    for before, key in (("changed", ""), ("unchanged", "unchanged_")):
        for metric in ("top10", "ndcg30_others"):
            found = 100 * scores["manipulation"][before][metric]
            # Changed vectors lie in the file in half precision.
            assert found == pytest.approx(last[f"manipulation/{key}{metric}"], abs=0.5)
