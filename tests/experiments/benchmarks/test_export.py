"""The comparison of two predictors, by hand; what is compared is tested in tests/onnx."""

from dataclasses import replace

import numpy as np
import pytest

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks.export import Differences
from match_rcnn.structures import Garment

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
