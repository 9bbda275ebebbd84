"""Data sets of given boxes: what a model learns of them, and mixed with others."""

import itertools
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import BoxMode, DatasetCatalog, MetadataCatalog, T
from match_rcnn.data.given_boxes import (
    GivenBoxes,
    attributes_of,
    count_attributes,
    is_given,
    taxonomy_to_learn,
)
from match_rcnn.data.loader import build_train_loader_from_cfg, training_parts
from match_rcnn.data.mapper import GarmentMapper
from match_rcnn.data.recognition import load_records
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from tests.data.deepfashion_trees import category_tree

NAMES = ["striped", "a-line"]


def image_of(folder, number, **annotation):
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), np.full((20, 30, 3), number, np.uint8))
    return {"file_name": str(path), "image_id": number, "width": 30, "height": 20} | {
        "annotations": [{"bbox": [3, 2, 13, 18], "bbox_mode": BoxMode.XYXY_ABS, **annotation}]
    }


@pytest.fixture
def data_sets(tmp_path):
    """Three garments in given boxes, and two images to detect in."""
    labels = np.array([[1, 0], [-1, 1], [0, -1]], np.int8)
    shown = [image_of(tmp_path, i, attributes=row, category_id=40) for i, row in enumerate(labels)]
    found = [image_of(tmp_path, i, category_id=2) for i in (10, 11)]
    stated = {"attribute_names": NAMES, "attribute_types": np.array([1, 3], np.int8)}
    sets = {
        "given_train": (shown, {"evaluator_type": "deepfashion_category", **stated}),
        "given_other": (shown, {"evaluator_type": "deepfashion_fine"}),
        "found_train": (found, {"taxonomy": DEEPFASHION2, "thing_classes": list("abc")}),
    }
    for name, (items, metadata) in sets.items():
        DatasetCatalog.register(name, lambda items=items: items)
        MetadataCatalog.get(name).set(**metadata)
    MetadataCatalog.get("given_other").attribute_names = ["short"]
    yield sets
    for name in sets:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_what_is_learned(data_sets):
    assert [is_given(name) for name in data_sets] == [True, True, False]
    assert attributes_of("given_train") == (("striped", "texture"), ("a-line", "shape"))
    assert attributes_of("given_other") == (("short", "attribute"),)
    taxonomy = taxonomy_to_learn(["given_train", "found_train"])
    assert taxonomy == DEEPFASHION2
    assert [a.name for a in taxonomy.attributes] == NAMES
    assert taxonomy_to_learn(["found_train"]).attributes == ()
    with pytest.raises(ValueError, match="'given_train' has 2 and 'given_other' has 1"):
        taxonomy_to_learn(["given_train", "found_train", "given_other"])


def test_names_that_are_stated_when_the_data_set_is_read():
    def load():
        MetadataCatalog.get("late").set(
            attribute_names=["worn"], attribute_types=np.array([1]), attribute_type_names=["use"]
        )
        return []

    DatasetCatalog.register("late", load)
    MetadataCatalog.get("late").evaluator_type = "deepfashion_inshop"
    try:
        assert attributes_of("late") == (("worn", "use"),)
    finally:
        DatasetCatalog.remove("late")
        MetadataCatalog.remove("late")


def test_a_taxonomy_with_attributes_is_written_and_read(data_sets):
    taxonomy = taxonomy_to_learn(["given_train", "found_train"])
    again = Taxonomy.from_dict(taxonomy.to_dict())
    assert (again, again.attributes) == (taxonomy, taxonomy.attributes)
    assert "attributes" not in DEEPFASHION2.to_dict()
    with pytest.raises(ValueError, match=r"own.yaml: expected 'attributes' .* got \['red'\]"):
        Taxonomy.from_dict({**taxonomy.to_dict(), "attributes": ["red"]}, "own.yaml")


def test_counts_and_shapes_of_records_are_those_of_their_dicts(tmp_path):
    """The columns of a stored benchmark against its dataset dicts, one by one."""
    records = load_records(category_tree(tmp_path), "category", "train")
    stored, plain = GivenBoxes(records), GivenBoxes(list(records))
    assert count_attributes(stored, 5).tolist() == count_attributes(plain, 5).tolist()
    # One has the first and the fourth, the other the second; of the last nothing is known.
    assert count_attributes(plain, 5).tolist() == [[1, 1, 2, 1, 0], [1, 1, 0, 1, 0]]
    assert stored.landscape == plain.landscape == [False, False]


def config(**keys):
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.ATTRIBUTE_ON = True
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "IgnoringRPN"
    cfg.DATASETS.TRAIN = ("given_train", "found_train")
    cfg.DATASETS.TRAIN_WEIGHTS = (1, 3)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 4, 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.SEED = (40,), 60, 1
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.merge_from_list([x for item in keys.items() for x in item])
    return cfg


def test_samples(data_sets):
    cfg = config(**{"INPUT.RANDOM_FLIP": "none"})
    item = {**GivenBoxes(data_sets["given_train"][0])[1], "seed": 0}
    sample = GarmentMapper(cfg)(item)
    instances = sample["instances"]
    assert set(instances.get_fields()) == {"gt_boxes", "gt_attributes"}
    assert instances.gt_boxes.tensor.tolist() == [[6, 4, 26, 36]]  # twice as large
    assert instances.gt_attributes.dtype == torch.int8
    assert instances.gt_attributes.tolist() == [[-1, 1]]
    assert (sample["height"], sample["width"], "given_box" in sample) == (20, 30, False)


def test_items_to_detect_with_attributes(data_sets, tmp_path):
    mapper = partial(GarmentMapper, True, augmentations=[T.NoOpTransform()], image_format="BGR")
    own = mapper(
        taxonomy=taxonomy_to_learn(["given_train", "found_train"]),
        use_masks=False,
        use_landmarks=False,
        use_attributes=True,
    )
    item = image_of(tmp_path, 20, category_id=2, attributes=np.array([1, -1], np.int8))
    item["annotations"].append({**item["annotations"][0]})
    del item["annotations"][1]["attributes"]
    assert own(item)["instances"].gt_attributes.tolist() == [[1, -1], [0, 0]]
    assert not own(data_sets["found_train"][0][0])["instances"].has("gt_attributes")
    with pytest.raises(ValueError, match="leave one of them out"):
        mapper(use_attributes=True, attributes=("scale",))


def test_batches_are_mixed(data_sets):
    loader = build_train_loader_from_cfg(config())
    batches = list(itertools.islice(loader, 6))
    ids = [[sample["image_id"] for sample in batch] for batch in batches]
    assert [sum(i < 10 for i in batch) for batch in ids] == [1] * 6
    assert {i for batch in ids for i in batch} == {0, 1, 2, 10, 11}
    for batch in batches:
        for sample in batch:
            is_found = sample["image_id"] >= 10
            assert sample["instances"].has("gt_classes") == is_found
            assert sample["instances"].has("gt_attributes") != is_found


def test_parts_stay_in_their_order(data_sets):
    first, second = training_parts(config())
    assert isinstance(first, GivenBoxes)
    assert [item["image_id"] for item in second] == [10, 11]
    assert [item["given_box"] for item in first] == [True] * 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.PROPOSAL_GENERATOR.NAME": "RPN"}, "IgnoringRPN"),
        ({"MODEL.ATTRIBUTE_ON": False}, "switch MODEL.ATTRIBUTE_ON on"),
        ({"DATASETS.TRAIN_WEIGHTS": (1,)}, "expected 2 numbers above 0"),
    ],
)
def test_configs_that_could_not_learn_from_them(data_sets, keys, message):
    with pytest.raises(ValueError, match=message):
        build_train_loader_from_cfg(config(**keys))
