"""Words of product descriptions: labels that nobody had to give.

After Corbière et al., "Leveraging Weakly Annotated Data for Fashion Image Retrieval and Label
Prediction" (ICCV workshops 2017): descriptions are cut into words, stop words and what is not
alphabetic go, the most frequent of the others are the *vocabulary*; to learn, a word is drawn
uniformly, then an image whose description has it.

A record of any data set may have a ``description``, a text or a list of texts. A model's vocabulary
is a part of its taxonomy (:attr:`match_rcnn.data.taxonomy.Taxonomy.words`).

Shapes: ``N`` images, ``K`` words of the vocabulary.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from match_rcnn.data.streams import Items, ShuffledStream, sample_seed
from match_rcnn.utils.arrays import IntArray

#: What a description is: a text, or several.
Text = str | Sequence[str]

_WORD = re.compile(r"[^\W\d_]{2,}")
#: Words that say nothing of a garment: articles, pronouns, prepositions, forms of be and have.
_STOP_WORDS = """
    about above after again all also am an and any are as at be because been before being below
    between both but by can could did do does doing don down during each few for from further had
    has have having he her here hers him his how if in into is it its itself just like ll made make
    makes many may me more most much must my no nor not now of off on once only or other our ours
    out over own re same she should so some such than that the their theirs them then there these
    they this those through to too under until up us ve very was we were what when where which while
    who whom why will with without would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def tokens(text: Text) -> list[str]:
    """The words of a description in their order: runs of two letters and more, in lower case, but
    for :data:`STOP_WORDS`."""
    whole = text if isinstance(text, str) else " ".join(text)
    return [word for word in _WORD.findall(whole.lower()) if word not in STOP_WORDS]


def most_frequent(texts: Iterable[Text], count: int) -> tuple[str, ...]:
    """The ``count`` words that most descriptions have, the most frequent first, equal ones by the
    alphabet."""
    counted = Counter(word for text in texts for word in set(tokens(text)))
    order = sorted(counted.items(), key=lambda found: (-found[1], found[0]))
    return tuple(word for word, _ in order[:count])


class Vocabulary:
    """The place of each word. Args: words: (K,)."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._places = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def indices(self, text: Text) -> IntArray:
        """Rising places of those of a description's words that are known, each once."""
        known = {self._places[word] for word in tokens(text) if word in self._places}
        return np.array(sorted(known), dtype=np.int64)

    def asked(self, text: str) -> IntArray:
        """As :meth:`indices`, of what somebody searches for.

        Raises:
            ValueError: there is no word in it, or one is not known; the message names near ones.
        """
        found = tokens(text)
        if not found:
            raise ValueError(f"{text!r} has no word to search for; stop words do not count")
        for word in found:
            if word not in self._places:
                near = difflib.get_close_matches(word, self.words, n=5, cutoff=0.5)
                hint = f"near it are {', '.join(near)}" if near else "and nothing near it"
                raise ValueError(
                    f"{word!r} is none of the {len(self)} words that the model knows; {hint}"
                )
        return self.indices(text)


class WordStream(ShuffledStream):
    """An endless sequence over words: each position draws a word, all with equal chances, then one
    of the images that have it. ``stream[p]["word"]`` is the word's place.

    Args:
        items: dataset dicts.
        words: of each item, the places of its words.

    Raises:
        ValueError: no item has a word.
    """

    def __init__(self, items: Items, words: Sequence[IntArray], seed: int) -> None:
        super().__init__(items, seed)
        owners = np.repeat(np.arange(len(words)), [len(own) for own in words])
        flat = np.concatenate([*words, np.zeros(0, np.int64)])
        order = np.argsort(flat, kind="stable")
        self._owners = owners[order]
        self.words, self._starts = np.unique(flat[order], return_index=True)
        self._ends = np.append(self._starts[1:], len(flat))
        if not len(self.words):
            raise ValueError(
                "WordSampler finds no image with a word: no record of DATASETS.TRAIN has a "
                "description (in-shop's list_description_inshop.json), or none has a word of the "
                "model's vocabulary"
            )

    def draw(self, *key: int) -> tuple[int, int]:
        """A word's place and the index of an item that has it: of the seed and the key alone."""
        generator = np.random.default_rng([self.seed, 5, *key])
        k = int(generator.integers(len(self.words)))
        owner = self._owners[int(generator.integers(self._starts[k], self._ends[k]))]
        return int(self.words[k]), int(owner)

    def index(self, position: int) -> int:
        return self.draw(position)[1]

    def reseed(self, seed: int) -> None:
        self.seed = seed

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self._item(position, *self.draw(position))

    def substitutes(self, unit: Sequence[int], attempt: int) -> list[dict[str, Any]]:
        # From 1, as a 0 at a seed's end is no other seed.
        return [self._item(position, *self.draw(position, attempt + 1)) for position in unit]

    def _item(self, position: int, word: int, index: int) -> dict[str, Any]:
        return {**self.items[index], "word": word, "seed": sample_seed(self.seed, position)}
