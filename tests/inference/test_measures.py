"""Lengths from landmarks, by hand; rules that fit the taxonomy; scales; what cannot be."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.inference.measure_files import measure_files
from match_rcnn.inference.measures import (
    Known,
    draw_lengths,
    measure,
    read_rules,
    reference_scale,
)
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.structures import Garment

RULES = read_rules()
BOX = np.array([0, 0, 10, 10], np.float32)


def garment(name, places, score=0.9, values=None):
    """With landmarks (by number from 1) at places, the others at (0, 0)."""
    category = named(name)
    landmarks = np.zeros((category.num_landmarks, 3), np.float32)
    landmarks[:, 2] = 2 if score is None else 0.8
    for number, place in places.items():
        landmarks[number - 1, :2] = place
    for number, value in (values or {}).items():
        landmarks[number - 1, 2] = value
    return Garment(category, BOX, score, landmarks)


def named(name):
    return next(c for c in DEEPFASHION2.categories if c.name == name)


def lengths(*args, **kwargs):
    return {length.name: length for length in measure(*args, **kwargs)}


#: Trousers: waistband bent upwards in its middle, left leg straight, right leg shorter.
TROUSERS = {
    1: (10, 0),
    2: (13, 4),
    3: (16, 0),
    4: (8, 10),
    14: (18, 10),
    9: (13, 14),
    6: (10, 40),
    7: (13, 44),
    8: (13, 34),
    5: (10, 20),
    10: (13, 24),
    11: (13, 34),
    12: (16, 34),
    13: (16, 20),
}


def test_lengths_by_hand():
    found = lengths(garment("trousers", TROUSERS), RULES)
    assert found["waist"].pixels == pytest.approx(10)  # two times 3, 4, 5
    assert found["hips"].pixels == pytest.approx(10)
    assert found["rise"].pixels == pytest.approx(10)
    assert found["inseam"].pixels == pytest.approx((30 + 20) / 2)  # the mean of both legs
    assert found["leg opening"].pixels == pytest.approx((np.hypot(3, 4) + 3) / 2)
    assert found["waist"].ratio == pytest.approx(10 / found["length"].pixels)
    assert found["waist"].cm is None
    assert lengths(garment("trousers", TROUSERS), RULES, 0.5)["hips"].cm == 5


def test_one_landmark_may_be_the_middle_of_two():
    places = {1: (50, 0), 16: (40, 60), 29: (60, 60), 4: (45, 8), 26: (55, 8)}
    found = lengths(garment("short sleeve outwear", places), RULES)
    assert found["length"].pixels == pytest.approx(60)
    assert found["neck depth"].pixels == pytest.approx(8)


def test_of_two_sides_the_sure_one_counts():
    found = lengths(garment("trousers", TROUSERS, values={8: 0.01}), RULES)
    assert (found["inseam"].pixels, found["inseam"].unsure) == (pytest.approx(20), ())
    found = lengths(garment("trousers", TROUSERS, values={8: 0.01, 10: 0.01}), RULES)
    assert found["inseam"].pixels == pytest.approx(25)
    assert found["inseam"].unsure == ("left inner knee", "right inner knee")


def test_annotated_landmarks_are_occluded_or_missing():
    occluded = garment("trousers", TROUSERS, score=None, values={4: 1})
    assert lengths(occluded, RULES)["hips"].unsure == ("left hip",)
    missing = garment("trousers", TROUSERS, score=None, values={4: 0, 9: 0})
    found = lengths(missing, RULES)
    assert {"hips", "rise", "inseam"} & found.keys() == set()
    assert found["length"].pixels == pytest.approx(  # of the right leg alone
        np.hypot(2, 10) + np.hypot(2, 10) + 14
    )


def test_nothing_to_measure():
    category = named("skirt")
    assert measure(Garment(category, BOX, 0.9), RULES) == []
    assert measure(garment("skirt", {}), {}) == []
    points = lengths(garment("skirt", {}), RULES)  # all in one point
    assert points["waist"].pixels == 0
    assert points["waist"].ratio is None


@given(
    st.floats(0.1, 50), st.floats(-3, 3), st.sampled_from([c.name for c in DEEPFASHION2.categories])
)
def test_ratios_know_no_scale_and_no_turn(scale, angle, name):
    count = named(name).num_landmarks
    rng = np.random.default_rng(count)
    places = dict(enumerate(rng.uniform(0, 100, (count, 2)), 1))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before = lengths(garment(name, places), RULES)
    after = lengths(garment(name, {k: turn @ v for k, v in places.items()}), RULES)
    for key, length in before.items():
        assert after[key].ratio == pytest.approx(length.ratio, rel=1e-3)
        assert after[key].pixels == pytest.approx(scale * length.pixels, rel=1e-3)


def test_the_rules_fit_the_taxonomy():
    """Every category; as many landmarks; lines of one measure are each other's mirror image."""
    assert RULES.keys() == {c.name for c in DEEPFASHION2.categories}
    for category in DEEPFASHION2.categories:
        rules = RULES[category.name]
        assert len(rules.landmarks) == category.num_landmarks
        mirror = {a: b for pair in category.flip_pairs for a, b in (pair, pair[::-1])}
        for left, right in category.flip_pairs:
            sides = {rules.landmarks[left], rules.landmarks[right]}
            (what,) = {text.split(" ", 1)[1] for text in sides}
            assert sides == {f"left {what}", f"right {what}"}
        for name, lines in rules.measures.items():
            flipped = {
                tuple(tuple(sorted(mirror.get(i, i) for i in node)) for node in line)
                for line in lines
            }
            known = {tuple(tuple(sorted(node)) for node in line) for line in lines}
            assert flipped == known or flipped == {line[::-1] for line in known}, name


def test_scales():
    assert reference_scale("40,60,250,357=21x29.7") == pytest.approx(0.1)
    for wrong in ("1,2,3=4x5", "5,5,1,9=1x1", "0,0,0,0=1x1", "a"):
        with pytest.raises(ValueError, match="reference"):
            reference_scale(wrong)
    with pytest.raises(ValueError, match="is it turned"):
        reference_scale("0,0,100,100=20x30")
    assert Known.parse("length=70") == ("", "length", 70)
    assert Known.parse("trousers:length=104.5") == ("trousers", "length", 104.5)
    for wrong in ("length", "length=", "length=-3", "length=0", "length=1.2.3"):
        with pytest.raises(ValueError, match="known length such as"):
            Known.parse(wrong)
    both = [garment("skirt", {2: (0, 0), 6: (0, 50)}), garment("trousers", TROUSERS)]
    assert Known.parse("length=60").scale(both, RULES) == pytest.approx(1.2)
    assert Known.parse("trousers:hips=40").scale(both, RULES) == pytest.approx(4)
    assert Known.parse("sleeve=60").scale(both, RULES) is None
    unsure = [garment("skirt", {2: (0, 0), 6: (0, 50)}, values={6: 0.01})]
    assert Known.parse("length=60").scale(unsure, RULES) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "categories: {hat: {landmarks: [a, b], measures: {brim: [[1, 3]]}}}",
            "from 1 to 2, got 3",
        ),
        ("categories: {hat: {landmarks: [a, b], measures: {brim: [[1]]}}}", "two landmarks"),
        ("categories: {hat: {landmarks: [a, b]}}", "'hat': expected"),
        ("hat: 3", "expected the key 'categories'"),
        ("[", "is no yaml"),
    ],
)
def test_rules_that_are_none(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"own\.yaml.*{message}"):
        read_rules(tmp_path / "own.yaml")


def test_lines_are_drawn_grey_where_unsure():
    image = np.full((600, 600, 3), 255, np.uint8)
    tenfold = {k: (10 * x, 10 * y) for k, (x, y) in TROUSERS.items()}
    one = garment("trousers", tenfold, values={4: 0.01, 14: 0.01})
    found = lengths(one, RULES)
    drawn = draw_lengths(image, [(one.category, [found["hips"], found["rise"]])])
    assert drawn.shape == (1000, 1000, 3)
    enlarged = np.array([80, 100]) * 1000 // 600
    assert drawn[enlarged[1], enlarged[0]].tolist() == [90, 90, 90]  # left hip
    assert len(set(drawn[140 * 1000 // 600 - 8, 130 * 1000 // 600].tolist())) > 1  # in colour
    assert image.min() == 255


def test_photos_are_measured(model_file, write_photos, tmp_path):
    photos = write_photos(tmp_path / "photos", {"x.png": (64, 96), "y.png": (64, 96)})
    (photos / "z.jpg").write_text("no photo")
    predictor = MatchRCNNPredictor.pretrained(model_file, score_threshold=0.01)
    output = tmp_path / "out"
    found = measure_files(predictor, [photos], output, reference="0,0,10,10=20x20", threshold=0.0)
    assert [*found.broken] == ["z.jpg"]
    assert json.loads((output / "measures.json").read_text()) == found.to_json()
    assert sorted(p.name for p in (output / "pictures").iterdir()) == ["x.png.jpg", "y.png.jpg"]
    for photo in found.photos:
        assert photo["cm_per_pixel"] == 2
        garments = predictor(photos / photo["image"])
        for row, one in zip(photo["garments"], garments, strict=True):
            expected = [x.to_dict() for x in measure(one, RULES, 2.0, 0.0)]
            assert [x["name"] for x in row["lengths"]] == [x["name"] for x in expected]
            assert [x["cm"] for x in row["lengths"]] == pytest.approx(
                [x["cm"] for x in expected], abs=0.1
            )
    assert "x.png" in str(found)
    with pytest.raises(ValueError, match="two scales"):
        measure_files(predictor, [photos], known="length=7", reference="0,0,1,1=1x1")
