"""DeepFashion2's files to one COCO file: checked, streamed, in several processes.

Memory does not grow with the number of images (but for 8 bytes each, and what is reported as a
problem): worker processes turn a few images at a time into encoded JSON, and the main process
numbers the annotations and writes them, in file order, with a bounded number of chunks under way.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tqdm import tqdm

from match_rcnn.data.coco import CocoWriter, annotation_record, encode_annotation, image_record
from match_rcnn.data.folders import list_folder
from match_rcnn.data.image_size import (
    IMAGE_SUFFIXES,
    TruncatedImageError,
    UnreadableImageError,
    read_image_size,
)
from match_rcnn.data.problems import (
    IMAGE_LEFT_OUT,
    AnnotationError,
    Problem,
    ProblemReport,
    Reason,
)
from match_rcnn.data.retrieval_truth import RetrievalTruthWriter, encode_item, kind_of
from match_rcnn.data.sources.deepfashion2 import parse_annotation
from match_rcnn.utils.files import atomic_write, write_json
from match_rcnn.utils.parallel import available_cores, ordered_map

#: (image id, image file name, annotation file name)
Member = tuple[int, str, str]

ON_ERROR = ("report", "fail")

_CHUNK = 64
# Below it, starting processes takes longer than they save.
_IMAGES_PER_WORKER = 2000


class ConversionError(ValueError):
    """A problem was found and none was allowed."""


@dataclass(frozen=True)
class Split:
    """Where a split lies, and in which forms its annotations are wanted."""

    root: str
    name: str
    compact: bool
    retrieval: bool = False


@dataclass
class Chunk:
    """What a worker makes of a few images: encoded JSON in order, that of the retrieval task by
    kind, and what it found."""

    size: int
    images: list[bytes] = field(default_factory=list)
    annotations: list[bytes] = field(default_factory=list)
    retrieval: dict[str, list[bytes]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    kept: Counter[Reason] = field(default_factory=Counter)


def convert(
    root: str | Path,
    split: str,
    output: str | Path,
    *,
    compact: bool = False,
    workers: int | None = None,
    on_error: str = "report",
    retrieval: str | Path | None = None,
    progress: bool = False,
) -> ProblemReport:
    """Convert ``root/split/{image,annos}`` into the COCO file ``output``.

    The file is written whole or not at all, the same for every number of workers. What was left
    out is listed in ``output`` + ``.problems.json``.

    Args:
        compact: keep the category's landmarks only, see :mod:`match_rcnn.data.coco`.
        workers: processes; None takes one for each free core where there is enough to do.
        on_error: ``"report"`` leaves broken items and images out, ``"fail"`` ends at the first.
        retrieval: also write ``<retrieval>_query.json`` and ``<retrieval>_gallery.json``, the
            retrieval task's ground truth (:mod:`match_rcnn.data.retrieval_truth`).
        progress: show a bar on the standard error stream.

    Raises:
        FileNotFoundError: the folders are not there.
        ConversionError: the first problem, with ``on_error="fail"``.
        ValueError: an argument has no meaning.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}; got {on_error!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"expected at least one worker, got {workers}")
    output = Path(output)
    members = SplitMembers(Path(root), split)
    report = ProblemReport()
    _note(report, members.problems, Counter(), on_error)
    wanted = Split(str(root), split, compact, retrieval is not None)
    job = partial(_convert_chunk, wanted, members)
    with (
        ordered_map(job, members.num_chunks, workers or _default_workers(len(members))) as chunks,
        atomic_write(output) as file,
        RetrievalTruthWriter(retrieval) if retrieval is not None else nullcontext() as truth,
        _bar(split, len(members), progress) as advance,
    ):
        with CocoWriter(file, compact, output.parent) as writer:
            for chunk in chunks:
                _note(report, chunk.problems, chunk.kept, on_error)
                writer.write(chunk.images, chunk.annotations)
                for kind, entries in chunk.retrieval.items():
                    assert truth is not None
                    truth.write(kind, entries)
                advance(chunk.size)
        report.images, report.items = writer.num_images, writer.num_annotations
        write_json(f"{output}.problems.json", report.to_json())
    return report


@contextmanager
def _bar(name: str, total: int, wanted: bool) -> Iterator[Callable[[int], Any]]:
    if not wanted:  # tqdm would leave a thread behind, and later workers could not be forked
        yield lambda _: None
        return
    with tqdm(total=total, unit="image", desc=name) as bar:
        yield bar.update


def _note(
    report: ProblemReport, problems: list[Problem], kept: Counter[Reason], on_error: str
) -> None:
    if problems and on_error == "fail":
        raise ConversionError(str(problems[0]))
    report.problems.extend(problems)
    report.kept.update(kept)


class SplitMembers:
    """Every number that has an image or an annotation file, in order.

    Attributes:
        problems: the files whose name could not be understood.
    """

    def __init__(self, root: Path, split: str) -> None:
        self._images = list_folder(root / split / "image", IMAGE_SUFFIXES, f"{split}/image")
        self._annos = list_folder(root / split / "annos", (".json",), f"{split}/annos")
        self._numbers = np.union1d(self._images.numbers, self._annos.numbers)
        self.problems = self._images.problems + self._annos.problems

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def num_chunks(self) -> int:
        return -(-len(self) // _CHUNK)

    def chunk(self, index: int) -> list[Member]:
        numbers = self._numbers[index * _CHUNK : (index + 1) * _CHUNK].tolist()
        return [(n, self._images.name(n), self._annos.name(n)) for n in numbers]


def _convert_chunk(split: Split, members: SplitMembers, index: int) -> Chunk:
    """Read, check and encode a few images."""
    group = members.chunk(index)
    chunk = Chunk(len(group))
    for member in group:
        _convert_image(split, member, chunk)
    return chunk


def _convert_image(split: Split, member: Member, chunk: Chunk) -> None:
    image_id, image_name, annos_name = member
    image_file, annos_file = f"{split.name}/image/{image_name}", f"{split.name}/annos/{annos_name}"
    file = annos_file
    try:
        data = _read_annotation(split.root, annos_file)
        file = image_file
        width, height = _read_size(split.root, image_file)
        file = annos_file
        annotation = parse_annotation(data, annos_file, width, height)
    except AnnotationError as error:
        chunk.problems.append(Problem(file, None, error.reason, error.detail, IMAGE_LEFT_OUT))
        return
    image = image_record(image_id, image_name, width, height, annotation)
    chunk.images.append(orjson.dumps(image))
    for item in annotation.items:
        record = annotation_record(image_id, annotation, item)
        chunk.annotations.append(encode_annotation(record, item.category, split.compact))
        kind = kind_of(annotation) if split.retrieval else None
        if kind is not None:
            entry = encode_item(kind, image_id, annotation, item)
            chunk.retrieval.setdefault(kind, []).append(entry)
    chunk.problems.extend(annotation.problems)
    chunk.kept.update(annotation.kept)


def _read_annotation(root: str, name: str) -> bytes:
    try:
        with open(f"{root}/{name}", "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        detail = "expected an annotation file beside the image, got none"
        raise AnnotationError(Reason.ANNOTATION_MISSING, detail) from None
    except OSError as error:
        detail = f"expected a file, got {error.strerror}"
        raise AnnotationError(Reason.ANNOTATION_UNREADABLE, detail) from error


def _read_size(root: str, name: str) -> tuple[int, int]:
    try:
        return read_image_size(f"{root}/{name}")
    except FileNotFoundError:
        detail = "expected an image beside the annotation file, got none"
        raise AnnotationError(Reason.IMAGE_MISSING, detail) from None
    except TruncatedImageError as error:
        raise AnnotationError(Reason.IMAGE_TRUNCATED, str(error)) from error
    except (UnreadableImageError, OSError) as error:
        raise AnnotationError(Reason.IMAGE_UNREADABLE, str(error)) from error


def _default_workers(images: int) -> int:
    return max(1, min(available_cores(), images // _IMAGES_PER_WORKER))
