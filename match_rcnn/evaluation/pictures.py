"""Pictures of predictions beside the annotations, taken while a data set is evaluated.

Shapes: ``H x W`` pixels of a photo, ``h x w`` of a picture.
"""

import zlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from match_rcnn.d2 import CfgNode, DatasetEvaluator, comm, get_event_storage
from match_rcnn.data.given_boxes import is_given
from match_rcnn.data.images import read_image, write_image
from match_rcnn.data.mapper import GarmentMapper
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy, taxonomy_of
from match_rcnn.evaluation.evaluators import EVALUATOR_REGISTRY, inference_folder
from match_rcnn.inference.drawing import draw_garments
from match_rcnn.modeling.taxonomy import taxonomy_from_config
from match_rcnn.structures import Garment, garments_from_dataset_dict, garments_from_instances
from match_rcnn.utils.arrays import Image

_SIDE = 400  # pixels, the longer one of each half
_CAPTION = 24  # pixels above it


class KeepAnnotations:
    """A mapper for inference whose samples keep their ``annotations``, which pictures need."""

    def __init__(self, mapper: GarmentMapper) -> None:
        self.mapper = mapper

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        return {**self.mapper(dataset_dict), "annotations": dataset_dict.get("annotations", [])}


class _Taken(NamedTuple):
    order: int
    sample: dict[str, Any]
    found: list[Garment]


@EVALUATOR_REGISTRY.register()
class PredictionPictures(DatasetEvaluator):
    """Draws some images of a data set: the same at every evaluation, whoever evaluates them.

    While training, the event storage gets the pictures as ``predictions/<image id>``, from where
    TensorBoard and Weights & Biases have them; ``output_dir`` gets the newest as JPEG. There are no
    metrics.

    Args:
        count: images over all processes; those whose ids have the smallest checksums.
        output_dir: None: no files.
        score_threshold: detections below it are not drawn.
        max_detections: of an image that are drawn, the best ones.
        taxonomy: of the data set and the model.
        attribute_threshold: attributes with a lower score are not named.
    """

    def __init__(
        self,
        count: int,
        output_dir: str | Path | None = None,
        *,
        score_threshold: float = 0.3,
        max_detections: int = 20,
        taxonomy: Taxonomy = DEEPFASHION2,
        attribute_threshold: float = 0.5,
    ) -> None:
        self.taxonomy = taxonomy
        self.attribute_threshold = attribute_threshold
        self.count = count
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.score_threshold = score_threshold
        self.max_detections = max_detections
        self._taken: list[_Taken] = []

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dataset_name: str, model: Any = None
    ) -> "PredictionPictures | None":
        """Where the config asks for pictures, and all that the images show is annotated."""
        count = cfg.TEST.VISUALIZE_IMAGES
        if not count or is_given(dataset_name):
            return None
        folder = inference_folder(cfg, dataset_name) / "pictures"
        attributes = taxonomy_from_config(cfg).attributes
        taxonomy = replace(taxonomy_of(dataset_name), attributes=attributes)
        threshold = cfg.TEST.ATTRIBUTE_SCORE_THRESH
        return cls(count, folder, taxonomy=taxonomy, attribute_threshold=threshold)

    @classmethod
    def tables(cls, cfg: CfgNode, labels: Collection[str]) -> list[str]:
        return []

    def reset(self) -> None:
        self._taken = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take a batch. Args: inputs: dataset dicts, with ``annotations`` if they are to be drawn;
        outputs: ``{"instances": Instances}`` each, in the file's pixels."""
        for sample, output in zip(inputs, outputs, strict=True):
            order = zlib.crc32(str(sample["image_id"]).encode())
            if len(self._taken) == self.count and order >= self._taken[-1].order:
                continue
            found = output["instances"]
            best = (-found.scores).argsort(stable=True)[: self.max_detections]
            shown = found[best[found.scores[best] >= self.score_threshold]]
            needed = {k: v for k, v in sample.items() if k != "image"}
            garments = garments_from_instances(shown, self.taxonomy, self.attribute_threshold)
            self._taken.append(_Taken(order, needed, garments))
            self._taken = sorted(self._taken, key=lambda taken: taken.order)[: self.count]

    def evaluate(self) -> dict[str, Any]:
        """Draw and hand over; all processes must call it. No metrics: ``{}``."""
        of_all = comm.all_gather([taken.order for taken in self._taken])
        chosen = set(sorted(order for own in of_all for order in own)[: self.count])
        drawn = {
            taken.sample["image_id"]: side_by_side(taken.sample, taken.found, self.taxonomy)
            for taken in self._taken
            if taken.order in chosen
        }
        for pictures in comm.gather(drawn):  # empty but on the main process
            for image_id, picture in pictures.items():
                self._hand_over(image_id, picture)
        return {}

    def _hand_over(self, image_id: int, picture: Image) -> None:
        if self.output_dir is not None:
            write_image(self.output_dir / f"{image_id}.jpg", picture)
        try:
            storage = get_event_storage()
        except (RuntimeError, AssertionError):  # not while training
            return
        rgb = np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1))
        storage.put_image(f"predictions/{image_id}", torch.from_numpy(rgb))


def side_by_side(
    sample: dict[str, Any], found: list[Garment], taxonomy: Taxonomy = DEEPFASHION2
) -> Image:
    """(h, w, 3) BGR: the photo with its annotations, and with what was found.

    Args:
        sample: a dataset dict; without ``annotations`` the left half is the photo alone.
        found: in the file's pixels.
    """
    photo = read_image(sample["file_name"], upright=False)
    scale = _SIDE / max(photo.shape[:2])
    annotated = garments_from_dataset_dict(sample, taxonomy)
    halves = {"annotated": annotated, "predicted": found}
    return np.hstack([_half(photo, scale, *half) for half in halves.items()])


def _half(photo: Image, scale: float, caption: str, garments: list[Garment]) -> Image:
    drawn = draw_garments(photo, garments, scale=scale)
    strip = np.full((_CAPTION, drawn.shape[1], 3), 255, dtype=np.uint8)
    text = f"{caption}: {len(garments)}"
    cv2.putText(strip, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, drawn])
