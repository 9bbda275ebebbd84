import json
import logging
import re

import numpy as np
import pycocotools.mask as mask_util
import pytest
import yaml

from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.coco import category_records
from match_rcnn.data.datasets import register_data_sets
from match_rcnn.data.sources import DataSet, data_source
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy, taxonomy_of

CATEGORIES = [
    {"id": 10, "name": "tie", "keypoints": ["top", "left", "right"], "keypoint_sigmas": [0.1] * 3},
    {"id": 4, "name": "hat"},
]
WHOLE = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "width": 40, "height": 60, "source": "shop", "pair_id": 2},
        {"id": 3, "file_name": "sub/a.jpg", "width": 50, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 4, "bbox": [1, 2, 10, 20]},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 10,
            "bbox": [1, 2, 10, 20],
            "segmentation": [[1, 2, 11, 2, 11, 22]],
            "keypoints": [5, 6, 2, 0, 0, 0, 7, 8, 1],
        },
        {"id": 3, "image_id": 7, "category_id": 4, "bbox": [30, 30, 9, 9], "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 4, "bbox": [0, 0, 5, 5], "keypoints": []},
    ],
    "categories": CATEGORIES,
}
ENTRY = {"annotations": "own.json", "images": "photos"}


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """``register(entry, **parts of the file)``: the data set "own" of a data sets file."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))

    def register(entry=None, **parts):
        (tmp_path / "own.json").write_text(json.dumps({**WHOLE, **parts}))
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"own": {**ENTRY, **(entry or {})}}))
        register_data_sets(["own"])
        return MetadataCatalog.get("own")

    yield register
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "own" in catalog.list():
            catalog.remove("own")


def changed(number, **values):
    """The annotations with other values of one."""
    return [{**a, **values} if a["id"] == number else a for a in WHOLE["annotations"]]


def test_every_value(registered, tmp_path):
    metadata = registered()
    assert metadata.taxonomy == Taxonomy.from_coco(CATEGORIES, "own")
    assert metadata.thing_classes == ["hat", "tie"]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 10: 1}
    assert metadata.keypoint_names == ["tie top", "tie left", "tie right"]
    assert metadata.keypoint_flip_map == [("tie left", "tie right")]
    assert metadata.json_file == str(tmp_path / "own.json")
    first, second = DatasetCatalog.get("own")
    assert first["file_name"] == str(tmp_path / "photos" / "sub" / "a.jpg")
    assert (first["image_id"], first["width"], first["height"]) == (3, 50, 30)
    assert (first["source"], first["pair_id"]) == (None, None)
    assert (second["source"], second["pair_id"]) == ("shop", 2)
    (hat,) = first["annotations"]
    assert (hat["id"], hat["category_id"], hat["bbox"], hat["iscrowd"]) == (1, 0, [1, 2, 10, 20], 0)
    assert not {"segmentation", "keypoints"} & hat.keys()
    assert hat["style"] is None
    tie, region, bare = second["annotations"]
    assert tie["category_id"] == 1
    assert tie["keypoints"].tolist() == [[5.5, 6.5, 2], [0.5, 0.5, 0], [7.5, 8.5, 1]]
    assert tie["keypoints"].dtype == np.float32
    assert tie["num_keypoints"] == 2
    assert [p.tolist() for p in tie["segmentation"]] == [[1, 2, 11, 2, 11, 22]]
    assert (region["iscrowd"], region["bbox"]) == (1, [30, 30, 9, 9])
    assert "keypoints" not in bare


def test_labels_that_are_not_wanted(registered):
    registered({"labels": ["masks"]})
    assert "keypoints" not in DatasetCatalog.get("own")[1]["annotations"][0]
    registered({"labels": []})


@pytest.mark.parametrize("counts", ["text", "list"])
def test_run_lengths(registered, counts):
    mask = np.zeros((60, 40), np.uint8, order="F")
    mask[2:22, 1:11] = 1
    rle = mask_util.encode(mask)
    rle["counts"] = rle["counts"].decode()
    if counts == "list":  # column by column: what is before, then 20 in and 40 out
        rle["counts"] = [62, *[20, 40] * 9, 20, 60 * 29 + 38]
    registered(annotations=changed(2, segmentation=rle))
    found = DatasetCatalog.get("own")[1]["annotations"][0]["segmentation"]
    assert (mask_util.decode(found) == mask).all()


def test_a_category_map(registered):
    registered({"categories": {"tie": "ignore", "hat": "skirt"}})
    metadata = MetadataCatalog.get("own")
    assert metadata.taxonomy is DEEPFASHION2
    # The file's own categories are not those of a model, so it is no ground truth.
    assert not hasattr(metadata, "json_file")
    first, second = DatasetCatalog.get("own")
    assert [(a["category_id"], a["iscrowd"]) for a in first["annotations"]] == [(8, 0)]
    assert [a["iscrowd"] for a in second["annotations"]] == [1, 1, 0]
    # A run looks a data set up by its reader, to read it once.
    assert isinstance(hash(DatasetCatalog.data["own"]), int)
    registered({"categories": {"tie": "sling_dress", "hat": "none"}})
    first, second = DatasetCatalog.get("own")
    assert first["annotations"] == []
    assert [a["category_id"] for a in second["annotations"]] == [12]
    # Its three landmarks are not the dress's.
    assert "keypoints" not in second["annotations"][0]


def test_pairs(registered):
    said = [{**a, "style": 5} if a["id"] == 2 else a for a in WHOLE["annotations"]]
    for pairs, pair_id, styles in (
        (None, 2, [5, None]),  # as in DeepFashion2: the style decides
        (True, 2, [5, 1]),
        (False, None, [5, None]),
    ):
        registered({} if pairs is None else {"pairs": pairs}, annotations=said)
        first, second = DatasetCatalog.get("own")
        assert second["pair_id"] == pair_id
        assert [a["style"] for a in second["annotations"] if not a["iscrowd"]] == styles
        assert first["annotations"][0]["style"] is None
    registered({"photos": "user"})
    assert [image["source"] for image in DatasetCatalog.get("own")] == ["user", "user"]


def test_deepfashion2s_categories_are_known(registered):
    """As either converter writes them, dense or compact."""
    for compact in (False, True):
        own = {"categories": category_records(compact), "annotations": []}
        assert registered(**own).taxonomy is DEEPFASHION2


def test_a_stated_taxonomy(registered, tmp_path):
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"categories": CATEGORIES}))
    metadata = registered({"taxonomy": "t.yaml"}, categories=[])
    assert metadata.taxonomy == Taxonomy.from_coco(CATEGORIES, "t")
    assert taxonomy_of("own") is metadata.taxonomy
    registered({"taxonomy": "deepfashion2"})
    with pytest.raises(ValueError, match=r"own\.json.*for category 10 \('short sleeve dress'\)"):
        DatasetCatalog.get("own")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"bbox": [5, 5, 0, 9]}, "box without area"),
        ({"bbox": [-9, 5, 9, 9]}, "box wholly outside the image"),
        ({"segmentation": [[1, 2, 3, 4]]}, "no polygon of at least 3 points"),
    ],
)
def test_unusable_items_are_left_out_and_counted(registered, caplog, values, reason):
    registered(annotations=changed(2, **values))
    with caplog.at_level(logging.WARNING):
        found = DatasetCatalog.get("own")[1]["annotations"]
    assert [a["id"] for a in found] == [3, 4]
    assert f"1 items left out, {reason}, such as annotation 2" in caplog.text


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"annotations": changed(2, keypoints=[1, 2, 2])}, "annotation 1 (from 0): expected key"),
        ({"annotations": changed(2, bbox=[1, 2, 3])}, "annotation 1 (from 0): bbox must be 4"),
        ({"annotations": changed(2, category_id=5)}, "expected a category_id of 4, 10, got 5"),
        ({"annotations": changed(1, image_id=9)}, "unknown image_id 9"),
        ({"images": [{"id": 3}, {"id": 7}]}, "image id 3: expected file_name, width and height"),
        ({"annotations": None}, "expected a list 'annotations', got none"),
    ],
)
def test_bad_files_are_named(registered, parts, message):
    registered(**parts)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        DatasetCatalog.get("own")
    assert "own.json" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "x"}, "unknown key 'image'; there are annotations, "),
        ({"source": "cocoa"}, "expected a source of ccp, coco"),
        ({"labels": ["boxes"]}, "labels: expected a list of masks, landmarks"),
        ({"photos": "mine"}, "photos: expected user or shop, got 'mine'"),
        ({"pairs": "pair_id"}, "pairs: expected true or false"),
        ({"categories": {"tie": "none"}}, "expected what 'hat'"),
        ({"categories": {"tie": "none", "hat": "cap"}}, "short sleeve top"),
        ({"categories": {"tie": "none", "hat": "none", "sock": "none"}}, "got 'sock'"),
        ({"taxonomy": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_bad_entries_are_named(registered, entry, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        registered(entry)
    assert isinstance(caught.value, FileNotFoundError) or "mine.yaml, data set 'own'" in str(
        caught.value
    )


def test_a_source_of_ones_own(tmp_path, monkeypatch):
    """One function, and no other file."""
    hats = Taxonomy.from_coco([{"id": 1, "name": "hat"}], "hats")

    @data_source("hat_shop")
    def hat_shop(name, entry, folder):
        image = {"file_name": str(folder / entry["photo"]), "image_id": 1, "height": 5, "width": 4}
        return DataSet(lambda: [{**image, "annotations": []}], hats, {"shop": name})

    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "elsewhere"))
    (tmp_path / "h.yaml").write_text("own_hats: {source: hat_shop, photo: hat.png}")
    register_data_sets(["own_hats", "deepfashion2_train"], [tmp_path / "h.yaml"])
    try:
        assert DatasetCatalog.get("own_hats")[0]["file_name"] == str(tmp_path / "hat.png")
        assert MetadataCatalog.get("own_hats").shop == "own_hats"
        assert taxonomy_of("own_hats") is hats
    finally:
        DatasetCatalog.remove("own_hats")
        MetadataCatalog.remove("own_hats")


def test_unknown_names_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "a.yaml").write_text("shop: {}")
    with pytest.raises(ValueError, match=r"'shop_train' is not known; there are .*shop"):
        register_data_sets(["shop_train"])
    (tmp_path / "a.yaml").write_text("[1]")
    with pytest.raises(ValueError, match=r"a\.yaml: expected data sets by name"):
        register_data_sets(["shop_train"])
