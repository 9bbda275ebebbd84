"""Retrieval by a changed wish, worked out by hand and against loops."""

import math

import numpy as np
import pytest

from match_rcnn.evaluation.recognition import evaluate_manipulation, manipulation
from match_rcnn.evaluation.recognition.manipulation import (
    all_wishes,
    score_manipulation,
    score_wishes,
    values_of,
)
from tests.data.deepfashion_trees import fine_tree

#: Two types, of three and two values, and four images.
VALUES = np.array([[0, 0], [1, 0], [1, 1], [-1, 0]])
LABELS = np.array(
    [[1, -1, -1, 1, -1], [-1, 1, -1, 1, -1], [-1, 1, -1, -1, 1], [1, 1, -1, 1, 0]], np.int8
)
COLUMNS = [np.array([0, 1, 2]), np.array([3, 4])]


def test_values_are_what_an_image_has_one_of():
    assert values_of(LABELS, COLUMNS).tolist() == VALUES.tolist()


def test_all_that_some_image_satisfies_is_asked():
    wishes = all_wishes(VALUES, [3, 2])
    # (0, 0) can become (1, 0), and not (2, 0) or (0, 1): nothing is. The last has an unknown one.
    found = zip(
        wishes.reference.tolist(),
        wishes.type.tolist(),
        wishes.value.tolist(),
        wishes.target.tolist(),
        strict=True,
    )
    assert list(found) == [
        (0, 0, 1, [1, 0]),
        (1, 0, 0, [0, 0]),
        (1, 1, 1, [1, 1]),
        (2, 1, 0, [1, 0]),
    ]


def test_scores_by_hand(monkeypatch):
    monkeypatch.setattr(manipulation, "TOPS", (1, 3))
    gallery = np.array([[1, 0], [4, 3], [0, 2.0], [1, 0]])  # lengths do not count
    wishes = all_wishes(VALUES, [3, 2])
    # The first query finds 1, 0, 3 (equal to 0, and later); 0 is its own reference.
    first = type(wishes)(*(column[:1] for column in vars(wishes).values()))
    found = score_wishes(first, np.array([[0.8, 0.5]]), gallery, VALUES)
    # Of the target (1, 0) image 1 has both values, 2 the first, 0 and 3 the second.
    half = 2**0.5 - 1
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    expected = {
        "top1": 1.0,
        "top3": 1.0,
        "ndcg1": 1.0,
        "ndcg1_target": 1.0,
        "ndcg1_others": 1.0,
        "ndcg3": (1 + half / math.log2(3) + half / 2) / ideal,
        "ndcg3_target": 1 / ideal,
        "ndcg3_others": 1.0,
    }
    assert found == pytest.approx(expected)


def slow_scores(wishes, queries, gallery, values, k):
    """The protocol, query by query."""
    hits, gains = [], {"": [], "_target": [], "_others": []}
    for n in range(len(wishes)):
        far = [
            np.linalg.norm(g / np.linalg.norm(g) - queries[n] / np.linalg.norm(queries[n]))
            for g in gallery
        ]
        first = sorted(range(len(gallery)), key=lambda i: (round(far[i], 9), i))[:k]
        right = [values[i] == wishes.target[n] for i in first]
        kind = wishes.type[n]
        hits.append(any(r.all() for r in right))
        ideal = sum(1 / math.log2(i + 2) for i in range(len(first)))
        shares = {
            "": [r.mean() for r in right],
            "_target": [float(r[kind]) for r in right],
            "_others": [np.delete(r, kind).mean() for r in right],
        }
        for name, own in shares.items():
            gain = sum((2**share - 1) / math.log2(i + 2) for i, share in enumerate(own))
            gains[name].append(gain / ideal)
    return {f"top{k}": np.mean(hits)} | {f"ndcg{k}{name}": np.mean(v) for name, v in gains.items()}


@pytest.mark.parametrize("images", [9, 40])
def test_scores_are_those_of_a_loop(images, monkeypatch):
    monkeypatch.setattr(manipulation, "_BLOCK_BYTES", 8 * images * 7)  # several blocks
    monkeypatch.setattr(manipulation, "TOPS", (3, 30))
    rng = np.random.default_rng(images)
    values = np.stack([rng.integers(-1, 3, images), rng.integers(0, 2, images)], 1)
    gallery = rng.normal(size=(images, 4))
    gallery[1] = gallery[0]
    wishes = all_wishes(values, [3, 2])
    queries = rng.normal(size=(len(wishes), 4))
    fast = score_wishes(wishes, queries, gallery, values)
    for k in (3, 30):
        slow = slow_scores(wishes, queries, gallery, values, k)
        assert {name: fast[name] for name in slow} == pytest.approx(slow)


def test_the_baseline_is_the_vector_itself():
    vectors = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    changed = np.zeros((4, 5, 2))
    for n, place, image in ((0, 1, 1), (1, 0, 0), (1, 4, 2), (2, 3, 1)):
        changed[n, place] = vectors[image]  # what a perfect manipulation makes
    scores = score_manipulation(LABELS, COLUMNS, vectors, changed)
    assert (scores["queries"], scores["gallery"]) == (4, 4)
    own = scores["manipulation"]
    perfect = score_wishes(all_wishes(VALUES, [3, 2]), vectors[[1, 0, 2, 1]], vectors, VALUES)
    assert own["changed"] == perfect
    assert own["changed"]["ndcg10"] > own["unchanged"]["ndcg10"]
    none = score_manipulation(LABELS[:1], COLUMNS, vectors[:1], changed[:1])
    assert none == {"queries": 0, "gallery": 1}


def write(file, **arrays):
    np.savez(file, **arrays)
    return file


def test_scores_from_files(tmp_path):
    """Two values of pattern and of sleeve, the names in another order than the list's."""
    root = fine_tree(tmp_path)
    lines = ["floral 1", "striped 1", "long 2", "short 2"]
    text = "\n".join(["4", "attribute_name  attribute_type", *lines])
    (root / "Anno_fine/list_attr_cloth.txt").write_text(text + "\n")
    for split, rows in (
        ("train", ["1 0 1 0", "0 1 1 0"]),
        ("val", ["0 1 1 0"]),
        ("test", ["1 0 0 1"]),
    ):
        (root / f"Anno_fine/{split}_attr.txt").write_text("\n".join(rows) + "\n")
    images = np.array([f"img/Thing/img_{i:08d}.jpg" for i in (1, 0)])
    vectors, names = np.eye(2), np.array(["long", "striped", "short", "floral"])
    changed = np.zeros((2, 4, 2), np.float16)
    changed[0, 3], changed[1, 1] = vectors[1], vectors[0]
    arrays = {"images": images, "embeddings": vectors, "changed": changed, "changed_to": names}
    found = evaluate_manipulation(root, "train", write(tmp_path / "p.npz", **arrays))
    assert found["queries"] == 2
    half = 0.5  # the first of two has all, the second one of two
    ideal = 1 + 1 / math.log2(3)
    ndcg = (1 + (2**half - 1) / math.log2(3)) / ideal
    assert found["manipulation"]["changed"]["ndcg30"] == pytest.approx(ndcg)
    turned = (2**half - 1 + 1 / math.log2(3)) / ideal
    assert found["manipulation"]["unchanged"]["ndcg30"] == pytest.approx(turned)
    for change, message in (
        (
            {"changed_to": np.array([*names[:3], "red"])},
            "changed_to has 'red'.*knows floral, striped",
        ),
        ({"changed": changed[:, :3]}, "expected changed of shape"),
        ({"changed_to": None}, "expected the array changed_to"),
        ({"images": images[::-1][:1], "changed": changed[:1], "embeddings": vectors[:1]}, "img_"),
    ):
        wrong = {name: v for name, v in (arrays | change).items() if v is not None}
        with pytest.raises(ValueError, match=message):
            evaluate_manipulation(root, "train", write(tmp_path / "q.npz", **wrong))
