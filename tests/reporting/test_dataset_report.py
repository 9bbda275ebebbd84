import json

import numpy as np
import pytest

from match_rcnn.data import taxonomy
from match_rcnn.reporting.dataset_report import build, write_dataset_report
from match_rcnn.reporting.numbers.dataset import is_generated, problem_counts, read_statistics


def item(number, image, category_id, style=0, **more):
    n = taxonomy.DEEPFASHION2.category(category_id).num_landmarks
    labels = [2, 1, 0] * n
    points = np.array([[0, 0, v] if v == 0 else [1, 1, v] for v in labels[:n]])
    return {
        "id": number,
        "image_id": image,
        "category_id": category_id,
        "bbox": [0, 0, 20, 30],
        "pair_id": 7,
        "style": style,
        "keypoints": points.ravel().tolist(),
        **more,
    }


@pytest.fixture
def file(tmp_path):
    """Two consumers' photos, one shop's, one of unknown source without items."""
    truth = {
        "images": [
            {"id": 9, "height": 60, "width": 40, "source": "shop"},
            {"id": 1, "height": 60, "width": 40, "source": "user"},
            {"id": 2, "source": "user"},
            {"id": 30, "height": 10, "width": 10},
        ],
        "annotations": [
            item(1, 1, 9, style=1, scale=1, occlusion=3),
            item(2, 1, 9, scale=3),
            item(3, 2, 7, style=1, bbox=[0, 0, 100, 100]),
            item(4, 9, 9, style=1, scale=1, keypoints=[0] * 24),
            item(5, 9, 9, style=2, scale=1),
            item(6, 9, 7, style=1, pair_id=8, viewpoint=2),
        ],
    }
    path = tmp_path / "some.json"
    path.write_text(json.dumps(truth))
    return path


def test_counts(file):
    found = read_statistics(file)
    assert found.name == "some"
    assert found.items_per_image.tolist() == [2, 1, 3, 0]  # images 1, 2, 9, 30
    assert (found.image_sources == "user").sum() == 2
    skirt, shorts = 8, 6
    assert found.by_category(found.sources == "user")[[shorts, skirt]].tolist() == [1, 2]
    assert found.by_category(found.sources == "shop")[[shorts, skirt]].tolist() == [1, 2]
    assert found.levels["scale"].tolist() == [1, 3, 0, 1, 1, 0]
    assert found.labelled.tolist() == [6, 6, 7, 0, 6, 7]


def test_products(file):
    """Of pair 7: style 1 on two consumers' and one shop's photo, style 2 on a shop's; of pair 8
    style 1 on a shop's."""
    products = read_statistics(file).products()
    assert products.user.tolist() == [2, 0, 0]
    assert products.shop.tolist() == [1, 1, 1]
    assert products.matched.tolist() == [True, False, False]
    assert products.pairs == 2


def test_visibility(file):
    found = read_statistics(file)
    # Skirts: three with v = 2, 1, 0, 2, 1, 0, 2, 1 and one without any label.
    assert found.visibility[9].tolist() == [
        [1, 0, 3],
        [1, 3, 0],
        [4, 0, 0],
        [1, 0, 3],
        [1, 3, 0],
        [4, 0, 0],
        [1, 0, 3],
        [1, 3, 0],
    ]
    assert found.visibility[1].sum() == 0


def test_box_shares(file):
    shares = read_statistics(file).box_shares()
    assert shares[[0, 1]] == pytest.approx([0.5, 0.5])  # 600 of 2400 pixels
    assert np.isnan(shares[2])


def test_dense_landmarks_are_those_of_the_category(tmp_path, file):
    truth = json.loads(file.read_text())
    for annotation in truth["annotations"]:
        dense = np.zeros((294, 3))
        own = taxonomy.DEEPFASHION2.category(annotation["category_id"]).slice
        dense[own] = np.reshape(annotation["keypoints"], (-1, 3))
        annotation["keypoints"] = dense.ravel().tolist()
    (tmp_path / "dense.json").write_text(json.dumps(truth))
    dense, compact = read_statistics(tmp_path / "dense.json"), read_statistics(file)
    for category_id, counts in compact.visibility.items():
        np.testing.assert_array_equal(dense.visibility[category_id], counts)


def test_problems(file):
    assert read_statistics(file).problems is None
    counts = {"left_out_by_reason": {"box without area": 3}, "kept_by_reason": {"odd": 1}}
    file.with_name("some.json.problems.json").write_text(json.dumps({"counts": counts}))
    found = problem_counts(read_statistics(file))
    assert found == {("left out", "box without area"): 3, ("kept", "odd"): 1}


def test_report(tmp_path, file):
    page, tables = write_dataset_report([file, file], tmp_path / "out")
    by_title = {table.title: {row[0]: row[1:] for row in table.rows} for table in tables}
    counts = by_title["Counts"]
    assert counts["items"] == ["6", "6"]
    assert counts["images without items"] == ["1", "1"]
    assert counts["consumer-to-shop pairs"] == ["2", "2"]
    assert by_title["Items by category"]["skirt"][:4] == ["2", "2", "4", "66.7%"]
    assert by_title["Images by number of items"]["3"] == ["1", "1"]
    assert by_title["Products by shop items"]["1"] == ["1", "1"]
    scale = next(table for table in tables if table.title == "Items by variation").rows
    assert scale[0][:6] == ["scale", "small", "1", "2", "3", "50.0%"]
    assert scale[3][:6] == ["", "unknown", "1", "1", "2", "33.3%"]
    assert "no problems file beside some, some" in page.read_text()
    assert "### Counts" in page.with_suffix(".md").read_text()
    assert "drawn by a program" not in page.read_text()
    assert "<script" not in page.read_text()


def test_file_names_stay_text(tmp_path, file):
    """Names of files go into the heading, the introduction and every chart."""
    evil = file.with_name("<img src=x onerror=alert(1)>.json")
    evil.write_bytes(file.read_bytes())
    page, _ = write_dataset_report([evil, file], tmp_path / "out")
    assert "<img" not in page.read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;.json" in page.read_text()


def test_an_empty_split(tmp_path):
    (tmp_path / "none.json").write_text('{"images": [], "annotations": []}')
    sections = build([read_statistics(tmp_path / "none.json")])
    assert sections[0].title == "Overview"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "unknown image_id 77"),
        ({"category_id": 14}, "category_id from 1 to 13"),
        ({"keypoints": [1, 2]}, "annotation 6 .*keypoints of length"),
        ({"bbox": [1, 2]}, "bbox must be 4 finite numbers"),
    ],
)
def test_one_clear_error(tmp_path, file, change, message):
    truth = json.loads(file.read_text())
    truth["annotations"].append({**item(7, 1, 9), **change})
    file.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=message):
        read_statistics(file)


def test_a_result_file_is_no_data_set(tmp_path):
    results = tmp_path / "bbox_results.json"
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]))
    with pytest.raises(ValueError, match=r"bbox_results.json: expected an object with images"):
        read_statistics(results)


def test_is_generated(tmp_path):
    folder = tmp_path / "root" / "annotations"
    folder.mkdir(parents=True)
    assert not is_generated(folder / "train.json", None)
    (tmp_path / "root" / "generated.json").write_text("{}")
    assert is_generated(None, folder / "train.json")
