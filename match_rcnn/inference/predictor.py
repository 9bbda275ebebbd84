"""One photo in, every garment out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import nms

from match_rcnn.config import follow_taxonomy
from match_rcnn.d2 import (
    CfgNode,
    DefaultPredictor,
    DetectionCheckpointer,
    Instances,
)
from match_rcnn.data.images import read_image
from match_rcnn.inference.calibration import Calibration
from match_rcnn.inference.model_file import stated_taxonomy
from match_rcnn.inference.switches import apply_switches
from match_rcnn.inference.weights import model_config
from match_rcnn.modeling.similarity import Similarity
from match_rcnn.modeling.taxonomy import taxonomy_from_config
from match_rcnn.structures import Garment, garments_from_instances
from match_rcnn.utils.arrays import Image


class MatchRCNNPredictor:
    """Finds the garments of a photo.

    Example::

        predictor = MatchRCNNPredictor.from_files("configs/quickstart.yaml", "model_final.pth")
        for garment in predictor("photo.jpg"):
            print(garment.category.name, garment.score, garment.box)

    Args:
        cfg: a whole config; ``MODEL.WEIGHTS`` names the checkpoint.
        score_threshold: garments below it are not returned; None takes the config's
            (``TEST.SHOWN_FROM``). 0 gives all that the model has (``SCORE_THRESH_TEST``).

    Attributes:
        taxonomy: the categories that the model knows, as its checkpoint says; without that, as the
            config says.

    Raises:
        ValueError: the config has another number of categories than the checkpoint.
    """

    def __init__(self, cfg: CfgNode, score_threshold: float | None = None) -> None:
        cfg = cfg.clone()
        cfg.defrost()
        self._calibration = (
            Calibration(*cfg.TEST.SCORE_CALIBRATION) if cfg.TEST.SCORE_CALIBRATION else None
        )
        self._threshold = cfg.TEST.SHOWN_FROM if score_threshold is None else score_threshold
        if score_threshold and self._calibration is None:
            cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = score_threshold  # sooner than afterwards
        if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.COMPILE = False  # it pays over thousands of photos only
        self.taxonomy = stated_taxonomy(cfg.MODEL.WEIGHTS) or taxonomy_from_config(cfg)
        follow_taxonomy(cfg, self.taxonomy)
        cfg.freeze()
        self.cfg = cfg
        bare = cfg.clone()
        bare.defrost()
        bare.MODEL.WEIGHTS = ""  # read below, as upstream's predictor runs what a pickle says
        self._predictor = DefaultPredictor(bare)
        DetectionCheckpointer(self._predictor.model).load(cfg.MODEL.WEIGHTS)
        apply_switches(self._predictor.model, cfg)

    @classmethod
    def pretrained(
        cls,
        name: str | Path = "street",
        score_threshold: float | None = None,
        opts: list[str] | None = None,
    ) -> "MatchRCNNPredictor":
        """A model by name (:func:`match_rcnn.inference.weights.find_weights`): one that comes with
        the package, a model file, which holds its config, or a checkpoint with a ``config.yaml``
        beside it.

        Raises:
            FileNotFoundError: there is neither a shipped model nor a file of that name.
        """
        return cls.from_files(None, name, score_threshold, opts)

    @classmethod
    def from_files(
        cls,
        config_file: str | Path | None,
        weights: str | Path,
        score_threshold: float | None = None,
        opts: list[str] | None = None,
    ) -> "MatchRCNNPredictor":
        """A predictor from a config file and weights, as
        :func:`match_rcnn.inference.weights.model_config` takes them.

        Raises:
            FileNotFoundError: ``weights`` is a local path that does not exist.
        """
        return cls(model_config(weights, config_file, opts), score_threshold)

    @property
    def model(self) -> torch.nn.Module:
        """The network, which computes as the config's switches say."""
        network: torch.nn.Module = self._predictor.model
        return network

    def __call__(self, photo: str | Path | Image) -> list[Garment]:
        """The garments of a photo, most confident first.

        Args:
            photo: a file, or (H, W, 3) uint8 in BGR.

        Raises:
            ValueError: the array has another shape or type, or the file is not an image.
        """
        return self.garments(self.instances(photo))

    def instances(self, photo: str | Path | Image) -> Instances:
        """The same as the host's ``Instances``, boxes in pixels of the photo."""
        image = self.read(photo)
        self._check_size(image, photo if isinstance(photo, (str, Path)) else "the photo")
        output: dict[str, Any] = self._predictor(image)
        return self.shown(output["instances"])

    def shown(self, found: Instances) -> Instances:
        """What of a model's output is shown: each garment once, calibrated scores from
        the threshold on; most confident first."""
        found = without_duplicates(found, self.cfg.TEST.AGNOSTIC_NMS_THRESH)
        if self._calibration is not None:
            found.scores = self._calibration(found.scores)
        return found[found.scores >= self._threshold]

    def garments(self, shown: Instances) -> list[Garment]:
        """What is shown, as garments."""
        threshold = self.cfg.TEST.ATTRIBUTE_SCORE_THRESH
        return garments_from_instances(shown, self.taxonomy, threshold, self.features)

    @property
    def similarity(self) -> Similarity | None:
        """What orders the candidates of a search, if the model has that."""
        return getattr(getattr(self.model.roi_heads, "match_head", None), "similarity", None)

    @property
    def features(self) -> list[str]:
        """The fields that it compares beside the embedding."""
        wanted = {} if self.similarity is None else self.similarity.features()
        return [name for name in wanted if name != "vector"]

    def resized(self, photo: Image, name: str = "the photo") -> Image:
        """A photo as the network sees it: (h, w, 3) uint8, colours in the model's order.

        Raises:
            ValueError: nothing would be left of it in one direction; the message has ``name``.
        """
        self._check_size(photo, name)
        image = photo[:, :, ::-1] if self._predictor.input_format == "RGB" else photo
        found: Image = self._predictor.aug.get_transform(image).apply_image(image)
        return found

    def _check_size(self, image: Image, name: str | Path) -> None:
        resize = self._predictor.aug.get_transform(image)
        if min(resize.new_h, resize.new_w) < 1:
            height, width = image.shape[:2]
            raise ValueError(
                f"{name} has {width} x {height} pixels, of which nothing is left in one direction "
                f"where the longer side has at most {self.cfg.INPUT.MAX_SIZE_TEST} "
                "(INPUT.MAX_SIZE_TEST); crop it"
            )

    @staticmethod
    def read(photo: str | Path | Image) -> Image:
        """A photo as (H, W, 3) uint8 in BGR, turned upright as its EXIF data say."""
        if isinstance(photo, (str, Path)):
            return read_image(photo, upright=True)
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise ValueError(
                f"expected an image of shape (H, W, 3) and type uint8, got {photo.shape} "
                f"and {photo.dtype}"
            )
        return photo


def without_duplicates(found: Instances, threshold: float) -> Instances:
    """Of detections that overlap by more than an IoU of ``threshold``, whatever their categories,
    the most confident one; most confident first."""
    return found[nms(found.pred_boxes.tensor, found.scores, threshold)]
