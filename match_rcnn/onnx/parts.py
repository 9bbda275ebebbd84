"""An exported model's folder: what ``model.json`` says, and its ONNX files as functions.

Shapes: ``R`` RoIs of all images of a batch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.onnx.boxes import levels_of
from match_rcnn.utils.arrays import Array, Float32Array, IntArray

DESCRIPTION = "model.json"
#: Of ``model.json``; a change of its keys that readers must know of is a new one.
FORMAT = 1


def read_description(folder: Path) -> dict[str, Any]:
    """``model.json`` of an exported model.

    Raises:
        FileNotFoundError: the folder has none, or lacks a file that it names.
        ValueError: it is not JSON, or of another form.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise FileNotFoundError(f"no {file}: {folder} is no model that tools/export_onnx.py wrote")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        stated = found.get("format") if isinstance(found, dict) else None
        raise ValueError(
            f"{file}: expected format {FORMAT}, got {stated!r}; export the model again"
        )
    missing = [name for name in found["files"] if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{file} names {', '.join(missing)}, which {folder} lacks")
    return found


class Sessions:
    """The ONNX files of a folder, each opened when it is first run.

    Args:
        threads: of onnxruntime; 0: as many as it sees fit.
        providers: onnxruntime's execution providers; the processor by default.

    Raises:
        ImportError: onnxruntime is not installed.
    """

    def __init__(
        self, folder: Path, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "running an exported model needs onnxruntime; pip install onnxruntime"
            ) from error
        self._runtime: Any = onnxruntime
        self._folder, self._providers = folder, list(providers)
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._open: dict[str, Any] = {}

    def run(self, file: str, inputs: Mapping[str, Array]) -> dict[str, Any]:
        """The outputs of one file by name."""
        if file not in self._open:
            path = str(self._folder / file)
            self._open[file] = self._runtime.InferenceSession(
                path, self._options, providers=self._providers
            )
        session = self._open[file]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    def pool(
        self, spec: Mapping[str, Any], maps: Mapping[str, Float32Array], rois: Float32Array
    ) -> Float32Array:
        """(R, C, S, S) features of RoIs, each from the map that suits its size.

        Args:
            spec: a ``pooler`` of ``model.json``.
            maps: of the backbone, by name.
            rois: (R, 5) image of the batch, x1, y1, x2, y2.
        """
        level = levels_of(
            rois[:, 1:],
            len(spec["levels"]),
            spec["lowest_level"],
            spec["canonical_size"],
            spec["canonical_level"],
        )
        inputs: dict[str, Array] = {name: maps[name] for name in spec["levels"]}
        for index, name in enumerate(spec["levels"]):
            chosen = rois[level == index]
            inputs[f"boxes_{name}"] = np.ascontiguousarray(chosen[:, 1:])
            inputs[f"images_{name}"] = chosen[:, 0].astype(np.int64)
        by_level: Float32Array = self.run(spec["file"], inputs)["features"]
        pooled = np.empty_like(by_level)
        pooled[np.argsort(level, kind="stable")] = by_level
        return pooled

    def suppress(
        self, boxes: Float32Array, scores: Float32Array, groups: IntArray, threshold: float
    ) -> IntArray:
        """The rows that non-maximum suppression within each group keeps, best score first.

        Args:
            boxes: (R, 4).
            scores: (R,).
            groups: (R,) such as classes; boxes of different groups leave each other alone.
            threshold: of two boxes with a greater IoU the one with the lower score goes.
        """
        kept = [np.zeros(0, dtype=np.int64)]
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            inputs = {
                "boxes": boxes[None, rows],
                "scores": scores[None, None, rows],
                "most": np.array([len(rows)]),
                "threshold": np.array([threshold], dtype=np.float32),
            }
            kept.append(rows[np.sort(self.run("nms.onnx", inputs)["selected"][:, 2])])
        every = np.sort(np.concatenate(kept))
        return every[np.argsort(-scores[every], kind="stable")]
