"""DeepFashion's (2016) benchmarks as registered data sets, and their cache."""

import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.d2 import (
    BoxMode,
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from match_rcnn.data import recognition
from match_rcnn.data.problems import MissingDataError
from match_rcnn.data.recognition import (
    NO_SUCH_SLOT,
    SPLITS,
    load_benchmark,
    load_records,
    open_stored,
    pack,
    recognition_metadata,
    register_deepfashion,
    unpack,
)
from tests.data.deepfashion_trees import (
    TREES,
    category_tree,
    consumer2shop_tree,
    fine_tree,
    inshop_tree,
    landmark_tree,
    write_image,
    write_list,
)


@pytest.fixture
def registered(tmp_path):
    """All benchmarks below one folder, under their names."""
    before = set(DatasetCatalog.list())
    for name, tree in TREES.items():
        tree(tmp_path / "deepfashion" / recognition.FOLDERS[name])
    register_deepfashion(tmp_path)
    yield tmp_path / "deepfashion"
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(1, 11))
def test_packing_and_back(seed, images, count):
    labels = np.random.default_rng(seed).integers(-1, 2, (images, count)).astype(np.int8)
    packed = pack(labels)
    assert packed.dtype == np.uint8
    assert packed.shape == (images, -(-count // 4))
    assert (unpack(packed, count) == labels).all()


def test_a_record_of_the_category_benchmark(tmp_path):
    records = load_records(category_tree(tmp_path), "category", "train")
    assert len(records) == 2
    first = records[0]
    annotation = first.pop("annotations")[0]
    assert first == {
        "file_name": str(tmp_path / "Img/img/Some_Thing/img_00000001.jpg"),
        "image_id": 0,
        "width": 60,
        "height": 80,
        "image_name": "img/Some_Thing/img_00000001.jpg",
        "split": "train",
    }
    assert annotation["bbox"] == [5, 10, 55, 75]
    assert annotation["bbox_mode"] == BoxMode.XYXY_ABS
    assert annotation["category_id"] == 0
    assert annotation["attributes"].tolist() == [1, -1, -1, 1, 0]
    assert annotation["attributes"].dtype == np.int8
    none = NO_SUCH_SLOT
    assert annotation["visibility"].tolist() == [0, 0, 1, 0, none, none, 0, 2]
    assert annotation["visibility"].dtype == np.int8
    assert annotation["landmarks"][[0, 3, 6]].tolist() == [[11, 12], [41, 42], [11, 72]]
    assert annotation["landmarks"].dtype == np.float32


def test_fine_labels_have_no_unknown_ones_and_no_names(tmp_path):
    fine_tree(tmp_path)
    records = load_records(tmp_path, "fine", "train")
    annotation = records[1]["annotations"][0]
    assert annotation["attributes"].tolist() == [1, -1, -1, 1, -1, 1]
    assert annotation["category_id"] == 1
    assert annotation["visibility"].tolist() == [0, 0, NO_SUCH_SLOT, NO_SUCH_SLOT, 0, 0, 0, 0]
    assert annotation["landmarks"][4].tolist() == [15, 45]
    assert [len(load_records(tmp_path, "fine", split)) for split in ("val", "test")] == [1, 1]


def test_inshop_has_items_and_the_attributes_of_items(tmp_path):
    inshop_tree(tmp_path)
    query, gallery = (load_records(tmp_path, "inshop", s)[0] for s in ("query", "gallery"))
    assert query["item"] == gallery["item"] == "id_00000002"
    assert query["annotations"][0]["attributes"].tolist() == [-1, 1]
    both = load_records(tmp_path, "inshop", "test")
    assert [(r["image_id"], r["split"]) for r in both] == [(1, "query"), (2, "gallery")]
    train = load_records(tmp_path, "inshop", "train")[0]["annotations"][0]
    assert train["attributes"].tolist() == [1, 0]


def test_consumer2shop_counts_a_photo_once_and_tests_in_the_shops_of_validation(tmp_path):
    consumer2shop_tree(tmp_path)
    records = load_records(tmp_path, "consumer2shop", "test")
    found = [(r["item"], r["domain"], r["image_name"].split("/")[-1]) for r in records]
    assert found == [
        ("id_00000002", "shop", "shop_01.jpg"),
        ("id_00000003", "consumer", "comsumer_01.jpg"),
        ("id_00000003", "shop", "shop_01.jpg"),
        ("id_00000003", "consumer", "comsumer_02.jpg"),
    ]
    val = load_records(tmp_path, "consumer2shop", "val")
    assert [r["domain"] for r in val] == ["consumer", "shop"]


def test_landmark_benchmark_has_types_as_categories_and_no_attributes(tmp_path):
    landmark_tree(tmp_path)
    annotation = load_records(tmp_path, "landmark", "val")[0]["annotations"][0]
    assert annotation["category_id"] == 1
    assert "attributes" not in annotation
    assert annotation["visibility"].tolist() == [NO_SUCH_SLOT] * 4 + [0] * 4


def test_metadata_say_what_the_lists_say(registered):
    train = recognition_metadata("deepfashion_category_train")
    assert train.thing_classes == ["Tee", "Jeans", "Dress"]
    assert train.clothes_types == [1, 2, 3]
    assert train.attribute_names == ["striped", "soft denim", "maxi", "v neck", "boho"]
    assert train.attribute_types.tolist() == [1, 2, 3, 4, 5]
    assert train.attribute_types.dtype == np.int8
    assert train.attribute_type_names == ["texture", "fabric", "shape", "part", "style"]
    assert train.evaluator_type == "deepfashion_category"
    assert (train.root, train.split) == (str(registered / "category"), "train")
    inshop = recognition_metadata("deepfashion_inshop_query")
    assert inshop.thing_classes == ["MEN/Denim", "WOMEN/Dresses"]
    assert inshop.clothes_types == [2, 3]
    assert inshop.attribute_names == ["acid wash", "3/4"]
    assert inshop.attribute_types.tolist() == [0, 0]
    shop = recognition_metadata("deepfashion_consumer2shop_test")
    assert shop.attribute_names == ["round neck", "chiffon"]
    assert shop.attribute_type_names == ["collar shape", "fabric"]
    types = recognition_metadata("deepfashion_landmark_val").thing_classes
    assert types == ["upper-body", "lower-body", "full-body"]


def test_all_names_are_registered_and_again_does_no_harm(registered):
    names = {
        f"deepfashion_{b}_{s}{end}" for b in SPLITS for s in SPLITS[b] for end in ("", "_highres")
    }
    assert names <= set(DatasetCatalog.list())
    DatasetCatalog.get("deepfashion_category_val")
    register_deepfashion(registered.parent)
    assert MetadataCatalog.get("deepfashion_category_val").thing_classes
    register_deepfashion(registered)
    with pytest.raises(FileNotFoundError):
        DatasetCatalog.get("deepfashion_category_val")


def test_loaders_take_the_records_as_they_are(registered):
    found = get_detection_dataset_dicts("deepfashion_category_train")
    assert isinstance(found, recognition.Records)
    loader = build_detection_test_loader(found, mapper=lambda image: image["image_name"])
    assert [batch[0] for batch in loader] == [image["image_name"] for image in found]
    both = get_detection_dataset_dicts(["deepfashion_category_train", "deepfashion_category_val"])
    assert [both[i]["image_id"] for i in range(len(both))] == [0, 1, 2]
    assert DatasetFromList(found, serialize=False)[1]["image_id"] == 1
    assert DatasetFromList(found, copy=False)[-1 + len(found)]["image_id"] == 1


def test_records_are_a_sequence(tmp_path):
    records = load_records(category_tree(tmp_path), "category", "train")
    assert records[-1]["image_id"] == 1
    assert [image["image_id"] for image in records[:5]] == [0, 1]
    with pytest.raises(IndexError, match="index 2 is out of range for 2 images"):
        records[2]
    assert records.column("category").tolist() == [0, 1]
    assert records.column("attributes").tolist() == [[1, -1, -1, 1, 0], [-1, 1, -1, -1, 0]]
    assert records.column("split").tolist() == ["train", "train"]
    with pytest.raises(KeyError, match="item"):
        records.column("item")


def test_attribute_counts_of_a_split(tmp_path):
    records = load_records(category_tree(tmp_path), "category", "train")
    assert records.attribute_counts().tolist() == [[1, 1], [1, 1], [0, 2], [1, 1], [0, 0]]


def test_a_pickle_maps_the_file_again(tmp_path):
    records = load_records(category_tree(tmp_path), "category", "train")
    data = pickle.dumps(records)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert isinstance(again._stored.records, np.memmap)
    assert str(again[1]) == str(records[1])


def test_the_second_time_no_list_is_read(tmp_path, monkeypatch):
    category_tree(tmp_path)
    first = load_records(tmp_path, "category", "train")[0]
    monkeypatch.setattr(recognition, "read_benchmark", None)
    assert str(load_records(tmp_path, "category", "train")[0]) == str(first)


def test_a_changed_list_is_read_again_and_the_metadata_follow(registered):
    name = "deepfashion_category_train"
    DatasetCatalog.get(name)
    header = "category_name  category_type"
    rows = ["Shirt 1", "Jeans 2", "Dress 3"]
    write_list(registered / "category", "Anno/list_category_cloth.txt", header, rows)
    assert recognition_metadata(name).thing_classes == ["Shirt", "Jeans", "Dress"]


def test_a_cut_off_cache_is_made_anew(tmp_path, caplog):
    category_tree(tmp_path)
    load_benchmark(tmp_path, "category")
    file = tmp_path / "cache/category.records"
    whole = file.read_bytes()
    for length in (0, 40, len(whole) - 3):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"category.records"):
            open_stored(file)
        assert len(load_records(tmp_path, "category", "train")) == 2
        assert "made anew" in caplog.text
        assert file.read_bytes() == whole


def test_without_a_place_for_the_cache_it_works_all_the_same(tmp_path, caplog):
    category_tree(tmp_path)
    (tmp_path / "cache").write_text("no folder")
    records = load_records(tmp_path, "category", "train")
    assert records[1]["image_id"] == 1
    assert "cannot be written" in caplog.text
    assert pickle.loads(pickle.dumps(records))[1]["image_id"] == 1


def test_missing_images_are_left_out_listed_and_looked_for_again(tmp_path, caplog):
    category_tree(tmp_path)
    lost = tmp_path / "Img/img/Some_Thing/img_00000002.jpg"
    lost.unlink()
    assert len(load_records(tmp_path, "category", "train")) == 1
    problems = json.loads((tmp_path / "cache/category.records.problems.json").read_text())
    assert problems["counts"]["left_out_by_reason"] == {"listed image without a file": 1}
    assert problems["problems"][0]["file"] == "img/Some_Thing/img_00000002.jpg"
    caplog.clear()
    assert len(load_records(tmp_path, "category", "train")) == 1
    assert "1 images are left out" in caplog.text
    write_image(tmp_path, "Img/img/Some_Thing/img_00000002.jpg")
    assert len(load_records(tmp_path, "category", "train")) == 2


def test_no_images_at_all_is_an_error_that_names_one(tmp_path):
    category_tree(tmp_path)
    for file in (tmp_path / "Img/img/Some_Thing").iterdir():
        file.unlink()
    with pytest.raises(MissingDataError, match=r"none of the 4 listed images .*img_00000001.jpg"):
        load_benchmark(tmp_path, "category")
    os.rename(tmp_path / "Img", tmp_path / "elsewhere")
    with pytest.raises(MissingDataError, match=r"expected the images in .*Img/img"):
        load_benchmark(tmp_path, "category")
