"""One garment, predicted or annotated: what the predictor returns and the pictures show.

Shapes: ``n`` landmarks of the garment's category, ``L`` of all categories; image of ``H x W``
pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.utils.arrays import Float32Array

if TYPE_CHECKING:  # match_rcnn.onnx makes garments without a host; what needs one imports it
    from match_rcnn.d2 import Instances


@dataclass(frozen=True, eq=False, repr=False)
class Garment:
    """A clothing item in a photo.

    Attributes:
        category: of the model's or the data set's taxonomy.
        box: (4,) x1, y1, x2, y2 in pixels of the photo.
        score: confidence in [0, 1]; None for an annotation.
        landmarks: (n, 3) x, y and, predicted, the landmark's score; annotated, its visibility
            (2 visible, 1 occluded, 0 not labelled). None without a landmark stream.
        mask: (H, W) bool, None without a mask stream.
        embedding: (d,) the match network's vector, None without a match stream.
        attributes: names of what it has and their scores in [0, 1], the highest first; None
            without an attribute stream.
        features: of a model with a similarity: what it compares beside the embedding, by name.
    """

    category: Category
    box: Float32Array
    score: float | None = None
    landmarks: Float32Array | None = None
    mask: npt.NDArray[np.bool_] | None = None
    embedding: Float32Array | None = None
    attributes: dict[str, float] | None = None
    features: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line: arrays by their sizes, but for the box."""
        parts = [self.category.name]
        if self.score is not None:
            parts.append(f"score {self.score:.2f}")
        parts.append("box " + " ".join(f"{value:.0f}" for value in self.box))
        if self.landmarks is not None:
            parts.append(f"{len(self.landmarks)} landmarks")
        if self.mask is not None:
            parts.append(f"mask of {int(self.mask.sum())} pixels")
        if self.embedding is not None:
            parts.append(f"embedding of {len(self.embedding)}")
        return f"Garment({', '.join(parts)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values; the mask as pixel count only, and no features."""
        return {
            "category_id": self.category.id,
            "category": self.category.name,
            "score": self.score,
            "box": self.box.tolist(),
            "landmarks": None if self.landmarks is None else self.landmarks.tolist(),
            "mask_pixels": None if self.mask is None else int(self.mask.sum()),
            "embedding": None if self.embedding is None else self.embedding.tolist(),
            "attributes": self.attributes,
        }


def garments_from_instances(
    instances: "Instances",
    taxonomy: Taxonomy = DEEPFASHION2,
    attribute_threshold: float = 0.5,
    features: Iterable[str] = (),
) -> list[Garment]:
    """The garments of a model's output, most confident first.

    Args:
        instances: their landmarks are compact, (N, most landmarks of a category, 3), or dense,
            (N, L, 3) as the host's stock head gives them.
        taxonomy: of the model.
        attribute_threshold: attributes with a lower score are not named.
        features: the fields that a similarity compares.

    Raises:
        ValueError: there are as many landmarks as neither layout has.
    """
    fields = instances.to("cpu").get_fields()
    arrays = {
        "landmarks": fields.get("pred_keypoints"),
        "mask": fields.get("pred_masks"),
        "embedding": fields.get("embedding"),
    }
    found = []
    for i in fields["scores"].argsort(descending=True, stable=True).tolist():
        kind = taxonomy.categories[int(fields["pred_classes"][i])]
        row: dict[str, Any] = {k: None if v is None else v[i].numpy() for k, v in arrays.items()}
        if row["landmarks"] is not None:
            row["landmarks"] = row["landmarks"][_rows(kind, len(row["landmarks"]), taxonomy)]
        box = fields["pred_boxes"].tensor[i].numpy()
        if "pred_attributes" in fields and taxonomy.attributes:
            scores = fields["pred_attributes"][i].numpy()
            row["attributes"] = named_attributes(scores, taxonomy, attribute_threshold)
        row["features"] = {name: fields[name][i].numpy() for name in features}
        found.append(Garment(kind, box, float(fields["scores"][i]), **row))
    return found


def named_attributes(
    scores: Float32Array, taxonomy: Taxonomy, threshold: float
) -> dict[str, float]:
    """Of (A,) scores those of ``threshold`` and above by name, the highest first."""
    order = np.argsort(-scores, kind="stable")[: int((scores >= threshold).sum())]
    return {taxonomy.attributes[i].name: float(scores[i]) for i in order.tolist()}


def _rows(kind: Category, count: int, taxonomy: Taxonomy) -> slice:
    """Where a category's landmarks are among ``count``."""
    if count == taxonomy.max_landmarks:
        return slice(kind.num_landmarks)
    if count == taxonomy.num_landmarks:
        return kind.slice
    raise ValueError(
        f"expected {taxonomy.max_landmarks} (compact) or {taxonomy.num_landmarks} (dense) "
        f"landmarks of {taxonomy.name}, got {count}; was the model trained on other categories?"
    )


def garments_from_dataset_dict(
    item: dict[str, Any], taxonomy: Taxonomy = DEEPFASHION2
) -> list[Garment]:
    """The annotated garments of a dataset dict (:mod:`match_rcnn.data.datasets`)."""
    return [
        _from_annotation(annotation, taxonomy, item["height"], item["width"])
        for annotation in item.get("annotations", [])
    ]


def _from_annotation(
    annotation: dict[str, Any], taxonomy: Taxonomy, height: int, width: int
) -> Garment:
    from match_rcnn.d2 import BoxMode

    box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    polygons = annotation.get("segmentation")
    landmarks = annotation.get("keypoints")
    return Garment(
        category=taxonomy.categories[annotation["category_id"]],
        box=np.asarray(box, dtype=np.float32),
        landmarks=None if landmarks is None else np.asarray(landmarks, np.float32).reshape(-1, 3),
        mask=_rasterise(polygons, height, width) if polygons else None,
    )


def _rasterise(polygons: list[Any], height: int, width: int) -> npt.NDArray[np.bool_]:
    import pycocotools.mask as mask_util

    flat = [np.asarray(p, dtype=np.float64).ravel().tolist() for p in polygons]
    merged = mask_util.merge(mask_util.frPyObjects(flat, height, width))
    return mask_util.decode(merged).astype(bool)
