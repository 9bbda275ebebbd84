"""Many photos through one predictor: decoded while the model works, and batched.

A batch's images have one size after padding, so that each is computed as it would be alone: beside
a larger one it would get a wider border. Results come in the order of the photos; what waits
meanwhile is bounded by bytes, whatever the photos' sizes are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Image
from match_rcnn.utils.memory import give_back

T = TypeVar("T")

#: What an image that is left out fails with; anything else ends the work.
BROKEN = (ValueError, OSError)
_WAITING_BYTES = 192 << 20  # of images that are read, or about to be
_RESIZED_PIXELS = 2 << 20  # of a batch on the CPU: there larger ones gain nothing
_PHOTO_PIXELS = 64 << 20  # of a batch's photos, at whose size its masks are
_GIVE_BACK = 64  # images after which freed memory goes back to the system


class Shot(NamedTuple):
    """An image to come.

    Attributes:
        name: unique among all.
        read: gives (H, W, 3) uint8 in BGR.
        pixels: H * W, as far as is known before it is read.
        more: what the caller wants to know of it later.
    """

    name: str
    read: Callable[[], Image]
    pixels: int = 0
    more: Any = None


class Ready(NamedTuple):
    """A photo as the network takes it.

    Attributes:
        resized: (h, w, 3), in the model's order of colours.
        size: height and width of the picture that results are in pixels of.
        photo: itself, where it is needed later.
    """

    resized: Image
    size: tuple[int, int]
    photo: Image | None = None


class Batches:
    """Which photos go through a predictor's network at once, and what comes of them."""

    def __init__(self, predictor: MatchRCNNPredictor) -> None:
        self._predictor = predictor
        self._model: Any = predictor.model
        self._on_cpu = next(self._model.parameters()).device.type == "cpu"

    def fits(self, new: Ready, batch: Sequence[Ready]) -> bool:
        """Whether a photo goes with a batch that is not empty."""
        if self._padded(new) != self._padded(batch[0]):
            return False
        pixels = (len(batch) + 1) * new.resized.shape[0] * new.resized.shape[1]
        photos = sum(r.size[0] * r.size[1] for r in (*batch, new))
        return photos <= _PHOTO_PIXELS and (pixels <= _RESIZED_PIXELS or not self._on_cpu)

    def _padded(self, ready: Ready) -> tuple[int, ...]:
        unit = max(1, self._model.backbone.size_divisibility)
        return tuple(-(-side // unit) * unit for side in ready.resized.shape[:2])

    @torch.no_grad()
    def garments(self, batch: Sequence[Ready]) -> list[list[Garment]]:
        """The garments of each photo."""
        inputs = [
            {
                "image": torch.as_tensor(r.resized.astype(np.float32).transpose(2, 0, 1)),
                "height": r.size[0],
                "width": r.size[1],
            }
            for r in batch
        ]
        predictor = self._predictor
        return [
            predictor.garments(predictor.shown(one["instances"])) for one in self._model(inputs)
        ]


@dataclass
class _Waiting(Generic[T]):
    shot: Shot
    bytes: int
    ready: Future[Ready]
    result: Future[T] | Exception | None = None


class BulkPredictor(Generic[T]):
    """A predictor's garments of many photos, each handed to ``finish`` in a thread.

    Args:
        finish: from a shot, its (height, width), the photo (None without ``keep``) and its garments
            to what :meth:`__call__` gives out.
        keep: whether ``finish`` needs the photo.
        batch: images at once, at most.
        threads: that read and finish while the model works.
    """

    def __init__(
        self,
        predictor: MatchRCNNPredictor,
        finish: Callable[[Shot, tuple[int, int], Image | None, list[Garment]], T],
        *,
        keep: bool = False,
        batch: int = 16,
        threads: int = 2,
    ) -> None:
        if batch < 1:
            raise ValueError(f"expected a batch of 1 or more, got {batch}")
        self._predictor, self._finish, self._keep = predictor, finish, keep
        self._batch, self._threads = batch, threads
        self._batches = Batches(predictor)

    def __call__(self, shots: Iterable[Shot]) -> Iterator[tuple[Shot, T | Exception]]:
        """Shots in their order, each with what became of it: an exception of :data:`BROKEN` if it
        could not be read."""
        coming, ended = iter(shots), False
        waiting: deque[_Waiting[T]] = deque()
        given = 0
        with ThreadPoolExecutor(self._threads, "predict") as pool:
            while True:
                while not ended and self._has_room(waiting):
                    shot = next(coming, None)
                    ended = shot is None
                    if shot is not None:
                        waiting.append(self._enter(shot, pool))
                if not waiting:
                    return
                left = [one for one in waiting if one.result is None]
                if left:
                    self._predict(left, pool)
                while waiting and _is_over(waiting[0], wait=not left):
                    one = waiting.popleft()
                    given += 1
                    if given % _GIVE_BACK == 0:
                        give_back()
                    assert one.result is not None
                    yield (
                        one.shot,
                        one.result if isinstance(one.result, Exception) else one.result.result(),
                    )

    def _has_room(self, waiting: deque[_Waiting[T]]) -> bool:
        held = sum(one.bytes for one in waiting)
        return not waiting or (len(waiting) < 4 * self._batch and held < _WAITING_BYTES)

    def _enter(self, shot: Shot, pool: ThreadPoolExecutor) -> _Waiting[T]:
        cfg = self._predictor.cfg.INPUT
        resized = cfg.MIN_SIZE_TEST * cfg.MAX_SIZE_TEST
        size = 3 * (resized + (shot.pixels if self._keep else 0))
        return _Waiting(shot, size, pool.submit(self._read, shot))

    def _read(self, shot: Shot) -> Ready:
        photo = self._predictor.read(shot.read())
        resized = self._predictor.resized(photo, shot.name)
        return Ready(resized, (photo.shape[0], photo.shape[1]), photo if self._keep else None)

    def _predict(self, left: list[_Waiting[T]], pool: ThreadPoolExecutor) -> None:
        """The first that wait, and those that go with them."""
        chosen: list[tuple[_Waiting[T], Ready]] = []
        for one in left:
            if len(chosen) == self._batch or not (one.ready.done() or len(chosen) < 2):
                break
            try:
                ready = one.ready.result()
            except BROKEN as error:
                one.result = error
                continue
            if not chosen or self._batches.fits(ready, [r for _, r in chosen]):
                chosen.append((one, ready))
        if not chosen:
            return
        found = self._batches.garments([ready for _, ready in chosen])
        for (one, ready), garments in zip(chosen, found, strict=True):
            one.result = pool.submit(self._finish, one.shot, ready.size, ready.photo, garments)
            one.ready = Future()  # its image is held by nobody now


def _is_over(one: _Waiting[Any], wait: bool) -> bool:
    """Whether a result is there. Args: wait: for one that is being finished."""
    if one.result is None:
        return False
    return wait or isinstance(one.result, Exception) or one.result.done()
