import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from match_rcnn.evaluation.coco.rle import mask_counts, rle_areas, to_rle

MASKS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)
)


@settings(max_examples=60, deadline=None)
@given(masks=st.lists(MASKS, max_size=4))
def test_areas_of_what_pycocotools_encodes(masks):
    counts = [mask_utils.encode(np.asfortranarray(mask))["counts"] for mask in masks]
    pixels = np.array([mask.size for mask in masks], dtype=np.int64)
    assert rle_areas(counts, pixels).tolist() == [int(mask.sum()) for mask in masks]


def test_long_runs():
    mask = np.zeros((3000, 4000), dtype=np.uint8, order="F")
    mask[1000:, 7:3900] = 1
    counts = mask_utils.encode(mask)["counts"]
    assert rle_areas([counts], np.array([mask.size])) == mask.sum()


@pytest.mark.parametrize(
    "counts",
    [
        b"",
        b"zz~",  # characters outside of the code
        b"4o",  # the last number does not end
        b"o" * 20 + b"0",  # a number beyond 64 bits
        b"55",  # 5 + 5 pixels of 12
        b"L0>",  # a negative run
    ],
)
def test_malformed_masks_have_area_minus_1(counts):
    good = mask_utils.encode(np.ones((3, 4), dtype=np.uint8, order="F"))["counts"]
    areas = rle_areas([good, counts, good], np.array([12, 12, 12]))
    assert areas.tolist() == [12, -1, 12]


def test_polygons_as_pycocotools_draws_them():
    polygons = [[1.0, 1.0, 7.5, 1.0, 7.5, 6.0], [2.0, 5.0, 9.0, 5.0, 9.0, 9.0, 2.0, 9.0]]
    expected = mask_utils.merge(mask_utils.frPyObjects(polygons, 10, 12))["counts"]
    assert to_rle(polygons, 10, 12) == expected
    assert to_rle([np.array(p) for p in polygons], 10, 12) == expected


def test_uncompressed_and_compressed_masks_are_the_same():
    runs = {"size": [2, 3], "counts": [1, 2, 3]}
    counts = mask_utils.frPyObjects(runs, 2, 3)["counts"]
    assert to_rle(runs, 2, 3) == counts
    assert to_rle({"size": [2, 3], "counts": counts.decode()}, 2, 3) == counts


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([], "neither a list of polygons"),
        (7, "neither a list of polygons"),
        ([[0, 0, 5, 5]], "3 or more x, y pairs, got 4"),
        ([[0, 0, 5, 5, 9, 9, 1]], "got 7"),
        ([[0, 0, 5, 5, 9, "9"]], "finite numbers"),
        ([[0, 0, 5, 5, 9, float("nan")]], "finite numbers"),
        ([5], "finite numbers"),
        ({"size": [2, 3]}, "'size' and 'counts'"),
        ({"size": [3, 2], "counts": "15"}, r"size is \[3, 2\], its image's"),
        ({"size": [2, 3], "counts": 5}, "must be a string"),
        ({"size": [2, 3], "counts": "99"}, "do not fill 2 x 3"),
        ({"size": [2, 3], "counts": [1, 2]}, "do not fill 2 x 3"),
        ({"size": [2, 3], "counts": [8, -2]}, "whole numbers"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "whole numbers"),
    ],
)
def test_what_is_no_mask(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        to_rle(segmentation, 2, 3)


def test_polygons_need_the_size_of_the_image():
    with pytest.raises(ValueError, match="no height and width"):
        to_rle([[0, 0, 5, 0, 5, 5]], 0, 0)


def test_results_give_masks_not_polygons():
    with pytest.raises(ValueError, match="run-length mask"):
        mask_counts([[0, 0, 5, 0, 5, 5]], 9, 9)
