"""What is measured, as plain data that goes to another process as JSON."""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

#: ``ours``: boxes, masks, landmarks, matching; ``unmatched``: the same without the match stream;
#: ``stock``: the host's own heads, all 294 landmark channels for every RoI; ``torchvision``: its
#: Mask R-CNN (boxes and masks only).
MODELS = ("ours", "unmatched", "stock", "torchvision")
TASKS = ("train", "inference")


@dataclass(frozen=True)
class Workload:
    """One model at work.

    Attributes:
        model: of :data:`MODELS`.
        task: of :data:`TASKS`.
        height, width: of the images, pixels, as the model sees them.
        images: of a batch.
        items: garments of an image, in training.
        rois: sampled for an image in training, a quarter of them positive.
        proposals: of an image, in the place of those that random weights would give.
        detections: of an image at inference, likewise.
        device: such as "cpu" or "cuda".
        precision: "" (float32), "bfloat16" or "float16".
        options: KEY VALUE pairs for the config, such as ``MODEL.CHANNELS_LAST True``.
        seed: of inputs and weights.
    """

    model: str
    task: str
    height: int = 800
    width: int = 1333
    images: int = 1
    items: int = 2
    rois: int = 512
    proposals: int = 1000
    detections: int = 100
    device: str = "cpu"
    precision: str = ""
    options: tuple[str, ...] = ()
    seed: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Workload":
        read: dict[str, Any] = json.loads(text)
        return cls(**{**read, "options": tuple(read["options"])})

    def of(self, model: str, *options: str) -> "Workload":
        """The same work for another model, or with further options."""
        return replace(self, model=model, options=(*self.options, *options))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--warmup", type=int, default=1, help="runs that do not count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", choices=("bfloat16", "float16"), default="", help="default: float32"
    )
    parser.add_argument(
        "--other-python",
        metavar="PATH",
        help="also measure detectron2's own models, with this Python, in which detectron2 imports",
    )
    parser.add_argument(
        "options", nargs="*", metavar="KEY VALUE", help="config overrides, for our models"
    )
