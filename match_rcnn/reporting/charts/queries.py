"""A picture of queries and what was retrieved for each: a line a query, right ones framed green,
wrong ones red."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.images import read_image
from match_rcnn.data.taxonomy import Taxonomy, taxonomy_of
from match_rcnn.inference.cells import BACKGROUND, cut_box, labelled_cell
from match_rcnn.reporting.numbers.retrieval import RetrievalPart, read_retrieval
from match_rcnn.utils.arrays import FloatArray, Image

_GREEN, _RED = (0.1, 0.6, 0.2), (0.85, 0.15, 0.15)


def draw_retrieval(results: Path, dataset: str, queries: int = 8, top: int = 5) -> Image:
    """The picture of a result file: (H, W, 3) in BGR.

    The queries are spread evenly over those that a detection stands for, whether something right
    was found or not, so that the picture is no better than the figures.

    Args:
        results: in the official format, such as ``retrieval_results.json`` of a run.
        dataset: the registered data set it was made on.
        queries: lines, at most.
        top: results of each.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the data set does not say whose its photos are, or the results are another's.
    """
    if not results.is_file():
        raise FileNotFoundError(f"no retrieval results at {results}; evaluate a model first")
    part = read_retrieval(results, Path(MetadataCatalog.get(dataset).json_file))
    if part is None:
        raise ValueError(f"{dataset}: no photo's source is known, so nothing was retrieved")
    shown = np.flatnonzero(part.standing >= 0)
    if not len(shown):
        return labelled_cell(None, ["no detection stands", "for any query"])
    number = min(queries, len(shown))
    chosen = [int(shown[i * len(shown) // number]) for i in range(number)]
    files = {image["image_id"]: Path(image["file_name"]) for image in DatasetCatalog.get(dataset)}
    taxonomy = taxonomy_of(dataset)
    return np.concatenate([_line(part, query, files, top, taxonomy) for query in chosen])


def _line(
    part: RetrievalPart, query: int, files: Mapping[int, Path], top: int, taxonomy: Taxonomy
) -> Image:
    detection, item = int(part.standing[query]), int(part.scores.items[query])
    kind = taxonomy.category(part.truth.queries.classes[item]).name
    place = int(part.scores.places[query])
    found = f"first right: {place + 1}" if place >= 0 else "none right in 20"
    image_id = int(part.retrieved.image_ids[detection])
    photo = _cut(files, image_id, part.retrieved.boxes[detection])
    cells = [labelled_cell(photo, [f"query: {kind}", found])]
    cells.append(np.full((cells[0].shape[0], 12, 3), BACKGROUND, np.uint8))
    right = part.right(query)
    for rank in range(top):
        if rank >= len(right):
            cells.append(labelled_cell(None, []))
            continue
        image_id = int(part.retrieved.gallery_image_ids[detection, rank])
        photo = _cut(files, image_id, part.retrieved.gallery_boxes[detection, rank])
        words = [f"{rank + 1}  {'right' if right[rank] else 'wrong'}", f"photo {image_id}"]
        cells.append(labelled_cell(photo, words, _GREEN if right[rank] else _RED, line_width=4))
    return np.concatenate(cells, axis=1)


def _cut(files: Mapping[int, Path], image_id: int, box: FloatArray) -> Image | None:
    if image_id not in files:
        raise ValueError(f"the data set has no image {image_id}; were the results made on it?")
    try:
        return cut_box(read_image(files[image_id], upright=False), box)
    except (ValueError, FileNotFoundError):
        return None
