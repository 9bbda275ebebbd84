import json
import pickle
import re

import numpy as np
import pytest
import yaml

from match_rcnn.d2 import MetadataCatalog
from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.data.taxonomy import (
    DEEPFASHION2,
    Attribute,
    Taxonomy,
    attribute_groups,
    taxonomy_of,
)


def test_counts_and_offsets_are_the_published_ones():
    counts = [25, 33, 31, 39, 15, 15, 10, 14, 8, 29, 37, 19, 19]
    offsets = [0, 25, 58, 89, 128, 143, 158, 168, 182, 190, 219, 256, 275]
    assert [c.id for c in DEEPFASHION2.categories] == list(range(1, 14))
    assert [c.num_landmarks for c in DEEPFASHION2.categories] == counts
    assert [c.offset for c in DEEPFASHION2.categories] == offsets
    assert (
        DEEPFASHION2.num_landmarks,
        DEEPFASHION2.max_landmarks,
        taxonomy.DEEPFASHION2.num_categories,
    ) == (
        294,
        39,
        13,
    )
    assert DEEPFASHION2.categories[7].slice == slice(168, 182)


@pytest.mark.parametrize("cat", DEEPFASHION2.categories, ids=lambda c: c.name)
def test_every_category_is_consistent(cat):
    n = cat.num_landmarks
    assert len(cat.sigmas) == n
    assert TEMPLATES[cat.id].xy.shape == (n, 2)
    assert TEMPLATES[cat.id].xy.min() == 0.0
    assert TEMPLATES[cat.id].xy.max() == 1.0
    assert {i for path in cat.paths for i in path} == set(range(n))
    assert len({i for pair in cat.flip_pairs for i in pair}) == 2 * len(cat.flip_pairs)


@pytest.mark.parametrize("cat", DEEPFASHION2.categories, ids=lambda c: c.name)
def test_flip_exchanges_left_and_right_of_the_template(cat):
    permutation = cat.flip_permutation
    assert np.array_equal(permutation[permutation], np.arange(cat.num_landmarks))
    mirrored = TEMPLATES[cat.id].xy[permutation] * [-1, 1] + [1, 0]
    # drawn by hand, so only roughly symmetric
    assert np.abs(mirrored - TEMPLATES[cat.id].xy).max() < 0.2


def test_sigmas_hold_the_published_values_at_known_places():
    assert DEEPFASHION2.sigmas.shape == (294,)
    assert DEEPFASHION2.sigmas[0] == 0.012  # short sleeve top 1
    assert DEEPFASHION2.sigmas[58] == 0.0074  # short sleeve outwear 1
    assert DEEPFASHION2.sigmas[-1] == 0.0173  # sling dress 19
    # kept as published although they mirror each other: long sleeve dress 15 and 29
    assert (DEEPFASHION2.sigmas[219 + 14], DEEPFASHION2.sigmas[219 + 28]) == (0.0455, 0.0486)


def test_edges_follow_the_paths():
    skirt = DEEPFASHION2.category(9)
    assert skirt.edges == ((0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 2), (2, 1), (1, 0))


@pytest.mark.parametrize("bad", [0, 14, -1, "1", 1.0, None, True])
def test_unknown_category_ids_are_refused(bad):
    with pytest.raises(ValueError, match="category_id from 1 to 13"):
        DEEPFASHION2.category(bad)


OWN = [
    {"id": 7, "name": "hat"},
    {
        "id": 3,
        "name": "tie",
        "aliases": ["neck tie"],
        "keypoints": ["top", "left_knot", "right_knot", "tip"],
        "keypoint_flips": [[2, 3]],
        "keypoint_outline": [[1, 2, 4, 3, 1]],
        "keypoint_sigmas": [0.01, 0.02, 0.02, 0.04],
    },
    {
        "id": 5,
        "name": "belt",
        "keypoints": ["left end", "buckle", "right end"],
        "skeleton": [[1, 2], [2, 3]],
    },
]


def test_a_taxonomy_of_ones_own_by_hand(caplog):
    own = Taxonomy.from_coco(OWN, "own.json")
    tie, belt, hat = own.categories
    assert (tie.id, belt.id, hat.id) == (3, 5, 7)  # by id, as the host orders classes
    assert own.name == "own"
    assert (own.num_categories, own.num_landmarks, own.max_landmarks) == (3, 7, 4)
    assert own.landmark_counts == (4, 3, 0)
    assert [c.slice for c in own.categories] == [slice(0, 4), slice(4, 7), slice(7, 7)]
    assert tie.edges == ((0, 1), (1, 3), (3, 2), (2, 0))
    assert tie.flip_permutation.tolist() == [0, 2, 1, 3]
    assert belt.paths == ((0, 1), (1, 2))  # the skeleton
    assert belt.flip_permutation.tolist() == [2, 1, 0]  # by the names
    assert hat.flip_permutation.tolist() == []
    assert own.sigmas.tolist() == [0.01, 0.02, 0.02, 0.04, 0.05, 0.05, 0.05]
    assert [own.index(i) for i in (3, 5, 7)] == [0, 1, 2]
    assert own.named("neck tie") is tie
    assert tie.coco_name == "neck tie"
    # The default of the sigmas is said, for those that need it only.
    (record,) = caplog.records
    assert "keypoint_sigmas in 'belt'" in record.getMessage()


def test_a_taxonomy_without_landmarks():
    own = Taxonomy.from_coco([{"id": 1, "name": "hat"}], "own.json")
    assert (own.num_landmarks, own.max_landmarks, own.sigmas.shape) == (0, 0, (0,))


@pytest.mark.parametrize("taxonomy", [DEEPFASHION2, Taxonomy.from_coco(OWN, "own")])
def test_taxonomies_are_values(taxonomy, tmp_path):
    again = Taxonomy.from_dict(json.loads(json.dumps(taxonomy.to_dict())))
    assert again == taxonomy
    assert hash(again) == hash(taxonomy)
    assert again.name == taxonomy.name
    assert pickle.loads(pickle.dumps(taxonomy)) == taxonomy
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(taxonomy.to_dict()))
    assert Taxonomy.from_yaml(tmp_path / "t.yaml") == taxonomy
    first = {**taxonomy.to_dict()["categories"][0], "keypoint_outline": []}
    assert Taxonomy.from_coco([first, *taxonomy.to_dict()["categories"][1:]], "x") != taxonomy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "expected a name"),
        ({"id": "3"}, "'tie': expected a whole number as id, got '3'"),
        ({"id": 7}, "two categories have the id 7"),
        ({"name": "hat"}, "two categories have the name 'hat'"),
        ({"aliases": ["hat"]}, "two categories have the name 'hat'"),
        ({"keypoint_flips": [[0, 1]]}, "'tie': keypoint_flips: expected landmark numbers from 1"),
        ({"keypoint_flips": [[1, 2], [2, 3]]}, "'tie': keypoint_flips: expected pairs"),
        ({"keypoint_flips": [[1, 2, 3]]}, "'tie': keypoint_flips: expected pairs"),
        ({"keypoint_outline": [[1, 5]]}, "keypoint_outline: expected landmark numbers from 1 to 4"),
        ({"keypoint_outline": 5}, "'tie': "),
        ({"keypoint_sigmas": [0.1]}, "keypoint_sigmas: expected 4 numbers above 0"),
        ({"keypoint_sigmas": [0.1, 0.1, 0.1, -1]}, "keypoint_sigmas: expected 4 numbers above 0"),
    ],
)
def test_bad_categories_are_named(change, message):
    records = [OWN[0], {**OWN[1], **change}]
    with pytest.raises(ValueError, match=f"^own.json: .*{re.escape(message)}"):
        Taxonomy.from_coco(records, "own.json")


@pytest.mark.parametrize("text", ["categories: []", "categories: 3", "[1]", "a: [", ""])
def test_bad_files_are_named(text, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"own\.yaml"):
        Taxonomy.from_yaml(file)


def test_ids_that_are_no_range_are_listed():
    own = Taxonomy.from_coco(OWN, "own")
    with pytest.raises(ValueError, match="expected a category_id of 3, 5, 7, got 4"):
        own.category(4)
    with pytest.raises(ValueError, match="one of the categories tie, belt, hat; got 'sock'"):
        own.named("sock")


def test_data_sets_carry_their_taxonomy():
    own = Taxonomy.from_coco(OWN, "own")
    MetadataCatalog.get("of_its_own").taxonomy = own
    MetadataCatalog.get("without")
    try:
        assert taxonomy_of("of_its_own") is own
        assert taxonomy_of(MetadataCatalog.get("of_its_own")) is own
        assert taxonomy_of("without") is DEEPFASHION2
    finally:
        MetadataCatalog.remove("of_its_own")
        MetadataCatalog.remove("without")


def test_attributes_by_type():
    known = [Attribute("striped", "pattern"), Attribute("knit", "fabric")]
    known.append(Attribute("solid", "pattern"))
    assert attribute_groups(known) == {"pattern": ("striped", "solid"), "fabric": ("knit",)}
    assert list(attribute_groups(known, ("fabric", "pattern"))) == ["fabric", "pattern"]
    with pytest.raises(ValueError, match=r"of the type 'sleeve'; the types are: pattern, fabric"):
        attribute_groups(known, ("sleeve",))
