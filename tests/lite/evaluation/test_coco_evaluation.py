import json
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from match_rcnn.lite.data import DatasetCatalog, MetadataCatalog
from match_rcnn.lite.data.datasets.coco import register_coco_instances
from match_rcnn.lite.evaluation import COCOEvaluator, instances_to_coco_json
from match_rcnn.lite.structures import Boxes, BoxMode, Instances

SIZE = (100, 120)
SIGMAS = (0.05, 0.1)


def square(left, top, side):
    return [left, top, side, side]


def annotation(number, image, category, box, **extra):
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        "keypoints": [x, y, 2, x + w, y + h, 2],
        "num_keypoints": 2,
        **extra,
    }


# Image 7 has a "hat" (category 20) of 40 px and a "bag" (30) of 50, image 9 a hat of 20.
ANNOTATIONS = [
    annotation(1, 7, 20, square(10, 10, 40)),
    annotation(2, 7, 30, square(60, 20, 50)),
    annotation(3, 9, 20, square(30, 30, 20)),
]


@pytest.fixture
def data_set(tmp_path):
    """Registers a data set; returns its name."""
    made = []

    def make(annotations=ANNOTATIONS, categories=((20, "hat"), (30, "bag"))):
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]}
                for i in (7, 9)
            ],
            "categories": [{"id": i, "name": name} for i, name in categories],
        }
        if annotations is not None:
            content["annotations"] = annotations
        name = f"lite_coco_evaluation_test_{tmp_path.name}_{len(made)}"
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        register_coco_instances(name, {}, str(path), str(tmp_path))
        made.append(name)
        if annotations is not None:
            DatasetCatalog.get(name)  # fills the metadata
        return name

    yield make
    for name in made:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def detections(rows, masks=True, keypoints=True):
    """Instances of (class, score, [x, y, w, h]) rows, masks and keypoints as annotated."""
    boxes = torch.tensor([row[2] for row in rows], dtype=torch.float32).reshape(-1, 4)
    boxes = BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    found = Instances(SIZE)
    found.pred_boxes = Boxes(boxes)
    found.scores = torch.tensor([row[1] for row in rows], dtype=torch.float32)
    found.pred_classes = torch.tensor([row[0] for row in rows], dtype=torch.int64)
    if masks:
        y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
        left, top, right, bottom = (boxes[:, i, None, None] for i in range(4))
        found.pred_masks = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    if keypoints:
        scores = torch.ones(len(rows), 2, 1)
        # As models give them: half a pixel further than the annotations.
        found.pred_keypoints = torch.cat([boxes.reshape(-1, 2, 2) + 0.5, scores], dim=2)
    return found


PERFECT = {
    7: [(0, 0.9, square(10, 10, 40)), (1, 0.8, square(60, 20, 50))],
    9: [(0, 0.7, square(30, 30, 20))],
}


def evaluate(name, found, img_ids=None, **settings):
    evaluator = COCOEvaluator(name, **{"kpt_oks_sigmas": SIGMAS, **settings})
    evaluator.reset()
    for image, rows in found.items():
        kinds = {} if isinstance(rows, list) else rows
        instances = detections(rows) if not kinds else kinds["instances"]
        evaluator.process([{"image_id": image}], [{"instances": instances}])
    return evaluator.evaluate(img_ids)


def test_perfect_detections(data_set):
    results = evaluate(data_set(), PERFECT)
    assert list(results) == ["bbox", "keypoints", "segm"]
    # No object is large (over 96 x 96); the hat of 20 is small (under 32 x 32).
    nothing = {"bbox": {"APl"}, "segm": {"APl"}, "keypoints": {"APl"}}
    for task, metrics in results.items():
        assert {k for k, v in metrics.items() if math.isnan(v)} == nothing[task]
        assert all(v == pytest.approx(100.0) for v in metrics.values() if not math.isnan(v))
    assert list(results["bbox"]) == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AP-hat", "AP-bag"),
    ]
    assert "APs" not in results["keypoints"]


def test_values_by_hand(data_set):
    found = {
        # Shifted by 8 of 40: IoU = 32 / 48 = 0.667, right at thresholds 0.5, 0.55, 0.6, 0.65.
        7: [(0, 0.9, [18, 10, 40, 40])],
        # A false hat, surer than the true one; no bag anywhere.
        9: [(0, 0.8, square(80, 60, 30)), (0, 0.7, square(30, 30, 20))],
    }
    metrics = evaluate(data_set(), found, tasks=["bbox"])["bbox"]
    # Hats at thresholds to 0.65: true, false, true. Precision 1 up to recall 0.5 (51 of the 101
    # recall points), 2/3 beyond (50). Above: false, false, true: 1/3 up to recall 0.5, 0 beyond.
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 3 / 101
    hat = 100 * (4 * low + 6 * high) / 10
    assert metrics["AP-hat"] == pytest.approx(hat)
    assert metrics["AP-bag"] == 0.0
    assert metrics["AP"] == pytest.approx(hat / 2)
    assert metrics["AP50"] == pytest.approx(100 * low / 2)
    assert metrics["AP75"] == pytest.approx(100 * high / 2)


def test_chosen_images_and_number_of_detections(data_set):
    name = data_set()
    found = {**PERFECT, 9: [(0, 0.9, square(80, 60, 30)), (0, 0.7, square(30, 30, 20))]}
    assert evaluate(name, found, img_ids=[7])["bbox"]["AP"] == pytest.approx(100.0)
    # With one detection an image, the false hat takes the place of the true one in image 9.
    one = evaluate(name, found, max_dets_per_image=[1, 1, 1])["bbox"]
    assert one["AP-hat"] == pytest.approx(100 * 51 / 101)
    # With 10 or more, found is (true, false, true) by score: precision 2/3 at the second.
    many = evaluate(name, found, max_dets_per_image=200)["bbox"]
    assert many["AP-hat"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)
    with pytest.raises(ValueError, match=r"got \[1, 2\]"):
        COCOEvaluator(name, max_dets_per_image=[1, 2])


def test_masks_are_judged_by_their_own_area(data_set):
    # The object's mask is small although its box is not.
    shape = annotation(
        1, 7, 20, square(10, 10, 40), area=800, segmentation=[[10, 10, 50, 10, 10, 50]]
    )
    found = detections([(0, 0.9, square(10, 10, 40))])
    inside = mask_util.decode(mask_util.frPyObjects([[10, 10, 50, 10, 10, 50]], *SIZE)[0])
    found.pred_masks = torch.as_tensor(inside)[None].bool()
    results = evaluate(data_set([shape]), {7: {"instances": found}})
    assert results["segm"]["APs"] == pytest.approx(100.0)
    assert math.isnan(results["segm"]["APm"])


def test_without_detections(data_set, caplog):
    results = evaluate(data_set(), {7: [], 9: []})
    assert set(results) == {"bbox"}
    assert list(results["bbox"]) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert all(math.isnan(v) for v in results["bbox"].values())
    assert evaluate(data_set(), {}) == {}
    assert "Did not receive valid predictions" in caplog.text


def test_tasks_follow_the_predictions(data_set):
    name = data_set()
    boxes = {"instances": detections(PERFECT[7], masks=False, keypoints=False)}
    assert set(evaluate(name, {7: boxes})) == {"bbox"}
    assert set(evaluate(name, PERFECT, tasks=("segm",))) == {"segm"}
    with pytest.raises(ValueError, match="got masks"):
        COCOEvaluator(name, tasks=("masks",))


def test_without_annotations_only_the_file_is_written(data_set, tmp_path):
    name = data_set(annotations=None)
    assert evaluate(name, PERFECT, output_dir=str(tmp_path / "out")) == {}
    assert len(json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())) == 3


def test_a_single_category_has_no_table(data_set):
    hats = [a for a in ANNOTATIONS if a["category_id"] == 20]
    name = data_set(hats, categories=((20, "hat"),))
    rows = {7: PERFECT[7][:1], 9: PERFECT[9]}
    assert "AP-hat" not in evaluate(name, rows)["bbox"]


def test_a_class_that_the_data_set_lacks(data_set):
    with pytest.raises(ValueError, match="class=2, but the dataset only has 2 classes"):
        evaluate(data_set(), {7: [(2, 0.9, square(10, 10, 40))]})


def test_a_wrong_number_of_keypoints(data_set):
    with pytest.raises(ValueError, match=r"keypoints differ.*: 17, 'predictions': 2"):
        evaluate(data_set(), PERFECT, kpt_oks_sigmas=())


def test_ground_truth_from_dataset_dicts():
    name = "lite_coco_evaluation_test_dicts"
    DatasetCatalog.register(
        name,
        lambda: [
            {
                "file_name": "7.jpg",
                "image_id": 7,
                "height": SIZE[0],
                "width": SIZE[1],
                "annotations": [
                    {
                        "bbox": square(10, 10, 40),
                        "bbox_mode": BoxMode.XYWH_ABS,
                        "category_id": 0,
                    }
                ],
            }
        ],
    )
    MetadataCatalog.get(name).thing_classes = ["hat", "bag"]
    try:
        found = {"instances": detections(PERFECT[7][:1], masks=False, keypoints=False)}
        results = evaluate(name, {7: found})
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results["bbox"]["AP-hat"] == pytest.approx(100.0)


def test_json_of_one_image():
    rows = instances_to_coco_json(detections(PERFECT[7]), 7)
    assert [list(row) for row in rows] == [
        ["image_id", "category_id", "bbox", "score", "segmentation", "keypoints"]
    ] * 2
    first = rows[0]
    assert first["bbox"] == [10.0, 10.0, 40.0, 40.0]
    assert first["keypoints"] == [10.0, 10.0, 1.0, 50.0, 50.0, 1.0]
    assert first["segmentation"]["size"] == list(SIZE)
    expected = np.zeros(SIZE, np.uint8)
    expected[10:50, 10:50] = 1
    np.testing.assert_array_equal(mask_util.decode(first["segmentation"]), expected)
    json.dumps(rows)
    assert instances_to_coco_json(detections([]), 7) == []


def test_result_file_has_the_annotations_categories(data_set, tmp_path):
    evaluate(data_set(), PERFECT, output_dir=str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(7, 20), (7, 30), (9, 20)]
