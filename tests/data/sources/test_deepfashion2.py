import json
import math

import pytest

from match_rcnn.data.problems import AnnotationError, Problem, Reason
from match_rcnn.data.sources.deepfashion2 import parse_annotation, parse_item
from match_rcnn.data.taxonomy import DEEPFASHION2

FILE = "train/annos/000001.json"


def parse(annotation, width=468, height=624):
    data = annotation if isinstance(annotation, bytes) else json.dumps(annotation).encode()
    return parse_annotation(data, FILE, width, height)


class TestRealItem:
    def test_every_value(self, real_annotation, real_item):
        parsed = parse(real_annotation)
        assert (parsed.source, parsed.pair_id) == ("user", 1)
        assert parsed.problems == []
        assert parsed.kept == []
        (item,) = parsed.items
        assert item.key == "item1"
        assert item.category is DEEPFASHION2.categories[7]
        assert item.category.name == "trousers"
        assert item.bbox == [249, 423, 217, 200]  # 466 - 249, 623 - 423
        assert item.landmarks == real_item["landmarks"]
        assert item.num_labelled == 7  # of 14
        assert [len(polygon) for polygon in item.segmentation] == [26, 14, 18]
        assert item.segmentation == real_item["segmentation"]
        assert (item.style, item.scale, item.occlusion) == (0, 2, 2)
        assert (item.zoom_in, item.viewpoint) == (3, 2)

    def test_items_keep_the_order_of_the_file(self, real_item):
        keys = ["item2", "item10", "item1"]
        annotation = {keys[0]: real_item, "pair_id": 1, keys[1]: real_item, "source": "shop"}
        assert [item.key for item in parse({**annotation, keys[2]: real_item}).items] == keys

    def test_image_without_items(self):
        assert parse({"source": "shop", "pair_id": 3}).items == []

    def test_item_without_labelled_landmarks(self, real_annotation):
        real_annotation["item1"]["landmarks"] = [0] * 42
        assert parse(real_annotation).items[0].num_labelled == 0

    def test_item_without_the_attributes(self, real_annotation):
        for key in ("scale", "occlusion", "zoom_in", "viewpoint", "category_name"):
            del real_annotation["item1"][key]
        parsed = parse(real_annotation)
        item = parsed.items[0]
        assert [item.scale, item.occlusion, item.zoom_in, item.viewpoint] == [None] * 4
        assert parsed.kept == []

    @pytest.mark.parametrize("category", DEEPFASHION2.categories, ids=lambda c: c.name)
    def test_all_categories(self, real_item, category):
        real_item["category_id"] = category.id
        real_item["landmarks"] = [5, 6, 2] * category.num_landmarks
        for name in (category.name, category.coco_name):
            real_item["category_name"] = name
            assert parse_item("item1", real_item).category is category


TROUSERS = [5, 6, 2] * 13

# What is wrong: the changed keys of the real item (None: the key is missing), why, and a part of
# the message.
BROKEN = {
    "no category": ({"category_id": None}, Reason.KEY_MISSING, "the key 'category_id'"),
    "category 0": ({"category_id": 0}, Reason.CATEGORY, "from 1 to 13, got 0"),
    "category 14": ({"category_id": 14}, Reason.CATEGORY, "from 1 to 13, got 14"),
    "category by name": ({"category_id": "trousers"}, Reason.CATEGORY, "got 'trousers'"),
    "category true": ({"category_id": True}, Reason.CATEGORY, "got True"),
    "name contradicts id": (
        {"category_name": "skirt"},
        Reason.CATEGORY,
        "expected the category_name 'trousers' with category_id 8, got 'skirt'",
    ),
    "no landmarks": ({"landmarks": None}, Reason.KEY_MISSING, "the key 'landmarks'"),
    "landmarks one short": (
        {"landmarks": TROUSERS},
        Reason.LANDMARK_COUNT,
        "expected 42 numbers (3 * 14 landmarks) for 'trousers', got 39",
    ),
    "landmarks empty": ({"landmarks": []}, Reason.LANDMARK_COUNT, "got 0"),
    "landmarks no list": ({"landmarks": {}}, Reason.WRONG_TYPE, "expected a list as landmarks"),
    "landmark NaN": ({"landmarks": [math.nan, 6, 2, *TROUSERS]}, Reason.NOT_FINITE, "got nan"),
    "landmark infinite": (
        {"landmarks": [*TROUSERS, 5, -math.inf, 2]},
        Reason.NOT_FINITE,
        "finite numbers as landmarks, got -inf",
    ),
    "landmark null": (
        {"landmarks": ["null", 6, 2, *TROUSERS]},
        Reason.NOT_FINITE,
        "got 'null'",
    ),
    "landmark true": ({"landmarks": [True, 6, 2, *TROUSERS]}, Reason.NOT_FINITE, "got True"),
    "landmark huge": ({"landmarks": [10**40, 6, 2, *TROUSERS]}, Reason.NOT_FINITE, "got 1"),
    "landmark list": ({"landmarks": [[1], 6, 2, *TROUSERS]}, Reason.NOT_FINITE, "got [1]"),
    "visibility 3": ({"landmarks": [5, 6, 3, *TROUSERS]}, Reason.VISIBILITY, "got 3"),
    "visibility half": ({"landmarks": [5, 6, 0.5, *TROUSERS]}, Reason.VISIBILITY, "got 0.5"),
    "no box": ({"bounding_box": None}, Reason.KEY_MISSING, "the key 'bounding_box'"),
    "box of 3": ({"bounding_box": [1, 2, 3]}, Reason.WRONG_TYPE, "got 3 numbers"),
    "box with NaN": ({"bounding_box": [1, 2, 3, math.nan]}, Reason.NOT_FINITE, "got nan"),
    "box of text": ({"bounding_box": [1, 2, "3", 4]}, Reason.NOT_FINITE, "got '3'"),
    "box without width": ({"bounding_box": [9, 2, 9, 8]}, Reason.BOX_EMPTY, "got [9, 2, 9, 8]"),
    "box without height": ({"bounding_box": [1, 8, 9, 8]}, Reason.BOX_EMPTY, "x1 < x2"),
    "box turned round": ({"bounding_box": [9, 8, 1, 2]}, Reason.BOX_EMPTY, "y1 < y2"),
    "box right of the image": (
        {"bounding_box": [468, 5, 500, 50]},
        Reason.BOX_OUTSIDE,
        "the image of 468 x 624 pixels, got [468, 5, 500, 50]",
    ),
    "box left of the image": ({"bounding_box": [-9, 5, 0, 50]}, Reason.BOX_OUTSIDE, "inside"),
    "box above the image": ({"bounding_box": [5, -9, 50, 0]}, Reason.BOX_OUTSIDE, "inside"),
    "box below the image": ({"bounding_box": [5, 624, 50, 700]}, Reason.BOX_OUTSIDE, "inside"),
    "no polygons": ({"segmentation": []}, Reason.POLYGON, "at least one polygon, got none"),
    "polygon of 2 points": (
        {"segmentation": [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4]]},
        Reason.POLYGON,
        "at least 3 points x, y, got one of 4 numbers",
    ),
    "half a point": ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, Reason.POLYGON, "7 numbers"),
    "polygon with NaN": (
        {"segmentation": [[1, 2, 3, 4, 5, math.nan]]},
        Reason.NOT_FINITE,
        "as segmentation, got nan",
    ),
    "RLE": ({"segmentation": {"counts": []}}, Reason.WRONG_TYPE, "a list as segmentation"),
    "flat polygon": ({"segmentation": [1, 2, 3, 4, 5, 6]}, Reason.WRONG_TYPE, "got 1"),
    "no style": ({"style": None}, Reason.KEY_MISSING, "the key 'style'"),
    "style by name": ({"style": "red"}, Reason.NOT_FINITE, "numbers as style, got 'red'"),
    "style and a half": ({"style": 1.5}, Reason.WRONG_TYPE, "an integer as style, got 1.5"),
    "style huge": ({"style": 2**60}, Reason.NOT_FINITE, "a small style"),
    "scale NaN": ({"scale": math.nan}, Reason.NOT_FINITE, "as scale, got nan"),
}


class TestBrokenItem:
    @pytest.mark.parametrize(("changes", "reason", "message"), BROKEN.values(), ids=BROKEN.keys())
    def test_is_left_out(self, real_annotation, real_item, changes, reason, message):
        broken = {**real_item, **changes}
        broken = {key: value for key, value in broken.items() if value is not None}
        parsed = parse({**real_annotation, "item2": broken, "item3": real_item})
        assert [item.key for item in parsed.items] == ["item1", "item3"]
        (problem,) = parsed.problems
        assert (problem.file, problem.item) == (FILE, "item2")
        assert problem.reason is reason
        assert message in problem.detail
        assert problem.action == "item left out"

    def test_message(self, real_annotation, real_item):
        short = {**real_item, "category_id": 1, "landmarks": [0] * 72}
        short["category_name"] = "short sleeve top"
        parsed = parse({**real_annotation, "item2": short})
        assert str(parsed.problems[0]) == (
            "expected 75 numbers (3 * 25 landmarks) for 'short sleeve top', got 72 "
            "in train/annos/000001.json (item2)"
        )

    @pytest.mark.parametrize("value", [None, 3, "item", [1]])
    def test_that_is_no_object(self, real_annotation, value):
        parsed = parse({**real_annotation, "item2": value})
        assert len(parsed.items) == 1
        assert parsed.problems[0].reason is Reason.WRONG_TYPE

    def test_null_value(self, real_item):
        real_item["bounding_box"] = None
        with pytest.raises(AnnotationError, match="expected a list as bounding_box, got None"):
            parse_item("item1", real_item)


class TestBrokenFile:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "an empty file"),
            (b" \n", "an empty file"),
            (b'{"source": "user", "pair', "expected JSON, got 24 bytes"),
            (b"\xff\xfe\x00", "expected JSON"),
            (b"[]", r"expected a JSON object, got \[\]"),
            (b"[" * 100_000, "expected JSON"),
        ],
    )
    def test_no_json(self, data, message):
        with pytest.raises(AnnotationError, match=message) as caught:
            parse(data)
        assert caught.value.reason is Reason.ANNOTATION_UNREADABLE

    def test_without_pair_id(self, real_annotation):
        del real_annotation["pair_id"]
        with pytest.raises(AnnotationError, match="key 'pair_id', got 'item1', 'source'") as caught:
            parse(real_annotation)
        assert caught.value.reason is Reason.KEY_MISSING

    def test_pair_id_nan(self, real_annotation):
        with pytest.raises(AnnotationError, match="as pair_id, got nan") as caught:
            parse({**real_annotation, "pair_id": math.nan})
        assert caught.value.reason is Reason.NOT_FINITE

    def test_byte_order_mark_is_no_harm(self, real_annotation):
        data = b"\xef\xbb\xbf" + json.dumps(real_annotation).encode()
        assert len(parse(data).items) == 1


class TestKept:
    @pytest.mark.parametrize(
        "box", [[-1, 5, 50, 60], [5, -1, 50, 60], [5, 5, 469, 60], [5, 5, 50, 624.5]]
    )
    def test_box_partly_outside_is_kept_as_it_is(self, real_annotation, box):
        real_annotation["item1"]["bounding_box"] = box
        parsed = parse(real_annotation)
        assert parsed.items[0].bbox == [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        assert parsed.kept == [Reason.BOX_PARTLY_OUTSIDE]
        assert parsed.problems == []

    def test_box_up_to_the_border_is_inside(self, real_annotation):
        real_annotation["item1"]["bounding_box"] = [0, 0, 468, 624]
        assert parse(real_annotation).kept == []

    def test_attribute_out_of_range(self, real_annotation):
        real_annotation["item1"]["viewpoint"] = 4
        parsed = parse(real_annotation)
        assert parsed.items[0].viewpoint == 4
        assert parsed.kept == [Reason.ATTRIBUTE_RANGE]

    @pytest.mark.parametrize("source", [None, "street", 1])
    def test_unknown_source(self, real_annotation, source):
        parsed = parse({**real_annotation, "source": source})
        assert parsed.source is None
        assert parsed.kept == [Reason.SOURCE_UNKNOWN]

    def test_several(self, real_annotation, real_item):
        real_item["bounding_box"] = [-1, 5, 50, 60]
        parsed = parse({**real_annotation, "item1": real_item, "item2": real_item})
        assert parsed.kept == [Reason.BOX_PARTLY_OUTSIDE] * 2


def test_floats_come_through_unrounded(real_annotation):
    real_annotation["item1"]["bounding_box"] = [0.1, 0.2, 100.3, 200.4]
    real_annotation["item1"]["landmarks"] = [1.25, 2.5, 2.0] * 14
    item = parse(real_annotation).items[0]
    assert item.bbox == [0.1, 0.2, 100.3 - 0.1, 200.4 - 0.2]
    assert item.landmarks[:3] == [1.25, 2.5, 2.0]
    assert item.num_labelled == 14


def test_problem_of_an_image_names_no_item():
    problem = Problem("train/image/000001.jpg", None, Reason.IMAGE_TRUNCATED, "a", "b")
    assert str(problem) == "a in train/image/000001.jpg"
