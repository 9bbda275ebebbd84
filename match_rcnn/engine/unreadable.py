"""The training images that could not be read: counted, listed, and too many of them."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from match_rcnn.d2 import HookBase, comm
from match_rcnn.engine.faults import DataFault
from match_rcnn.utils.files import write_json

logger = logging.getLogger(__name__)


class UnreadableImages(HookBase):
    """Keeps ``unreadable_images.json``, and its content in the checkpoint.

    Args:
        path: of that file; the main process writes it.
        total: images of the training set.
        limit: the share of them that may be unreadable.
    """

    def __init__(self, path: Path, total: int, limit: float) -> None:
        self._path = path
        self._total = total
        self._limit = limit
        self._images: dict[str, dict[str, Any]] = {}

    @property
    def share(self) -> float:
        """Of the training set's images, how many were found unreadable."""
        return len(self._images) / self._total

    def before_train(self) -> None:
        if not comm.is_main_process():
            return
        if self._images:
            self._write()
        else:
            self._path.unlink(missing_ok=True)  # an earlier run's

    def add(self, found: Iterable[Mapping[str, str]], iteration: int) -> None:
        """Take in ``{"file_name", "error"}`` of all processes.

        Raises:
            DataFault: the share is above the limit.
        """
        for image in found:
            known = self._images.get(image["file_name"])
            if known is None:
                logger.warning("Replaced an image that cannot be read: %s", image["error"])
                known = {**image, "first_iteration": iteration, "times": 0}
                self._images[image["file_name"]] = known
            known["times"] += 1
        if comm.is_main_process():
            self._write()
        if self.share > self._limit:
            raise DataFault(
                f"{len(self._images)} of {self._total} training images ({self.share:.2%}) cannot "
                f"be read, more than DATALOADER.MAX_UNREADABLE_SHARE {self._limit:.2%} allows; "
                f"{self._path} lists them. Restore them, leave them out, or allow more."
            )

    def _write(self) -> None:
        write_json(
            self._path,
            {
                "training_images": self._total,
                "share": self.share,
                "largest_share_allowed": self._limit,
                "images": [self._images[name] for name in sorted(self._images)],
            },
        )

    def state_dict(self) -> dict[str, Any]:
        return {"images": list(self._images.values())} if self._images else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._images = {image["file_name"]: dict(image) for image in state["images"]}
