"""Several data sets as one, and pairs of one item."""

from collections import Counter

import numpy as np
import pytest

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.recognition import load_records, register_deepfashion
from match_rcnn.data.recognition_loader import (
    ItemPairs,
    Relabelled,
    build_recognition_train_loader,
    count_attributes,
    places,
    taxonomy_to_recognise,
)
from match_rcnn.data.sources.deepfashion_labels import FOLDERS
from match_rcnn.data.taxonomy import DEEPFASHION2, Category
from tests.data.deepfashion_trees import consumer2shop_tree

NAMES = ("one_train", "two_train")


@pytest.fixture(autouse=True)
def _data_sets():
    """Two attributes each, one of them in both."""
    stated = {
        "one_train": {"thing_classes": ["tee", "skirt"], "attribute_names": ["red", "long"]},
        "two_train": {"thing_classes": ["skirt", "hat"], "attribute_names": ["long", "warm"]},
    }
    for name, metadata in stated.items():
        annotation = {"category_id": 0, "attributes": np.array([1, -1], np.int8)}
        DatasetCatalog.register(name, lambda a=annotation: [{"annotations": [a]}] * 3)
        MetadataCatalog.get(name).set(**metadata, attribute_types=np.array([1, 3], np.int8))
    yield
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_attributes_are_told_apart_by_name_and_categories_are_the_first_set_s():
    taxonomy = taxonomy_to_recognise(NAMES)
    assert [c.name for c in taxonomy.categories] == ["tee", "skirt"]
    assert taxonomy.attributes == (("red", "texture"), ("long", "shape"), ("warm", "shape"))
    first, second = (Relabelled(name, taxonomy)[0]["annotations"][0] for name in NAMES)
    assert (first["category_id"], first["attributes"].tolist()) == (0, [1, -1, 0])
    assert (second["category_id"], second["attributes"].tolist()) == (1, [0, 1, -1])


def test_attributes_are_counted_where_they_are_known():
    parts = [Relabelled(name, taxonomy_to_recognise(NAMES)) for name in NAMES]
    assert count_attributes(parts).tolist() == [[0, 3, 3], [3, 3, 0]]  # absent, present


def test_stored_records_count_the_same_by_their_columns(tmp_path):
    root = consumer2shop_tree(tmp_path / "deepfashion" / FOLDERS["consumer2shop"])
    records = load_records(root, "consumer2shop", "test")
    by_columns, plain = ItemPairs.of([records]), ItemPairs.of([list(records)])
    assert by_columns == plain
    assert by_columns.anchors
    register_deepfashion(tmp_path)
    taxonomy = taxonomy_to_recognise(["deepfashion_consumer2shop_test"])
    part = Relabelled("deepfashion_consumer2shop_test", taxonomy)
    counts = count_attributes([part])
    part.items = list(part.items)
    assert counts.tolist() == count_attributes([part]).tolist()
    assert counts.any()


def test_places():
    assert places(
        [Category(1, "b"), Category(2, "x")], [Category(3, "a"), Category(4, "b")]
    ).tolist() == [1, -1]


def records(rows):
    return [{"item": item, "domain": domain} if item else {} for item, domain in rows]


def test_pairs_are_of_one_item_and_one_data_set():
    parts = [
        records([("a", None), ("a", None), ("b", None), (None, None)]),
        records([("a", "shop"), ("a", "consumer"), ("a", "consumer"), ("c", "shop")]),
    ]
    pairs = ItemPairs.of(parts)
    assert pairs.anchors == [0, 1, 4, 5, 6]  # nothing else has a partner
    generator = np.random.default_rng(0)
    drawn = Counter(pairs.draw_pair(a, generator) for a in pairs.anchors for _ in range(40))
    assert set(drawn) == {(0, 1), (1, 0), (4, 5), (4, 6), (5, 4), (6, 4)}
    assert 10 < drawn[4, 5] < 30


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"SAMPLER_TRAIN": "RepeatFactorTrainingSampler"},
            r"SAMPLER_TRAIN must be one of Training",
        ),
        (
            {"SAMPLER_TRAIN": "WordSampler"},
            r"TRAIN_WEIGHTS says how often .* WordSampler draws words",
        ),
    ],
)
def test_settings_that_do_not_go_together(keys, message):
    cfg = get_match_rcnn_cfg()
    cfg.DATASETS.TRAIN_WEIGHTS = (2, 1)
    cfg.DATALOADER.update(keys)
    with pytest.raises(ValueError, match=message):
        build_recognition_train_loader(cfg, DEEPFASHION2)
