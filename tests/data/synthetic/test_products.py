from collections import Counter, defaultdict

import pytest

from match_rcnn.data.synthetic.cuts import DRESSES, LOWERS, OUTWEAR, TOPS
from match_rcnn.data.synthetic.outfits import dress
from match_rcnn.data.synthetic.products import Catalogue, slot


@pytest.mark.parametrize("images", [1, 2, 7, 30, 300])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_product_has_several_photos_of_both_sources(split, images):
    catalogue = Catalogue(0, split, images)
    photos = [catalogue.photo(index) for index in range(images)]
    counts = Counter((photo.source, photo.number) for photo in photos)
    assert sum(photo.source == "user" for photo in photos) == round(0.4 * images)
    if images >= 6:
        for number in range(catalogue.products):
            assert counts["user", number] >= 2
            assert counts["shop", number] >= 3
    takes = defaultdict(list)
    for photo in photos:
        takes[photo.source, photo.number].append(photo.take)
    assert all(take == list(range(len(take))) for take in takes.values())


def test_consumers_come_first_in_validation_only():
    sources = [Catalogue(0, "validation", 50).photo(i).source for i in range(50)]
    assert sources == ["user"] * 20 + ["shop"] * 30
    mixed = [Catalogue(0, "train", 50).photo(i).source for i in range(50)]
    assert set(mixed[:5]) == {"user", "shop"}


def test_products_of_the_splits_are_disjoint():
    train, validation = (Catalogue(0, split, 600) for split in ("train", "validation"))
    pairs = [{c.product(i).pair_id for i in range(c.products)} for c in (train, validation)]
    assert not pairs[0] & pairs[1]
    looks = [{c.product(i).main.looks for i in range(c.products)} for c in (train, validation)]
    assert not looks[0] & looks[1]


def test_all_categories_are_products_and_sisters_share_theirs():
    catalogue = Catalogue(1, "train", 13 * 3 * 6)
    mains = [catalogue.product(i).main for i in range(catalogue.products)]
    assert Counter(main.category_id for main in mains) == dict.fromkeys(range(1, 14), 3)
    families = 13
    for number in range(families, catalogue.products):
        first, sister = mains[number % families], mains[number]
        assert sister.category_id == first.category_id
        assert (sister.cut, sister.looks) != (first.cut, first.looks)


def test_every_style_is_shown_by_consumers_and_by_the_shop():
    catalogue = Catalogue(2, "validation", 300)
    shown = {"user": set(), "shop": set()}
    for index in range(300):
        photo = catalogue.photo(index)
        pair_id = catalogue.product(photo.number).pair_id
        outfit = dress(catalogue, photo, catalogue.random(0, index))
        styles = {(pair_id, g.style) for g in outfit.slots.values() if g.style}
        shown[photo.source] |= styles
    assert shown["user"] == shown["shop"]
    assert any(style == 2 for _, style in shown["user"])


def test_outfits_are_whole():
    catalogue = Catalogue(3, "train", 400)
    sizes = Counter()
    for index in range(400):
        outfit = dress(catalogue, catalogue.photo(index), catalogue.random(0, index))
        slots = outfit.slots
        assert all(slot(garment.category_id) == name for name, garment in slots.items())
        assert "inner" in slots
        assert ("lower" in slots) == (slots["inner"].category_id not in DRESSES)
        assert sorted(garment.item for garment in slots.values()) == list(range(len(slots)))
        assert outfit.main is slots[slot(outfit.main.category_id)]
        sizes[len(slots)] += 1
    assert set(sizes) == {1, 2, 3}


def test_slots():
    assert {slot(i) for i in TOPS + DRESSES} == {"inner"}
    assert {slot(i) for i in LOWERS} == {"lower"}
    assert {slot(i) for i in OUTWEAR} == {"outer"}


def test_a_product_depends_on_seed_split_and_number_alone():
    one, two = (Catalogue(4, "train", 60) for _ in range(2))
    assert [one.product(i) for i in (3, 1)] == [two.product(i) for i in (3, 1)]
    assert Catalogue(5, "train", 60).product(3) != one.product(3)
