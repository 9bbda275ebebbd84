"""FashionNet's training and inference step, beside a plain loop over the same parts.

VGG16 and the published widths, made images of ``--side`` pixels, weights from a seed. The loop
takes one image after the other through backbone and branches, and one landmark after the other out
of its maps; losses are the model's own. Landmark pooling is measured by itself as well, forward and
backward. Dropout is off, so that both ways compute the same.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn import functional as F

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, EventStorage, Instances, build_model
from match_rcnn.data.taxonomy import Attribute, Category, Taxonomy
from match_rcnn.experiments.benchmarks.harness import Measurement, Result, alternate
from match_rcnn.modeling.recognition import Recognition
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.landmarks import Landmarks, landmark_pool
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.taxonomy import set_taxonomy
from match_rcnn.utils.shipped import config_file

Tensor = torch.Tensor
Batch = list[dict[str, Any]]

CONFIG = "fashionnet_VGG16"
#: Of what both ways give, relative to the largest value of its kind.
TOLERANCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=8, metavar="N", help="of a batch")
    parser.add_argument("--side", type=int, default=112, help="of the crops; the paper's is 224")
    parser.add_argument("--runs", type=int, default=3, help="timed runs; the median counts")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> Result:
    torch.manual_seed(args.seed)
    model, batch = _model(args.side), _batch(args.images, args.side)
    ways = {"plain loop": _Plain(model), "ours": model}
    works: dict[str, Callable[[Any], dict[str, Tensor]]] = {
        "training step": lambda way: _train(model, way, batch),
        "inference": lambda way: _infer(model, way, batch),
        "landmark pooling": _pooling(model, args.images, args.side),
    }
    rows, ratios, checks = [], {}, {}
    for name, work in works.items():
        found: dict[str, dict[str, Tensor]] = {}

        def call(way: str, work: Any = work, found: Any = found) -> None:
            found[way] = work(ways[way])

        plain, ours = alternate([lambda: call("plain loop"), lambda: call("ours")], args.runs)
        rows += [_row(name, "plain loop", plain), _row(name, "ours", ours)]
        ratios[name] = plain.seconds / ours.seconds
        checks[f"{name}: both ways agree"] = _agree(found["ours"], found["plain loop"])
    notes = [f"{args.images} images of {args.side} x {args.side} pixels"]
    goals = dict.fromkeys(ratios, 1.0)
    return Result("fashionnet", rows, ratios=ratios, goals=goals, checks=checks, notes=notes)


def _row(what: str, way: str, measured: Measurement) -> dict[str, Any]:
    return {"what": what, "way": way, "seconds": measured.seconds, "peak MiB": measured.peak_mib}


class _Plain:
    """A model's parts, one image and one landmark after the other."""

    def __init__(self, model: Recognition) -> None:
        self.model = model

    def parts(self, batch: Batch) -> tuple[Landmarks, Features]:
        """The landmarks of a batch and what its heads get."""
        model: Any = self.model
        found, vectors, regions = [], [], []
        for sample in batch:
            maps = model.region_maps([sample])
            landmarks = model.landmark_branch(maps)
            windows = self.pool(maps, landmarks.xy, landmarks.gate(model.local_branch.gate))
            local = model.local_branch.fcs(windows.flatten(1))
            vectors.append(model.fusion(torch.cat([model.global_branch(maps), local], 1)))
            found.append(landmarks)
            regions.append(maps)
        names = ("xy", "visible", "visibility")
        joined = (torch.cat([getattr(one, name) for one in found]) for name in names)
        return Landmarks(*joined), Features(torch.cat(vectors), torch.cat(regions))

    def pool(self, maps: Tensor, xy: Tensor, gate: Tensor) -> Tensor:
        """:func:`landmark_pool` by slicing: max-pooled whole cells."""
        options = self.model.local_branch.options  # type: ignore[union-attr]
        window, resolution = options["window"], options["resolution"]
        height, width = maps.shape[-2:]
        outside = F.pad(maps, (window,) * 4, value=-math.inf)
        rows = []
        for i in range(len(maps)):
            for j in range(xy.shape[1]):
                x, y = xy[i, j].detach().clamp(0, 1).tolist()
                left = math.floor(x * width - window / 2 + 0.5) + window
                top = math.floor(y * height - window / 2 + 0.5) + window
                cells = outside[i, :, top : top + window, left : left + window]
                pooled = F.adaptive_max_pool2d(cells, resolution)
                rows.append(pooled.masked_fill(pooled.isinf(), 0) * gate[i, j].detach())
        return torch.stack(rows).view(len(maps), xy.shape[1], -1, resolution, resolution)


def _train(model: Recognition, way: Any, batch: Batch) -> dict[str, Tensor]:
    """Losses, and the gradients of the first and the last layers."""
    model.train().zero_grad(set_to_none=True)
    with EventStorage(0):
        losses = way(batch) if way is model else _plain_losses(model, way, batch)
    torch.stack(list(losses.values())).sum().backward()
    found = {name: loss.detach() for name, loss in losses.items()}
    for name, parameter in model.named_parameters():
        if name.startswith(("landmark_branch.position", "global_branch.convs", "fusion")):
            assert parameter.grad is not None
            found[name] = parameter.grad
    return found


def _plain_losses(model: Recognition, way: _Plain, batch: Batch) -> dict[str, Tensor]:
    truth = Truth.of(batch, model.device)
    landmarks, features = way.parts(batch)
    branch: Any = model.landmark_branch
    losses: dict[str, Tensor] = dict(branch.losses(landmarks, truth))
    for head in model.heads.values():
        losses |= head.losses(features, truth)  # type: ignore[operator]
    return losses


@torch.no_grad()
def _infer(model: Recognition, way: Any, batch: Batch) -> dict[str, Tensor]:
    model.eval()
    names = ("category_scores", "attribute_scores", "embedding")
    if way is not model:
        landmarks, features = way.parts(batch)
        fields = {"xy": landmarks.xy}
        for head in model.heads.values():
            fields |= head.predict(features)  # type: ignore[operator]
        return {name: fields[name] for name in ("xy", *names)}
    found = [out["instances"] for out in model(batch)]
    fields = {name: torch.cat([one.get(name) for one in found]) for name in names}
    regions = torch.stack([sample["region"] for sample in batch])[:, None]
    slots = torch.cat([one.pred_slots for one in found])[..., :2]
    fields["xy"] = (slots - regions[..., :2]) / (regions[..., 2:] - regions[..., :2])
    return fields


def _pooling(model: Recognition, images: int, side: int) -> Callable[[Any], dict[str, Tensor]]:
    cells = side // 8
    channels = model.local_branch.channels  # type: ignore[union-attr]
    maps = torch.rand(images, int(channels), cells, cells)
    xy, gate = torch.rand(images, 8, 2), (torch.rand(images, 8) > 0.3).float()
    options = model.local_branch.options  # type: ignore[union-attr]

    def work(way: Any) -> dict[str, Tensor]:
        own = maps.clone().requires_grad_()
        if way is model:
            windows = landmark_pool(own, xy, gate, **options)
        else:
            windows = way.pool(own, xy, gate)
        windows.square().sum().backward()
        assert own.grad is not None
        return {"windows": windows.detach(), "gradient": own.grad}

    return work


def _agree(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> bool:
    return all(
        float((ours[name] - values).abs().max()) <= TOLERANCE * float(values.abs().max())
        for name, values in plain.items()
    )


def _model(side: int) -> Recognition:
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config_file(Path(CONFIG))))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.RECOGNITION.CROP_SIZE = side
    # What sees a batch as a whole would see another one in the loop.
    cfg.MODEL.RECOGNITION.DROPOUT, cfg.MODEL.RECOGNITION.NORM = 0.0, ""
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    cfg.MODEL.RECOGNITION.STAGES.LENGTHS = ()
    categories = tuple(Category(i, str(i)) for i in range(1, 51))
    taxonomy = Taxonomy("made up", categories)
    attributes = tuple(Attribute(str(i), "texture") for i in range(1000))
    set_taxonomy(cfg, replace(taxonomy, attributes=attributes))
    model: Any = build_model(cfg)
    return cast(Recognition, model)


def _batch(images: int, side: int) -> Batch:
    return [_sample(i, side) for i in range(images)]


def _sample(number: int, side: int) -> dict[str, Any]:
    box = torch.tensor([0.0, 0.0, side, side])
    slots = torch.cat([side * torch.rand(1, 8, 2), torch.randint(0, 4, (1, 8, 1))], -1)
    truth = Instances(
        (side, side),
        gt_boxes=Boxes(box[None]),
        gt_classes=torch.tensor([number % 50]),
        gt_items=torch.tensor([number // 2]),
        gt_domains=torch.tensor([-1]),
        gt_attributes=torch.randint(-1, 2, (1, 1000)).to(torch.int8),
        gt_slots=slots,
    )
    return {
        "file_name": str(number),
        "image": torch.randint(0, 256, (3, side, side), dtype=torch.uint8),
        "height": side,
        "width": side,
        "region": box,
        "box": box,
        "instances": truth,
    }
