"""Random changes of a gallery against a plain dict with brute-force search."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryItem
from match_rcnn.retrieval.scoring import MatchScorer

DIM = 3
WEIGHT = np.array([-1.5, 0.5, -0.25])
BIAS = 0.75
IDS = st.sampled_from([f"item {i}" for i in range(12)])
VECTORS = st.lists(st.integers(-4, 4), min_size=DIM, max_size=DIM)
MARKS = st.none() | st.integers(0, 9)
NEW = st.dictionaries(IDS, st.tuples(VECTORS, st.integers(0, 3)), max_size=6)


def item_of(name, category, mark, vector):
    kind = DEEPFASHION2.category(category) if category else None
    fields, features = {"mark": mark}, {"regions": regions_of(vector, mark)}
    box = (1.0, 2.0, 3.0, 4.5)
    return GalleryItem(name, kind, "photo.jpg", box, 0.5, fields=fields, features=features)


def regions_of(vector, mark):
    """What a similarity compares; float16 holds these numbers."""
    return np.array([vector[:2], [vector[2], mark]], np.float16)


class GalleryAgainstDict(RuleBasedStateMachine):
    @initialize()
    def create(self):
        self.folder = Path(tempfile.mkdtemp(prefix="gallery-")) / "index"
        features = {"regions": (2, 2)}
        self.gallery = Gallery.create(self.folder, MatchScorer(WEIGHT, BIAS), features=features)
        self.reader = Gallery.open(self.folder, cache_bytes=0)
        self.model = {}
        self.marks = 0

    def teardown(self):
        shutil.rmtree(self.folder.parent)

    def put(self, change, new):
        self.marks += 1
        items = {name: item_of(name, kind, self.marks, own) for name, (own, kind) in new.items()}
        change(items.values(), [vector for vector, _ in new.values()])
        self.model.update({name: (items[name], np.array(new[name][0], float)) for name in new})

    @rule(new=NEW)
    def add(self, new):
        if new.keys() & self.model.keys():
            with pytest.raises(ValueError, match="already"):
                self.put(self.gallery.add, new)
        else:
            self.put(self.gallery.add, new)

    @rule(new=NEW)
    def replace(self, new):
        if new.keys() - self.model.keys():
            with pytest.raises(ValueError, match="has no item"):
                self.put(self.gallery.replace, new)
        else:
            self.put(self.gallery.replace, new)

    @rule(names=st.lists(IDS, max_size=5))
    def remove(self, names):
        there = set(names) & self.model.keys()
        if set(names) - there:
            with pytest.raises(ValueError, match="has no item"):
                self.gallery.remove(names)
        assert self.gallery.remove(names, missing_ok=True) == len(there)
        for name in there:
            del self.model[name]

    @rule()
    def compact(self):
        self.gallery.compact()
        assert len(self.gallery._snapshot.dataset.get_fragments()) == bool(self.model)

    @rule()
    def reopen(self):
        self.gallery = Gallery.open(self.folder)

    @rule(query=VECTORS, k=st.integers(1, 14), kinds=st.sets(st.integers(1, 3)), marks=MARKS)
    def search(self, query, k, kinds, marks):
        self.reader.refresh()
        allowed = {
            name: ((np.array(query) - vector) ** 2 @ WEIGHT + BIAS, item)
            for name, (item, vector) in self.model.items()
            if not kinds or (item.category and item.category.id in kinds)
            if marks is None or item.fields["mark"] >= marks
        }
        best = sorted((score for score, _ in allowed.values()), reverse=True)[:k]
        for gallery in (self.gallery, self.reader):
            known = marks is not None and "mark" in gallery.columns
            where = f"mark >= {marks}" if known else None
            (hits,) = gallery.search(np.array(query), k, category=kinds or None, where=where)
            assert [hit.score for hit in hits] == pytest.approx(best)
            assert len({hit.item.id for hit in hits}) == len(hits)
            for hit in hits:
                score, item = allowed[hit.item.id]
                assert (hit.item, hit.score) == (item, pytest.approx(score))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def get(self, data):
        name = data.draw(st.sampled_from(sorted(self.model)))
        item, vector = self.model[name]
        assert self.gallery.get(name) == item
        np.testing.assert_array_equal(self.gallery.vectors([name]), [vector])
        regions = self.gallery.vectors([name], "regions")
        np.testing.assert_array_equal(regions, [regions_of(vector, item.fields["mark"])])

    @invariant()
    def same_content(self):
        assert len(self.gallery) == len(self.model)
        found = {item.id: item for item in self.gallery}
        assert found == {name: item for name, (item, _) in self.model.items()}
        assert len(self.gallery._snapshot.dataset.get_fragments()) <= 16


def test_random_changes():
    run_state_machine_as_test(
        GalleryAgainstDict,
        settings=settings(max_examples=20, stateful_step_count=20, deadline=None),
    )
