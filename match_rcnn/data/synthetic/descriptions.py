"""What a shop might write of an article: some of what is drawn, in words of its own, among others.

Words are as noisy as real ones: a name is often another one (``tee``, ``t-shirt``), details are
left out, other garments are named that go with it, and much is said that no photo shows.
"""

from collections.abc import Sequence

import numpy as np

from match_rcnn.data.synthetic.wardrobe import Article

#: Share of what an article has that its description says.
SAID = 0.7
#: Other words for a name, beside itself.
SYNONYMS = {
    "Blazer": ("tailored jacket",), "Blouse": ("top",), "Button-Down": ("shirt",),
    "Cardigan": ("cardi",), "Flannel": ("flannel shirt",), "Halter": ("halter top", "cami"),
    "Jacket": ("moto jacket",), "Sweater": ("pullover", "jumper"), "Tank": ("tank top",),
    "Tee": ("t-shirt", "top"), "Culottes": ("cropped pants",), "Cutoffs": ("denim shorts",),
    "Jeans": ("denim pants",), "Joggers": ("sweatpants",), "Leggings": ("tights",),
    "Coat": ("overcoat",), "Dress": ("frock",), "Kaftan": ("tunic dress",),
    "Shirtdress": ("shirt dress",), "Sundress": ("summer dress",),
    "solid": ("plain",), "striped": ("stripe", "stripes"), "dotted": ("polka dot",),
    "floral": ("flower print",), "checked": ("plaid", "gingham"), "zigzag": ("chevron",),
    "abstract print": ("abstract",), "ombre": ("dip-dyed",), "colorblock": ("two-tone",),
    "marled": ("heathered",), "graphic": ("printed",), "knit": ("knitted",),
    "ribbed": ("rib-knit",), "leather": ("faux leather",), "chiffon": ("sheer",),
    "maxi": ("floor-length",), "midi": ("mid-length",), "mini": ("short hem",),
    "slim": ("fitted",), "loose": ("relaxed", "oversized"), "buttons": ("buttoned front",),
    "belt": ("belted waist",), "v neck": ("v-neckline",), "strappy": ("thin straps",),
    "open front": ("open",), "trim": ("contrast trim",),
}  # fmt: skip

_PRAISE = ("new", "lovely", "soft", "comfortable", "favourite", "everyday", "perfect", "chic")
_OCCASIONS = ("summer", "the weekend", "the office", "a night out", "layering", "every season")
_BESIDE = ("jeans", "a skirt", "sandals", "a denim jacket", "sneakers", "a tank", "boots", "a belt")
_CARE = (
    "Machine wash cold.",
    "Hand wash only.",
    "Imported.",
    "Model is wearing a size small.",
    "Designed in our own studio and made to last.",
)


def describe(rng: np.random.Generator, article: Article) -> list[str]:
    """Sentences, as in-shop's list has them."""
    said = [_word(rng, name) for name in article.names if rng.random() < SAID]
    said = [said[int(i)] for i in rng.permutation(len(said))]
    kind = _word(rng, article.kind.name) if rng.random() < 0.85 else "piece"
    colour = f"{article.colour} " if rng.random() < SAID else ""
    first, rest = said[:2], said[2:]
    openings = (
        f"A {_any(rng, _PRAISE)} {colour}{' '.join([*first, kind])}.",
        f"This {colour}{kind} is {_and(first) or 'a basic'} and so {_any(rng, _PRAISE)}.",
        f"{' '.join([*first, colour + kind]).capitalize()} for {_any(rng, _OCCASIONS)}.",
    )
    sentences = [_any(rng, openings)]
    if rest:
        details = ("It comes with {}.", "Features: {}.", "We love it for being {}.")
        sentences.append(_any(rng, details).format(_and(rest)))
    if rng.random() < 0.35:
        sentences.append(f"Wear it with {_any(rng, _BESIDE)} for {_any(rng, _OCCASIONS)}.")
    if rng.random() < 0.5:
        sentences.append(_any(rng, _CARE))
    return sentences


def _word(rng: np.random.Generator, name: str) -> str:
    """The name, twice as likely as each of its synonyms."""
    return _any(rng, (name, name, *SYNONYMS.get(name, ()))).lower()


def _any(rng: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[int(rng.integers(len(texts)))]


def _and(texts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(texts[:-1]), *texts[-1:]) if part)
