"""What the service does, as plain values; HTTP is :mod:`match_rcnn.serving.app`'s.

It keeps nothing of a request: who searches for a garment of a photo sends its embedding back.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from torch import from_numpy
from torchvision.ops import box_iou

from match_rcnn.catalogue.model import GalleryModel
from match_rcnn.catalogue.query import QueryResult, hit_to_json, item_photo
from match_rcnn.inference.bulk import Ready
from match_rcnn.inference.cells import cut_box
from match_rcnn.inference.measures import measure, read_rules
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.modeling.similarity import CATEGORY
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.retrieval.gallery.items import GalleryItem, parse_category
from match_rcnn.retrieval.second_stage import SecondStage
from match_rcnn.serving.batching import Batcher
from match_rcnn.serving.limits import Limits, Refused, decode_photo, in_time, refused
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Float32Array, Image
from match_rcnn.utils.files import located

T = TypeVar("T")

#: The longer side of masks; more would cost memory and show no more.
_SHAPE = 1024
_PICTURE, _THUMBNAIL = 1280, 360  # pixels of the longer side
_MOST = 200  # results


class _Photo(NamedTuple):
    ready: Ready
    height: int
    width: int

    @property
    def scale(self) -> Float32Array:
        """(2,) from the pixels of results to the photo's, x and y."""
        height, width = self.ready.size
        return np.array([self.width / width, self.height / height], np.float32)


class Wish(NamedTuple):
    """What a search shall give. Attributes: group_by: None for every item."""

    top: int = 20
    category: Any = None
    group_by: str | None = "product"


class Service:
    """A model, and a gallery that its embeddings are searched in.

    Args:
        gallery: of this model.
        image_root: where the gallery's photos are; by default where they were.
        workers: threads that compute.
        seen: is told each batch's size.

    Raises:
        FileNotFoundError, GalleryError: there is no such gallery, or another model made it.
    """

    def __init__(
        self,
        predictor: MatchRCNNPredictor,
        gallery: str | Path | None = None,
        *,
        image_root: str | Path | None = None,
        limits: Limits | None = None,
        workers: int = 1,
        seen: Callable[[int], object] = lambda size: None,
    ) -> None:
        self.limits = limits or Limits()
        self.predictor, self.taxonomy = predictor, predictor.taxonomy
        self._model = GalleryModel(predictor) if predictor.cfg.MODEL.MATCH_ON else None
        self._gallery: Gallery | None = None
        if gallery is not None:
            model = self._model or GalleryModel(predictor)  # which says why there is none
            self._gallery = Gallery.open(gallery, model.fingerprint)
            notes = self._gallery.notes
            self._root = located(image_root or notes.get("image_root", "."))
            self._upright = notes.get("boxes") != "annotated"
        self._rules = read_rules()
        self._batcher = Batcher(predictor, workers, seen=seen)
        self._shelf = ThreadPoolExecutor(1, "gallery")  # a gallery is for one thread
        self.waiting = 0

    @property
    def has_gallery(self) -> bool:
        return self._gallery is not None

    def close(self) -> None:
        """Ends when the work in hand is done."""
        self._batcher.close()
        self._shelf.shutdown(cancel_futures=True)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Around a request that holds a photo. Raises: Refused: too many are there."""
        if self.waiting >= self.limits.max_waiting:
            raise Refused(503, f"{self.waiting} requests are waiting; try again in a moment")
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def about(self) -> dict[str, Any]:
        """What a client should know before it asks."""
        model = Path(self.predictor.cfg.MODEL.WEIGHTS).name
        return {
            "model": model,
            "categories": [category.name for category in self.taxonomy.categories],
            "gallery": await self._on_shelf(_contents) if self._gallery is not None else None,
            "embeds": self._model is not None,
            "limits": vars(self.limits),
        }

    async def predict(self, data: bytes) -> dict[str, Any]:
        """The garments of a photo, with shapes, measures and embeddings."""
        photo = await self._photo(data)
        return {"width": photo.width, "height": photo.height} | await self._done(
            self._batcher.garments(
                photo.ready,
                lambda found: {"garments": [self._shown(one, photo.scale) for one in found]},
            )
        )

    async def embed(
        self, data: bytes, boxes: Sequence[str] = (), category: str | None = None
    ) -> dict[str, Any]:
        """The embeddings of boxes, or of the garments that the model finds."""
        garments = await self._described(data, boxes, category)
        return {"garments": [_values(one) for one in garments]}

    async def search_photo(self, data: bytes, wish: Wish) -> dict[str, Any]:
        """What the gallery has like each garment of a photo."""
        self._check(wish)
        garments = await self._described(data, (), None)
        if not garments:
            return {"results": []}
        vectors = np.array([one.embedding for one in garments], np.float32)
        named = self.predictor.features
        second = self._second({n: np.stack([one.features[n] for one in garments]) for n in named})
        hits = await self._on_shelf(lambda gallery: _search(gallery, vectors, wish, second))
        found = zip(garments, hits, strict=True)
        return {"results": [QueryResult(garment, own).to_json() for garment, own in found]}

    async def search(
        self, embedding: Any, features: Mapping[str, Any], item: str | None, wish: Wish
    ) -> dict[str, Any]:
        """What the gallery has like a vector, or like one of its items, which is left out.

        Args:
            features: what a model's similarity compares beside the vector; without them results
                are in the order of the first stage.
        """
        self._check(wish)

        def work(gallery: Gallery) -> list[Any]:
            if item is not None:
                found = _item(gallery, item)
                own = self._features(gallery, found)
                return _search(gallery, gallery.vectors([item]), wish, self._second(own), item)
            rows = {name: _numbers(value)[None] for name, value in features.items()}
            vectors = _numbers(embedding).astype(np.float32)
            return _search(gallery, vectors, wish, self._second(rows))

        (hits,) = await self._on_shelf(work)
        return {"results": [{"garment": None, "hits": [hit_to_json(hit) for hit in hits]}]}

    def _second(self, features: Mapping[str, Any]) -> SecondStage | None:
        """How candidates are ordered: features (Q, *shape) by name. None without a similarity, or
        without what it compares."""
        similarity, named = self.predictor.similarity, self.predictor.features
        if similarity is None or not named or not set(named) <= features.keys():
            return None
        return SecondStage(similarity, {name: features[name] for name in named})

    def _features(self, gallery: Gallery, item: GalleryItem) -> dict[str, Any]:
        """(1, *shape) of what the gallery keeps of an item, by name."""
        kept = [name for name in self.predictor.features if name != CATEGORY]
        found: dict[str, Any] = {name: gallery.vectors([item.id], name) for name in kept}
        if item.category is not None:
            found[CATEGORY] = np.array([self.taxonomy.index(item.category.id)])
        return found

    async def add(
        self,
        data: bytes,
        name: str,
        boxes: Sequence[str],
        category: str | None,
        product: str | None,
    ) -> dict[str, Any]:
        """Put the garments of a photo into the gallery, not the photo."""
        garments = await self._described(data, boxes, category)
        if not garments:
            raise Refused(422, "no garment was found in the photo; say its box")
        items = [
            GalleryItem(
                id=f"{name}#{number}",
                category=one.category,
                score=one.score,
                product=product,
                attributes=tuple(one.attributes or ()),
                features={n: v for n, v in one.features.items() if n != CATEGORY},
            )
            for number, one in enumerate(garments)
        ]
        vectors = [one.embedding for one in garments]

        def work(gallery: Gallery) -> None:
            with refused(409):
                gallery.add(items, vectors)

        await self._on_shelf(work)
        return {"added": [item.id for item in items]}

    async def remove(self, item: str) -> dict[str, Any]:
        def work(gallery: Gallery) -> None:
            with refused(404):
                gallery.remove([item])

        await self._on_shelf(work)
        return {"removed": [item]}

    async def item(self, name: str) -> dict[str, Any]:
        """An item's values, and its photo's size where the photo is there."""
        item = await self._on_shelf(lambda gallery: _item(gallery, name))
        photo = await self._done(self._batcher.run(lambda: self._item_photo(item)))
        size = None if photo is None else [photo.shape[1], photo.shape[0]]
        return {**item.to_json(), "photo": size}

    async def picture(self, name: str, whole: bool) -> bytes:
        """A JPEG of an item, or of its whole photo. Raises: Refused: there is none."""
        item = await self._on_shelf(lambda gallery: _item(gallery, name))
        return await self._done(self._batcher.run(lambda: self._drawn(item, whole)))

    def _drawn(self, item: GalleryItem, whole: bool) -> bytes:
        photo = self._item_photo(item)
        if photo is None:
            raise Refused(404, "this item's photo is not there")
        if not whole and item.box is not None:
            photo = cut_box(photo, item.box)
        shrink = (_PICTURE if whole else _THUMBNAIL) / max(photo.shape[:2])
        if shrink < 1:
            size = [max(1, round(side * shrink)) for side in photo.shape[1::-1]]
            photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        return cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()

    def _item_photo(self, item: GalleryItem) -> Image | None:
        return item_photo(item, self._root, upright=self._upright)

    async def _photo(self, data: bytes) -> _Photo:
        return await self._done(self._batcher.run(lambda: self._decoded(data)[0]))

    def _decoded(self, data: bytes) -> tuple[_Photo, Image]:
        image = decode_photo(data, self.limits)
        height, width = image.shape[:2]
        with refused():
            resized = self.predictor.resized(image)
        shrink = min(1.0, _SHAPE / max(height, width))
        size = max(1, round(height * shrink)), max(1, round(width * shrink))
        return _Photo(Ready(np.ascontiguousarray(resized), size), height, width), image

    async def _described(
        self, data: bytes, boxes: Sequence[str], category: str | None
    ) -> list[Garment]:
        """Garments with embeddings, without masks: of boxes, or those that the model finds."""
        model = self._model
        if model is None:
            raise Refused(404, "this model has no match stream and gives no embeddings")
        if category is not None and not boxes:
            raise Refused(400, "a category without a box says nothing")
        with refused():
            kind = None if category is None else parse_category(category, self.taxonomy)
        found: list[Garment] = []
        if kind is None:
            photo = await self._photo(data)
            found = await self._done(
                self._batcher.garments(
                    photo.ready, lambda own: [_scaled(one, photo.scale) for one in own]
                )
            )
            if not boxes:
                return found

        def work() -> list[Garment]:
            image = self._decoded(data)[1]
            given = [_box(text, image) for text in boxes]
            kinds = [kind or _nearest(box, found) for box in given]
            asked = [Garment(k, box) for k, box in zip(kinds, given, strict=True)]
            return model.describe(image, asked)

        return await self._done(self._batcher.run(work))

    def _shown(self, garment: Garment, scale: Float32Array) -> dict[str, Any]:
        """All that the page draws, in pixels of the photo."""
        own = _scaled(garment, scale)
        lengths = measure(own, self._rules)
        lines = [[line.round(1).tolist() for line in length.lines] for length in lengths]
        measures = [
            {**length.to_dict(), "lines": drawn}
            for length, drawn in zip(lengths, lines, strict=True)
        ]
        return {**_values(own), "shape": outline(garment, scale), "measures": measures}

    def _check(self, wish: Wish) -> None:
        if self._gallery is None:
            raise Refused(404, "this service has no gallery; start it with --gallery")
        if not 1 <= wish.top <= _MOST:
            raise Refused(400, f"top must be from 1 to {_MOST}, got {wish.top}")

    async def _on_shelf(self, work: Callable[[Gallery], T]) -> T:
        """Something with the gallery as it is now."""
        gallery = self._gallery
        if gallery is None:
            raise Refused(404, "this service has no gallery; start it with --gallery")

        def newest() -> T:
            gallery.refresh()
            return work(gallery)

        return await self._done(self._shelf.submit(newest))

    async def _done(self, future: "Future[T]") -> T:
        """Raises: Refused: there is more to do than can be done in time."""
        seconds = self.limits.timeout
        sentence = f"this took longer than {seconds:g} seconds; try again when less is going on"
        return await in_time(asyncio.wrap_future(future), seconds, 503, sentence)


def _contents(gallery: Gallery) -> dict[str, Any]:
    return {"items": len(gallery), "categories": [c.name for c in gallery.taxonomy.categories]}


def _item(gallery: Gallery, name: str) -> GalleryItem:
    try:
        return gallery.get(name)
    except ValueError as error:
        raise Refused(404, "the gallery has no item of this id") from error


def _numbers(values: Any) -> Any:
    try:
        found = np.array(values)
    except ValueError as error:
        raise Refused(400, "expected numbers, in lists of equal lengths") from error
    if found.dtype.kind not in "if":
        raise Refused(400, "expected numbers, in lists of equal lengths")
    return found


def _search(
    gallery: Gallery,
    vectors: Float32Array,
    wish: Wish,
    second: SecondStage | None = None,
    without: str | None = None,
) -> list[Any]:
    quoted = None if without is None else without.replace("'", "''")
    where = None if quoted is None else f"id <> '{quoted}'"
    with refused():
        return gallery.search(
            vectors,
            wish.top,
            category=wish.category,
            where=where,
            group_by=wish.group_by,
            second=second,
        )


def _values(garment: Garment) -> dict[str, Any]:
    """With what a similarity compares, if the model has one."""
    return {**garment.to_dict(), "features": dict(garment.features)}


def _scaled(garment: Garment, scale: Float32Array) -> Garment:
    """In pixels of the photo, and without the mask."""
    landmarks = garment.landmarks
    if landmarks is not None:
        landmarks = np.concatenate([landmarks[:, :2] * scale, landmarks[:, 2:]], axis=1)
    return replace(garment, box=garment.box * np.tile(scale, 2), landmarks=landmarks, mask=None)


def outline(garment: Garment, scale: Float32Array) -> list[list[list[float]]] | None:
    """The mask's outer rims, each a list of x, y, largest first; None without a mask."""
    if garment.mask is None:
        return None
    found, _ = cv2.findContours(
        garment.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    rims = [cv2.approxPolyDP(rim, 0.75, True)[:, 0] for rim in found]
    whole = sorted((rim for rim in rims if len(rim) > 2), key=cv2.contourArea, reverse=True)
    return [((rim + 0.5) * scale).round(1).tolist() for rim in whole[:20]]


def _box(text: str, image: Image) -> Float32Array:
    """A box of "x1,y1,x2,y2", as far as it lies in the image."""
    with refused():
        try:
            values = np.array([float(word) for word in text.split(",")], np.float32)
        except ValueError as error:
            raise ValueError("a box must be x1,y1,x2,y2 in pixels of the photo") from error
        if values.shape != (4,) or not np.isfinite(values).all():
            raise ValueError("a box must be x1,y1,x2,y2 in pixels of the photo")
        box = np.clip(values, 0, np.tile(image.shape[1::-1], 2)).astype(np.float32)
        if (box[2:] - box[:2] < 1).any():
            raise ValueError("the box has no pixel of the photo in it")
    return box


def _nearest(box: Float32Array, found: Sequence[Garment]) -> Any:
    """The category of the garment that a box overlaps most."""
    if found:
        others = from_numpy(np.stack([one.box for one in found]))
        overlaps = box_iou(from_numpy(box)[None], others)[0]
        if overlaps.max() > 0:
            return found[int(overlaps.argmax())].category
    raise Refused(422, "the model finds no garment in the box; say its category")
