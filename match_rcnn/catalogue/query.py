"""A photo against a gallery: results of each garment, as a table and as a picture."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from match_rcnn.catalogue.model import GarmentModel
from match_rcnn.catalogue.remote import joined
from match_rcnn.data.images import read_image
from match_rcnn.inference.cells import BACKGROUND, cut_box, labelled_cell
from match_rcnn.inference.drawing import color_of, draw_garments
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import CategoryFilter, GalleryItem, Hit
from match_rcnn.retrieval.gallery.search import Where
from match_rcnn.retrieval.second_stage import SecondStage
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Float32Array, Image

#: Of an embedding (d,), that of another wish.
Change = Callable[[Float32Array], Float32Array]

_CELLS_A_LINE = 10


@dataclass(frozen=True)
class QueryResult:
    """A garment of the photo and what the gallery has like it, best first."""

    garment: Garment
    hits: list[Hit]

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the embedding."""
        garment = self.garment.to_dict()
        del garment["embedding"]
        return {"garment": garment, "hits": [hit_to_json(hit) for hit in self.hits]}


def hit_to_json(hit: Hit) -> dict[str, Any]:
    """An item's own values with the match's; the item's score is a detector's."""
    item = hit.item.to_json()
    own = {"score": hit.score, "probability": hit.probability, "similarity": hit.similarity}
    return {**own, "detection_score": item.pop("score"), **item}


def search_photo(
    gallery: Gallery,
    model: GarmentModel,
    photo: Image,
    *,
    top: int = 20,
    category: CategoryFilter = None,
    same_category: bool = False,
    where: Where | None = None,
    method: str = "auto",
    group_by: str | None = None,
    shortlist: int = 100,
    change: Change | None = None,
) -> list[QueryResult]:
    """The ``top`` items for each garment of a photo.

    Args:
        photo: (H, W, 3) in BGR.
        category, where, method, group_by: see :meth:`Gallery.search`.
        same_category: only items of the garment's own category.
        shortlist: the model's similarity orders so many of the best; 0: none.
        change: of a garment's embedding, what is searched for in its place; the similarity, which
            sees the garment as it is, then orders nothing.
    """
    similarity = model.similarity if shortlist and change is None else None
    results = []
    for garment in model(photo):
        assert garment.embedding is not None, "a gallery's model gives embeddings"
        wanted = garment.category if same_category else category
        second = None
        if similarity is not None:
            own = {name: value[None] for name, value in garment.features.items()}
            second = SecondStage(similarity, own, shortlist)
        (hits,) = gallery.search(
            garment.embedding if change is None else change(garment.embedding),
            top,
            category=wanted,
            where=where,
            method=method,
            group_by=group_by,
            second=second,
        )
        results.append(QueryResult(garment, hits))
    return results


def parse_changes(texts: Sequence[str]) -> list[tuple[str, str]]:
    """(type, value) of each ``type=value``, such as ``pattern=striped``.

    Raises:
        ValueError: another form, or a type twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        kind, _, value = (part.strip() for part in text.partition("="))
        if not kind or not value:
            raise ValueError(f"--change must be TYPE=VALUE, such as pattern=striped; got {text!r}")
        if kind in found:
            raise ValueError(f"--change has two values for {kind}: {found[kind]} and {value}")
        found[kind] = value
    return list(found.items())


def changing(model: Any, texts: Sequence[str]) -> Change | None:
    """What ``--change`` asks of a model; None where it asks nothing.

    Raises:
        ValueError: see :func:`parse_changes`; the model exchanges no attributes.
    """
    wishes = parse_changes(texts)
    if not wishes:
        return None
    if not getattr(model, "can_change", False):
        raise ValueError(
            "the gallery's model exchanges no attributes; --change is for galleries of a model "
            "with ManipulationHead, such as configs/flam_quick.yaml makes"
        )
    return partial(model.changed, wishes=wishes)


def search_text(gallery: Gallery, model: Any, text: str, **wanted: Any) -> list[Hit]:
    """The items nearest to the words of a text.

    Args:
        model: of words, as a :class:`~match_rcnn.catalogue.recognition.RecognitionModel` can be.
        wanted: as :meth:`Gallery.search`.

    Raises:
        ValueError: the model knows no words, or not this one.
    """
    if not getattr(model, "vocabulary", None):
        raise ValueError(
            "the gallery's model knows no words; --text is for galleries of a model with WordHead, "
            "such as configs/words_quick.yaml makes"
        )
    (hits,) = gallery.search(model.text_vector(text), **wanted)
    return hits


def hits_table(hits: Sequence[Hit]) -> str:
    """The console's view of what a text found."""
    rows = [_row(rank, hit) for rank, hit in enumerate(hits, 1)]
    return tabulate(rows, headers="keys", floatfmt=".4g") if rows else "nothing found"


def draw_hits(text: str, hits: Sequence[Hit], image_root: str | Path, *, upright: bool) -> Image:
    """As :func:`draw_results`, of a text."""
    query = labelled_cell(None, ["query", text])
    return np.concatenate(_lines(query, hits, image_root, upright))


def results_table(results: Sequence[QueryResult]) -> str:
    """The console's view: a table a garment."""
    parts = []
    for number, result in enumerate(results, 1):
        garment = result.garment
        score = "" if garment.score is None else f", score {garment.score:.2f}"
        box = " ".join(f"{v:.0f}" for v in garment.box)
        parts.append(f"garment {number}: {garment.category.name}{score}, box {box}")
        parts.append(hits_table(result.hits))
    return "\n".join(parts) or "no garment found in the photo"


def _row(rank: int, hit: Hit) -> dict[str, str | int | float | None]:
    item = hit.item
    return {
        "rank": rank,
        "match score": hit.score,
        **({} if hit.similarity is None else {"similarity": hit.similarity}),
        "probability": hit.probability,
        "id": item.id,
        "category": item.category.name if item.category else None,
        "box": " ".join(f"{v:.0f}" for v in item.box) if item.box else None,
    }


def draw_results(
    photo: Image, results: Sequence[QueryResult], image_root: str | Path, *, upright: bool
) -> Image:
    """A picture: of each garment the photo with it marked, then its results from left to right.

    Args:
        image_root: the folder that the items' images are below; one that is not there is drawn as
            an empty cell.
        upright: whether the items' boxes are on upright photos (detected ones are) or on stored
            pixels (annotated ones).
    """
    lines = [
        line
        for result in results
        for line in _lines(_marked(photo, result.garment), result.hits, image_root, upright)
    ]
    return np.concatenate(lines or [labelled_cell(photo, ["no garment found"])])


def _marked(photo: Image, garment: Garment) -> Image:
    caption = ["query", garment.category.name]
    return labelled_cell(draw_garments(photo, [garment]), caption, color_of(garment.category))


def _lines(query: Image, hits: Sequence[Hit], image_root: str | Path, upright: bool) -> list[Image]:
    cells = []
    for rank, hit in enumerate(hits, 1):
        kind = hit.item.category
        caption = [f"{rank}  p {hit.probability:.3f}", kind.name if kind else ""]
        cells.append(
            labelled_cell(
                _crop(hit.item, image_root, upright),
                caption,
                color_of(kind) if kind else None,
            )
        )
    empty = np.full_like(query, BACKGROUND)
    lines = []
    for start in range(0, max(1, len(cells)), _CELLS_A_LINE):
        shown = cells[start : start + _CELLS_A_LINE]
        padding = [empty] * (_CELLS_A_LINE - len(shown))
        lines.append(np.concatenate([query if not start else empty, *shown, *padding], axis=1))
    return lines


def _crop(item: GalleryItem, image_root: str | Path, upright: bool) -> Image | None:
    """The item's part of its photo."""
    image = item_photo(item, image_root, upright=upright)
    return image if image is None or item.box is None else cut_box(image, item.box)


def item_photo(item: GalleryItem, image_root: str | Path, *, upright: bool) -> Image | None:
    """The item's photo; None where it cannot be read, or is not below the folder."""
    if not item.image or not is_below(joined(image_root, item.image), image_root):
        return None
    try:
        return read_image(joined(image_root, item.image), upright=upright)
    except (ValueError, OSError):
        return None


def is_below(path: str | Path, folder: str | Path) -> bool:
    """Whether a name that a file states leads nowhere but into the folder; links may lead on."""
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))
