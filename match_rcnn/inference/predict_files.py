"""The garments of photos, folders and videos into a folder of results; resumable."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tqdm import tqdm

from match_rcnn.data.images import IMAGE_SUFFIXES, write_image
from match_rcnn.inference.bulk import BulkPredictor, Shot
from match_rcnn.inference.drawing import draw_garments
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.results import SETTINGS, Results, line
from match_rcnn.inference.shots import Frame, common_folder, find_files, is_video, name_of, shots
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Image
from match_rcnn.utils.files import read_json, write_json

FORMATS = ("jsonl", "coco", "parquet", "pictures")
REPORT = "report.json"


@dataclass
class PredictionReport:
    """What a run did.

    Attributes:
        files: photos and videos that were asked for.
        passed_over: of them, had been done before.
        garments: by category, of all lines in the folder.
        images: of the folder: photos and frames.
        broken: file and what is wrong with it; tried again by the next run.
        written: files of results.
    """

    files: int
    passed_over: int
    garments: dict[str, int] = field(default_factory=dict)
    images: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"num_broken": len(self.broken), **vars(self)}

    def __str__(self) -> str:
        width = max([8, *map(len, self.garments)])
        lines = [f"{name:{width}}  {count}" for name, count in self.garments.items()]
        lines.append(f"{'garments':{width}}  {sum(self.garments.values())}")
        lines.append(
            f"{self.images} images of {self.files} files; {self.passed_over} files done before"
        )
        if self.broken:
            first = next(iter(self.broken.values()))
            lines.append(f"{len(self.broken)} broken files, such as {first}")
        return "\n".join([*lines, "written: " + ", ".join(self.written)])


class _Found(NamedTuple):
    line: bytes
    picture: Image | None  # of a video's frame


def predict_files(
    predictor: MatchRCNNPredictor,
    paths: Sequence[Path],
    output: Path,
    *,
    formats: Sequence[str] = ("jsonl",),
    every: int = 1,
    embeddings: bool = False,
    batch: int = 16,
    progress: bool = False,
) -> PredictionReport:
    """Predict what is not in ``output`` yet, and write it there in every form that is asked for.

    Args:
        paths: see :func:`match_rcnn.inference.shots.find_files`.
        formats: of :data:`FORMATS`; ``jsonl`` is always written, as others are made from it.
        every: of a video, each n-th frame.
        embeddings: write the match network's vectors too.
        batch: images at once, at most.

    Raises:
        ValueError, FileNotFoundError: arguments that cannot be; or ``output`` was made with other
            weights or settings.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or every < 1:
        what = f"the format {unknown[0]!r}" if unknown else f"every {every}-th frame"
        raise ValueError(
            f"expected one of {', '.join(FORMATS)} and a step of 1 or more, got {what}"
        )
    files = find_files(paths, without=output)
    pictures = "pictures" in formats
    settings = {
        "model": _digest(predictor),
        "every": every,
        "embeddings": embeddings,
        "pictures": pictures,
    }
    note = output / SETTINGS
    root = Path(read_json(note)["root"]) if note.is_file() else common_folder(files)
    results = Results(output, {**settings, "root": str(root)})
    left = [file for file in files if name_of(file, root) not in results.done]
    report = PredictionReport(len(files), len(files) - len(left))
    work = _Work(results, output / "pictures" if pictures else None, embeddings, report)
    bulk = BulkPredictor(predictor, work.finish, keep=pictures, batch=batch)
    with tqdm(total=len(left), desc="predicting", unit="file", disable=not progress) as bar:
        for shot, found in bulk(shots(left, root, every)):
            work.take(shot, found)
            bar.update(not isinstance(shot.more, Frame) or shot.more.last)
    _write_forms(results, report, predictor, formats)
    write_json(output / REPORT, report.to_json())
    return report


def _digest(predictor: MatchRCNNPredictor) -> str:
    """Of the weights and of the config, but for where the weights lie."""
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    state = sha256(cfg.dump().encode())
    for name, value in sorted(predictor._predictor.model.state_dict().items()):
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


class _Work:
    """From what was found to lines and pictures."""

    def __init__(
        self, results: Results, pictures: Path | None, embeddings: bool, report: PredictionReport
    ) -> None:
        self._results, self._pictures, self._embeddings = results, pictures, embeddings
        self._report = report
        self._video: Any = None

    def finish(
        self, shot: Shot, size: tuple[int, int], photo: Image | None, garments: list[Garment]
    ) -> _Found:
        """In a thread. A photo's picture is there before its line is."""
        text = line(shot, size, garments, self._embeddings)
        if self._pictures is None or photo is None:
            return _Found(text, None)
        picture = draw_garments(photo, garments)
        if isinstance(shot.more, Frame):
            return _Found(text, picture)
        write_image(self._pictures / picture_name(shot.name), picture)
        return _Found(text, None)

    def take(self, shot: Shot, found: _Found | Exception) -> None:
        """In the order of the shots."""
        if isinstance(found, Exception):
            self._report.broken[shot.name] = str(found)
            return
        if found.picture is not None:
            self._film(shot, found.picture)
        self._results.append([found.line])

    def _film(self, shot: Shot, picture: Image) -> None:
        """A video has its name when it is whole."""
        assert self._pictures is not None
        path = self._pictures / picture_name(shot.name)
        part = path.with_name(f".part.{path.name}")
        if self._video is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            size = picture.shape[1], picture.shape[0]
            code = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
            self._video = cv2.VideoWriter(str(part), code, shot.more.rate, size)
            if not self._video.isOpened():
                raise ValueError(f"{path} cannot be written: OpenCV has no encoder for mp4 here")
        self._video.write(picture)
        if shot.more.last:
            self._video.release()
            self._video = None
            part.replace(path)


def picture_name(name: str) -> str:
    """Below the folder of pictures; two names never share one.

    ``x.jpg`` stays, ``x.png`` becomes ``x.png.jpg``, and a photo that has such a name itself
    ``x.png.jpg.jpg``; videos likewise, as mp4. What lies above the root goes into ``_up``.
    """
    path = Path(*("_up" if part == ".." else part for part in Path(name).parts if part != "/"))
    suffix = ".mp4" if is_video(name) else ".jpg"
    stem_is_a_file = Path(path.stem).suffix.lower() in IMAGE_SUFFIXES or is_video(path.stem)
    if path.suffix == suffix and not stem_is_a_file:
        return path.as_posix()
    return f"{path.as_posix()}{suffix}"


def _write_forms(
    results: Results,
    report: PredictionReport,
    predictor: MatchRCNNPredictor,
    formats: Sequence[str],
) -> None:
    counts: Counter[str] = Counter()
    for row in results.rows():
        report.images += 1
        counts.update(garment["category"] for garment in row["garments"])
    report.garments = dict(counts.most_common())
    written = [results.file] if results.file.is_file() else []
    if "coco" in formats:
        written.append(results.write_coco(predictor.taxonomy))
    if "parquet" in formats:
        written.append(results.write_parquet())
    if "pictures" in formats:
        written.append(results.folder / "pictures")
    report.written = list(map(str, written))
