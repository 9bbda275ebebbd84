import json
import logging

import numpy as np
import pytest

from match_rcnn.d2 import BoxMode, DatasetCatalog, MetadataCatalog
from match_rcnn.data.conversion import convert
from match_rcnn.data.datasets import (
    load_annotation_file,
    load_deepfashion2,
    load_images,
    register_deepfashion2,
    register_deepfashion2_instances,
)
from match_rcnn.data.taxonomy import DEEPFASHION2

NAMES = ["deepfashion2_train", "deepfashion2_validation", "deepfashion2_test"]


@pytest.fixture(autouse=True)
def clean_catalogs():
    yield
    for name in [*NAMES, "my_data"]:
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)


@pytest.fixture(params=[False, True], ids=["dense", "compact"])
def converted(request, make_tree, real_annotation, real_item, tmp_path):
    """Image 2 with two items, image 5 with none; returns (json file, image root)."""
    second = {**real_item, "category_id": 9, "category_name": "skirt", "style": 4}
    second.update(landmarks=[30, 40, 2] * 8, bounding_box=[-5.5, 10, 80, 90])
    second.update(segmentation=[[1, 2, 3.5, 4, 5, 6]])
    empty = {"source": "shop", "pair_id": 77}
    root = make_tree({2: {**real_annotation, "item2": second}, 5: empty})
    output = tmp_path / "annotations" / "train.json"
    convert(root, "train", output, compact=request.param)
    return output, root / "train" / "image"


def edited(json_file, edit):
    value = json.loads(json_file.read_bytes())
    edit(value)
    json_file.write_text(json.dumps(value))


class TestLoad:
    def test_images(self, converted):
        first, second = load_deepfashion2(*converted)
        assert first["file_name"] == str(converted[1] / "000002.jpg")
        assert (first["image_id"], first["height"], first["width"]) == (2, 624, 468)
        assert (first["source"], first["pair_id"]) == ("user", 1)
        assert (second["image_id"], second["source"], second["pair_id"]) == (5, "shop", 77)
        assert second["annotations"] == []

    def test_every_value_of_the_real_item(self, converted, real_item):
        item = load_deepfashion2(*converted)[0]["annotations"][0]
        assert item["id"] == 1
        assert item["bbox"] == [249, 423, 217, 200]
        assert all(isinstance(value, float) for value in item["bbox"])
        assert item["bbox_mode"] == BoxMode.XYWH_ABS
        assert item["category_id"] == 7
        assert item["iscrowd"] == 0
        assert item["style"] == 0
        assert (item["scale"], item["occlusion"]) == (2, 2)
        assert (item["zoom_in"], item["viewpoint"]) == (3, 2)
        assert [p.tolist() for p in item["segmentation"]] == real_item["segmentation"]
        keypoints = item["keypoints"]
        assert keypoints.dtype == np.float32
        assert keypoints.shape == (14, 3)
        assert keypoints[0].tolist() == [251.5, 520.5, 1]
        assert keypoints[9].tolist() == [413.5, 591.5, 2]
        assert keypoints[4, 2] == 0
        assert keypoints[:, 2].tolist() == real_item["landmarks"][2::3]
        assert item["num_keypoints"] == 7

    def test_second_item(self, converted):
        item = load_deepfashion2(*converted)[0]["annotations"][1]
        assert (item["id"], item["category_id"], item["style"]) == (2, 8, 4)
        assert item["bbox"] == [-5.5, 10, 85.5, 80]  # partly outside: as it is
        assert item["keypoints"].tolist() == [[30.5, 40.5, 2]] * 8
        assert item["segmentation"][0].tolist() == [1, 2, 3.5, 4, 5, 6]

    def test_keys(self, converted):
        item = load_deepfashion2(*converted)[0]["annotations"][0]
        assert set(item) == {
            *("id", "bbox", "bbox_mode", "category_id", "segmentation", "keypoints"),
            *("num_keypoints", "iscrowd", "style"),
            *("scale", "occlusion", "zoom_in", "viewpoint"),
        }

    def test_file_of_the_official_converter(self, converted):
        def strip(value):
            for image in value["images"]:
                del image["source"], image["pair_id"]
            for a in value["annotations"]:
                for key in ("source", "item", "scale", "occlusion", "zoom_in", "viewpoint"):
                    del a[key]
            value["annotations"] = value.pop("annotations")  # behind the images

        edited(converted[0], strip)
        first, second = load_deepfashion2(*converted)
        assert (first["source"], first["pair_id"]) == (None, 1)
        assert (second["source"], second["pair_id"]) == (None, None)
        assert first["annotations"][0]["scale"] is None
        assert first["annotations"][0]["keypoints"].shape == (14, 3)

    def test_images_are_sorted_by_id(self, converted):
        edited(converted[0], lambda value: value["images"].reverse())
        assert [image["image_id"] for image in load_deepfashion2(*converted)] == [2, 5]

    def test_pycocotools_agrees(self, converted):
        from pycocotools.coco import COCO

        coco = COCO(converted[0])
        for image in load_deepfashion2(*converted):
            stock = coco.loadAnns(coco.getAnnIds(imgIds=image["image_id"]))
            assert [a["id"] for a in stock] == [a["id"] for a in image["annotations"]]
            assert [a["bbox"] for a in stock] == [a["bbox"] for a in image["annotations"]]


class TestBrokenFile:
    def test_missing(self, tmp_path):
        json_file = tmp_path / "annotations" / "validation.json"
        with pytest.raises(FileNotFoundError) as caught:
            load_deepfashion2(json_file, tmp_path / "validation" / "image")
        command = f"tools/convert_df2.py --root {tmp_path} --split validation --output {json_file}"
        assert command in str(caught.value)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (
                lambda v: v["annotations"][1].update(keypoints=[0] * 6),
                r"of length 3\*294 \(dense\) or 3\*8 \(compact\) for category 9 .*, got 6",
            ),
            (
                lambda v: v["annotations"][1].update(keypoints=[1] * 882),
                "expected zeros outside the landmarks of 'skirt'",
            ),
            (lambda v: v["annotations"][1].update(category_id=14), "from 1 to 13, got 14"),
            (lambda v: v["annotations"][1].pop("bbox"), "annotation 1 .*missing key 'bbox'"),
            (lambda v: v["annotations"][1].update(id=1), "annotation id 1 occurs more than once"),
            (lambda v: v["annotations"][1].update(image_id=3), "annotation 1 .*unknown image_id 3"),
            (lambda v: v["categories"][3].update(name="coat"), "long_sleeved_outwear', got 'coat"),
            (lambda v: v["images"].append(5), "image 2 .*expected an object, got 5"),
        ],
    )
    def test_contradictions(self, converted, edit, message):
        edited(converted[0], edit)
        with pytest.raises(ValueError, match=message) as caught:
            load_deepfashion2(*converted)
        assert "train.json" in str(caught.value)

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"bbox": [5, 5, 0, 9]}, "box without area"),
            ({"bbox": [5, 5, 9, -1]}, "box without area"),
            ({"bbox": [500, 5, 9, 9]}, "box wholly outside the image"),
            ({"bbox": [-9, 5, 9, 9]}, "box wholly outside the image"),
            ({"segmentation": [[1, 2, 3, 4]]}, "no polygon of at least 3 points"),
            ({"segmentation": []}, "no polygon of at least 3 points"),
        ],
    )
    def test_unusable_items_are_left_out_and_counted(self, converted, caplog, values, reason):
        edited(converted[0], lambda value: value["annotations"][0].update(values))
        with caplog.at_level(logging.WARNING):
            first, _ = load_deepfashion2(*converted)
        assert [item["id"] for item in first["annotations"]] == [2]
        assert f"1 items left out, {reason}, such as annotation 1" in caplog.text

    def test_short_polygons_beside_a_good_one(self, converted):
        edited(converted[0], lambda v: v["annotations"][0]["segmentation"].append([1, 2]))
        item = load_deepfashion2(*converted)[0]["annotations"][0]
        assert len(item["segmentation"]) == 3

    def test_cut_off(self, converted):
        data = converted[0].read_bytes()
        converted[0].write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match=r"train\.json"):
            load_deepfashion2(*converted)


class TestAnnotationFile:
    def test_equals_the_converted_form(self, converted):
        image = converted[1] / "000002.jpg"
        direct = load_annotation_file(converted[1].parent / "annos" / "000002.json", image)
        loaded = load_deepfashion2(*converted)[0]
        np.testing.assert_equal(direct, loaded)

    def test_broken_item(self, make_tree, real_annotation, real_item, caplog):
        real_annotation["item2"] = {**real_item, "style": "red"}
        folder = make_tree({4: real_annotation}) / "train"
        found = load_annotation_file(folder / "annos/000004.json", folder / "image/000004.jpg")
        assert len(found["annotations"]) == 1
        assert "(item2)" in caplog.text

    def test_broken_file(self, make_tree):
        folder = make_tree({4: b"{"}) / "train"
        with pytest.raises(ValueError, match=r"expected JSON.* in .*000004\.json"):
            load_annotation_file(folder / "annos/000004.json", folder / "image/000004.jpg")

    def test_cut_image(self, make_tree, real_annotation, encode_image):
        folder = make_tree({4: (real_annotation, encode_image()[:-9])}) / "train"
        with pytest.raises(ValueError, match=r"expected a whole image.* in .*000004\.jpg"):
            load_annotation_file(folder / "annos/000004.json", folder / "image/000004.jpg")


class TestTestSplit:
    def test_images_only(self, make_tree, encode_image, caplog):
        root = make_tree({3: (None, encode_image((20, 30))), 8: (None, b"no image")}, "test")
        (image,) = load_images(root / "test" / "image")
        assert image == {
            "file_name": str(root / "test" / "image" / "000003.jpg"),
            "image_id": 3,
            "height": 30,
            "width": 20,
            "source": None,
            "pair_id": None,
        }
        assert "1 left out" in caplog.text
        assert "000008.jpg" in caplog.text
        # The official archive's image information, beside the folder, tells the sources.
        name = "retrieval_test_shop_information.json"
        (root / "test" / name).write_text('{"images": [{"id": 3}]}')
        (image,) = load_images(root / "test" / "image")
        assert image["source"] == "shop"


class TestRegistration:
    def test_names_and_paths(self, tmp_path):
        register_deepfashion2(tmp_path)
        assert set(NAMES) <= set(DatasetCatalog.list())
        base = tmp_path / "deepfashion2"
        for split in ("train", "validation"):
            metadata = MetadataCatalog.get(f"deepfashion2_{split}")
            assert metadata.json_file == str(base / "annotations" / f"{split}.json")
            assert metadata.image_root == str(base / split / "image")
        assert not hasattr(MetadataCatalog.get("deepfashion2_test"), "json_file")

    def test_root_from_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
        register_deepfashion2()
        expected = str(tmp_path / "deepfashion2" / "train" / "image")
        assert MetadataCatalog.get("deepfashion2_train").image_root == expected

    def test_default_root(self, monkeypatch):
        monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
        register_deepfashion2()
        metadata = MetadataCatalog.get("deepfashion2_validation")
        assert metadata.json_file == "datasets/deepfashion2/annotations/validation.json"

    def test_again_and_elsewhere(self, tmp_path):
        for root in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
            register_deepfashion2(root)
            metadata = MetadataCatalog.get("deepfashion2_train")
            assert metadata.image_root == str(root / "deepfashion2" / "train" / "image")

    def test_metadata(self, tmp_path):
        register_deepfashion2(tmp_path)
        metadata = MetadataCatalog.get("deepfashion2_train")
        assert metadata.evaluator_type == "deepfashion2"
        assert metadata.thing_classes[0] == "short sleeve top"
        assert metadata.thing_classes[12] == "sling dress"
        assert metadata.thing_dataset_id_to_contiguous_id == {i: i - 1 for i in range(1, 14)}
        assert len(set(metadata.keypoint_names)) == 294

    def test_flip_map_of_the_stock_head_stays_within_the_category(self, tmp_path):
        register_deepfashion2(tmp_path)
        metadata = MetadataCatalog.get("deepfashion2_train")
        partner = dict(metadata.keypoint_flip_map)
        partner |= {right: left for left, right in metadata.keypoint_flip_map}
        names = list(metadata.keypoint_names)
        indices = np.array([names.index(partner.get(name, name)) for name in names])
        for category in DEEPFASHION2.categories:
            own = indices[category.slice]
            assert (own == category.offset + category.flip_permutation).all()

    def test_loading_by_name(self, converted):
        register_deepfashion2_instances("my_data", *converted)
        loaded = DatasetCatalog.get("my_data")
        np.testing.assert_equal(loaded, load_deepfashion2(*converted))

    def test_missing_file_is_named_when_it_is_loaded(self, tmp_path):
        register_deepfashion2(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"convert_df2\.py"):
            DatasetCatalog.get("deepfashion2_train")
