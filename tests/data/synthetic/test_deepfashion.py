"""Generated benchmarks of DeepFashion (2016): complete, deterministic, read by our own readers."""

import hashlib
import json

import numpy as np
import pytest

from match_rcnn.data.recognition import load_benchmark, load_records
from match_rcnn.data.sources.deepfashion import read_pairs, read_partition
from match_rcnn.data.synthetic import deepfashion
from match_rcnn.data.synthetic.body import Pose
from match_rcnn.data.synthetic.cuts import default_cut
from match_rcnn.data.synthetic.deepfashion import generate, slots
from match_rcnn.data.synthetic.deepfashion_plan import Settings, article_of, plan
from match_rcnn.data.synthetic.garments import garment_shape
from match_rcnn.data.synthetic.wardrobe import ATTRIBUTES, FINE, KINDS

SIZE = 64


def make(root, benchmark, train=6, val=2, test=6, **more):
    return generate(root, benchmark, train, val, test, seed=1, size=SIZE, progress=False, **more)


def digests(root):
    files = sorted(f for f in root.rglob("*") if f.is_file() and "cache" not in f.parts)
    return {str(f.relative_to(root)): hashlib.md5(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    root = tmp_path_factory.mktemp("category")
    make(root, "category", 24, 8, 8)
    return root


def test_category_reads_back_what_was_drawn(category):
    records = load_records(category, "category", "train")
    assert len(records) == 24
    settings = Settings("category", 24, 8, 8, 1, SIZE)
    known = wrong = 0
    for photo, record in zip(plan(settings), records, strict=False):
        annotation = record["annotations"][0]
        article = article_of(settings, photo.item)
        assert KINDS[annotation["category_id"]] is article.kind
        labels = annotation["attributes"]
        known += int((labels != 0).sum())
        wrong += int((labels * article.attributes < 0).sum())
        x0, y0, x1, y1 = annotation["bbox"]
        assert 0 <= x0 < x1 <= record["width"]
        assert 0 <= y0 < y1 <= record["height"]
    assert 0.9 < known / (24 * len(ATTRIBUTES)) < 1
    assert 0 < wrong / known < 0.05


def test_only_training_labels_are_wrong(category):
    settings = Settings("category", 24, 8, 8, 1, SIZE)
    for split, first in (("val", 24), ("test", 32)):
        records = load_records(category, "category", split)
        assert len(records) == 8
        for photo, record in zip(plan(settings)[first:], records, strict=False):
            truth = article_of(settings, photo.item).attributes
            labels = record["annotations"][0]["attributes"]
            assert set(np.unique(labels * truth)) <= {0, 1}


def test_the_fine_labels_are_one_of_each_group_and_true(category):
    settings = Settings("category", 24, 8, 8, 1, SIZE)
    photos = [photo for photo in plan(settings) if photo.split == "test"]
    records = load_records(category, "fine", "test")
    coarse = load_records(category, "category", "test")
    head = load_benchmark(category, "fine").head
    assert head["report"]["left_out_by_reason"] == {}
    names, types = head["attribute_names"], np.array(head["attribute_types"])
    for photo, record, other in zip(photos, records, coarse, strict=True):
        own, same = record["annotations"][0], other["annotations"][0]
        for key in ("bbox", "category_id"):
            assert own[key] == same[key]
        seen = same["visibility"] == 0
        assert (own["landmarks"][seen] == same["landmarks"][seen]).all()
        article = article_of(settings, photo.item)
        for number, group in enumerate(FINE, 1):
            (found,) = np.flatnonzero((own["attributes"] == 1) & (types == number))
            assert names[found] == next(name for name, holds in group.items() if holds(article))


def test_nothing_of_the_generated_lists_is_strange(category):
    report = load_benchmark(category, "category").head["report"]
    assert report["images"] == 40
    assert report["left_out_by_reason"] == report["kept_by_reason"] == {}


def test_visible_landmarks_lie_in_or_at_the_box(category):
    for split in ("train", "val", "test"):
        for record in load_records(category, "category", split):
            annotation = record["annotations"][0]
            box = np.array(annotation["bbox"])
            seen = annotation["landmarks"][annotation["visibility"] == 0]
            assert (seen >= box[:2] - 4).all()
            assert (seen <= box[2:] + 4).all()


def test_the_same_whatever_the_workers_and_after_an_interruption(tmp_path, monkeypatch):
    make(tmp_path / "one", "category", 20, 4, 4)
    make(tmp_path / "two", "category", 20, 4, 4, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    real = deepfashion.draw

    def interrupted(settings, photo, index):
        if index == 18:
            raise KeyboardInterrupt
        return real(settings, photo, index)

    monkeypatch.setattr(deepfashion, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "three", "category", 20, 4, 4)
    assert not (tmp_path / "three/Eval").exists()
    drawn = []
    monkeypatch.setattr(deepfashion, "draw", lambda *a: (drawn.append(a[2]), real(*a))[1])
    make(tmp_path / "three", "category", 20, 4, 4)
    assert drawn[0] == 16  # what was whole is kept
    assert digests(tmp_path / "three") == digests(tmp_path / "one")
    drawn.clear()
    again = make(tmp_path / "three", "category", 20, 4, 4)
    assert again["items"] == 14
    assert drawn == []


def test_another_seed_and_a_strange_folder_are_refused(tmp_path):
    make(tmp_path, "landmark", 2, 0, 0)
    with pytest.raises(ValueError, match="holds data generated with"):
        generate(tmp_path, "landmark", 2, 0, 0, seed=2, size=SIZE, progress=False)
    (tmp_path / "other/Anno").mkdir(parents=True)
    with pytest.raises(ValueError, match="files in Anno that were not generated here"):
        make(tmp_path / "other", "landmark")


def test_inshop_has_every_item_in_query_and_gallery(tmp_path):
    make(tmp_path, "inshop", 7, 0, 13)
    partition = read_partition(tmp_path, with_items=True)
    queries = set(partition.items[partition.of("query")])
    assert queries == set(partition.items[partition.of("gallery")])
    assert not queries & set(partition.items[partition.of("train")])
    records = load_records(tmp_path, "inshop", "test")
    assert len(records) == 13
    poses = {r["image_name"].split("_", 2)[-1].split("/")[-1] for r in records}
    assert any("1_front" in pose for pose in poses)
    words = json.loads((tmp_path / "Anno/list_description_inshop.json").read_text())
    assert {entry["item"] for entry in words} == set(partition.items)
    assert all(entry["description"] and entry["color"] for entry in words)


def test_consumer2shop_pairs_photos_of_one_item(tmp_path):
    make(tmp_path, "consumer2shop", 7, 5, 11)
    pairs = read_pairs(tmp_path)
    assert all(
        f"/{i}/comsumer_" in name for i, name in zip(pairs.items, pairs.consumer, strict=True)
    )
    assert all(f"/{i}/shop_" in name for i, name in zip(pairs.items, pairs.shop, strict=True))
    assert len(load_records(tmp_path, "consumer2shop", "train")) == 7
    head = load_benchmark(tmp_path, "consumer2shop").head
    assert head["attribute_names"] == [a.name for a in ATTRIBUTES]
    assert head["report"]["kept_by_reason"] == {}


def test_landmark_benchmark(tmp_path):
    summary = make(tmp_path, "landmark", 6, 2, 2)
    assert summary["attributes"] is None
    record = load_records(tmp_path, "landmark", "val")[0]
    assert "attributes" not in record["annotations"][0]
    assert sum(summary["landmarks"].values()) >= 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fine", 1, 1, 1), "expected one of category, inshop, consumer2shop, landmark"),
        (("inshop", 4, 4, 4), "no validation split"),
        (("inshop", 4, 0, 1), "expected 0 images of test, or 2 and more, got 1"),
        (("category", -1, 0, 1), "expected 0 images of train"),
        (("category", 0, 0, 0), "at least one image"),
    ],
)
def test_what_cannot_be_generated(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, *arguments, progress=False)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("base", range(1, 14))
def test_slots_lie_left_and_right_and_from_top_to_bottom(base):
    found = slots(garment_shape(base, default_cut(base), Pose()))
    points = {number: point[0] for number, (point, _) in found.items()}
    for left in (0, 2, 4, 6):
        if left in points:
            assert points[left][0] < points[left + 1][0]
            assert points[left][1] == pytest.approx(points[left + 1][1], abs=0.06)
    if base in (7, 8, 9):
        assert sorted(points) == [4, 5, 6, 7]
        assert points[4][1] < points[6][1]
    else:
        assert sorted(points) == list(range(8))
        assert points[0][1] < points[4][1] <= points[6][1]
        assert points[4][1] == pytest.approx(0.58, abs=0.08)
