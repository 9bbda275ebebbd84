import json

import numpy as np
import pytest

from match_rcnn.evaluation.retrieval.files import (
    evaluate_retrieval_files,
    query_subsets,
    read_gallery_truth,
    read_query_truth,
    read_retrieval_truth,
    read_retrieved,
    write_retrieved,
)
from match_rcnn.evaluation.retrieval.protocol import Retrieved, score_retrieval

QUERY = {"query_image_id": 3, "style": 1, "cls": 5, "pair_id": 8, "bbox": [1, 2, 30, 40]}
ITEM = {"gallery_image_id": 11, "style": 1, "pair_id": 8, "bbox": [5, 6, 70.5, 80]}
RESULT = {
    "query_image_id": 3,
    "query_bbox": [1, 2, 30, 41],
    "query_cls": 5,
    "query_score": 0.75,
    "gallery_image_id": [12, 11],
    "gallery_bbox": [[5, 6, 70, 80], [5, 6, 70, 81]],
}


def test_ground_truth(write):
    truth = read_query_truth(write("q.json", [QUERY, {**QUERY, "style": 0}]))
    assert truth.image_ids.tolist() == [3, 3]
    assert truth.styles.tolist() == [1, 0]
    assert truth.classes.tolist() == [5, 5]
    assert truth.pair_ids.tolist() == [8, 8]
    assert truth.boxes.tolist() == [[1, 2, 30, 40]] * 2
    truth = read_gallery_truth(write("g.json", [ITEM]))
    assert (truth.image_ids.tolist(), truth.styles.tolist()) == ([11], [1])
    assert truth.boxes.tolist() == [[5, 6, 70.5, 80]]


def test_results_of_any_length(write):
    long = {**RESULT, "gallery_image_id": [9] * 30, "gallery_bbox": [[0, 0, 1, 1]] * 30}
    empty = {**RESULT, "gallery_image_id": [], "gallery_bbox": []}
    found = read_retrieved(write("r.json", [RESULT, long, empty]))
    assert found.lengths.tolist() == [2, 20, 0]
    assert found.gallery_image_ids[0, :3].tolist() == [12, 11, 0]
    assert found.gallery_boxes[0, 1].tolist() == [5, 6, 70, 81]
    assert found.gallery_boxes.shape == (3, 20, 4)
    assert found.scores.tolist() == [0.75] * 3


def test_empty_files(write):
    path = write("empty.json", [])
    assert len(evaluate_retrieval_files(path, path, path)) == 0
    assert evaluate_retrieval_files(path, path, path).to_json()["queries"] == 0


def test_files_end_to_end(write):
    files = write("q.json", [QUERY]), write("g.json", [ITEM]), write("r.json", [RESULT])
    scores = evaluate_retrieval_files(*files)
    assert scores.accuracy() == {1: 0, 5: 1, 10: 1, 15: 1, 20: 1}


def test_what_is_written_is_read(tmp_path, write):
    found = read_retrieved(write("r.json", [RESULT, {**RESULT, "query_score": 1 / 3}]))
    write_retrieved(tmp_path / "again.json", found)
    assert json.loads((tmp_path / "again.json").read_text())[0] == RESULT
    again = read_retrieved(tmp_path / "again.json")
    for name in vars(found):
        assert np.array_equal(getattr(again, name), getattr(found, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_bbox": [1, 2, 3]}, "query_bbox must be 4 finite numbers"),
        ({"query_cls": 1.5}, "query_cls must be a whole number"),
        ({"query_score": None}, "query_score must be a finite number"),
        ({"gallery_image_id": [1]}, "lists of equal length, got 1 and 2"),
        ({"gallery_image_id": 7}, "lists of equal length, got 7 and 2"),
        ({"gallery_image_id": [1, 2.5]}, "gallery_image_id must be whole numbers"),
        ({"gallery_bbox": [[1, 2, 3, 4], [1, 2, 3]]}, "gallery_bbox must be lists of 4"),
        ({"gallery_bbox": [[1, 2, 3, 4], [1, 2, 3, "a"]]}, "gallery_bbox must be lists of 4"),
    ],
)
def test_bad_results(write, change, message):
    path = write("r.json", [RESULT, {**RESULT, **change}])
    with pytest.raises(ValueError, match=rf"r\.json, entry 1 \(from 0\): .*{message}"):
        read_retrieved(path)


def test_missing_keys_and_wrong_forms(write):
    with pytest.raises(ValueError, match=r"q\.json, entry 0 .*missing key 'cls'"):
        read_query_truth(write("q.json", [ITEM | {"query_image_id": 1}]))
    with pytest.raises(ValueError, match="expected a list of entries, got an object with 'images'"):
        read_gallery_truth(write("g.json", {"images": []}))
    with pytest.raises(FileNotFoundError):
        read_retrieved("nowhere.json")


def coco(*images):
    """Images: (id, source, pair id, items); items: (bbox, category id, style, occlusion)."""
    annotations = [
        {
            "id": 10 * image_id + index,
            "image_id": image_id,
            "bbox": bbox,
            "category_id": category_id,
            "style": style,
            "pair_id": pair_id,
            "occlusion": occlusion,
            "scale": None,
        }
        for image_id, _, pair_id, items in images
        for index, (bbox, category_id, style, occlusion) in enumerate(items)
    ]
    heads = [{"id": i, "source": source, "pair_id": pair} for i, source, pair, _ in images]
    return {"images": heads, "annotations": annotations}


def test_truth_from_annotations(write):
    user = (4, "user", 8, [([1, 2, 3, 4], 5, 1, 2), ([0, 0, 9, 9], 6, 0, None)])
    shop = (2, "shop", 8, [([5, 5, 1, 1], 5, 1, 3)])
    unknown = (3, None, 8, [([5, 5, 1, 1], 5, 1, 3)])
    truth = read_retrieval_truth(write("coco.json", coco(user, shop, unknown)))
    assert truth.queries.image_ids.tolist() == [4, 4]
    assert truth.queries.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 9, 9]]
    assert truth.queries.classes.tolist() == [5, 6]
    assert truth.queries.styles.tolist() == [1, 0]
    assert truth.gallery.image_ids.tolist() == [2]
    assert truth.gallery.boxes.tolist() == [[5, 5, 6, 6]]
    assert truth.levels["occlusion"].tolist() == [2, 0]
    assert truth.levels["scale"].tolist() == [0, 0]
    assert truth.sources == {4: "user", 2: "shop"}
    assert truth.image_ids.tolist() == [4, 4, 2, 3]


def test_query_subsets(write):
    """Three queries: occlusion 2 and five matching items; 3 and six; 3 and none, of style 3."""
    item = [5, 5, 1, 1], 5
    user = (4, "user", 8, [(*item, 1, 2), (*item, 2, 3), (*item, 3, 3)])
    shop = (2, "shop", 8, [(*item, 1, 1)] * 5 + [(*item, 2, 1)] * 6)
    truth = read_retrieval_truth(write("coco.json", coco(user, shop)))
    nothing = Retrieved(*(np.zeros((0, *s)) for s in [(), (4,), (), (), (20,), (20, 4), ()]))
    found = query_subsets(truth, score_retrieval(truth.queries, truth.gallery, nothing))
    assert {name: among.tolist() for name, among in found.items()} == {
        "more_than_five": [False, True, False],
        "occlusion-medium": [True, False, False],
        "occlusion-heavy": [False, True, True],
    }


def test_no_sources_no_truth(write):
    # The official converter's files do not have them; others lack styles too.
    value = coco((4, None, 8, [([1, 2, 3, 4], 5, 1, 2)]))
    assert read_retrieval_truth(write("coco.json", value)) is None
    del value["annotations"][0]["style"]
    assert read_retrieval_truth(write("coco.json", value)) is None
