"""One photo in, every garment out, by numpy and onnxruntime alone.

The steps are those of the model in torch (docs/model.md), which ``model.json`` describes: maps and
proposals, boxes in one stage or several, then masks, landmarks and embeddings of what is kept.

Shapes: ``N`` images of a batch; ``R`` RoIs of all of them, (R, 5) image, x1, y1, x2, y2; ``M`` side
of a RoI's mask; ``n`` landmarks of a category; ``d`` the embedding's length.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps

from match_rcnn.data.image_size import UnreadableImageError
from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.onnx.boxes import clip, larger_than, paste_mask
from match_rcnn.onnx.detection import Detections, Maps, detect, propose, rois_of
from match_rcnn.onnx.landmarks import decode_landmarks
from match_rcnn.onnx.parts import DESCRIPTION, Sessions, read_description
from match_rcnn.structures import Garment, named_attributes
from match_rcnn.utils.arrays import Array, Float32Array, Image, IntArray


class OnnxPredictor:
    """Finds the garments of a photo with a model that ``tools/export_onnx.py`` wrote.

    Example::

        predictor = OnnxPredictor("exported")
        for garment in predictor("photo.jpg"):
            print(garment.category.name, garment.score, garment.box)

    Args:
        folder: of the exported model.
        score_threshold: garments below it are not returned; None takes the exported config's
            (``TEST.SHOWN_FROM``).
        threads, providers: see :class:`~match_rcnn.onnx.parts.Sessions`.

    Attributes:
        taxonomy: the categories that the model knows.
        description: what ``model.json`` says.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: ``model.json`` is of another form.
        ImportError: onnxruntime is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        score_threshold: float | None = None,
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        folder = Path(folder)
        self.description = read_description(folder)
        self.taxonomy = Taxonomy.from_dict(self.description["taxonomy"], folder / DESCRIPTION)
        shown = self.description["shown"]
        self._threshold = shown["from"] if score_threshold is None else score_threshold
        if score_threshold is not None and shown["calibration"] is None:
            self.description["boxes"]["score_threshold"] = score_threshold  # sooner than afterwards
        self._sessions = Sessions(folder, threads, providers)

    def __call__(self, photo: str | Path | Image) -> list[Garment]:
        """The garments of a photo, most confident first.

        Args:
            photo: a file, or (H, W, 3) uint8 in BGR.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the array has another shape or type, or the file is not an image.
        """
        return self.batch([photo])[0]

    def batch(self, photos: Sequence[str | Path | Image]) -> list[list[Garment]]:
        """The garments of several photos, which go through the network together.

        Smaller photos are padded to the largest, which changes results at their borders a little.
        """
        if not photos:
            return []
        images = [read_photo(photo) for photo in photos]
        resized = [self._resized(image, photo) for image, photo in zip(images, photos, strict=True)]
        sizes = [(image.shape[0], image.shape[1]) for image in resized]
        maps = self._sessions.run("backbone.onnx", {"images": self._pixels(resized)})
        proposals = propose(self._sessions, self.description["proposals"], maps, sizes)
        found = detect(self._sessions, self.description["boxes"], maps, proposals, sizes)
        kept = [
            self._shown(detections, size, image)
            for detections, size, image in zip(found, sizes, images, strict=True)
        ]
        rois = rois_of([detections.boxes for detections, _ in kept])
        classes = np.concatenate([detections.classes for detections, _ in kept])
        fields = self._streams(maps, rois, classes) if len(rois) else {}
        garments, first = [], 0
        for (detections, boxes), size, image in zip(kept, sizes, images, strict=True):
            own = {name: values[first : first + len(boxes)] for name, values in fields.items()}
            garments.append(self._garments(detections, boxes, own, size, image))
            first += len(boxes)
        return garments

    def _resized(self, image: Image, photo: str | Path | Image) -> Image:
        """As the host's ``ResizeShortestEdge`` has it, in the model's order of channels."""
        spec = self.description["input"]
        pixels = image if spec["channels"] == "BGR" else image[:, :, ::-1]
        height, width = network_size(
            image.shape[0], image.shape[1], spec["min_size"], spec["max_size"]
        )
        if min(height, width) < 1:
            name = photo if isinstance(photo, (str, Path)) else "the photo"
            raise ValueError(
                f"{name} has {image.shape[1]} x {image.shape[0]} pixels, of which nothing is left "
                f"in one direction where the longer side has at most {spec['max_size']}; crop it"
            )
        if (height, width) == image.shape[:2]:
            return pixels
        small = PILImage.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(small.resize((width, height), PILImage.Resampling.BILINEAR))

    def _pixels(self, images: Sequence[Image]) -> Float32Array:
        """(N, 3, H, W) normalised, then padded with 0 right and below."""
        spec = self.description["input"]
        mean, std = (np.array(spec[name], dtype=np.float32) for name in ("mean", "std"))
        step = max(1, spec["divisibility"])
        height, width = (-(-max(image.shape[i] for image in images) // step) * step for i in (0, 1))
        batch = np.zeros((len(images), 3, height, width), dtype=np.float32)
        for place, image in zip(batch, images, strict=True):
            normal = (image.astype(np.float32) - mean) / std
            place[:, : image.shape[0], : image.shape[1]] = normal.transpose(2, 0, 1)
        return batch

    def _shown(
        self, found: Detections, size: tuple[int, int], image: Image
    ) -> tuple[Detections, Float32Array]:
        """What of an image's detections is returned, as ``MatchRCNNPredictor.shown`` has it: each
        garment once, calibrated scores from the threshold on. And its boxes in the photo's
        pixels."""
        spec = self.description["shown"]
        boxes = clip(found.boxes * _scale(size, image)[[0, 1, 0, 1]], *image.shape[:2])
        rows = np.flatnonzero(larger_than(boxes))
        together = np.zeros_like(rows)  # whatever the categories
        threshold = spec["duplicates_threshold"]
        kept = rows[self._sessions.suppress(boxes[rows], found.scores[rows], together, threshold)]
        scores = found.scores[kept]
        if spec["calibration"] is not None:
            scores = calibrated(scores, *spec["calibration"])
        found, boxes = replace(found[kept], scores=scores), boxes[kept]
        rows = np.flatnonzero(scores >= self._threshold)
        return found[rows], boxes[rows]

    def _streams(self, maps: Maps, rois: Float32Array, classes: IntArray) -> dict[str, Any]:
        """What the streams behind the boxes say of (R, 5) RoIs of (R,) classes, by their names in
        ``model.json``; masks (R, M, M), as they lie in the box."""
        fields: dict[str, Any] = {}
        features: dict[str, Float32Array] = {}
        masks, landmarks = self.description["masks"], self.description["landmarks"]
        if masks is not None:
            made = self._run_head(masks, maps, rois)
            own = classes if made["masks"].shape[1] > 1 else np.zeros_like(classes)
            fields["masks"] = made["masks"][np.arange(len(rois)), own]
            if "features" in made:
                features["mask"] = made["features"]
        if landmarks is not None:
            features["pose"] = self._run_head(landmarks, maps, rois)["features"]
            fields["landmarks"] = self._landmarks(features["pose"], rois, classes)
        for name, output in (("matching", "embeddings"), ("attributes", "scores")):
            spec = self.description[name]
            if spec is not None:
                inputs = self._features(spec, maps, rois, features)
                fields[name] = self._sessions.run(spec["file"], inputs)[output]
        return fields

    def _run_head(
        self, spec: dict[str, Any], maps: Maps, rois: Float32Array
    ) -> dict[str, Float32Array]:
        pooled = self._sessions.pool(spec["pooler"], maps, rois)
        return self._sessions.run(spec["file"], {"pooled": pooled})

    def _landmarks(
        self, features: Float32Array, rois: Float32Array, classes: IntArray
    ) -> list[Float32Array]:
        """(n, 3) of each RoI, by the tail of its category."""
        found: list[Float32Array] = [np.zeros((0, 3), dtype=np.float32) for _ in rois]
        for kind in np.unique(classes).tolist():
            file = self.description["landmarks"]["tails"][kind]
            if file is not None:
                rows = np.flatnonzero(classes == kind)
                maps = self._sessions.run(file, {"features": features[rows]})["heatmaps"]
                for row, heatmaps in zip(rows.tolist(), maps, strict=True):
                    found[row] = decode_landmarks(heatmaps, rois[row, 1:])
        return found

    def _features(
        self, spec: dict[str, Any], maps: Maps, rois: Float32Array, made: dict[str, Float32Array]
    ) -> dict[str, Array]:
        """What a head takes, by name. Args: made: by the streams before."""
        boxes = self.description["boxes"]
        inputs: dict[str, Array] = {}
        for name in spec["features"]:
            if name == "pyramid":
                inputs[name] = self._sessions.pool(spec["pooler"], maps, rois)
            elif name == "class":
                last = {"pooler": boxes["pooler"], "file": boxes["stages"][-1]["file"]}
                inputs[name] = self._run_head(last, maps, rois)["features"]
            else:
                inputs[name] = made[name]
        return inputs

    def _garments(
        self,
        found: Detections,
        boxes: Float32Array,
        fields: dict[str, Any],
        size: tuple[int, int],
        image: Image,
    ) -> list[Garment]:
        """Of one image, everything in the photo's pixels."""
        height, width = image.shape[:2]
        scale = np.append(_scale(size, image), np.float32(1))
        garments = []
        for row, kind in enumerate(found.classes.tolist()):
            own = {name: values[row] for name, values in fields.items()}
            landmarks, mask = own.get("landmarks"), own.get("masks")
            garment = Garment(
                self.taxonomy.categories[kind],
                boxes[row],
                float(found.scores[row]),
                landmarks=None if landmarks is None else landmarks * scale,
                mask=None if mask is None else paste_mask(mask, boxes[row], height, width),
                embedding=own.get("matching"),
                attributes=self._attributes(own.get("attributes")),
            )
            garments.append(garment)
        return garments

    def _attributes(self, scores: Float32Array | None) -> dict[str, float] | None:
        """Of (A,) scores those that are high enough, by name."""
        if scores is None:
            return None
        threshold = self.description["attributes"]["threshold"]
        return named_attributes(scores, self.taxonomy, threshold)


def _scale(size: tuple[int, int], image: Image) -> Float32Array:
    """(2,) by which x and y of the network's image become the photo's."""
    return np.array([image.shape[1] / size[1], image.shape[0] / size[0]], dtype=np.float32)


def calibrated(scores: Float32Array, slope: float, offset: float) -> Float32Array:
    """Scores whose logit is ``slope * logit(score) + offset``
    (:mod:`match_rcnn.inference.calibration`)."""
    clipped = np.clip(scores.astype(np.float64), 1e-6, 1 - 1e-6)
    logits = slope * np.log(clipped / (1 - clipped)) + offset
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def network_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """The size in which the network sees an image: the short edge ``shortest`` pixels, the long
    one at most ``longest``; a ``shortest`` of 0 leaves it as it is."""
    if not shortest:
        return height, width
    edges = [float(shortest), shortest / min(height, width) * max(height, width)]
    if max(edges) > longest:
        shrink = longest / max(edges)
        edges = [edge * shrink for edge in edges]
    short, long = (int(edge + 0.5) for edge in edges)
    return (short, long) if height < width else (long, short)


def read_photo(photo: str | Path | Image) -> Image:
    """A photo as (H, W, 3) uint8 in BGR, a file's turned upright as its EXIF data say."""
    if not isinstance(photo, (str, Path)):
        if photo.ndim != 3 or photo.shape[2] != 3 or not photo.size or photo.dtype != np.uint8:
            raise ValueError(
                f"expected an image of shape (H, W, 3) and type uint8, got {photo.shape} "
                f"and {photo.dtype}"
            )
        return photo
    if not Path(photo).is_file():
        raise FileNotFoundError(f"no image at {photo}")
    try:
        with PILImage.open(photo) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # PIL's decoders raise nearly anything on damaged files
        raise UnreadableImageError(f"cannot read image {photo}: {error}") from error
    return np.ascontiguousarray(np.asarray(upright)[:, :, ::-1])
