"""From the record of a photo with one garment (DeepFashion, 2016) to a model's input.

A garment's *region* is its box with a margin, within the photo. A model sees it as an image of its
own (``size``), or sees the whole photo and is told where the region lies.

Shapes: ``L`` landmark slots (:data:`match_rcnn.data.sources.deepfashion.SLOTS`), ``A`` attributes.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from match_rcnn.d2 import Boxes, BoxMode, CfgNode, Instances, configurable
from match_rcnn.data.augmentations import build_color_jitter
from match_rcnn.data.images import DECODERS, UnreadableImageError, read_image
from match_rcnn.data.mapper import seeded
from match_rcnn.data.sources.deepfashion import SLOTS, TRUNCATED, VISIBLE
from match_rcnn.utils.arrays import Array, Float32Array, FloatArray, Image

#: A category, an item, a domain or a slot's visibility that nobody stated.
UNKNOWN = -1
#: ``gt_slots``'s third column: by number; the last is a slot that this kind of garment has not.
VISIBILITIES = ("visible", "occluded", "outside", "no_slot")
DOMAINS = {"shop": 0, "consumer": 1}
#: Left and right change places.
_MIRRORED = [i ^ 1 for i in range(len(SLOTS))]


class CropMapper:
    """Read the image, take the garment's region, and make tensors of it and of the labels.

    All chance comes from numpy's global generator; a record with an integer ``"seed"`` is mapped
    the same wherever that happens.

    Args:
        is_train: whether regions are jittered, mirrored and their colours changed.
        keep_truth: whether samples carry ``instances`` when not ``is_train``; then with their
            landmarks alone, since a data set may count other categories than the model.
        num_attributes: A, of records that have attributes.
        size: side in pixels to which regions are resized; None: whole photos.
        photo_size: (shorter side, longest side) of whole photos, in pixels.
        margin: by what share of the box's side the region is larger, on each side.
        jitter: each edge of a training region moves by up to this share of the region's side.
        flip: probability of a mirror image, in which left and right landmarks change places.
        colors: the host's augmentation of colours, or None.
        image_format, decoder: as for :func:`match_rcnn.data.images.read_image`.

    Raises:
        ValueError: a share or a probability is out of its range.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        keep_truth: bool = True,
        num_attributes: int = 0,
        size: int | None = 224,
        photo_size: tuple[int, int] = (300, 500),
        margin: float = 0.0,
        jitter: float = 0.0,
        flip: float = 0.0,
        colors: Any = None,
        image_format: str = "BGR",
        decoder: str = DECODERS[0],
    ) -> None:
        for key, value, least, most in (
            ("MARGIN", margin, 0, 10),
            ("JITTER", jitter, 0, 0.4),
            ("FLIP", flip, 0, 1),
        ):
            if not least <= value <= most:
                raise ValueError(
                    f"MODEL.RECOGNITION.{key} must be from {least} to {most}, got {value}"
                )
        self.is_train = is_train
        self.keep_truth = keep_truth or is_train
        self.num_attributes = num_attributes
        self.size = size
        self.photo_size = photo_size
        self.margin = margin
        self.jitter = jitter
        self.flip = flip
        self.colors = colors
        self.image_format = image_format
        self.decoder = decoder

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION
        test = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        train = (max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN)
        return {
            "is_train": is_train,
            "size": node.CROP_SIZE if node.INPUT == "crop" else None,
            "photo_size": train if is_train else test,
            "margin": node.MARGIN,
            "jitter": node.JITTER,
            "flip": node.FLIP,
            "colors": build_color_jitter(cfg) if is_train else None,
            "image_format": cfg.INPUT.FORMAT,
            "decoder": cfg.INPUT.DECODER,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one record.

        Returns:
            the record without ``annotations``, with

            - image: (3, H, W) uint8;
            - height, width: of the file;
            - region: (4,) float32 x0, y0, x1, y1 in the file's pixels;
            - box: (4,) float32 the region in the image's pixels;
            - instances, with one row, where the truth is kept: gt_boxes (the region in the image),
              gt_classes, gt_items, gt_domains, gt_words (1,) int64, :data:`UNKNOWN` where nobody
              said; the word is the sampler's (``"word"``), or one of the annotation's ``"words"``;
              gt_attributes (1, A) int8, 0 where unknown; gt_slots (1, L, 3) float32 x, y,
              visibility, the latter UNKNOWN where the record has no landmarks.

        Raises:
            ValueError: the image cannot be read, the record has not one annotation, its box has no
                part in the image, or it has another number of attributes.
        """
        sample = dict(record)
        annotations = sample.pop("annotations", ())
        if len(annotations) != 1:
            raise ValueError(
                f"{sample['file_name']}: expected one garment in the image, got {len(annotations)}"
            )
        word = sample.pop("word", UNKNOWN)
        with seeded(sample.pop("seed", None)):
            photo = read_image(
                sample["file_name"], self.image_format, upright=False, decoder=self.decoder
            )
            region = self._region(annotations[0], photo.shape, sample["file_name"])
            mirrored = self.is_train and bool(np.random.random() < self.flip)  # noqa: NPY002
            image, origin, scale = self._view(photo, region)
            if self.colors is not None:
                image = self.colors.get_transform(image).apply_image(image)
            words = annotations[0].get("words", ())
            if self.is_train and word == UNKNOWN and len(words):
                word = int(np.random.choice(words))  # noqa: NPY002
        if mirrored:
            image = image[:, ::-1]
        height, width = image.shape[:2]
        box = ((region.reshape(2, 2) - origin) * scale).ravel()
        if mirrored:
            box[[0, 2]] = width - box[[2, 0]]
        sample |= _tensors(photo, image, region, box)
        if self.keep_truth:
            slots = _moved_slots(annotations[0], origin, scale, width if mirrored else None, box)
            sample["instances"] = self._truth(sample, annotations[0], slots, (height, width))
            sample["instances"].gt_words = torch.tensor([word])
        return sample

    def given(self, photo: Image, box: Sequence[float]) -> dict[str, Any]:
        """A sample, without labels, of a photo that is there already.

        Args:
            photo: (H, W, 3) in BGR.
            box: x0, y0, x1, y1 in its pixels.

        Raises:
            ValueError: the box has no part in the photo.
        """
        annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS}
        region = self._region(annotation, photo.shape, "the photo")
        image, origin, scale = self._view(photo, region)
        if self.image_format == "RGB":
            image = image[:, :, ::-1]
        return _tensors(photo, image, region, ((region.reshape(2, 2) - origin) * scale).ravel())

    def _region(self, annotation: dict[str, Any], size: tuple[int, ...], file: str) -> FloatArray:
        """(4,) whole pixels within the photo."""
        box = BoxMode.convert(
            [float(v) for v in annotation["bbox"]], annotation["bbox_mode"], BoxMode.XYXY_ABS
        )
        corners: FloatArray = np.array(box).reshape(2, 2)
        sides = corners[1] - corners[0]
        corners = corners + self.margin * sides * [[-1], [1]]
        if self.is_train and self.jitter:
            moves = np.random.uniform(-1, 1, (2, 2))  # noqa: NPY002
            corners = corners + moves * self.jitter * (corners[1] - corners[0])
        corners = np.stack([np.floor(corners[0]), np.ceil(corners[1])])
        corners = corners.clip(0, [size[1], size[0]])
        if not (corners[1] > corners[0]).all():
            raise UnreadableImageError(
                f"{file} has {size[1]} x {size[0]} pixels, of which the garment's box {list(box)} "
                "covers none"
            )
        return corners.ravel()

    def _view(self, photo: Image, region: FloatArray) -> tuple[Image, FloatArray, FloatArray]:
        """What the model sees; its pixel is (the file's pixel - origin) * scale."""
        if self.size is None:
            height, width = photo.shape[:2]
            shorter, longest = self.photo_size
            factor = min(shorter / min(height, width), longest / max(height, width))
            size = (max(1, round(width * factor)), max(1, round(height * factor)))
            origin, shown = np.zeros_like(region[:2]), photo
        else:
            x0, y0, x1, y1 = region.astype(int).tolist()
            size, shown = (self.size, self.size), photo[y0:y1, x0:x1]
            origin = region[:2]
        scale = np.array(size) / (shown.shape[1], shown.shape[0])
        shrinks = bool((scale < 1).all())
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(shown, size, interpolation=way), np.uint8), origin, scale

    def _truth(
        self,
        sample: dict[str, Any],
        annotation: dict[str, Any],
        slots: Float32Array,
        size: tuple[int, int],
    ) -> Instances:
        attributes = annotation.get("attributes") if self.is_train else None
        if attributes is None:
            attributes = np.zeros(self.num_attributes, np.int8)
        if len(attributes) != self.num_attributes:
            raise ValueError(
                f"{sample['file_name']} has {len(attributes)} attributes, the model knows "
                f"{self.num_attributes}"
            )
        item, domain = sample.get("item"), sample.get("domain")
        category = annotation.get("category_id", UNKNOWN) if self.is_train else UNKNOWN
        return Instances(
            size,
            gt_boxes=Boxes(sample["box"][None]),
            gt_classes=torch.tensor([category]),
            gt_items=torch.tensor([item_number(item) if item else UNKNOWN]),
            gt_domains=torch.tensor([DOMAINS[domain] if domain else UNKNOWN]),
            gt_attributes=torch.from_numpy(np.array(attributes, dtype=np.int8))[None],
            gt_slots=torch.from_numpy(slots)[None],
        )


def _tensors(photo: Image, image: Image, region: FloatArray, box: FloatArray) -> dict[str, Any]:
    return {
        "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        "height": photo.shape[0],
        "width": photo.shape[1],
        "region": torch.from_numpy(region.astype(np.float32)),
        "box": torch.from_numpy(box.astype(np.float32)),
    }


def item_number(item: str) -> int:
    """A number of 62 bits for an item's id, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "big") >> 2


def _moved_slots(
    annotation: dict[str, Any],
    origin: FloatArray,
    scale: FloatArray,
    mirror: int | None,
    box: Array,
) -> Float32Array:
    """(L, 3) in the image's pixels.

    Args:
        mirror: the image's width, if it is mirrored.
        box: (4,) the region; a visible landmark beyond it is outside.
    """
    slots: Float32Array = np.zeros((len(SLOTS), 3), np.float32)
    slots[:, 2] = UNKNOWN
    if annotation.get("landmarks") is None:
        return slots
    slots[:, :2] = (np.asarray(annotation["landmarks"]) - origin) * scale
    slots[:, 2] = annotation["visibility"]
    if mirror is not None:
        slots = slots[_MIRRORED]
        slots[:, 0] = mirror - slots[:, 0]
    inside = (slots[:, :2] >= box[:2]).all(1) & (slots[:, :2] <= box[2:]).all(1)
    slots[(slots[:, 2] == VISIBLE) & ~inside, 2] = TRUNCATED
    return slots
