"""DeepFashion's (2016) benchmarks as registered data sets: one garment an image, its box given.

``deepfashion_BENCHMARK_SPLIT``, and the same with ``_highres`` for the images of ``img_highres``:

- ``category``, ``fine``, ``landmark``: splits ``train``, ``val``, ``test``;
- ``inshop``: ``train``, ``query``, ``gallery``, and ``test``: query and gallery together;
- ``consumer2shop``: ``train``, ``val``, ``test``; ``test`` is all that its protocol needs: the
  photos of the test pairs, and the shop's of the validation pairs, which the gallery has too.

A data set is a :class:`Records`, a sequence of dataset dicts:

- ``file_name``, ``image_id`` (from 0, over all splits of a benchmark), ``height``, ``width``;
- ``image_name`` as in the lists, ``split`` as in the partition;
- ``item``, where the benchmark has items; ``domain`` (``"shop"`` or ``"consumer"``), where it has
  domains; ``description``, sentences, where a list describes the items;
- ``annotations``, one: ``bbox`` [x0, y0, x1, y1] and ``bbox_mode``; ``category_id``, absent where
  it is unknown; ``attributes`` (A,) int8, 1 has it, -1 has it not, 0 unknown; ``landmarks`` (8, 2)
  float32 in pixels and ``visibility`` (8,) int8, 0 visible, 1 occluded, 2 cut off, 3 no such slot.
  The last three are absent where the benchmark has none.

The metadata, stated when a data set is read: ``thing_classes``; ``clothes_types`` (by category, 1
upper, 2 lower, 3 full body); ``attribute_names``; ``attribute_types`` (A,) int8, an index from 1
into ``attribute_type_names``, 0 where the lists have no types; ``evaluator_type``, ``root``,
``split``.

Reading the lists of 289,222 images takes a minute, so it is done once: the labels then lie in
``ROOT/cache``, a line of JSON and a record an image, and are mapped from there.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import orjson
from torch.utils.data import Dataset

from match_rcnn.d2 import BoxMode, DatasetCatalog, MetadataCatalog
from match_rcnn.data.problems import ProblemReport, Reason
from match_rcnn.data.sources.deepfashion import NO_SLOT, SLOTS
from match_rcnn.data.sources.deepfashion_benchmarks import ImageFolder, read_benchmark
from match_rcnn.data.sources.deepfashion_labels import FOLDERS, PARTITIONS, Benchmark
from match_rcnn.utils.arrays import Array, BoolArray, IntArray
from match_rcnn.utils.files import atomic_write, write_json

logger = logging.getLogger(__name__)

DatasetDict = dict[str, Any]

#: ``visibility`` of a slot that a garment has not.
NO_SUCH_SLOT = 3
HIGH_RESOLUTION = "_highres"
#: By benchmark, the splits that are registered.
SPLITS = {
    name: (*splits, "test") if name == "inshop" else splits for name, splits in PARTITIONS.items()
}
#: Changes whenever the same lists would give another file.
_VERSION = 2
_PER_BYTE = 4  # attributes, 2 bits each
_UNPACKED = np.array(
    [[(byte >> 2 * i & 3) - 1 for i in range(_PER_BYTE)] for byte in range(256)], dtype=np.int8
)
#: How many of the missing images are looked for again at each opening.
_LOOKED_FOR = 100


@dataclass(frozen=True)
class Stored:
    """A benchmark's labels on disk: its records mapped, its splits as row numbers.

    Attributes:
        file: the cache; None where it could not be written, then ``records`` are in memory.
        head: what is common to all, see :func:`_head`.
        records: (N,) of a structured type.
        rows: by registered split, the rows of its images.
    """

    file: Path | None
    head: Mapping[str, Any]
    records: Array
    rows: Mapping[str, IntArray]

    def __reduce__(self) -> Any:  # a worker process maps the file again: no copy travels to it
        return (open_stored, (self.file,)) if self.file else super().__reduce__()


def open_stored(file: Path) -> Stored:
    """Map a cache.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none, or is cut off.
    """
    with file.open("rb") as stream:
        line = stream.readline()
    try:
        head = orjson.loads(line)
        dtype = np.dtype([(name, kind, *map(tuple, shape)) for name, kind, *shape in head["dtype"]])
        records = np.memmap(file, dtype, "r", len(line), head["images"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no cache of labels: {error}") from error
    offset, rows = len(line) + records.nbytes, {}
    for split, count in head["rows"].items():
        rows[split] = np.fromfile(file, "<i4", count, offset=offset).astype(np.int64)
        offset += 4 * count
    if file.stat().st_size != offset:
        raise ValueError(f"{file} is cut off")
    return Stored(file, head, records, rows)


def pack(labels: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """(N, A) of -1, 0 and 1 to (N, ceil(A / 4)) bytes."""
    images, count = labels.shape
    wide = np.zeros((images, -(-count // _PER_BYTE), _PER_BYTE), dtype=np.uint8)
    wide.reshape(images, wide.shape[1] * _PER_BYTE)[:, :count] = labels + 1
    packed: npt.NDArray[np.uint8] = wide[:, :, 0]
    for i in range(1, _PER_BYTE):
        packed = packed | wide[:, :, i] << np.uint8(2 * i)
    return packed


def unpack(packed: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int8]:
    """(..., A) of -1, 0 and 1 from (..., ceil(A / 4)) bytes; ``count`` is A."""
    return _UNPACKED[packed].reshape(*packed.shape[:-1], packed.shape[-1] * _PER_BYTE)[..., :count]


class Records(Dataset[DatasetDict], Sequence[DatasetDict]):
    """A split: dataset dicts that are made when they are asked for.

    The hosts' loaders take a torch data set as it is: nothing is turned into a list or pickled.

    Args:
        root: the benchmark's folder.
        stored: its labels.
        split: of :data:`SPLITS`.
    """

    def __init__(self, root: Path, stored: Stored, split: str) -> None:
        self.root, self._stored, self.split = root, stored, split
        self._rows = stored.rows[split]
        self._attributes = len(stored.head["attribute_names"])
        self._images = _image_folder(stored.head)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> DatasetDict: ...
    @overload
    def __getitem__(self, index: slice) -> list[DatasetDict]: ...
    def __getitem__(self, index: int | slice) -> DatasetDict | list[DatasetDict]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        row = int(self._rows[index])
        record = self._stored.records[row]
        name = record["image"].decode()
        image = {
            "file_name": str(self.root / self._images.file(name)),
            "image_id": row,
            "width": int(record["size"][0]),
            "height": int(record["size"][1]),
            "image_name": name,
            "split": record["split"].decode(),
        }
        for key in ("item", "domain"):
            if key in record.dtype.fields:
                image[key] = record[key].decode()
        if (place := self._description(record)) >= 0:
            image["description"] = self._stored.head["descriptions"][place]
        return {**image, "annotations": [self._annotation(record)]}

    def _description(self, record: Any) -> int:
        """Its place among all descriptions, -1 for none."""
        return int(record["description"]) if "description" in record.dtype.fields else -1

    def descriptions(self) -> list[list[str]]:
        """Of all images, without making dicts; [] where there is none."""
        texts = [*self._stored.head["descriptions"], []]
        if len(texts) == 1:
            return [[]] * len(self)
        return [texts[place] for place in self._stored.records["description"][self._rows].tolist()]

    def _annotation(self, record: Any) -> dict[str, Any]:
        annotation: dict[str, Any] = {
            "bbox": [float(v) for v in record["box"]],
            "bbox_mode": BoxMode.XYXY_ABS,
        }
        if record["category"] >= 0:
            annotation["category_id"] = int(record["category"])
        if self._attributes:
            annotation["attributes"] = unpack(record["attributes"], self._attributes)
        if "landmarks" in record.dtype.fields:
            annotation["landmarks"] = np.array(record["landmarks"])
            annotation["visibility"] = np.array(record["visibility"])
        return annotation

    def __iter__(self) -> Iterator[DatasetDict]:
        return (self[i] for i in range(len(self)))

    def column(self, name: str) -> Array:
        """One label of all images, without making dicts: ``image`` and ``item``, ``domain``,
        ``split`` (strings), ``size`` (n, 2), ``box`` (n, 4), ``category`` (n,; -1 unknown),
        ``landmarks`` (n, 8, 2), ``visibility`` (n, 8), ``attributes`` (n, A).

        Raises:
            KeyError: the benchmark has no such label.
        """
        if name not in (self._stored.records.dtype.fields or ()):
            raise KeyError(f"expected one of {self._stored.records.dtype.names}, got {name!r}")
        values = self._stored.records[name][self._rows]
        if name == "attributes":
            return unpack(values, self._attributes)
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values

    def attribute_labels(self) -> Iterator[npt.NDArray[np.int8]]:
        """(n, A) of some thousand images after the other."""
        for start in range(0, len(self), 8192):
            packed = self._stored.records["attributes"][self._rows[start : start + 8192]]
            yield unpack(packed, self._attributes)

    def attribute_counts(self) -> IntArray:
        """(A, 2) how many images have each attribute, and how many are known not to."""
        counts = np.zeros((self._attributes, 2), dtype=np.int64)
        for labels in self.attribute_labels():
            counts += np.stack([(labels == 1).sum(0), (labels == -1).sum(0)], axis=1)
        return counts


def load_benchmark(
    root: Path, benchmark: str, high_resolution: bool = False, progress: bool = True
) -> Stored:
    """A benchmark's labels: from the cache if it was made of the lists as they are, else from the
    lists, and then the cache is made.

    ``ROOT/cache/NAME.problems.json`` lists what was left out, and counts what is strange.

    Raises:
        FileNotFoundError, ValueError: the lists or images are not there, or cannot be used.
    """
    file = root / "cache" / f"{benchmark}{HIGH_RESOLUTION if high_resolution else ''}.records"
    settings = {
        "version": _VERSION,
        "benchmark": benchmark,
        "high_resolution": high_resolution,
        "lists": _fingerprint(root, benchmark),
    }
    stored = _reusable(file, root, settings)
    if stored is not None:
        return stored
    logger.info("%s: reading the lists of %s", root, benchmark)
    data, folder = read_benchmark(root, benchmark, high_resolution, progress)
    head, records, rows = _head(settings, data, folder), _records(data), _rows_of_splits(data)
    logger.info("%s, %s: %s", root, benchmark, data.report.summary())
    try:
        _write(file, head, records, rows, data.report)
    except OSError as error:
        logger.warning("%s cannot be written (%s); the lists are read each time", file, error)
        return Stored(None, head, records, rows)
    return open_stored(file)


def _fingerprint(root: Path, benchmark: str) -> dict[str, list[int]]:
    """Size and time of change of every list, by its path below the root."""
    folders = ["Anno", "Anno_coarse", "Eval"] + ["Anno_fine"] * (benchmark == "fine")
    files = sorted(
        path
        for folder in folders
        for path in (root / folder).rglob("list_*")
        if path.suffix in (".txt", ".json")
    )
    if benchmark == "fine":
        files = sorted((root / "Anno_fine").rglob("*.txt"))
    stats = {str(path.relative_to(root)): path.stat() for path in files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _reusable(file: Path, root: Path, settings: dict[str, Any]) -> Stored | None:
    try:
        stored = open_stored(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        logger.warning("%s: made anew", error)
        return None
    head = stored.head
    if head["settings"] != settings:
        return None
    folder = _image_folder(head)
    if any((root / folder.file(name)).is_file() for name in head["missing"]):
        return None  # what was missing has come
    left_out = head["report"]["images_left_out"]
    if left_out:
        problems = file.with_name(f"{file.name}.problems.json")
        logger.warning("%s: %d images are left out, listed in %s", root, left_out, problems)
    return stored


def _image_folder(head: Mapping[str, Any]) -> ImageFolder:
    path, renamed = head["image_folder"]
    return ImageFolder(path, tuple((listed, own) for listed, own in renamed))


def _head(settings: dict[str, Any], data: Benchmark, folder: ImageFolder) -> dict[str, Any]:
    attributes = data.attribute_names
    problems = [p for p in data.report.problems if p.reason is Reason.LISTED_IMAGE_MISSING]
    return {
        "settings": settings,
        "image_folder": [folder.path, folder.renamed],
        "thing_classes": data.classes,
        "clothes_types": data.clothes_types,
        "attribute_names": attributes.names if attributes else [],
        "attribute_types": attributes.types.tolist() if attributes else [],
        "attribute_type_names": list(data.attribute_type_names),
        "descriptions": data.descriptions,
        "missing": [problem.file for problem in problems[:_LOOKED_FOR]],
        "report": data.report.to_json()["counts"],
    }


def _records(data: Benchmark) -> Array:
    """(N,) all labels of an image side by side, so that reading one touches one place."""
    columns: dict[str, Array] = {
        "image": np.char.encode(data.images, "utf-8"),
        "split": np.char.encode(data.split, "utf-8"),
        "size": data.sizes.astype("<i4"),
        "box": data.boxes.astype("<f4"),
        "category": data.category.astype("<i2"),
    }
    if data.items is not None:
        columns["item"] = np.char.encode(data.items, "utf-8")
    if data.domains is not None:
        columns["domain"] = np.char.encode(data.domains, "utf-8")
    if data.description is not None:
        columns["description"] = data.description.astype("<i4")
    if data.attributes is not None:
        columns["attributes"] = pack(data.attributes)
    if data.landmarks is not None:
        seen = data.landmarks[:, :, 2]
        columns["landmarks"] = data.landmarks[:, :, :2].astype("<f4")
        columns["visibility"] = np.where(seen == NO_SLOT, NO_SUCH_SLOT, seen).astype("i1")
        assert columns["visibility"].shape[1] == len(SLOTS)
    dtype = [(name, values.dtype.str, values.shape[1:]) for name, values in columns.items()]
    records = np.empty(len(data), dtype=dtype)
    for name, values in columns.items():
        records[name] = values
    return records


def _rows_of_splits(data: Benchmark) -> dict[str, IntArray]:
    """By registered split, which rows it has."""
    benchmark = {part: data.split == part for part in np.unique(data.split).tolist()}
    nothing: BoolArray = np.zeros(len(data), dtype=bool)
    if "gallery" in benchmark or "query" in benchmark:
        benchmark["test"] = benchmark.get("query", nothing) | benchmark.get("gallery", nothing)
    elif data.domains is not None and "test" in benchmark:
        shops = benchmark.get("val", nothing) & (data.domains == "shop")
        benchmark["test"] = benchmark["test"] | shops
    return {split: np.flatnonzero(chosen) for split, chosen in benchmark.items()}


def _write(
    file: Path,
    head: dict[str, Any],
    records: Array,
    rows: Mapping[str, IntArray],
    report: ProblemReport,
) -> None:
    line = {
        **head,
        "dtype": [[name, kind, *shape] for name, kind, *shape in records.dtype.descr],
        "images": len(records),
        "rows": {split: len(own) for split, own in rows.items()},
    }
    write_json(file.with_name(f"{file.name}.problems.json"), report.to_json())
    with atomic_write(file) as stream:
        stream.write(orjson.dumps(line) + b"\n")
        stream.write(records.tobytes())
        for own in rows.values():
            stream.write(own.astype("<i4").tobytes())


def register_deepfashion(root: Path) -> None:
    """Register all benchmarks' splits, in both resolutions.

    Nothing is read before a data set is asked for. Calling it again does no harm; with another
    root the names move there.

    Args:
        root: the folder that holds ``deepfashion/``.
    """
    for benchmark, splits in SPLITS.items():
        folder = root / "deepfashion" / FOLDERS[benchmark]
        for split in splits:
            for suffix in ("", HIGH_RESOLUTION):
                name = f"deepfashion_{benchmark}_{split}{suffix}"
                _register(name, folder, benchmark, split, bool(suffix))


def _register(name: str, root: Path, benchmark: str, split: str, high_resolution: bool) -> None:
    load = partial(load_records, root, benchmark, split, high_resolution, name)
    if name in DatasetCatalog.list():
        known: Any = DatasetCatalog.data[name]
        if isinstance(known, partial) and known.args == load.args:
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    _state(name, {}, root, benchmark, split)


def load_records(
    root: Path, benchmark: str, split: str, high_resolution: bool = False, name: str | None = None
) -> Records:
    """A split of the benchmark that lies in ``root``.

    Args:
        name: that it is registered under; its metadata are stated.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_benchmark`; the split has no image.
    """
    stored = load_benchmark(root, benchmark, high_resolution)
    if split not in stored.rows:
        raise ValueError(f"{root} has no image of the split {split!r} of {benchmark}")
    if name is not None:
        _state(name, stored.head, root, benchmark, split)
    return Records(root, stored, split)


def recognition_metadata(name: str) -> Any:
    """The host's metadata of a registered benchmark, with all that its lists say.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_benchmark`.
    """
    DatasetCatalog.get(name)
    return MetadataCatalog.get(name)


_STATED = ("thing_classes", "clothes_types", "attribute_names", "attribute_type_names")


def _state(name: str, head: Mapping[str, Any], root: Path, benchmark: str, split: str) -> None:
    """Fill in a data set's metadata; those of lists that changed are replaced."""
    known = MetadataCatalog.get(name)
    if head and known.get("thing_classes") is not None:
        if all(known.get(key) == head[key] for key in _STATED):
            return
        MetadataCatalog.remove(name)
    values: dict[str, Any] = {key: head[key] for key in _STATED if head}
    if head:
        values["attribute_types"] = np.array(head["attribute_types"], dtype=np.int8)
    evaluator = f"deepfashion_{benchmark}"
    MetadataCatalog.get(name).set(evaluator_type=evaluator, root=str(root), split=split, **values)
