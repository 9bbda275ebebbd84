"""The comparison of two predictors, by hand; what is compared is tested in tests/onnx."""

from dataclasses import replace

import numpy as np
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks import export as benchmark
from match_rcnn.experiments.benchmarks.export import Differences
from match_rcnn.structures import Garment
from match_rcnn.utils.files import write_json

SKIRT = DEEPFASHION2.named("skirt")  # 8 landmarks


def skirt():
    return Garment(
        SKIRT,
        np.array([1, 2, 30, 40], dtype=np.float32),
        0.9,
        landmarks=np.ones((8, 3), dtype=np.float32),
        mask=np.ones((4, 5), dtype=bool),
        embedding=np.zeros(3, dtype=np.float32),
    )


def moved(garment, field, index, by):
    values = getattr(garment, field).copy()
    values[index] += by
    return replace(garment, **{field: values})


def test_equal_garments_have_no_differences():
    found = Differences()
    found.add([skirt()], [skirt()])
    found.add([], [])
    assert (found.photos, found.empty, found.garments, found.other_classes) == (2, 1, 1, 0)
    assert (found.box, found.embedding, found.same_place, found.other_pixels) == (0, 0, 1, 0)


def test_each_difference_is_seen():
    found = Differences()
    found.add([skirt()], [moved(skirt(), "box", 2, 0.5)])
    assert found.box == 0.5
    found.add([skirt()], [moved(skirt(), "embedding", 1, -0.25)])
    assert found.embedding == 0.25
    found.add([skirt()], [moved(skirt(), "landmarks", (3, 1), 1)])
    assert found.same_place == pytest.approx(1 - 1 / 24)
    found.add([skirt()], [replace(skirt(), mask=~skirt().mask)])
    assert (found.other_pixels, found.mask_pixels) == (20, 80)


@pytest.mark.parametrize("others", [[], [replace(skirt(), category=DEEPFASHION2.named("vest"))]])
def test_other_classes_are_counted(others):
    found = Differences()
    found.add([skirt()], others)
    assert found.other_classes == 1


def annotated(folder):
    """A COCO file of one skirt, as ``skirt()`` is one; the second image has no prediction."""
    square = [[1, 2, 30, 2, 30, 40, 1, 40]]
    item = {
        "id": 1,
        "image_id": 7,
        "category_id": SKIRT.id,
        "bbox": [1, 2, 29, 38],
        "area": 29 * 38,
        "iscrowd": 0,
        "segmentation": square,
        "keypoints": [10, 10, 2] * 8,
        "num_keypoints": 8,
    }
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in (7, 8)]
    items = [item, {**item, "id": 2, "image_id": 8}]
    categories = [category.to_dict() for category in DEEPFASHION2.categories]
    record = {"images": images, "annotations": items, "categories": categories}
    write_json(folder / "truth_of_all.json", record)
    return folder / "truth_of_all.json"


@pytest.mark.parametrize(("shift", "apart"), [(0.0, 0.0), (20.0, 1.0)])
def test_ap_is_compared_over_the_photos_that_were_seen(tmp_path, shift, apart):
    mask = np.zeros((64, 64), dtype=bool)
    mask[2:40, 1:30] = True
    points = np.full((8, 3), 10.5, dtype=np.float32)  # half a pixel on, as a loader reads them
    whole = replace(skirt(), mask=mask, landmarks=points)
    photo = benchmark.Photo(np.zeros((64, 64, 3), dtype=np.uint8), 1.0, 7)
    found = Differences()
    for predictions, by in zip(found.predictions, (0.0, shift), strict=True):
        garment = moved(whole, "box", slice(None), by)
        predictions.append(benchmark._prediction(photo, [garment]))
    benchmark._score(found, annotated(tmp_path), DEEPFASHION2, tmp_path)
    assert {name: ap for name, (ap, _) in found.ap.items()} == pytest.approx(
        {"bbox": 100, "segm": 100, "keypoints_visible": 100, "keypoints": 100}
    )
    assert found.ap["bbox"][1] == pytest.approx(apart)
    assert found.ap["segm"][1] == found.ap["keypoints"][1] == 0
    assert "bbox 100.0" in found.lines()[-1]
