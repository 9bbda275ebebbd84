import json

import numpy as np
import pytest

from match_rcnn.data import taxonomy
from match_rcnn.evaluation.coco.files import read_ground_truth

N = taxonomy.DEEPFASHION2.category(7).num_landmarks  # shorts: 10
POLYGON = [[1, 1, 9, 1, 9, 9]]


def annotation(**changes):
    return {
        "id": 1,
        "image_id": 5,
        "category_id": 7,
        "bbox": [1, 1, 8, 8],
        "area": 64,
        "iscrowd": 0,
        "num_keypoints": 2,
        "keypoints": [3, 3, 1, 4, 4, 2] + [0] * (3 * N - 6),
        "segmentation": POLYGON,
        **changes,
    }


def truth(*annotations, **changes):
    return {
        "images": [{"id": 5, "height": 20, "width": 30}, {"id": 3, "height": 20, "width": 30}],
        "annotations": list(annotations),
        "categories": [{"id": c.id, "name": c.coco_name} for c in taxonomy.DEEPFASHION2.categories],
        **changes,
    }


def dense(numbers):
    array = np.zeros((294, 3))
    array[taxonomy.DEEPFASHION2.category(7).slice] = np.reshape(numbers, (-1, 3))
    return array.reshape(-1).tolist()


ALL = ("bbox", "segm", "keypoints")


def test_items_are_sorted_by_category_and_image(write):
    items = [
        annotation(id=1, category_id=7, image_id=5),
        annotation(id=2, category_id=7, image_id=3),
        annotation(id=3, category_id=6, image_id=5, keypoints=[0] * 45),
        annotation(id=4, category_id=7, image_id=3),
    ]
    found = read_ground_truth(write("gt.json", truth(*items)), ALL)
    assert found.ids.tolist() == [3, 2, 4, 1]
    assert found.image_ids[found.image].tolist() == [5, 3, 3, 5]
    assert found.category_ids[found.category].tolist() == [6, 7, 7, 7]
    assert found.labelled().tolist() == [0, 2, 2, 2]


def test_lists_may_come_in_any_order(write):
    whole = truth(annotation())
    reverse = {key: whole[key] for key in reversed(list(whole))}
    assert read_ground_truth(write("gt.json", reverse), ALL).ids.tolist() == [1]


def test_dense_and_compact_are_the_same(write):
    compact = annotation()
    files = [
        write("a.json", truth(compact)),
        write("b.json", truth({**compact, "keypoints": dense(compact["keypoints"])})),
    ]
    tables = [read_ground_truth(file, ALL).landmarks.tables[7] for file in files]
    assert tables[0].shape == (1, N, 3)
    np.testing.assert_array_equal(*tables)


def test_visible_only_unlabels_occluded_landmarks(write):
    found = read_ground_truth(write("gt.json", truth(annotation())), ALL)
    visible = found.visible_only()
    assert visible.num_keypoints.tolist() == [1]
    assert visible.landmarks.tables[7][0, :2].tolist() == [[0, 0, 0], [4, 4, 2]]
    assert found.num_keypoints.tolist() == [2]  # the original stays
    assert found.landmarks.tables[7][0, 0].tolist() == [3, 3, 1]


def test_keys_that_may_be_missing(write):
    item = annotation()
    del item["iscrowd"], item["num_keypoints"]
    whole = truth(item)
    del whole["categories"]
    found = read_ground_truth(write("gt.json", whole), ALL)
    assert found.crowd.tolist() == [False]
    assert found.num_keypoints.tolist() == [2]
    assert found.category_names == tuple(c.name for c in taxonomy.DEEPFASHION2.categories)
    assert found.sources is None


def test_only_what_the_task_needs_is_asked_for(write):
    item = annotation()
    del item["keypoints"], item["segmentation"], item["num_keypoints"]
    found = read_ground_truth(write("gt.json", truth(item)), ["bbox"])
    assert found.landmarks is None
    assert found.masks is None


@pytest.mark.parametrize("where", ["image", "annotation"])
def test_source_and_attributes(write, where):
    extra = {"source": "user"}
    item = annotation(scale=3, occlusion=None, viewpoint=1, **(extra if where != "image" else {}))
    whole = truth(item)
    if where == "image":
        whole["images"][0] |= extra
    found = read_ground_truth(write("gt.json", whole), ["bbox"])
    assert found.sources.tolist() == ["", "user"]  # images 3 and 5
    levels = {key: values.tolist() for key, values in found.attributes.items()}
    assert levels == {"scale": [3], "occlusion": [0], "zoom_in": [0], "viewpoint": [1]}


def test_a_test_set_is_none_and_an_empty_one_is_not(write):
    assert read_ground_truth(write("a.json", {"images": [{"id": 1}]}), ALL) is None
    empty = read_ground_truth(write("b.json", truth()), ALL)
    assert len(empty.ids) == 0
    assert len(empty.visible_only().num_keypoints) == 0


ERRORS = {
    "missing key": (truth({"id": 1}), "annotation 0 .*missing key 'image_id'"),
    "no object": (truth(annotation(), 7), "annotation 1 .*expected an object, got 7"),
    "length": (truth(annotation(keypoints=[0] * 72)), "annotation 0 .*got 72"),
    "text": (truth(annotation(keypoints=["0"] * 30)), "flat list of finite numbers"),
    "foreign": (
        truth(annotation(keypoints=[9, 9, 2] + [0] * 879)),
        r"label channel 0, which is none of category 7's \(158 to 167\)",
    ),
    "category 14": (truth(annotation(category_id=14)), "category_id"),
    "category unknown": (
        truth(annotation(), categories=[{"id": 1, "name": "top"}]),
        "annotation 0 .*unknown category_id 7",
    ),
    "image": (truth(annotation(), annotation(id=2, image_id=9)), "annotation 1 .*image_id 9"),
    "box": (truth(annotation(bbox=[1, 2, 3])), "bbox must be 4 finite numbers"),
    "area": (truth(annotation(area=None)), "area must be a finite number, got None"),
    "polygon": (truth(annotation(segmentation=[[1, 1, 2, 2]])), "annotation 0 .*3 or more"),
    "twice": (truth(annotation(), annotation()), "annotation id 1 occurs more than once"),
    "image twice": (
        truth(images=[{"id": 1}, {"id": 1}]),
        "image id 1 occurs more than once",
    ),
    "names": (
        truth(categories=[{"id": 1, "name": "top"}, {"id": 2, "name": "top"}]),
        "two categories have one name",
    ),
    "no images": ({"annotations": []}, "no list 'images'"),
    "a list": ([], "expected an object"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_one_clear_error(write, name):
    content, reason = ERRORS[name]
    path = write("broken.json", content)
    with pytest.raises(ValueError, match=reason) as error:
        read_ground_truth(path, ALL)
    assert "broken.json" in str(error.value)


def test_nan(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(truth(annotation(bbox=[1, 1, float("nan"), 2]))))
    with pytest.raises(ValueError, match=r"annotation 0 .*bbox must be 4 finite numbers"):
        read_ground_truth(path, ["bbox"])


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        read_ground_truth(tmp_path / "nothing.json", ["bbox"])
