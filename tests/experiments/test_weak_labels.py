import json

import numpy as np
import pytest
import torch
from PIL import Image

from match_rcnn.d2 import Boxes, Instances
from match_rcnn.data.images import read_image
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.weak_labels import (
    CLOTHING_DATASET,
    Choice,
    choose,
    label_photos,
    read_words,
)

INDEX = {category.name: i for i, category in enumerate(DEEPFASHION2.categories)}


def found(*detections):
    """Of a photo of 100 x 100: box, score, category."""
    boxes, scores, names = zip(*detections, strict=True)
    instances = Instances((100, 100), pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)))
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.tensor([INDEX[name] for name in names])
    return instances


WHOLE, ALMOST, OTHER, SMALL = [10, 10, 80, 80], [12, 10, 80, 80], [0, 60, 60, 100], [0, 0, 20, 20]


def chosen(allowed, *detections, **choice):
    return choose(found(*detections), allowed, DEEPFASHION2, Choice(**choice))


def test_the_surest_box_gets_the_known_category():
    got = chosen(("trousers",), (WHOLE, 0.9, "long sleeve outwear"), (OTHER, 0.5, "trousers"))
    assert got == (INDEX["trousers"], WHOLE)


def test_of_several_allowed_the_favoured_one_on_that_box():
    detections = (
        (WHOLE, 0.9, "skirt"),
        (OTHER, 0.8, "vest dress"),  # elsewhere
        (ALMOST, 0.3, "long sleeve dress"),
        (WHOLE, 0.2, "vest dress"),
    )
    got = chosen(CLOTHING_DATASET["Dress"], *detections)
    assert got == (INDEX["long sleeve dress"], WHOLE)


@pytest.mark.parametrize(
    ("detections", "reason"),
    [
        (((WHOLE, 0.2, "skirt"),), "without a sure box"),
        (((SMALL, 0.9, "skirt"), (WHOLE, 0.2, "skirt")), "without a sure box"),
        (((WHOLE, 0.9, "skirt"), (OTHER, 0.8, "vest dress")), "of an unsure category"),
        (((WHOLE, 0.9, "skirt"), (WHOLE, 0.01, "vest dress")), "of an unsure category"),
    ],
)
def test_what_is_unsure_is_left_out(detections, reason):
    assert chosen(CLOTHING_DATASET["Dress"], *detections) == reason


def test_nothing_found():
    instances = Instances((100, 100), pred_boxes=Boxes(torch.zeros(0, 4)))
    instances.scores, instances.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert choose(instances, ("skirt",), DEEPFASHION2, Choice()) == "without a sure box"


def test_every_category_of_the_words_is_one():
    for words in CLOTHING_DATASET.values():
        assert set(words) <= set(INDEX)


class Predictor:
    taxonomy = DEEPFASHION2

    @staticmethod
    def read(path):
        return read_image(path, upright=True)

    @staticmethod
    def instances(photo):
        return found((WHOLE, 0.9 if photo[0, 0, 0] > 9 else 0.1, "sling"))


@pytest.fixture
def clone(tmp_path):
    """Skirts: two, one too dark to find, one for a child, one that is no image; and a hat."""
    (tmp_path / "images").mkdir()
    rows = ["image,sender_id,label,kids"]
    photos = (("a", 200, "Skirt"), ("b", 200, "Skirt"), ("dark", 0, "Skirt"), ("hat", 200, "Hat"))
    for name, grey, label in photos:
        Image.fromarray(np.full((100, 100, 3), grey, np.uint8)).save(
            tmp_path / f"images/{name}.jpg"
        )
        rows.append(f"{name},1,{label},False")
    (tmp_path / "images" / "broken.jpg").write_text("no image")
    rows += ["broken,1,Skirt,False", "small,1,Skirt,True"]
    (tmp_path / "images.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_file_of_boxes(clone):
    report = label_photos(Predictor(), clone, clone / "out.json")
    written = json.loads((clone / "out.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["a.jpg", "b.jpg"]
    first = written["annotations"][0]
    assert (first["category_id"], first["bbox"]) == (9, [10, 10, 70, 70])
    assert report.labelled == {"skirt": 2}
    assert report.left_out == {"without a sure box": 1, "of another kind": 1}
    assert len(report.unreadable) == 1
    assert "broken.jpg" in report.unreadable[0]
    assert report.summary().startswith("2 photos labelled; left out: 1 ")
    assert report.summary().endswith("; unreadable: 1")


def test_common_words_can_be_held_back(clone):
    report = label_photos(Predictor(), clone, clone / "out.json", most=1)
    assert report.labelled == {"skirt": 1}
    assert report.left_out["beyond the most of a word"] == 3


def test_other_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images\.csv is not there; name a clone"):
        list(read_words(tmp_path))
    (tmp_path / "images.csv").write_text("name,label\n")
    with pytest.raises(ValueError, match="has no columns image, kids"):
        list(read_words(tmp_path))
