"""A training step or an inference of one model, and what it gave."""

from typing import Any

import numpy as np
import torch

from match_rcnn.d2 import EventStorage
from match_rcnn.experiments.benchmarks.landmark_head import compact
from match_rcnn.experiments.benchmarks.rcnn import inputs
from match_rcnn.experiments.benchmarks.rcnn.models import (
    give_detections,
    give_proposals,
    make_model,
)
from match_rcnn.experiments.benchmarks.rcnn.stages import (
    HOST_STAGES,
    TORCHVISION_STAGES,
    StageTimer,
)
from match_rcnn.experiments.benchmarks.rcnn.workload import Workload
from match_rcnn.inference.switches import resolve_precision

Tensor = torch.Tensor
Outputs = dict[str, Any]


class Step:
    """Builds the model and its inputs; each call does the work once.

    Attributes:
        timer: of the stages.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.timer = StageTimer(workload.device)
        self.model, self.optimizer = make_model(workload)
        is_training = workload.task == "train"
        batch = inputs.training_batch(workload) if is_training else inputs.test_batch(workload)
        give_proposals(self.model, workload, batch)
        if not is_training:
            give_detections(self.model, workload)
        self.is_torchvision = workload.model == "torchvision"
        self.timer.watch(self.model, TORCHVISION_STAGES if self.is_torchvision else HOST_STAGES)
        self.arguments = _torchvision_inputs(batch) if self.is_torchvision else (batch,)

    def __call__(self) -> Outputs:
        """The losses, or at inference the landmarks and embeddings; arrays by name."""
        torch.manual_seed(self.workload.seed)
        if self.workload.task == "train":
            return self._train()
        with torch.inference_mode(), self._autocast():
            results = self.model(*self._moved())
        return {} if self.is_torchvision else self._found(results)

    def _autocast(self) -> torch.autocast:
        device = torch.device(self.workload.device).type
        name = self.workload.precision
        dtype = resolve_precision(name, device)
        return torch.autocast(device, dtype=dtype, enabled=bool(name))

    def _moved(self) -> list[Any]:
        """The inputs on the device, as far as the model does not move them itself."""
        return [_to(a, self.workload.device) for a in self.arguments]

    def _train(self) -> Outputs:
        with EventStorage():
            with self._autocast():
                losses = self.model(*self._moved())
                total = sum(losses.values())
            self.optimizer.zero_grad()
            with self.timer.stage("backward"):
                total.backward()
            with self.timer.stage("optimizer"):
                self.optimizer.step()
        return losses

    def _found(self, results: Any) -> Outputs:
        instances = [result["instances"] for result in results]
        found = {}
        for name in ("pred_keypoints", "embedding"):
            if instances[0].has(name):
                found[name] = torch.cat([i.get(name) for i in instances]).float().cpu()
        if self.workload.model == "stock":
            classes = torch.cat([i.pred_classes for i in instances]).cpu()
            found["pred_keypoints"] = compact(found["pred_keypoints"], classes)
        return found


def as_arrays(outputs: Outputs) -> dict[str, np.ndarray[Any, Any]]:
    return {k: v.detach().float().cpu().numpy() for k, v in outputs.items()}


def _torchvision_inputs(batch: list[dict[str, Any]]) -> tuple[Any, ...]:
    """Its images in 0..1 and, in training, boxes, labels and bitmaps."""
    images = [image["image"].float() / 255 for image in batch]
    if "instances" not in batch[0]:
        return (images,)
    targets = []
    for image in batch:
        instances = image["instances"]
        size = image["image"].shape[1:]
        bitmaps = [_bitmap(polygons, size) for polygons in instances.gt_masks.polygons]
        targets.append(
            {
                "boxes": instances.gt_boxes.tensor,
                "labels": instances.gt_classes + 1,
                "masks": torch.stack(bitmaps),
            }
        )
    return images, targets


def _bitmap(polygons: list[Any], size: torch.Size) -> Tensor:
    import pycocotools.mask as mask_util

    rle = mask_util.merge(mask_util.frPyObjects([p.tolist() for p in polygons], *size))
    return torch.from_numpy(mask_util.decode(rle))


def _to(value: Any, device: str) -> Any:
    """Tensors in lists and dicts, on the device; the host's own inputs move by themselves."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        return [v.to(device) for v in value]
    if isinstance(value, list) and value and "boxes" in value[0]:
        return [{k: v.to(device) for k, v in target.items()} for target in value]
    return value
