"""A photo against a gallery: results of each garment, as a table and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from match_rcnn.garments import Garment
from match_rcnn.predictor import read_photo
from match_rcnn.retrieval.gallery_items import CategoryFilter, GalleryItem, Hit
from match_rcnn.retrieval.gallery_model import GarmentModel
from match_rcnn.retrieval.gallery_reader import GalleryReader
from match_rcnn.visualization import PALETTE, draw_garments

Image = npt.NDArray[np.uint8]

CELL_HEIGHT, CELL_WIDTH, _CAPTION = 200, 160, 36
_CELLS_A_LINE = 10
_BACKGROUND, _TEXT = 255, (40, 40, 40)


@dataclass(frozen=True)
class QueryResult:
    """A garment of the photo and what the gallery has like it, best first."""

    garment: Garment
    hits: list[Hit]

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the embedding."""
        garment = self.garment.to_dict()
        del garment["embedding"]
        hits = [
            {
                "id": hit.item.id,
                "score": hit.score,
                "probability": hit.probability,
                "category": hit.item.category.name if hit.item.category else None,
                "image": hit.item.image,
                "box": hit.item.box,
                "fields": hit.item.fields,
            }
            for hit in self.hits
        ]
        return {"garment": garment, "hits": hits}


def search_photo(
    gallery: GalleryReader,
    model: GarmentModel,
    photo: Image,
    *,
    top: int = 20,
    category: CategoryFilter = None,
    same_category: bool = False,
    method: str = "auto",
) -> list[QueryResult]:
    """The ``top`` items for each garment of a photo.

    Args:
        photo: (H, W, 3) in BGR.
        category: only items of it, see :meth:`Gallery.search`.
        same_category: only items of the garment's own category.
    """
    results = []
    for garment in model(photo):
        assert garment.embedding is not None, "a gallery's model gives embeddings"
        wanted = garment.category if same_category else category
        (hits,) = gallery.search(garment.embedding, top, category=wanted, method=method)
        results.append(QueryResult(garment, hits))
    return results


def results_table(results: Sequence[QueryResult]) -> str:
    """The console's view: a table a garment."""
    parts = []
    for number, result in enumerate(results, 1):
        garment = result.garment
        score = "" if garment.score is None else f", score {garment.score:.2f}"
        box = " ".join(f"{v:.0f}" for v in garment.box)
        parts.append(f"garment {number}: {garment.category.name}{score}, box {box}")
        rows = [_row(rank, hit) for rank, hit in enumerate(result.hits, 1)]
        parts.append(tabulate(rows, headers="keys", floatfmt=".4g") if rows else "nothing found")
    return "\n".join(parts) or "no garment found in the photo"


def _row(rank: int, hit: Hit) -> dict[str, str | int | float | None]:
    item = hit.item
    return {
        "rank": rank,
        "match score": hit.score,
        "probability": hit.probability,
        "id": item.id,
        "category": item.category.name if item.category else None,
        "box": " ".join(f"{v:.0f}" for v in item.box) if item.box else None,
    }


def draw_results(photo: Image, results: Sequence[QueryResult], image_root: Path) -> Image:
    """A picture: of each garment the photo with it marked, then its results from left to right.

    Args:
        image_root: the folder that the items' images are below; one that is not there is drawn as
            an empty cell.
    """
    lines = [line for result in results for line in _lines(photo, result, image_root)]
    return np.concatenate(lines or [_cell(photo, ["no garment found"])])


def _lines(photo: Image, result: QueryResult, image_root: Path) -> list[Image]:
    marked = draw_garments(photo, [result.garment])
    query = _cell(
        marked, ["query", result.garment.category.name], PALETTE[result.garment.category.id - 1]
    )
    cells = []
    for rank, hit in enumerate(result.hits, 1):
        kind = hit.item.category
        caption = [f"{rank}  p {hit.probability:.3f}", kind.name if kind else ""]
        cells.append(
            _cell(_crop(hit.item, image_root), caption, PALETTE[kind.id - 1] if kind else None)
        )
    empty = np.full_like(query, _BACKGROUND)
    lines = []
    for start in range(0, max(1, len(cells)), _CELLS_A_LINE):
        shown = cells[start : start + _CELLS_A_LINE]
        padding = [empty] * (_CELLS_A_LINE - len(shown))
        lines.append(np.concatenate([query if not start else empty, *shown, *padding], axis=1))
    return lines


def _crop(item: GalleryItem, image_root: Path) -> Image | None:
    """The item's part of its photo; None where that cannot be read."""
    try:
        image = read_photo(image_root / item.image) if item.image else None
    except (ValueError, OSError):
        return None
    if image is None or item.box is None:
        return image
    height, width = image.shape[:2]
    x1, y1 = max(0, int(item.box[0])), max(0, int(item.box[1]))
    x2, y2 = min(width, int(np.ceil(item.box[2]))), min(height, int(np.ceil(item.box[3])))
    return image[y1:y2, x1:x2] if x2 > x1 and y2 > y1 else image


def _cell(
    image: Image | None, caption: Sequence[str], color: tuple[float, ...] | None = None
) -> Image:
    """(CELL_HEIGHT, CELL_WIDTH, 3): the image as large as it fits, the caption below."""
    cell = np.full((CELL_HEIGHT, CELL_WIDTH, 3), _BACKGROUND, np.uint8)
    room = CELL_HEIGHT - _CAPTION - 8, CELL_WIDTH - 8
    if image is not None:
        scale = min(room[0] / image.shape[0], room[1] / image.shape[1])
        size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        top, left = 4 + (room[0] - size[1]) // 2, 4 + (room[1] - size[0]) // 2
        cell[top : top + size[1], left : left + size[0]] = small
    if color is not None:
        bgr = tuple(round(255 * v) for v in reversed(color))
        cv2.rectangle(cell, (1, 1), (CELL_WIDTH - 2, CELL_HEIGHT - _CAPTION - 2), bgr, 2)
    for line, text in enumerate(caption):
        place = (6, CELL_HEIGHT - _CAPTION + 13 + 16 * line)
        cv2.putText(cell, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _TEXT, 1, cv2.LINE_AA)
    return cell
