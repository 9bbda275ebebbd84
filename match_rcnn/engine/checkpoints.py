"""Checkpoints that are whole or not there at all, on either host, and that make room for others."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from match_rcnn.d2 import DetectionCheckpointer
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.engine.faults import NonFiniteFault, explain_writing
from match_rcnn.utils.files import atomic_write

logger = logging.getLogger(__name__)

_NUMBERED = re.compile(r"model_(\d{7,})\.pth")


class EnduringCheckpointer(DetectionCheckpointer):
    """The host's checkpointer, but for how it writes.

    A file takes its name when all of it is on the disk, and ``last_checkpoint`` names it only
    after that, so a process killed at any moment leaves the checkpoint before. Weights that are
    not finite are not saved.

    Args:
        kept: how many ``model_<iteration>.pth`` stay; 0: all.
        taxonomy: of the model; every file says it, so that a predictor needs no data set.

    Attributes:
        last_iteration: of the newest file from which training can go on; None: none yet.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        save_dir: str,
        *,
        kept: int = 0,
        taxonomy: Taxonomy = DEEPFASHION2,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        if kept < 0:
            raise ValueError(f"SOLVER.CHECKPOINTS_KEPT must be 0 (all) or more, got {kept}")
        self.kept = kept
        self.taxonomy = taxonomy
        self.last_iteration: int | None = None

    def save(
        self,
        name: str,
        *,
        resumable: bool = True,
        weights: Mapping[str, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write ``name``.pth.

        Args:
            resumable: whether ``--resume`` shall go on from this file.
            weights: None for the model's.
            kwargs: more data; ``iteration`` is the last one that was done.

        Raises:
            NonFiniteFault: a weight is infinite or NaN.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": dict(self.model.state_dict() if weights is None else weights)}
        _check_finite(data["model"], name)
        data |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("Saving checkpoint to %s", path)
        with _writing(path) as file:
            torch.save({**data, "taxonomy": self.taxonomy.to_dict(), **kwargs}, file)
        if resumable:
            self.tag_last_checkpoint(path.name)
            self.last_iteration = kwargs.get("iteration")
            self._make_room()

    def save_iteration(self, iteration: int) -> None:
        """Save what ``iteration`` ended with, unless that was done."""
        if self.last_iteration != iteration:
            self.save(f"model_{iteration:07d}", iteration=iteration)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint from which training is to resume."""
        with _writing(Path(self.save_dir) / "last_checkpoint") as file:
            file.write(last_filename_basename.encode())

    def remove_leftovers(self) -> None:
        """Remove what killed processes were writing; for the only process that writes here."""
        if self.save_dir and self.save_to_disk:
            for pattern in (".*.pth.*", ".last_checkpoint.*"):
                for path in Path(self.save_dir).glob(pattern):
                    path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove numbered checkpoints older than the newest ``kept``. Files with later iterations
        than the current one's are of another run and left alone."""
        if not self.kept or self.last_iteration is None:
            return
        found: dict[int, Path] = {}
        for path in Path(self.save_dir).iterdir():
            match = _NUMBERED.fullmatch(path.name)
            if match and int(match[1]) <= self.last_iteration:
                found[int(match[1])] = path
        last = Path(self.get_checkpoint_file())
        for iteration in sorted(found)[: -self.kept]:
            if found[iteration] != last:
                found[iteration].unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """A file that is whole or not there; its name is in the fault if the disk is full."""
    try:
        with atomic_write(path) as file:
            yield file
    except (OSError, RuntimeError) as error:
        fault = explain_writing(error, str(path))
        if fault is None:
            raise
        raise fault from error


def _check_finite(weights: Mapping[str, torch.Tensor], name: str) -> None:
    floats = {k: w for k, w in weights.items() if w.is_floating_point() and w.numel()}
    if not floats:
        return
    finite = torch.stack([w.isfinite().all() for w in floats.values()]).tolist()
    bad = [k for k, is_finite in zip(floats, finite, strict=True) if not is_finite]
    if bad:
        raise NonFiniteFault(
            f"{name}.pth is not written: {len(bad)} weights are infinite or NaN, such as {bad[0]}. "
            "Lower SOLVER.BASE_LR or set SOLVER.CLIP_GRADIENTS.ENABLED."
        )
