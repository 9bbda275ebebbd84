"""What a gallery needs of a model: garments with embeddings, how they are compared, whose they are.

Shapes: ``d`` the embedding's length.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from hashlib import sha256
from operator import getitem
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import torch

from match_rcnn.d2 import Boxes, CfgNode, Instances
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.modeling.similarity import Similarity
from match_rcnn.retrieval.gallery.items import Fingerprint
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.structures import Garment, named_attributes
from match_rcnn.utils.arrays import Float32Array, Image

_HEADS = ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD", "ROI_MATCH_HEAD")
_POOLERS = ("POOLER_RESOLUTION", "POOLER_SAMPLING_RATIO", "POOLER_TYPE")
#: Beside the weights, whose names and shapes tell the layers: what the embedding of a given box
#: depends on. Nothing else is in a fingerprint, neither what changes which boxes are found or how a
#: model learns, nor what computes the same in another way.
EMBEDDING_KEYS = (
    *("INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "TEST.PRECISION"),
    *("MODEL.META_ARCHITECTURE", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"),
    *("MODEL.BACKBONE.NAME", "MODEL.FPN", "MODEL.RESNETS"),
    *("MODEL.TORCHVISION.NAME", "MODEL.TIMM.NAME"),
    *("MODEL.ROI_HEADS.NAME", "MODEL.ROI_HEADS.IN_FEATURES"),
    *("MODEL.ROI_MATCH_HEAD.FEATURES", "MODEL.ROI_MATCH_HEAD.IN_FEATURES"),
    *(f"MODEL.{head}.{key}" for head in _HEADS for key in ("NAME", *_POOLERS)),
)
#: The same of a recognition model, beside the others.
RECOGNITION_KEYS = tuple(
    f"MODEL.RECOGNITION.{key}"
    for key in (
        *("INPUT", "CROP_SIZE", "MARGIN", "POOLER_RESOLUTION", "POOLER_SAMPLING_RATIO"),
        *("IN_FEATURE", "LANDMARKS.NAME", "LOCAL", "ATTENTION"),
    )
)


class GarmentModel(Protocol):
    """A model that a gallery can be built and searched with.

    Attributes:
        fingerprint: of the model.
        scorer: how its embeddings are compared.
        similarity: what orders candidates, by the garments' features; None: the scorer alone.
        taxonomy: of what it finds.
        shortlist: how many candidates it orders where nobody says.
        attribute_threshold: attributes with a lower score are not named.
    """

    @property
    def fingerprint(self) -> Fingerprint: ...

    @property
    def scorer(self) -> MatchScorer: ...

    @property
    def similarity(self) -> Similarity | None: ...

    @property
    def shortlist(self) -> int: ...

    @property
    def taxonomy(self) -> Taxonomy: ...

    @property
    def attribute_threshold(self) -> float: ...

    def __call__(self, photo: Image) -> list[Garment]:
        """The garments of a photo, (H, W, 3) in BGR, each with its embedding."""
        ...

    def describe(self, photo: Image, garments: Sequence[Garment]) -> list[Garment]:
        """These garments, whose boxes are known, with embeddings, and attributes where the model
        tells some; in the same order."""
        ...


class GalleryModel:
    """A trained Match R-CNN as a :class:`GarmentModel`.

    Raises:
        ValueError: it has no match stream.
    """

    def __init__(self, predictor: MatchRCNNPredictor) -> None:
        self.predictor = predictor
        cfg = predictor.cfg
        if not cfg.MODEL.MATCH_ON:
            raise ValueError(
                "a gallery needs a model with a match stream: its config has MODEL.MATCH_ON False"
            )
        self._host = predictor._predictor
        model: Any = self._host.model
        self._model = model
        weight, bias = model.roi_heads.match_head.score_weights()
        self.scorer = MatchScorer(weight, bias)
        self.similarity = predictor.similarity
        self.shortlist: int = cfg.TEST.SHORTLIST
        self.taxonomy = predictor.taxonomy
        self.attribute_threshold: float = cfg.TEST.ATTRIBUTE_SCORE_THRESH
        self.fingerprint = model_fingerprint(self._model, cfg, name=cfg.MODEL.WEIGHTS)

    @classmethod
    def from_files(
        cls,
        config_file: str | Path | None,
        weights: str | Path,
        min_score: float | None = None,
        opts: list[str] | None = None,
    ) -> "GalleryModel":
        """See :meth:`MatchRCNNPredictor.from_files`."""
        return cls(MatchRCNNPredictor.from_files(config_file, weights, min_score, opts))

    def __call__(self, photo: Image) -> list[Garment]:
        return self.predictor(photo)

    @torch.no_grad()
    def describe(self, photo: Image, garments: Sequence[Garment]) -> list[Garment]:
        """See :meth:`GarmentModel.describe`."""
        if not garments:
            return []
        resized, scale = self._resize(photo)
        given = Instances((resized.shape[0], resized.shape[1]))
        boxes = torch.from_numpy(np.stack([g.box for g in garments]).astype(np.float32))
        given.pred_boxes = Boxes(boxes * torch.from_numpy(scale))
        given.pred_classes = torch.tensor([self.taxonomy.index(g.category.id) for g in garments])
        image = torch.from_numpy(resized.astype(np.float32).transpose(2, 0, 1))
        (found,) = self._model.inference([{"image": image}], [given], do_postprocess=False)
        vectors = found.embedding.float().cpu().numpy()
        features = {name: found.get(name).cpu().numpy() for name in self.predictor.features}
        described = [
            replace(garment, embedding=vector, features={n: v[i] for n, v in features.items()})
            for i, (garment, vector) in enumerate(zip(garments, vectors, strict=True))
        ]
        if not found.has("pred_attributes"):
            return described
        scores = found.pred_attributes.cpu().numpy()
        named = [named_attributes(r, self.taxonomy, self.attribute_threshold) for r in scores]
        return [replace(g, attributes=own) for g, own in zip(described, named, strict=True)]

    def _resize(self, photo: Image) -> tuple[Image, Float32Array]:
        """The photo as the network sees it, and what x, y, x, y are multiplied by."""
        image = photo[:, :, ::-1] if self._host.input_format == "RGB" else photo
        resized: Image = self._host.aug.get_transform(image).apply_image(image)
        height, width = resized.shape[0] / photo.shape[0], resized.shape[1] / photo.shape[1]
        return resized, np.array([width, height, width, height], np.float32)


def model_fingerprint(model: torch.nn.Module, cfg: CfgNode, name: str = "") -> Fingerprint:
    """Of a model's whole state and of the settings that its embeddings depend on
    (:data:`EMBEDDING_KEYS`, :data:`RECOGNITION_KEYS`).

    The same on both hosts. About a second for a ResNet-50 model.
    """
    state = sha256()
    for key, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        state.update(f"{key} {array.dtype} {tuple(array.shape)}\n".encode())
        state.update(array.reshape(-1).view(torch.uint8).numpy().data)
    is_recognition = cfg.MODEL.META_ARCHITECTURE == "Recognition"
    keys = (*EMBEDDING_KEYS, *(RECOGNITION_KEYS if is_recognition else ()))
    settings: dict[str, Any] = {key: reduce(getitem, key.split("."), cfg) for key in keys}
    if is_recognition:
        compared = "SimilarityHead" in cfg.MODEL.RECOGNITION.HEADS
        node = cfg.MODEL.RECOGNITION.SIMILARITY
    else:
        node = cfg.MODEL.ROI_MATCH_HEAD.SIMILARITY
        compared = node.NAME != "ProductSimilarity"
    if compared:
        settings["similarity"] = node
    if cfg.TEST.AUG.ENABLED:
        settings["views"] = [cfg.TEST.AUG.FLIP, *cfg.TEST.AUG.SCALES]
    encoded = orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)
    return Fingerprint(state.hexdigest(), sha256(encoded).hexdigest(), name)
