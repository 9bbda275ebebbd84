"""A photo from its plan: outfit, pose, framing, background, occluders, light.

Shapes: ``H``, ``W`` the picture, ``max(H, W)`` the size that was asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from match_rcnn.data.image_sources import SHOP
from match_rcnn.data.synthetic.annotate import annotate
from match_rcnn.data.synthetic.backgrounds import draw_background
from match_rcnn.data.synthetic.body import Pose, random_pose
from match_rcnn.data.synthetic.camera import Camera
from match_rcnn.data.synthetic.canvas import Canvas
from match_rcnn.data.synthetic.conditions import Conditions, conditions
from match_rcnn.data.synthetic.curves import FloatArray
from match_rcnn.data.synthetic.cuts import LOWERS
from match_rcnn.data.synthetic.figure import Figure, draw_figure, random_person
from match_rcnn.data.synthetic.garments import garment_shape
from match_rcnn.data.synthetic.occluders import draw_occluder
from match_rcnn.data.synthetic.outfits import Outfit, dress, passer_by
from match_rcnn.data.synthetic.photo import expose
from match_rcnn.data.synthetic.products import Catalogue, slot
from match_rcnn.data.synthetic.tailor import Garment, random_light

#: (width, height) proportions and how common they are.
_ASPECTS = ((3, 4), (2, 3), (1, 1), (4, 3), (9, 16))
_ASPECT_SHARES = (0.5, 0.2, 0.16, 0.07, 0.07)


@dataclass(frozen=True)
class Picture:
    """A drawn photo: ``image`` (H, W, 3) uint8 RGB and the content of its annotation file."""

    image: npt.NDArray[np.uint8]
    annotation: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """What lies between the plan and the photo: the drawn canvas, its figures, back to front."""

    canvas: Canvas
    figures: list[Figure]


def draw_picture(catalogue: Catalogue, index: int, size: int) -> Picture:
    """Draw image ``index`` (0-based) of a split; the longer side is ``size`` pixels."""
    photo = catalogue.photo(index)
    stage = draw_stage(catalogue, index, size)
    annotation = annotate(stage.canvas, stage.figures)
    annotation["source"] = photo.source
    annotation["pair_id"] = catalogue.product(photo.number).pair_id
    rng = catalogue.random(5, index)
    return Picture(expose(stage.canvas.image, rng, conditions(photo.source)), annotation)


def draw_stage(catalogue: Catalogue, index: int, size: int) -> Stage:
    """Draw everything but the camera's own doing."""
    photo = catalogue.photo(index)
    rng = catalogue.random(0, index)
    how, shop = conditions(photo.source), photo.source == SHOP
    return draw_outfit(rng, size, how, shop, lambda rng: dress(catalogue, photo, rng))


def draw_outfit(
    rng: np.random.Generator,
    size: int,
    how: Conditions,
    shop: bool,
    clothe: Callable[[np.random.Generator], Outfit],
) -> Stage:
    """Draw somebody in the outfit that ``clothe`` gives, or it laid out.

    Args:
        rng: decides all the rest.
        size: of the longer side, pixels.
        shop: whether it is a shop's photo: its background, and a model who hides little.
    """
    canvas = Canvas(*_image_size(rng, size))
    viewpoint = int(rng.choice(3, p=how.viewpoints)) + 1
    figures = _figures(clothe(rng), how, shop, rng, canvas, viewpoint)
    draw_background(canvas, rng, shop=shop, flat=viewpoint == 1)
    for figure in figures:
        draw_figure(canvas, figure)
    _occlude(canvas, rng, figures, how)
    return Stage(canvas, figures)


def _image_size(rng: np.random.Generator, size: int) -> tuple[int, int]:
    width, height = _ASPECTS[int(rng.choice(len(_ASPECTS), p=_ASPECT_SHARES))]
    scale = size / max(width, height)
    return round(height * scale), round(width * scale)


def _figures(
    outfit: Outfit,
    how: Conditions,
    shop: bool,
    rng: np.random.Generator,
    canvas: Canvas,
    viewpoint: int,
) -> list[Figure]:
    """The figures from back to front; the main garment is item 0."""
    pose = random_pose(rng, viewpoint, how.liveliness)
    framed = [outfit.main]
    if viewpoint != 1 and rng.random() < how.whole:
        framed = list(outfit.slots.values())
    camera = _camera(rng, canvas, _extent(framed, pose), how, viewpoint)
    if viewpoint == 1:
        return _laid_out(rng, outfit, pose, camera)
    main = _figure(rng, outfit, pose, camera, plain=shop)
    alone = rng.random() >= how.bystander
    if alone or len(outfit.slots) > 2:
        return [main]
    other = _bystander(rng, pose, camera, len(outfit.slots))
    return [other, main] if rng.random() < 0.6 else [main, other]


def _extent(garments: list[Garment], pose: Pose) -> FloatArray:
    """(2, 2) lowest and highest plane coordinates of ``garments``."""
    points = np.concatenate([garment_shape(g.category_id, g.cut, pose).landmarks for g in garments])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _camera(
    rng: np.random.Generator, canvas: Canvas, extent: FloatArray, how: Conditions, viewpoint: int
) -> Camera:
    """Frames what ``extent`` holds: from afar, filling the picture, or cut by its edges."""
    height, width = canvas.size
    size = np.maximum(extent[1] - extent[0], 0.2)
    kind = rng.random()
    jitter = how.jitter
    centre = extent.mean(axis=0)
    if kind < how.far:
        share = rng.uniform(*how.far_range)
        jitter *= 1.5
    elif kind < how.far + how.zoom:
        share = rng.uniform(*how.zoom_range)
        centre = centre + rng.uniform(-0.3, 0.3, 2) * size
    else:
        share = rng.uniform(*how.near_range)
    # By the geometric mean of both fits, so that long coats and wide skirts come out alike.
    fits = np.sort([width / size[0], height / size[1]])
    scale = share * (fits[0] ** 0.85 * fits[1] ** 0.15)
    spread = how.tilt * (2.2 if viewpoint == 1 else 1.0)
    target = np.array([width, height]) * (0.5 + rng.normal(0, jitter, 2).clip(-0.22, 0.22))
    angle = float(rng.normal(0, spread))
    return Camera(
        float(scale),
        angle,
        (float(centre[0]), float(centre[1])),
        (float(target[0]), float(target[1])),
    )


def _figure(
    rng: np.random.Generator, outfit: Outfit, pose: Pose, camera: Camera, plain: bool
) -> Figure:
    inner, lower = outfit.slots.get("inner"), outfit.slots.get("lower")
    tucked = inner is not None and lower is not None and bool(rng.random() < 0.35)
    return Figure(
        pose,
        camera,
        random_light(rng),
        random_person(rng, plain),
        inner,
        lower,
        outfit.slots.get("outer"),
        tucked,
    )


def _bystander(rng: np.random.Generator, pose: Pose, camera: Camera, first_item: int) -> Figure:
    """Someone beside, nearer or farther; at most two items, so that a picture has few."""
    outfit = passer_by(rng, first_item)
    aside = float(rng.uniform(0.55, 0.95) * rng.choice([-1, 1]))
    zoom = float(rng.uniform(0.75, 1.1))
    x, y = camera.centre
    moved = replace(camera, scale=camera.scale * zoom, centre=(x + aside / zoom, y))
    other = random_pose(rng, int(rng.choice([2, 2, 3])), 1.0)
    return _figure(rng, outfit, other, moved, False)


def _laid_out(rng: np.random.Generator, outfit: Outfit, pose: Pose, camera: Camera) -> list[Figure]:
    """The main garment alone, or the set laid out with gaps, as catalogues do."""
    main = outfit.main
    figures = [_lying(rng, main, pose, camera)]
    others = [garment for garment in outfit.slots.values() if garment.item == main.item + 1]
    if not others or rng.random() < 0.5:
        return figures
    garment = others[0]
    extent = _extent([outfit.main], pose)
    width = extent[1, 0] - extent[0, 0]
    below = garment.category_id in LOWERS
    offset = (rng.uniform(-0.4, 0.4), -0.25) if below else (width * rng.choice([-1, 1]), 0.0)
    x, y = camera.centre
    beside = replace(
        camera,
        angle=camera.angle + float(rng.normal(0, 0.15)),
        centre=(x + float(offset[0]), y + float(offset[1])),
    )
    return [_lying(rng, garment, pose, beside), *figures]


def _lying(rng: np.random.Generator, garment: Garment, pose: Pose, camera: Camera) -> Figure:
    """A figure of one garment and nobody in it."""
    outfit = Outfit(garment, {slot(garment.category_id): garment})
    return _figure(rng, outfit, pose, camera, plain=True)


def _occlude(
    canvas: Canvas, rng: np.random.Generator, figures: list[Figure], how: Conditions
) -> None:
    for _ in range(int(rng.choice(3, p=how.occluders))):
        figure = figures[int(rng.integers(len(figures)))]
        shapes = list(figure.shapes().values())
        shape = shapes[int(rng.integers(len(shapes)))]
        pixels = figure.camera.pixels(shape.landmarks)
        box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
        size = rng.uniform(*how.occluder_size)
        draw_occluder(canvas, rng, box, figure.person.skin, float(size))
