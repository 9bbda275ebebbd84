"""Seconds by stage of a model's step."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: Stage by the path of the method that does it.
HOST_STAGES = {
    "preprocess_image": "normalise, pad",
    "backbone.forward": "backbone",
    "proposal_generator.forward": "RPN",
    "roi_heads.label_and_sample_proposals": "sampling",
    "roi_heads._forward_box": "box stream",
    "roi_heads._forward_mask": "mask stream",
    "roi_heads._forward_keypoint": "landmark stream",
    **{
        f"roi_heads.streams.{stream}.{method}": name
        for stream, name in {
            "MaskStream": "mask stream",
            "LandmarkStream": "landmark stream",
            "MatchStream": "match stream",
        }.items()
        for method in ("losses", "infer")
    },
}
TORCHVISION_STAGES = {
    "transform.forward": "normalise, pad",
    "backbone.forward": "backbone",
    "rpn.forward": "RPN",
    "roi_heads.forward": "box and mask streams",
}


class StageTimer:
    """Adds up the seconds of named stages.

    On a GPU a stage ends when the device is done with it, which keeps processor and device from
    working side by side: whole steps are to be timed with ``active`` False.

    Attributes:
        current: the innermost stage that is under way; "" between stages.
    """

    def __init__(self, device: str) -> None:
        self.active = False
        self.current = ""
        self.seconds: dict[str, float] = defaultdict(float)
        self._on_gpu = torch.device(device).type == "cuda"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        outer, self.current = self.current, name
        start = self._now() if self.active else 0.0
        try:
            yield
        finally:
            self.current = outer
        if self.active:
            self.seconds[name] += self._now() - start

    def _now(self) -> float:
        if self._on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def watch(self, model: Any, stages: dict[str, str]) -> None:
        """Time the methods of ``model`` that ``stages`` names; those that it lacks are left out."""
        for path, name in stages.items():
            owner: Any = model
            *parts, method = path.split(".")
            for part in parts:
                owner = _part(owner, part)
            if hasattr(owner, method):
                setattr(owner, method, self._timed(getattr(owner, method), name))

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return timed


def _part(owner: Any, name: str) -> Any:
    """An attribute, or of several objects the one whose class has this name; None without."""
    if isinstance(owner, tuple):
        return next((part for part in owner if type(part).__name__ == name), None)
    return getattr(owner, name, None)
