import hashlib
import os

import cv2
import numpy as np
import pytest

from match_rcnn.data.synthetic import generate
from match_rcnn.utils.files import read_json


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "df2"
    summary = generate(root, 8, 12, seed=5, size=96, workers=1, progress=False)
    return root, summary


def test_files_and_their_names(small):
    root, _ = small
    for split, count in (("train", 8), ("validation", 12)):
        numbers = [f"{i:06d}" for i in range(1, count + 1)]
        assert sorted(p.name for p in (root / split / "image").iterdir()) == [
            f"{n}.jpg" for n in numbers
        ]
        assert sorted(p.name for p in (root / split / "annos").iterdir()) == [
            f"{n}.json" for n in numbers
        ]
        for number in numbers:
            image = cv2.imread(str(root / split / "image" / f"{number}.jpg"))
            assert max(image.shape[:2]) == 96
            annotation = read_json(root / split / "annos" / f"{number}.json")
            assert annotation["source"] in ("user", "shop")
            assert isinstance(annotation["pair_id"], int)


def test_the_bytes_do_not_depend_on_the_number_of_workers(small, tmp_path):
    root, _ = small
    generate(tmp_path / "other", 8, 12, seed=5, size=96, workers=2, progress=False)
    assert digest(root) == digest(tmp_path / "other")


def test_another_seed_gives_other_pictures(small, tmp_path):
    root, _ = small
    generate(tmp_path / "other", 2, 0, seed=6, size=96, progress=False)
    name = "train/image/000001.jpg"
    assert (root / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_an_interrupted_run_goes_on(small, tmp_path):
    root, summary = small
    other = tmp_path / "df2"
    generate(other, 8, 12, seed=5, size=96, progress=False)
    kept = other / "train" / "image" / "000001.jpg"
    os.utime(kept, (1, 1))
    (other / "train" / "annos" / "000003.json").unlink()
    (other / "validation" / "image" / "000002.jpg").unlink()
    (other / "summary.json").unlink()
    assert generate(other, 8, 12, seed=5, size=96, progress=False) == summary
    assert digest(other) == digest(root)
    assert kept.stat().st_mtime == 1  # what was whole is left alone


def test_other_data_is_not_overwritten(small, tmp_path):
    root, _ = small
    with pytest.raises(ValueError, match="choose another folder"):
        generate(root, 8, 12, seed=6, size=96, progress=False)
    foreign = tmp_path / "train" / "image"
    foreign.mkdir(parents=True)
    (foreign / "000001.jpg").write_bytes(b"a real photo")
    with pytest.raises(ValueError, match="not generated here"):
        generate(tmp_path, 8, 12, progress=False)
    assert (foreign / "000001.jpg").read_bytes() == b"a real photo"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": -1}, "expected train >= 0, got -1"),
        ({"train": 0, "validation": 0}, "at least one image"),
        ({"size": 20}, "size from 64 to 2048"),
        ({"workers": 0}, "workers >= 1"),
        ({"seed": -3}, "seed >= 0"),
    ],
)
def test_numbers_out_of_range(tmp_path, changes, message):
    arguments = {"train": 1, "validation": 1, **changes}
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "x", **arguments, progress=False)
    assert not (tmp_path / "x").exists()


def test_the_summary_counts_what_was_written(small):
    root, summary = small
    assert read_json(root / "summary.json") == summary
    counts = summary["splits"]["validation"]
    annotations = [read_json(path) for path in (root / "validation" / "annos").iterdir()]
    items = [v for a in annotations for k, v in a.items() if k.startswith("item")]
    assert counts["images"] == {"shop": 7, "user": 5}
    assert sum(counts["items"].values()) == len(items)
    for key in ("category", "style", "scale", "occlusion", "zoom_in", "viewpoint"):
        assert sum(counts[key].values()) == len(items)
    assert counts["products"] == 2


def test_large_and_small_sizes(tmp_path):
    for size in (64, 1024):
        generate(tmp_path / str(size), 1, 0, size=size, progress=False)
        image = cv2.imread(str(tmp_path / str(size) / "train" / "image" / "000001.jpg"))
        assert max(image.shape[:2]) == size


# -- distributions ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def annotations(validation_pictures):
    return [picture.annotation for picture in validation_pictures]


def values(annotations, items_of, key, source=None):
    return np.array(
        [
            item[key]
            for annotation in annotations
            if source in (None, annotation["source"])
            for item in items_of(annotation)
        ]
    )


def test_all_categories_occur(annotations, items_of):
    counts = np.bincount(values(annotations, items_of, "category_id"), minlength=14)[1:]
    assert (counts >= 5).all(), counts


@pytest.mark.parametrize("key", ["scale", "occlusion", "zoom_in", "viewpoint"])
def test_every_level_of_every_variation_is_common(annotations, items_of, key):
    levels = values(annotations, items_of, key)
    shares = np.bincount(levels, minlength=4)[1:] / len(levels)
    assert (shares > 0.04).all(), shares


def test_consumers_photos_are_harder(annotations, items_of):
    for key in ("occlusion", "zoom_in"):
        user, shop = (values(annotations, items_of, key, s).mean() for s in ("user", "shop"))
        assert user > shop + 0.1
    views = [(values(annotations, items_of, "viewpoint", s) == 3).mean() for s in ("user", "shop")]
    assert views[0] > views[1]


def test_most_pictures_have_one_to_three_items(annotations, items_of):
    counts = np.bincount([len(items_of(annotation)) for annotation in annotations], minlength=5)
    assert len(counts) <= 5
    assert counts[0] <= 0.05 * len(annotations)
    assert (counts[1:4] > 0.02 * len(annotations)).all(), counts


def test_styles(annotations, items_of):
    styles = values(annotations, items_of, "style")
    assert 0.2 < (styles == 0).mean() < 0.6
    assert (styles == 2).sum() > 10
    shop = {
        (a["pair_id"], item["style"])
        for a in annotations
        if a["source"] == "shop"
        for item in items_of(a)
    }
    queries = [
        (a["pair_id"], item["style"])
        for a in annotations
        if a["source"] == "user"
        for item in items_of(a)
        if item["style"]
    ]
    assert np.mean([query in shop for query in queries]) > 0.9
