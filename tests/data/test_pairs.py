import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.data.pairs import (
    PairBatchSampler,
    PairedStream,
    PairIndex,
    Product,
    product_of,
)
from match_rcnn.data.streams import ShuffledStream


def photo(source, pair_id, *styles):
    return {"source": source, "pair_id": pair_id, "annotations": [{"style": s} for s in styles]}


# one case a rule; the image's index in front
PHOTOS = [
    photo("user", 1, 1, 0),  # 0 matches 1 and 2 in style 1
    photo("shop", 1, 1, 2),  # 1
    photo("shop", 1, 1),  # 2
    photo("user", 1, 3),  # 3 no shop photo shows style 3
    photo("user", 2, 1),  # 4 another pair_id, and no shop photo
    photo("shop", 3, 0),  # 5 style 0 takes part in no pair
    photo("user", 3, 0),  # 6
    photo("user", 4, 1, 2),  # 7 two styles, matched by different shop photos
    photo("shop", 4, 1),  # 8
    photo("shop", 4, 2),  # 9
    photo(None, 4, 1),  # 10 a photo of unknown domain
]
POSITIVES = {(0, 1), (0, 2), (7, 8), (7, 9)}


def paired_stream(photos=PHOTOS, seed=0):
    return PairedStream(ShuffledStream(photos, seed), PairIndex(photos))


def test_products_are_those_with_photos_of_both_domains():
    index = PairIndex(PHOTOS)
    assert list(index.products) == [Product(1, 1), Product(4, 1), Product(4, 2)]
    assert index.products[Product(1, 1)].user == [0]
    assert index.products[Product(1, 1)].shop == [1, 2]
    assert index.anchors == [0, 1, 2, 7, 8, 9]
    for style, shop in ((1, 8), (2, 9)):  # of one user photo
        photos = index.products[Product(4, style)]
        assert (photos.user, photos.shop) == ([7], [shop])


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ({"source": "user", "pair_id": 1}, {"style": 0}),
        ({"source": "user", "pair_id": 1}, {"style": None}),
        ({"source": "user", "pair_id": 1}, {}),
        ({"source": "user", "pair_id": None}, {"style": 1}),
        ({"source": None, "pair_id": 1}, {"style": 1}),
    ],
)
def test_items_that_take_part_in_no_pair(image, annotation):
    assert product_of(image, annotation) is None


def test_items_are_marked_with_whether_they_have_a_partner():
    photos = [{**p, "annotations": [dict(a) for a in p["annotations"]]} for p in PHOTOS]
    PairIndex(photos).mark(photos)
    marks = [[a["has_partner"] for a in p["annotations"]] for p in photos]
    assert marks[0] == [True, False]
    assert marks[1] == [True, False]
    assert marks[3] == marks[4] == marks[5] == marks[10] == [False]
    assert marks[7] == [True, True]


def test_an_epoch_shows_every_image_with_a_partner_and_all_positives_come_up():
    stream = paired_stream()
    epochs = [[stream.pair(6 * e + i) for i in range(6)] for e in range(20)]
    for epoch in epochs:
        assert {i for pair in epoch for i in pair} == {0, 1, 2, 7, 8, 9}
    assert set(itertools.chain.from_iterable(epochs)) == POSITIVES


def test_a_product_with_many_photos_reaches_all_of_its_pairs():
    photos = [photo("user", 1, 1) for _ in range(3)] + [photo("shop", 1, 1) for _ in range(20)]
    stream = paired_stream(photos)
    seen = Counter(stream.pair(p) for p in range(23 * 30))
    assert set(seen) == set(itertools.product(range(3), range(3, 23)))


def test_keys_name_images_and_their_augmentation():
    stream = paired_stream(seed=4)
    user, shop = stream.pair(5)
    assert (stream.index(16), stream.index(17)) == (user, shop)
    assert stream[16]["source"] == "user"
    assert stream[17]["source"] == "shop"
    assert stream[16]["seed"] != stream[17]["seed"]
    assert stream.index(15) == ShuffledStream(PHOTOS, 4).index(5)
    again = paired_stream(seed=3)
    again.reseed(4)
    assert again[16] == stream[16]


def test_a_data_set_without_pairs_is_refused():
    with pytest.raises(ValueError, match="no user and shop image share"):
        paired_stream([photo("user", 1, 1), photo("shop", 2, 1)])


@given(
    images=st.integers(2, 5),
    world=st.integers(1, 4),
    share=st.sampled_from([0.1, 0.25, 0.5, 2 / 3, 0.9, 1.0]),
    start=st.integers(0, 30),
)
def test_batches_keep_pairs_whole_and_use_every_position_once(images, world, share, start):
    stream = paired_stream()
    total = images * world
    samplers = [
        PairBatchSampler(stream, total, pair_share=share, rank=r, world_size=world)
        for r in range(world)
    ]
    batches = [[sampler.batch(i) for sampler in samplers] for i in range(40)]
    pairs, singles = [], []
    for parts in batches:
        assert {len(part) for part in parts} == {images}
        counts = [sum(1 for key in part if key % 3 == 1) for part in parts]
        assert max(counts) - min(counts) <= 1
        for part, count in zip(parts, counts, strict=True):
            for user, shop in zip(part[0 : 2 * count : 2], part[1 : 2 * count : 2], strict=True):
                assert (user % 3, shop) == (1, user + 1)
            pairs += [key // 3 for key in part[: 2 * count : 2]]
            singles += [key // 3 for key in part[2 * count :]]
            assert all(key % 3 == 0 for key in part[2 * count :])
    assert sorted(pairs) == list(range(len(pairs)))
    assert sorted(singles) == list(range(len(singles)))
    reachable = min(share, images // 2 * 2 / images)
    assert abs(2 * len(pairs) - reachable * 40 * total) < 2 + 0.002 * 40 * total
    samplers[0].start = start
    assert next(iter(samplers[0])) == samplers[0].batch(start)


@pytest.mark.parametrize(
    ("total", "share", "world", "message"),
    [
        (8, 0.0, 1, "PAIR_SHARE"),
        (8, 1.5, 1, "PAIR_SHARE"),
        (4, 1.0, 4, "two images in one process"),
        (6, 1.0, 4, "multiple of the number of processes"),
    ],
)
def test_impossible_batches_are_refused(total, share, world, message):
    with pytest.raises(ValueError, match=message):
        PairBatchSampler(paired_stream(), total, pair_share=share, world_size=world)
