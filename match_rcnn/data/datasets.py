"""Data sets by name: registered with the host, as compact dataset dicts.

Shapes used below: ``n`` landmarks of an item's category, ``L`` landmarks of all.

A dataset dict is the host's (``file_name``, ``image_id``, ``height``, ``width``, ``annotations``)
with ``source`` ("user", "shop" or None) and ``pair_id`` (None where the file lacks it). Each of
its ``annotations`` has

- ``id``, ``bbox`` [x, y, w, h] (floats), ``bbox_mode``, ``category_id`` (from 0, the category's
  place in the taxonomy), ``iscrowd``;

and, but for ignore regions (``iscrowd`` 1), those of the following that the item is labelled with

- ``segmentation``: list of float64 arrays x, y, x, y, ..., or COCO's run lengths;
- ``keypoints``: float32 (n, 3), x and y in the host's convention (+0.5), v 0, 1 or 2, and
  ``num_keypoints``;
- ``attributes``: int8 (A,) of the taxonomy's attributes: 1 has it, -1 has it not, 0 unknown;
- ``style``, ``scale``, ``occlusion``, ``zoom_in``, ``viewpoint`` (None where the file lacks them).
"""

import logging
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from match_rcnn.d2 import BoxMode, DatasetCatalog, MetadataCatalog
from match_rcnn.data.folders import list_folder
from match_rcnn.data.image_size import IMAGE_SUFFIXES, UnreadableImageError, read_image_size
from match_rcnn.data.image_sources import read_image_sources
from match_rcnn.data.problems import MissingDataError
from match_rcnn.data.recognition import register_deepfashion
from match_rcnn.data.sources import DataSet, source_named
from match_rcnn.data.sources.coco import CocoSource
from match_rcnn.data.sources.deepfashion2 import ATTRIBUTES, Item, parse_annotation
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy

logger = logging.getLogger(__name__)

DatasetDict = dict[str, Any]

#: Registered as ``deepfashion2_{split}``; the test split has images only.
ANNOTATED_SPLITS = ("train", "validation")
TEST_SPLIT = "test"


def register_data_sets(names: Iterable[str], files: Sequence[str | Path] = ()) -> None:
    """Register the splits of DeepFashion2 and DeepFashion (2016), and those of ``names`` that a
    data sets file describes.

    Args:
        files: data sets files (yaml); behind them come those in :func:`datasets_folder`.

    Raises:
        FileNotFoundError: a data sets file is not there, or one that it names and that says what
            the categories are.
        ValueError: a data sets file cannot be used, or a name is nowhere; the message says which.
    """
    register_deepfashion2()
    register_deepfashion(datasets_folder())
    entries: dict[str, tuple[Path, Any]] = {}
    for file in [*map(Path, files), *sorted(datasets_folder().glob("*.yaml"))]:
        for name, entry in _read_entries(file).items():
            entries.setdefault(str(name), (file, entry))
    for name in dict.fromkeys(names):
        if name in entries:
            file, entry = entries[name]
            register_data_set(name, _data_set(name, entry, file))
        elif name not in DatasetCatalog.list():
            names_known = {*entries, *DatasetCatalog.list()}
            known = ", ".join(sorted(n for n in names_known if not n.startswith("deepfashion_")))
            raise ValueError(
                f"DATASETS: {name!r} is not known; there are {known}, and "
                "deepfashion_BENCHMARK_SPLIT (datasets/README.md). A yaml describes others "
                "(docs/your_data.md): --data FILE, or in the folder of the data sets"
            )


def datasets_folder() -> Path:
    """Where data sets lie: the environment's ``DETECTRON2_DATASETS``, or ``datasets``."""
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets")


def _read_entries(file: Path) -> dict[str, Any]:
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no yaml file: {' '.join(str(error).split())}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{file}: expected data sets by name, got {entries!r:.80}")
    return entries


def _data_set(name: str, entry: Any, file: Path) -> DataSet:
    try:
        if not isinstance(entry, dict):
            raise ValueError(f"expected keys such as 'annotations', got {entry!r:.80}")
        entry = dict(entry)
        return source_named(str(entry.pop("source", "coco")))(name, entry, file.parent)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}, data set {name!r}: {error}") from error


def register_data_set(name: str, data_set: DataSet, evaluator_type: str = "coco") -> None:
    """Register a data set with the host; another one of this name goes."""
    stated = {**data_set.metadata, "taxonomy": data_set.taxonomy}
    if name in DatasetCatalog.list():
        known, load = MetadataCatalog.get(name), DatasetCatalog.data[name]
        is_same = all(known.get(key) == value for key, value in stated.items())
        if is_same and _parts(load) == _parts(data_set.load):
            return  # whoever has read it need not do so again
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, data_set.load)
    metadata = {**stated, "evaluator_type": evaluator_type, **_host_metadata(data_set.taxonomy)}
    MetadataCatalog.get(name).set(**metadata)


def _parts(load: Any) -> Any:
    """What makes two functions without a name equal."""
    is_partial = isinstance(load, partial)
    return (load.func, load.args, load.keywords) if is_partial else load


def _host_metadata(taxonomy: Taxonomy) -> dict[str, Any]:
    """The taxonomy as the host's own modules look for it."""
    categories = taxonomy.categories
    names = [[f"{c.name} {landmark}" for landmark in c.landmark_names] for c in categories]
    metadata: dict[str, Any] = {
        "thing_classes": [c.name for c in categories],
        "thing_dataset_id_to_contiguous_id": {c.id: i for i, c in enumerate(categories)},
    }
    if taxonomy.num_landmarks:  # all channels, as the stock mapper and keypoint head want them
        metadata["keypoint_names"] = [landmark for own in names for landmark in own]
        metadata["keypoint_flip_map"] = [
            (own[left], own[right])
            for c, own in zip(categories, names, strict=True)
            for left, right in c.flip_pairs
        ]
    return metadata


def register_deepfashion2(root: str | Path | None = None) -> None:
    """Register ``deepfashion2_train``, ``deepfashion2_validation`` and ``deepfashion2_test``.

    Nothing is read before a data set is asked for. Calling it again does no harm; with another
    root the names move there.

    Args:
        root: the folder that holds ``deepfashion2/``; None takes :func:`datasets_folder`.
    """
    base = (datasets_folder() if root is None else Path(root)) / "deepfashion2"
    for split in ANNOTATED_SPLITS:
        json_file = base / "annotations" / f"{split}.json"
        register_deepfashion2_instances(f"deepfashion2_{split}", json_file, base / split / "image")
    image_root = str(base / TEST_SPLIT / "image")
    images = DataSet(partial(load_images, image_root), DEEPFASHION2, {"image_root": image_root})
    register_data_set(f"deepfashion2_{TEST_SPLIT}", images, "deepfashion2")


def register_deepfashion2_instances(
    name: str, json_file: str | Path, image_root: str | Path
) -> None:
    """Register a converted file (dense or compact) and its images as data set ``name``."""
    where = {"json_file": str(json_file), "image_root": str(image_root)}
    load = partial(load_deepfashion2, **where, dataset_name=name)
    register_data_set(name, DataSet(load, DEEPFASHION2, where), "deepfashion2")


def load_images(image_root: str | Path) -> list[DatasetDict]:
    """Dataset dicts, without annotations, of all numbered images of a folder. Their ``source`` is
    what the test set's official files beside the folder say (see ``image_sources``), or None.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: one of these files cannot be used.
    """
    folder = list_folder(Path(image_root), IMAGE_SUFFIXES, str(image_root))
    sources = read_image_sources(Path(image_root).parent)
    dicts, problems = [], [str(problem) for problem in folder.problems]
    for number in folder.numbers.tolist():
        path = folder.path / folder.name(number)
        try:
            width, height = read_image_size(path)
        except (UnreadableImageError, OSError) as error:
            problems.append(f"{error} in {path}")
            continue
        image = _dataset_dict(path, number, width, height)
        dicts.append({**image, "source": sources.get(number)})
    if problems:
        logger.warning("%s: %d left out, first: %s", image_root, len(problems), problems[0])
    return dicts


def load_annotation_file(annotation_file: str | Path, image_file: str | Path) -> DatasetDict:
    """The dataset dict of one image from DeepFashion2's own annotation file.

    Items that cannot be used are left out with a warning; annotations are numbered from 1.

    Raises:
        FileNotFoundError: one of the files is not there.
        ValueError: one of the files cannot be used.
    """
    annotation_file, image_file = Path(annotation_file), Path(image_file)
    reading = image_file
    try:
        width, height = read_image_size(image_file)
        reading = annotation_file
        data = annotation_file.read_bytes()
        parsed = parse_annotation(data, str(annotation_file), width, height)
    except ValueError as error:
        raise ValueError(f"{error} in {reading}") from error
    for problem in parsed.problems:
        logger.warning("item left out: %s", problem)
    number = int(image_file.stem) if image_file.stem.isdigit() else 0
    image = _dataset_dict(image_file, number, width, height)
    image.update(source=parsed.source, pair_id=parsed.pair_id)
    image["annotations"] = [_instance(item, index) for index, item in enumerate(parsed.items, 1)]
    return image


def _instance(item: Item, number: int) -> dict[str, Any]:
    """An ``annotations`` entry."""
    keypoints = np.array(item.landmarks, dtype=np.float32).reshape(-1, 3)
    keypoints[:, :2] += 0.5  # from pixel indices to coordinates, as the host's loader does
    return {
        "id": number,
        # Floats, because the host moves a box of integers by whole pixels.
        "bbox": [float(value) for value in item.bbox],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": DEEPFASHION2.index(item.category.id),
        "iscrowd": 0,
        "segmentation": [np.array(polygon, dtype=np.float64) for polygon in item.segmentation],
        "keypoints": keypoints,
        "num_keypoints": item.num_labelled,
        "style": item.style,
        **{name: getattr(item, name) for name in ATTRIBUTES},
    }


def load_deepfashion2(
    json_file: str | Path, image_root: str | Path, dataset_name: str | None = None
) -> list[DatasetDict]:
    """Dataset dicts from a converted file, ours or the official converter's, dense or compact.

    Items that no model can use (box without area or wholly outside the image, no polygon) are left
    out with a warning that counts them.

    Args:
        image_root: the folder of the images.
        dataset_name: for messages.

    Raises:
        FileNotFoundError: there is no such file; the message has the command that makes it.
        ValueError: the file holds something else; the message says what and where.
    """
    json_file, image_root = Path(json_file), Path(image_root)
    if not json_file.is_file():
        raise MissingDataError(_how_to_convert(json_file, image_root))
    name = dataset_name or str(json_file)
    return CocoSource(name, json_file, image_root, DEEPFASHION2, DEEPFASHION2, needs_masks=True)()


def _how_to_convert(json_file: Path, image_root: Path) -> str:
    split, root = image_root.parent.name or "SPLIT", image_root.parent.parent
    return (
        f"the converted annotations {json_file} are not there; make them with\n"
        f"  python tools/convert_df2.py --root {root} --split {split} --output {json_file} "
        "--compact\n"
        "(DETECTRON2_DATASETS names the folder that holds deepfashion2/)"
    )


def _dataset_dict(path: Path, number: int, width: int, height: int) -> DatasetDict:
    return {
        "file_name": str(path),
        "image_id": number,
        "height": height,
        "width": width,
        "source": None,
        "pair_id": None,
    }
