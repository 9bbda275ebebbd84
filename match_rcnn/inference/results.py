"""What was found in many photos: a file of lines that survives kills, and other forms of it.

``predictions.jsonl`` has a line for each photo and video frame, in the order of the photos, and is
written as they are done. A line that a kill tore is taken back, so are those of a video that has
not come to its end; then it says what is done. COCO and Parquet files are made from it.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pycocotools.mask as mask_util

from match_rcnn.data.coco import category_records
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.inference.bulk import Shot
from match_rcnn.inference.shots import Frame
from match_rcnn.retrieval.gallery.items import optional_module
from match_rcnn.structures import Garment
from match_rcnn.utils.files import atomic_write, read_json, write_json

LINES, COCO, PARQUET = "predictions.jsonl", "predictions.json", "predictions.parquet"
SETTINGS = "settings.json"
#: A predicted landmark with a lower score counts as occluded in COCO files.
_SURE = 0.05


class Results:
    """The lines of a folder, to be gone on with.

    Args:
        folder: made if missing.
        settings: all that the lines depend on.

    Attributes:
        done: names of photos and videos whose lines are all there.

    Raises:
        ValueError: the folder's lines were made with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.file = folder, folder / LINES
        before = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else None
        if before is None and self.file.is_file():
            raise ValueError(f"{folder} holds {LINES}, and no {SETTINGS} says how it was made")
        different = [k for k in settings if before is not None and before.get(k) != settings[k]]
        if before is not None and different:
            told = "; ".join(f"{k} was {before.get(k)!r}, is {settings[k]!r}" for k in different)
            raise ValueError(
                f"{folder} was made with other settings ({told}): choose another folder or "
                "delete this one"
            )
        if before is None:
            write_json(folder / SETTINGS, settings)
        self.done = self._clean()

    def _clean(self) -> set[str]:
        """Take back what has no end; the names of what has one."""
        done: set[str] = set()
        if not self.file.is_file():
            return done
        keep = offset = 0
        with self.file.open("rb") as lines:
            for line in lines:
                offset += len(line)
                row = orjson.loads(line) if line.endswith(b"\n") else None
                if row is not None and row.get("last", True):
                    done.add(row["image"])
                    keep = offset
        os.truncate(self.file, keep)
        return done

    def append(self, lines: Iterable[bytes]) -> None:
        """Add lines; they are the system's at once, whatever becomes of this process."""
        with self.file.open("ab", buffering=0) as file:
            file.write(b"".join(lines))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Line by line."""
        if self.file.is_file():
            with self.file.open("rb") as lines:
                for line in lines:
                    yield orjson.loads(line)

    def write_coco(self, taxonomy: Taxonomy) -> Path:
        """``predictions.json``: images, annotations with scores, categories. Landmarks are each
        category's own."""
        path = self.folder / COCO
        with atomic_write(path) as file:
            file.write(b'{"images": [')
            for i, row in enumerate(self.rows(), 1):
                entry = {key: value for key, value in row.items() if key != "garments"}
                entry = {"id": i, "file_name": entry.pop("image"), **entry}
                file.write((b",\n" if i > 1 else b"\n") + orjson.dumps(entry))
            file.write(b'],\n"annotations": [')
            for i, annotation in enumerate(self._annotations(), 1):
                entry = {"id": i, **annotation}
                file.write((b",\n" if i > 1 else b"\n") + orjson.dumps(entry))
            records = category_records(compact=True, taxonomy=taxonomy)
            file.write(b'],\n"categories": ' + orjson.dumps(records) + b"}\n")
        return path

    def _annotations(self) -> Iterator[dict[str, Any]]:
        for image_id, row in enumerate(self.rows(), 1):
            for garment in row["garments"]:
                x1, y1, x2, y2 = garment.pop("box")
                mask, landmarks = garment.pop("mask"), garment.pop("landmarks")
                found = {
                    "image_id": image_id,
                    "category_id": garment.pop("category_id"),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
                garment.pop("category")
                if mask is not None:
                    area = mask_util.area({**mask, "counts": mask["counts"].encode()})
                    found |= {"segmentation": mask, "area": int(area)}
                if landmarks is not None:
                    sure = [[x, y, 2 if v >= _SURE else 1] for x, y, v in landmarks]
                    found |= {
                        "keypoints": [value for point in sure for value in point],
                        "num_keypoints": len(sure),
                        "keypoint_scores": [v for _, _, v in landmarks],
                    }
                yield found | garment

    def write_parquet(self) -> Path:
        """``predictions.parquet``: a row for each garment. Needs pyarrow."""
        arrow, parquet = optional_module("pyarrow"), optional_module("pyarrow.parquet")
        path = self.folder / PARQUET
        numbers, texts = arrow.list_(arrow.float32()), arrow.string()
        columns = {
            "image": texts,
            "frame": arrow.int64(),
            "time": arrow.float64(),
            "width": arrow.int32(),
            "height": arrow.int32(),
            "category_id": arrow.int32(),
            "category": texts,
            "score": arrow.float32(),
            "box": numbers,
            "landmarks": arrow.list_(numbers),
            "mask": texts,
            "embedding": numbers,
            "more": texts,
        }
        schema = arrow.schema(columns.items())
        with atomic_write(path) as file, parquet.ParquetWriter(file, schema) as writer:
            part: list[dict[str, Any]] = []
            for row in self.rows():
                part += [_flat(row, garment, columns.keys()) for garment in row["garments"]]
                if len(part) >= 1000:
                    writer.write_table(arrow.Table.from_pylist(part, schema))
                    part = []
            writer.write_table(arrow.Table.from_pylist(part, schema))
        return path


def _flat(row: dict[str, Any], garment: dict[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    mask = garment.pop("mask")
    found = {**row, **garment, "mask": mask["counts"] if mask else None}
    del found["garments"]
    more = {key: found.pop(key) for key in list(found) if key not in columns and key != "last"}
    found.pop("last", None)
    return {**found, "more": orjson.dumps(more).decode() if more else None}


def line(shot: Shot, size: tuple[int, int], garments: list[Garment], embeddings: bool) -> bytes:
    """A photo's or frame's line. Args: size: its height and width."""
    row: dict[str, Any] = {"image": shot.name}
    if isinstance(shot.more, Frame):
        row |= {"frame": shot.more.number, "time": round(shot.more.seconds, 6)}
        row |= {"last": shot.more.last}
    row |= {"width": size[1], "height": size[0]}
    row["garments"] = [_garment(garment, embeddings) for garment in garments]
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _garment(garment: Garment, embeddings: bool) -> dict[str, Any]:
    found = garment.to_dict()
    del found["mask_pixels"]
    if not embeddings:
        del found["embedding"]
    found["mask"] = None
    if garment.mask is not None:
        encoded = mask_util.encode(np.asfortranarray(garment.mask, dtype=np.uint8))
        found["mask"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    return found
