import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from match_rcnn.evaluation.submission import (
    KnownImages,
    check_results,
    images_of_file,
    images_of_folder,
)

SIZE = (6, 8)  # height, width
IMAGES = KnownImages(frozenset({1, 2}), {1: SIZE, 2: SIZE}.get, {1: "user", 2: "shop"})
RLE = mask_utils.encode(np.asfortranarray(np.eye(*SIZE, dtype=np.uint8)))
MASK = {"size": list(SIZE), "counts": RLE["counts"].decode()}
SHORTS = [0.0] * 3 * 158 + [1.0] * 30 + [0.0] * 3 * 126  # category 7's channels of the 294

HEAD = {"image_id": 1, "category_id": 7, "score": 0.5}
GOOD = {
    "bbox": {**HEAD, "bbox": [1, 2, 3, 4.5]},
    "segm": {**HEAD, "segmentation": MASK},
    "keypoints": {**HEAD, "keypoints": SHORTS},
    "retrieval": {
        "query_image_id": 1,
        "query_bbox": [0, 0, 5, 5],
        "query_cls": 7,
        "query_score": 0.5,
        "gallery_image_id": [2] * 20,
        "gallery_bbox": [[0, 0, 5, i + 1] for i in range(20)],
    },
}


@pytest.fixture
def check(write):
    def check(task, entries, images=IMAGES):
        return check_results(write("results.json", entries), task, images)

    return check


@pytest.mark.parametrize("task", list(GOOD))
@pytest.mark.parametrize("images", [IMAGES, None])
def test_the_official_form_is_accepted(check, task, images):
    verdict = check(task, [GOOD[task]], images)
    assert verdict.accepted
    assert not verdict.counts
    assert str(verdict) == f"accepted: {task}, 1 entries"


def mask(**changes):
    return {"segmentation": {**MASK, **changes}}


@pytest.mark.parametrize(
    ("task", "change", "what"),
    [
        ("bbox", {"bbox": None}, "bbox is not a list of 4 numbers"),
        ("bbox", {"bbox": [1, 2, 3]}, "bbox is not a list of 4 numbers"),
        ("bbox", {"bbox": [1, 2, 3, "4"]}, "bbox has what is not a finite number"),
        ("bbox", {"bbox": [1, 2, 3, float("nan")]}, "bbox has what is not a finite number"),
        ("bbox", {"bbox": [5, 5, -1, 3]}, "bbox has a negative side; expected x, y, width, height"),
        ("bbox", {"score": float("inf")}, "score is not a finite number"),
        ("bbox", {"score": True}, "score is not a finite number"),
        ("bbox", {"image_id": "1"}, "image_id is not a whole number"),
        ("bbox", {"image_id": 3}, "image_id is not in the data set"),
        ("bbox", {"category_id": 0}, "category_id is not one of 1 to 13"),
        ("bbox", {"category_id": 14}, "category_id is not one of 1 to 13"),
        ("segm", {"segmentation": [[1, 1, 5, 1, 5, 4]]}, "segmentation is not a run-length mask"),
        ("segm", mask(size=[8, 6]), "the mask's size is not its image's"),
        ("segm", mask(size=[6]), "the mask's size is not [height, width]"),
        ("segm", mask(counts="0"), "the mask's runs are malformed or do not fill its size"),
        ("segm", mask(counts=[48]), "the mask's counts is not a string"),
        ("keypoints", {"keypoints": [1.0] * 30}, "keypoints is not a list of 882 numbers"),
        ("keypoints", {"keypoints": [None, *SHORTS[1:]]}, "keypoints has what is not a finite"),
        ("retrieval", {"gallery_image_id": [2] * 19}, "gallery_image_id has not 20 entries"),
        ("retrieval", {"gallery_bbox": []}, "gallery_bbox has not 20 entries"),
        ("retrieval", {"gallery_bbox": 5}, "gallery_bbox is not a list"),
        ("retrieval", {"gallery_bbox": [[5, 5, 1, 9]] * 20}, "gallery_bbox has a negative side"),
        ("retrieval", {"gallery_image_id": [9] * 20}, "gallery_image_id is not in the data set"),
        ("retrieval", {"gallery_image_id": [1] * 20}, "gallery_image_id is not a shop's photo"),
        ("retrieval", {"query_image_id": 2}, "query_image_id is not a user's photo"),
        ("retrieval", {"query_cls": 7.0}, "query_cls is not one of 1 to 13"),
        ("retrieval", {"query_bbox": [0, 0, 1]}, "query_bbox is not a list of 4 numbers"),
    ],
)
def test_what_is_rejected(check, task, change, what):
    verdict = check(task, [GOOD[task], {**GOOD[task], **change}])
    assert not verdict.accepted
    problems = [p for p in verdict.to_json()["problems"] if p["rejected"]]
    assert [p["first"] for p in problems] == ["entry 1"]
    assert problems[0]["what"].startswith(what)


@pytest.mark.parametrize("task", list(GOOD))
def test_a_missing_key(check, task):
    key = list(GOOD[task])[-1]
    entry = {name: value for name, value in GOOD[task].items() if name != key}
    assert list(check(task, [entry]).counts) == [(True, f"missing: {key}")]


@pytest.mark.parametrize(
    ("task", "change", "what"),
    [
        ("bbox", {"bbox": [1, 2, 0, 4]}, "bbox has no area"),
        ("bbox", {"score": 1.5}, "score is not between 0 and 1"),
        ("bbox", {"extra": 1}, "more keys: extra"),
        ("segm", {"bbox": [0, 0, 1, 1]}, "more keys: bbox (areas are then taken from these)"),
        ("keypoints", {"keypoints": [1.0] * 882}, "keypoints is not zero outside the category"),
        ("retrieval", {"gallery_bbox": [[0, 0, 5, 5]] * 20}, "one gallery item twice in a list"),
    ],
)
def test_what_is_only_noted(check, task, change, what):
    verdict = check(task, [{**GOOD[task], **change}])
    assert verdict.accepted
    assert list(verdict.counts) == [(False, what)]


def scored(task, *scores, image_id=1):
    return [{**GOOD[task], "image_id": image_id, "score": s} for s in scores]


def test_more_than_count(check):
    falling = np.linspace(1, 0, 21).tolist()
    verdict = check("keypoints", scored("keypoints", *falling))
    assert verdict.counts == {(True, "more than 20 detections in an image"): 1}
    assert verdict.first[True, "more than 20 detections in an image"] == "entry 20"
    assert not check("keypoints", scored("keypoints", *falling[:20])).counts
    many = check("bbox", scored("bbox", *np.linspace(1, 0, 130).tolist()))
    assert many.accepted
    assert many.counts == {(False, "more than 100 detections in an image"): 1}


def test_order(check):
    verdict = check("bbox", scored("bbox", 0.5, 0.6, 0.5))
    assert verdict.counts == {(False, "an image's scores do not fall"): 1}
    apart = scored("bbox", 0.9) + scored("bbox", 0.8, image_id=2) + scored("bbox", 0.7)
    assert check("bbox", apart).counts == {(False, "an image's entries do not lie together"): 1}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[]", "no entries"),
        ('{"annotations": []}', "not a list of entries but an object"),
        ('{"annotations": 1}', "not a list of entries but an object"),
        ('[{"image_id": 1', "not valid JSON"),
        ("[5]", "not an object"),
    ],
)
def test_files_that_are_none(tmp_path, text, what):
    (tmp_path / "results.json").write_text(text)
    verdict = check_results(tmp_path / "results.json", "bbox", None)
    assert not verdict.accepted
    assert any(name.startswith(what) for _, name in verdict.counts)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_results(tmp_path / "none.json", "bbox")


def test_problems_are_counted(check):
    verdict = check("bbox", [GOOD["bbox"], *[{**GOOD["bbox"], "category_id": 99}] * 3])
    assert verdict.to_json()["problems"][0]["count"] == 3
    assert "REJECTED: bbox, 4 entries" in str(verdict)


def test_images_of_a_test_file(write):
    file = write("test.json", {"images": [{"id": 4, "height": 2, "width": 3}, {"id": 5}]})
    images = images_of_file(file)
    assert images.ids == {4, 5}
    assert images.size(4) == (2, 3)
    assert images.size(5) is None
    with pytest.raises(ValueError, match="no list 'images'"):
        images_of_file(write("other.json", {"annotations": []}))


def test_images_of_a_folder(tmp_path):
    folder = tmp_path / "image"
    folder.mkdir()
    cv2.imwrite(str(folder / "000007.jpg"), np.zeros((*SIZE, 3), np.uint8))
    images = images_of_folder(folder)
    assert images.ids == {7}
    assert images.size(7) == SIZE
    assert images.source == {}
    # The official archive's image information, beside the folder.
    name = "retrieval_test_consumer_information.json"
    (tmp_path / name).write_text(json.dumps({"images": [{"id": 7}]}))
    assert images_of_folder(folder).source == {7: "user"}
