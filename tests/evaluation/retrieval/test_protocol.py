"""The protocol, one case a rule, worked by hand; and against a slow reference."""

import math
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from match_rcnn.evaluation.retrieval.protocol import (
    TOPS,
    GalleryTruth,
    QueryTruth,
    Retrieved,
    decisive,
    partners,
    representatives,
    score_retrieval,
)
from match_rcnn.evaluation.tables import retrieval_table

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (500, 500, 510, 510)
SHIRT, SKIRT = 1, 9
USER_PHOTO, SHOP_PHOTO, OTHER_SHOP_PHOTO = 1, 50, 51


def queries(*rows):
    """Rows: image, box, class, style, pair id."""
    images, boxes, classes, styles, pairs = zip(*rows, strict=True) if rows else [[]] * 5
    return QueryTruth(
        np.array(images, np.int64),
        np.array(boxes, float).reshape(-1, 4),
        *(np.array(column, np.int64) for column in (classes, styles, pairs)),
    )


def gallery(*rows):
    """Rows: image, box, style, pair id."""
    images, boxes, styles, pairs = zip(*rows, strict=True) if rows else [[]] * 4
    return GalleryTruth(
        np.array(images, np.int64),
        np.array(boxes, float).reshape(-1, 4),
        np.array(styles, np.int64),
        np.array(pairs, np.int64),
    )


def retrieved(*rows):
    """Rows: image, box, class, score, [(gallery image, box), ...]."""
    images, boxes, classes, scores, lists = zip(*rows, strict=True) if rows else [[]] * 5
    ids, found = np.zeros((len(rows), 20), np.int64), np.zeros((len(rows), 20, 4))
    for index, entries in enumerate(lists):
        for place, (image, box) in enumerate(entries):
            ids[index, place], found[index, place] = image, box
    return Retrieved(
        np.array(images, np.int64),
        np.array(boxes, float).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(scores, float),
        ids,
        found,
        np.array([len(entries) for entries in lists], np.int64),
    )


RIGHT_ITEM = (SHOP_PHOTO, LEFT)
WRONG_ITEM = (OTHER_SHOP_PHOTO, LEFT)
ONE_QUERY = queries((USER_PHOTO, LEFT, SHIRT, 1, 7))
GALLERY = gallery((SHOP_PHOTO, LEFT, 1, 7), (OTHER_SHOP_PHOTO, LEFT, 1, 8))


def top(*lists, query=ONE_QUERY, truth=GALLERY):
    """Accuracy of one perfect detection with this list."""
    found = retrieved(*((USER_PHOTO, LEFT, SHIRT, 0.9, entries) for entries in lists))
    return score_retrieval(query, truth, found)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (0, [1, 1, 1, 1, 1]),
        (1, [0, 1, 1, 1, 1]),
        (4, [0, 1, 1, 1, 1]),
        (5, [0, 0, 1, 1, 1]),
        (14, [0, 0, 0, 1, 1]),
        (19, [0, 0, 0, 0, 1]),
    ],
)
def test_a_right_item_counts_from_its_place_on(place, expected):
    entries = [WRONG_ITEM] * place + [RIGHT_ITEM] + [WRONG_ITEM] * (19 - place)
    scores = top(entries)
    assert list(scores.accuracy()) == list(TOPS)
    assert list(scores.accuracy().values()) == expected
    assert scores.places.tolist() == [place]


@pytest.mark.parametrize(
    ("entry", "right"),
    [
        ((SHOP_PHOTO, LEFT), True),
        ((OTHER_SHOP_PHOTO, LEFT), False),  # that photo has pair id 8
        ((SHOP_PHOTO, FAR), False),  # the right photo alone is not enough
        ((SHOP_PHOTO, (0, 0, 10, 20)), True),  # IoU 100 / 200: exactly the threshold
        ((SHOP_PHOTO, (0, 0, 10, 20.001)), False),
        ((SHOP_PHOTO, (5, 0, 15, 10)), False),  # IoU 50 / 150
        ((999, LEFT), False),  # a photo that no item is in
    ],
)
def test_a_right_item_lies_in_the_right_photo_and_place(entry, right):
    assert top([entry]).accuracy()[1] == right


def test_boxes_have_no_plus_one():
    # 10 x 10 in 10 x 21: 100 / 210 < 0.5; with x2 - x1 + 1 it would be 121 / 242 = 0.5.
    assert top([(SHOP_PHOTO, (0, 0, 10, 21))]).accuracy()[1] == 0


def test_any_item_of_the_same_pair_and_style_in_that_photo_will_do():
    truth = gallery((SHOP_PHOTO, LEFT, 1, 7), (SHOP_PHOTO, RIGHT, 1, 7), (SHOP_PHOTO, FAR, 2, 7))
    assert top([(SHOP_PHOTO, LEFT)], truth=truth).accuracy()[1] == 1
    assert top([(SHOP_PHOTO, RIGHT)], truth=truth).accuracy()[1] == 1
    assert top([(SHOP_PHOTO, FAR)], truth=truth).accuracy()[1] == 0  # style 2


def test_shorter_lists():
    assert top([WRONG_ITEM, RIGHT_ITEM]).accuracy()[5] == 1
    assert top([]).accuracy()[20] == 0
    assert top([]).counts["missed"] == 0


def test_what_stands_beyond_a_list_is_not_there():
    found = retrieved((USER_PHOTO, LEFT, SHIRT, 0.9, [WRONG_ITEM, RIGHT_ITEM]))
    found = replace(found, lengths=np.array([1]))
    assert score_retrieval(ONE_QUERY, GALLERY, found).places.tolist() == [-1]


def test_style_0_is_no_query():
    truth = queries((USER_PHOTO, LEFT, SHIRT, 1, 7), (USER_PHOTO, RIGHT, SHIRT, 0, 7))
    scores = top([RIGHT_ITEM], query=truth)
    assert scores.counts["queries"] == 1
    assert scores.items.tolist() == [0]
    assert scores.accuracy()[1] == 1


# Which detection stands for an item: image, box, class, score of each detection.
@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        # the most confident of those on the item
        ([(LEFT, SHIRT, 0.5), (LEFT, SHIRT, 0.7), (LEFT, SHIRT, 0.6)], [1, -1]),
        # equal confidence: the first
        ([(LEFT, SHIRT, 0.5), (LEFT, SHIRT, 0.5)], [0, -1]),
        # a wrong class does not stand, however confident
        ([(LEFT, SKIRT, 0.9), (LEFT, SHIRT, 0.2)], [1, -1]),
        # it is assigned by place before its class is looked at: not to the other shirt
        ([((15, 0, 25, 10), SHIRT, 0.9)], [-1, 0]),
        # no threshold: a sliver of overlap is enough
        ([((9.9, 9.9, 19, 19), SHIRT, 0.1)], [0, -1]),
        # no overlap with anything: the image's first item
        ([(FAR, SHIRT, 0.1)], [0, -1]),
        # ... even past a better placed, less confident one
        ([(LEFT, SHIRT, 0.5), (FAR, SHIRT, 0.6)], [1, -1]),
        # equal overlap with both: the first item
        ([((5, 0, 25, 10), SHIRT, 0.1)], [0, -1]),
        # one detection each
        ([(RIGHT, SHIRT, 0.3), (LEFT, SHIRT, 0.4)], [1, 0]),
        ([], [-1, -1]),
    ],
)
def test_who_stands_for_an_item(detections, expected):
    truth = queries((USER_PHOTO, LEFT, SHIRT, 1, 7), (USER_PHOTO, RIGHT, SHIRT, 2, 7))
    found = retrieved(*((USER_PHOTO, *d, []) for d in detections))
    assert representatives(truth, found).tolist() == expected


def test_items_of_style_0_and_other_classes_take_detections():
    # The shirt's only detection lies a little more on a skirt of style 0: it is lost.
    truth = queries(
        (USER_PHOTO, (0, 0, 10, 10), SHIRT, 1, 7), (USER_PHOTO, (4, 0, 14, 10), SKIRT, 0, 7)
    )
    found = retrieved((USER_PHOTO, (3, 0, 13, 10), SHIRT, 0.9, [RIGHT_ITEM]))
    scores = score_retrieval(truth, GALLERY, found)
    assert scores.counts["missed"] == scores.counts["missed_official"] == 1
    assert scores.accuracy()[20] == 0


def test_detections_stay_in_their_photo():
    truth = queries((2, LEFT, SHIRT, 1, 7), (1, LEFT, SHIRT, 1, 7))
    found = retrieved((1, LEFT, SHIRT, 0.9, []), (3, LEFT, SHIRT, 0.9, []))
    assert representatives(truth, found).tolist() == [-1, 0]


def test_the_first_item_is_the_files_first():
    # The photo's items are not side by side in the file.
    truth = queries((5, RIGHT, SHIRT, 1, 7), (4, LEFT, SHIRT, 1, 7), (5, LEFT, SHIRT, 2, 7))
    assert representatives(truth, retrieved((5, FAR, SHIRT, 0.9, []))).tolist() == [0, -1, -1]


def test_missed_official_and_all():
    truth = queries(
        (1, LEFT, SHIRT, 1, 7),  # found
        (1, RIGHT, SHIRT, 1, 7),  # missed in a photo with a detection
        (2, LEFT, SHIRT, 1, 7),  # in a photo without
        (3, LEFT, SHIRT, 0, 7),  # no query
    )
    scores = score_retrieval(truth, GALLERY, retrieved((1, LEFT, SHIRT, 0.9, [RIGHT_ITEM])))
    assert scores.counts == {
        "queries": 3,
        "missed": 2,
        "missed_official": 1,
        "without_partner": 0,
    }
    # All count in the denominator.
    assert scores.accuracy()[1] == pytest.approx(1 / 3)
    assert scores.to_json() == {
        "task": "retrieval",
        "accuracy": {str(k): pytest.approx(1 / 3) for k in TOPS},
        "queries": 3,
        "missed": {"official": 1, "all": 2},
        "without_partner": 0,
    }


def test_a_query_without_partner_is_reported():
    truth = queries((USER_PHOTO, LEFT, SHIRT, 3, 7), (USER_PHOTO, RIGHT, SHIRT, 1, 9))
    found = retrieved(
        (USER_PHOTO, LEFT, SHIRT, 0.9, [RIGHT_ITEM]), (USER_PHOTO, RIGHT, SHIRT, 0.9, [RIGHT_ITEM])
    )
    scores = score_retrieval(truth, GALLERY, found)
    assert scores.counts["without_partner"] == 2
    assert scores.accuracy()[20] == 0


def test_partners():
    """Gallery items of the query's pair id and style; those of other styles are other clothes."""
    shop = gallery(
        (50, LEFT, 1, 7), (50, RIGHT, 1, 7), (51, LEFT, 1, 7), (52, LEFT, 2, 7), (53, LEFT, 1, 8)
    )
    rows = [(SHIRT, 1, 7), (SHIRT, 2, 7), (SKIRT, 1, 8), (SHIRT, 3, 7), (SHIRT, 0, 7)]
    truth = queries(*((USER_PHOTO, LEFT, *row) for row in rows))
    assert partners(truth, shop, np.arange(5)).tolist() == [3, 1, 1, 0, 0]
    assert partners(truth, shop, np.array([2, 0])).tolist() == [1, 3]
    assert partners(truth, gallery(), np.arange(2)).tolist() == [0, 0]
    assert partners(truth, shop, np.array([], np.int64)).tolist() == []


def test_accuracy_of_some_queries():
    truth = queries((1, LEFT, SHIRT, 1, 7), (2, LEFT, SHIRT, 1, 7))
    scores = score_retrieval(truth, GALLERY, retrieved((2, LEFT, SHIRT, 0.9, [RIGHT_ITEM])))
    assert scores.accuracy(np.array([True, False]))[1] == 0
    assert scores.accuracy(np.array([False, True]))[1] == 1
    assert math.isnan(scores.accuracy(np.array([False, False]))[1])


@pytest.mark.parametrize("found", [retrieved(), retrieved((9, LEFT, SHIRT, 1.0, [RIGHT_ITEM]))])
def test_nothing(found):
    empty = score_retrieval(queries(), gallery(), found)
    assert empty.counts == dict.fromkeys(empty.counts, 0)
    assert math.isnan(empty.accuracy()[1])
    scores = score_retrieval(ONE_QUERY, gallery(), found)
    assert scores.counts["without_partner"] == scores.counts["missed"] == 1


def test_table():
    text = retrieval_table({"detected": top([WRONG_ITEM, RIGHT_ITEM]), "other": top([])})
    head, _, first, second = text.splitlines()
    assert head.split()[:5] == ["top-1", "top-5", "top-10", "top-15", "top-20"]
    assert first.split() == ["detected", "0.000", *["1.000"] * 4, "1", "0", "0", "0"]
    assert second.split()[0] == "other"


def xywh(box):
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def iou(first, second):
    return mask_utils.iou([xywh(first)], [xywh(second)], [0])[0, 0]


def slow_reference(query_rows, gallery_rows, result_rows):
    """The same in loops over rows: top-k hits, and the two counts of missed queries."""
    hits, missed, official = dict.fromkeys(TOPS, 0), 0, 0
    for item in query_rows:
        image, _, category, style, pair = item
        if style <= 0:
            continue
        neighbours = [other for other in query_rows if other[0] == image]
        seen = [row for row in result_rows if row[0] == image]
        standing = None
        for row in seen:
            overlaps = [iou(row[1], other[1]) for other in neighbours]
            owner = neighbours[overlaps.index(max(overlaps))]
            better = standing is None or row[3] > standing[3]
            if owner is item and row[2] == category and better:
                standing = row
        if standing is None:
            missed, official = missed + 1, official + bool(seen)
            continue
        for k in TOPS:
            hits[k] += any(
                g[0] == found and g[2:] == (style, pair) and iou(box, g[1]) >= 0.5
                for found, box in standing[4][:k]
                for g in gallery_rows
            )
    return hits, missed, official


def random_case(seed):
    rng = np.random.default_rng(seed)

    def box(like=None):
        if like is not None:
            return tuple(
                np.add(like, np.round(rng.normal(0, rng.choice([0, 2, 6]), 4), 1)).tolist()
            )
        x, y, w, h = np.round(rng.uniform([0, 0, 5, 5], [30, 30, 30, 30]), 1).tolist()
        return (x, y, x + w, y + h)

    def number(end):
        return int(rng.integers(end))

    photos = [(int(i), number(3)) for i in rng.permutation(100)[:12]]  # image, pair id
    query_rows = [(i, box(), number(2), number(3), p) for i, p in photos[:5] for _ in range(3)]
    gallery_rows = [(i, box(), number(3), p) for i, p in photos[5:] for _ in range(3)]
    rng.shuffle(query_rows)
    result_rows = []
    for _ in range(25):
        image, like, category, *_ = query_rows[number(len(query_rows))]
        chosen = [gallery_rows[number(len(gallery_rows))] for _ in range(number(21))]
        entries = [(g[0], box(g[1])) for g in chosen]
        category = category if rng.random() < 0.7 else 1 - category
        score = round(rng.random(), 1)  # equal scores are common
        result_rows.append((image, box(like), category, score, entries))
    return query_rows, gallery_rows, result_rows


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_slow_reference(seed):
    query_rows, gallery_rows, result_rows = (list(map(tuple, r)) for r in random_case(seed))
    hits, missed, official = slow_reference(query_rows, gallery_rows, result_rows)
    scores = score_retrieval(queries(*query_rows), gallery(*gallery_rows), retrieved(*result_rows))
    assert {k: round(v * len(scores)) for k, v in scores.accuracy().items()} == hits
    assert (scores.counts["missed"], scores.counts["missed_official"]) == (missed, official)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_not_decisive_changes_nothing(seed):
    query_rows, gallery_rows, result_rows = (list(map(tuple, r)) for r in random_case(seed))
    asked, found = queries(*query_rows), retrieved(*result_rows)
    chosen = decisive(asked, found)
    assert len(chosen) < len(result_rows)
    whole = score_retrieval(asked, gallery(*gallery_rows), found)
    part = retrieved(*(result_rows[i] for i in chosen))
    again = score_retrieval(asked, gallery(*gallery_rows), part)
    assert again.places.tolist() == whole.places.tolist()
    assert again.counts == whole.counts


def test_decisive():
    """A shirt of style 1 and a skirt of style 0 in a photo, nothing to ask for in another."""
    asked = queries((1, LEFT, SHIRT, 1, 7), (1, RIGHT, SKIRT, 0, 7))
    rows = [
        (1, LEFT, SHIRT, 0.5, []),  # stands for the shirt
        (1, LEFT, SHIRT, 0.4, []),
        (1, RIGHT, SKIRT, 0.9, []),  # the photo's best
        (1, RIGHT, SKIRT, 0.8, []),
        (2, FAR, SHIRT, 0.2, []),
        (2, FAR, SHIRT, 0.3, []),  # the other photo's best
    ]
    assert decisive(asked, retrieved(*rows)).tolist() == [0, 2, 5]
    assert decisive(queries(), retrieved()).tolist() == []
