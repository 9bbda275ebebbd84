"""Who wears what: the garments of one photo."""

from dataclasses import dataclass, field

import numpy as np

from match_rcnn.data.synthetic.conditions import conditions
from match_rcnn.data.synthetic.cuts import DRESSES, LOWERS, TOPS
from match_rcnn.data.synthetic.products import Catalogue, Model, Photo, random_model, slot
from match_rcnn.data.synthetic.tailor import Garment


@dataclass
class Outfit:
    """Garments by slot; ``main`` is the one that the photo is of."""

    main: Garment
    slots: dict[str, Garment] = field(default_factory=dict)


def main_garment(catalogue: Catalogue, photo: Photo, rng: np.random.Generator) -> Garment:
    """The product's garment in one of its styles.

    The first photos of each domain go through the styles, so that every style of a product is
    seen by consumers and by the shop. Later ones are at times of something like it that takes
    part in no pair (style 0).
    """
    product = catalogue.product(photo.number)
    styles = len(product.main.looks)
    if photo.take < styles:
        style = photo.take + 1
    elif rng.random() < 0.1:
        stranger = random_model(rng, (product.main.category_id,))
        return Garment(0, stranger.category_id, stranger.cut, stranger.looks[0], 0)
    else:
        style = int(rng.integers(styles)) + 1
    main = product.main
    return Garment(0, main.category_id, main.cut, main.looks[style - 1], style)


def dress(catalogue: Catalogue, photo: Photo, rng: np.random.Generator) -> Outfit:
    """The main garment and what is worn with it."""
    main = main_garment(catalogue, photo, rng)
    outfit = Outfit(main, {slot(main.category_id): main})
    product = catalogue.product(photo.number)
    companion = product.companion
    if companion is not None and (photo.take == 0 or rng.random() < 0.5):
        style = product.companion_style
        garment = Garment(1, companion.category_id, companion.cut, companion.looks[0], style)
        outfit.slots[slot(companion.category_id)] = garment
    complete(outfit, rng, outwear=conditions(photo.source).outwear)
    return outfit


def passer_by(rng: np.random.Generator, first_item: int) -> Outfit:
    """The clothes of someone who happens to be there; style 0."""
    categories = TOPS + DRESSES if rng.random() < 0.8 else DRESSES
    model = random_model(rng, categories)
    main = _worn(model, first_item)
    outfit = Outfit(main, {"inner": main})
    complete(outfit, rng, outwear=0.0)
    return outfit


def _worn(model: Model, item: int) -> Garment:
    return Garment(item, model.category_id, model.cut, model.looks[0], 0)


def complete(outfit: Outfit, rng: np.random.Generator, outwear: float) -> None:
    """Add what is missing to be dressed, and at times a jacket."""
    slots, item = outfit.slots, outfit.main.item
    if "inner" not in slots:
        dress = "lower" not in slots and rng.random() < 0.15
        slots["inner"] = _worn(random_model(rng, DRESSES if dress else TOPS), 0)
    if slots["inner"].category_id in DRESSES:
        slots.pop("lower", None)
    elif "lower" not in slots:
        slots["lower"] = _worn(random_model(rng, LOWERS), 0)
    if "outer" not in slots and rng.random() < outwear:
        slots["outer"] = _worn(random_model(rng, (3, 4, 4)), 0)
    number = item
    for name, garment in slots.items():
        if garment is outfit.main:
            continue
        number += 1
        slots[name] = Garment(number, garment.category_id, garment.cut, garment.look, garment.style)
