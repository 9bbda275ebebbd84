import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest

from match_rcnn.lite.data import DatasetCatalog, MetadataCatalog
from match_rcnn.lite.data.datasets import (
    convert_to_coco_dict,
    convert_to_coco_json,
    load_coco_json,
    register_coco_instances,
)
from match_rcnn.lite.structures import BoxMode

pytestmark = pytest.mark.usefixtures("catalogs")

TRIANGLE = [10.0, 10.0, 20.0, 10.0, 20.0, 30.0]


def annotation(annotation_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "image_id": 5,
        "category_id": 9,
        "bbox": [10.0, 10.0, 10.0, 20.0],
        "area": 200,
        "iscrowd": 0,
        "segmentation": [TRIANGLE],
        **changes,
    }


def write(path: Path, *annotations: dict[str, Any], **changes: Any) -> str:
    content = {
        "images": [
            {"id": 5, "file_name": "b/5.jpg", "height": 40, "width": 60},
            {"id": 2, "file_name": "2.jpg", "height": 30, "width": 30},
        ],
        "categories": [{"id": 9, "name": "skirt"}, {"id": 4, "name": "vest"}],
        "annotations": list(annotations),
        **changes,
    }
    file = path / "coco.json"
    file.write_text(json.dumps(content))
    return str(file)


class TestLoad:
    def test_dataset_dicts(self, tmp_path: Path) -> None:
        keypoints = [3, 4, 2, 0, 0, 0]
        file = write(tmp_path, annotation(1, keypoints=keypoints, style=3), annotation(2))
        first, second = load_coco_json(file, "images", "shirts", ["style"])
        assert first == {
            "file_name": "images/2.jpg",
            "height": 30,
            "width": 30,
            "image_id": 2,
            "annotations": [],
        }
        assert second["file_name"] == "images/b/5.jpg"
        assert second["annotations"][0] == {
            "iscrowd": 0,
            "bbox": [10.0, 10.0, 10.0, 20.0],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 1,
            "segmentation": [TRIANGLE],
            "keypoints": [3.5, 4.5, 2, 0.5, 0.5, 0],  # pixel numbers become positions
            "style": 3,
        }
        assert "style" not in second["annotations"][1]

    def test_category_ids_become_contiguous(self, tmp_path: Path) -> None:
        file = write(tmp_path, annotation(1, category_id=4), annotation(2, category_id=9))
        loaded = load_coco_json(file, "", "shirts")[1]["annotations"]
        assert [item["category_id"] for item in loaded] == [0, 1]
        metadata = MetadataCatalog.get("shirts")
        assert metadata.thing_classes == ["vest", "skirt"]
        assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}

    def test_without_a_name_ids_stay(self, tmp_path: Path) -> None:
        file = write(tmp_path, annotation(1, category_id=77))
        assert load_coco_json(file, "")[1]["annotations"][0]["category_id"] == 77

    def test_segmentations(self, tmp_path: Path) -> None:
        counts = [100, 50, 2250]  # of 40 x 60 pixels, column by column
        file = write(
            tmp_path,
            annotation(1, segmentation=[TRIANGLE, [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]]),
            annotation(2, segmentation=[[1, 2, 3, 4]]),
            annotation(3, segmentation=[]),
            annotation(4, segmentation={"size": [40, 60], "counts": counts}),
        )
        valid, empty, rle = load_coco_json(file, "", "shirts")[1]["annotations"]
        assert valid["segmentation"] == [TRIANGLE]
        assert "segmentation" not in empty
        assert mask_util.decode(rle["segmentation"]).ravel(order="F").nonzero()[0].tolist() == list(
            range(100, 150)
        )

    def test_crowds_stay(self, tmp_path: Path) -> None:
        file = write(tmp_path, annotation(1, iscrowd=1))
        assert load_coco_json(file, "", "shirts")[1]["annotations"][0]["iscrowd"] == 1

    def test_annotations_of_other_images(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = write(tmp_path, annotation(1), annotation(2, image_id=6))
        assert len(load_coco_json(file, "", "shirts")[1]["annotations"]) == 1
        assert "contains 2 annotations, but only 1 of them match" in caplog.text

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        assert load_coco_json(write(tmp_path, images=[]), "", "shirts") == []

    @pytest.mark.parametrize(
        ("annotations", "message"),
        [
            ([annotation(1), annotation(1)], "1 comes twice"),
            ([annotation(3, category_id=5)], "annotation 3 of image 5 has category_id=5"),
            ([annotation(3, bbox=[])], r"annotation 3 of image 5: 'bbox' must be \[x, y, w, h\]"),
            ([annotation(3, ignore=1)], "annotation 3 of image 5: COCO's 'ignore'"),
        ],
    )
    def test_wrong_annotations(
        self, tmp_path: Path, annotations: list[dict[str, Any]], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            load_coco_json(write(tmp_path, *annotations), "", "shirts")

    def test_wrong_files(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"none\.json"):
            load_coco_json(str(tmp_path / "none.json"), "")
        broken = tmp_path / "broken.json"
        for content, message in (
            ("{", r"broken\.json is not valid JSON"),
            ("[]", "no list of 'im"),
        ):
            broken.write_text(content)
            with pytest.raises(ValueError, match=message):
                load_coco_json(str(broken), "")


class TestRegister:
    def test_loads_when_asked(self, tmp_path: Path) -> None:
        register_coco_instances("shirts", {"season": "summer"}, str(tmp_path / "coco.json"), "im")
        metadata = MetadataCatalog.get("shirts")
        assert metadata.as_dict() == {
            "name": "shirts",
            "json_file": str(tmp_path / "coco.json"),
            "image_root": "im",
            "evaluator_type": "coco",
            "season": "summer",
        }
        write(tmp_path, annotation(1))  # only now does the file come to be
        assert len(DatasetCatalog.get("shirts")) == 2
        assert DatasetCatalog.get("shirts") == DatasetCatalog.get("shirts")
        assert metadata.thing_classes == ["vest", "skirt"]


class TestConvert:
    def register(self, *annotations: dict[str, Any], **metadata: Any) -> None:
        image = {"file_name": "a.jpg", "image_id": 7, "height": 40, "width": 60}
        dataset_dicts = [{**image, "annotations": list(annotations)}]
        DatasetCatalog.register("shirts", lambda: dataset_dicts)
        MetadataCatalog.get("shirts").set(thing_classes=["vest", "skirt"], **metadata)

    def test_round_trip(self, tmp_path: Path) -> None:
        rle = mask_util.encode(np.asfortranarray(np.eye(40, 60, dtype=np.uint8)))
        rle["counts"] = rle["counts"].decode()
        source = write(
            tmp_path,
            annotation(1, keypoints=[3, 4, 2, 5, 6, 1, 0, 0, 0]),
            annotation(2, segmentation=rle, iscrowd=1),
            annotation(3, category_id=4, segmentation=[]),
        )
        register_coco_instances("shirts", {}, source, "")
        converted = convert_to_coco_dict("shirts")
        assert json.loads(json.dumps(converted)) == converted
        first, second, third = converted["annotations"]
        assert first["keypoints"] == [3, 4, 2, 5, 6, 1, 0, 0, 0]
        assert first["num_keypoints"] == 2
        assert [a["id"] for a in converted["annotations"]] == [1, 2, 3]
        assert [a["category_id"] for a in converted["annotations"]] == [9, 9, 4]
        assert [a["area"] for a in converted["annotations"]] == [100.0, 40.0, 200.0]
        assert second["segmentation"] == rle
        assert second["iscrowd"] == 1
        assert "segmentation" not in third
        assert [c["id"] for c in converted["categories"]] == [4, 9]
        again = tmp_path / "again.json"
        convert_to_coco_json("shirts", str(again))
        assert load_coco_json(str(again), "", "shirts") == DatasetCatalog.get("shirts")

    def test_boxes_and_arrays(self) -> None:
        corners = np.array([1.0, 2.0, 4.12345, 6.0])
        points = np.array([[1.5, 2.5, 2.0]], dtype=np.float32)
        self.register(
            {
                "bbox": corners,
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 1,
                "keypoints": points,
            }
        )
        converted = convert_to_coco_dict("shirts")
        (item,) = converted["annotations"]
        assert item["bbox"] == [1.0, 2.0, 3.123, 4.0]
        assert item["area"] == pytest.approx(12.4938)
        assert item["keypoints"] == [1.0, 2.0, 2]
        assert item["image_id"] == 7
        np.testing.assert_array_equal(points, [[1.5, 2.5, 2.0]])  # left as they were
        assert [c["id"] for c in converted["categories"]] == [0, 1]

    def test_uncompressed_rle(self) -> None:
        rle = {"size": [40, 60], "counts": [100, 50, 2250]}
        box = {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
        self.register({**box, "segmentation": rle})
        (item,) = convert_to_coco_dict("shirts")["annotations"]
        assert item["area"] == 50
        assert isinstance(item["segmentation"]["counts"], str)

    def test_wrong_segmentation(self) -> None:
        box = {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
        self.register({**box, "segmentation": "mask"})
        with pytest.raises(TypeError, match="got str"):
            convert_to_coco_dict("shirts")

    def test_images_without_ids_and_annotations(self) -> None:
        DatasetCatalog.register("bare", lambda: [{"file_name": "a", "height": 1, "width": 2}] * 2)
        MetadataCatalog.get("bare").thing_classes = []
        converted = convert_to_coco_dict("bare")
        assert [image["id"] for image in converted["images"]] == [0, 1]
        assert converted["annotations"] == []

    def test_file_is_kept_or_written_anew(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        self.register()
        file = tmp_path / "new folder" / "coco.json"
        convert_to_coco_json("shirts", str(file))
        assert json.loads(file.read_text())["images"][0]["id"] == 7
        file.write_text("mine")
        convert_to_coco_json("shirts", str(file))
        assert file.read_text() == "mine"
        assert "Using previously cached" in caplog.text
        convert_to_coco_json("shirts", str(file), allow_cached=False)
        assert json.loads(file.read_text())["images"][0]["id"] == 7

    def test_failure_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError):
            convert_to_coco_json("unknown", str(tmp_path / "coco.json"))
        assert list(tmp_path.iterdir()) == []
