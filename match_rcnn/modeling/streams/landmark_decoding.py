"""Landmark positions from heat maps, without ever resizing a heat map.

The host resizes each S x S map to the size of its box (bicubic), and takes the place of the
largest value. Here only the few pixels that can hold that value are computed, and the answer is
the same.

Bicubic interpolation is, in each *cell* between four neighbouring samples, a cubic polynomial in
x and in y. Written as a Bezier surface its sixteen control points bound it from above, and they
are plain to compute: with the central differences dx, dy of the map m and the mixed one dxy, the
control points around a sample are m, m +- dx, m +- dy and m +- dx +- dy +- dxy. So

1. one real pixel next to the map's largest sample gives a value that the answer reaches at least;
2. cells whose control points do not exceed it cannot hold the answer;
3. the pixels of the remaining cells, a handful a map, are computed and compared; those of the
   cell with the highest bound first, since they rule out many of the others.

Shapes: R RoIs, K landmarks a RoI, S side of the maps, N = R * K maps, M candidate cells,
H x W pixels of a RoI's box (different for every RoI). Cells are counted from 0 to S along an axis:
cell c lies between the samples c - 1 and c; beyond the border samples repeat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional as F

Tensor = torch.Tensor

#: The free parameter of the bicubic kernel, as torch has it.
CUBIC_A = -0.75
#: Rounding of one float32 interpolation, relative. Values closer than this are equal.
TOLERANCE = 1e-6
#: Map elements worked on at a time: a few arrays of this size stay in a CPU core's cache.
BLOCK_CPU = 1 << 19
BLOCK_GPU = 1 << 25


@dataclass(frozen=True)
class _Axis:
    """How the samples of a map lie under the pixels of each box, along one axis.

    Attributes:
        extent: (R,) the box's extent, at least 1.
        pixels: (R,) its pixels: the extent rounded up.
        first: (R, S + 2) the first pixel of each cell; cell c ends before ``first[:, c + 1]``.
    """

    extent: Tensor
    pixels: Tensor
    first: Tensor
    side: int

    @classmethod
    def of(cls, low: Tensor, high: Tensor, side: int) -> "_Axis":
        extent = (high - low).clamp(min=1)
        pixels = extent.ceil()
        last = int(pixels.max())
        every = torch.arange(last, device=low.device, dtype=low.dtype).expand(len(low), last)
        places = (every + 0.5) * (side / pixels)[:, None] - 0.5
        edges = torch.arange(-1, side + 1, device=low.device, dtype=low.dtype)
        first = torch.searchsorted(
            places.contiguous(), edges.expand(len(low), side + 2).contiguous()
        )
        return cls(extent, pixels.long(), torch.minimum(first, pixels.long()[:, None]), side)

    def place(self, roi: Tensor, pixel: Tensor) -> Tensor:
        """Where ``pixel`` of ``roi`` lies, in samples."""
        scale = self.side / self.pixels.to(self.extent.dtype)
        return (pixel.to(self.extent.dtype) + 0.5) * scale[roi] - 0.5

    def nearest_pixel(self, roi: Tensor, sample: Tensor) -> Tensor:
        """The pixel of ``roi`` that lies nearest to ``sample``."""
        pixels = self.pixels[roi]
        return ((2 * sample + 1) * pixels // (2 * self.side)).clamp(max=pixels - 1)

    @cached_property
    def longest(self) -> int:
        """The most pixels that any cell has."""
        return max(1, int(self.first.diff(dim=1).max()))

    def pixels_of(self, roi: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(M, P, 4) weights, (M, P) pixels and whether they lie in their cell, P = ``longest``."""
        first = self.first[roi, cell]
        pixel = first[:, None] + torch.arange(self.longest, device=cell.device)
        weights = _cubic_weights(self.place(roi[:, None], pixel))
        return weights, pixel, pixel < self.first[roi, cell + 1][:, None]

    def coordinate(self, pixel: Tensor) -> Tensor:
        """(R, K) pixels -> continuous offsets from the box's edge."""
        shrink = (self.extent / self.pixels.to(self.extent.dtype))[:, None]
        return (pixel.to(self.extent.dtype) + 0.5) * shrink


def decode_landmarks(maps: Tensor, boxes: Tensor) -> Tensor:
    """Landmark positions and scores from heat maps (as detectron2's ``keypoint_head``).

    Args:
        maps: (R, K, S, S) logits of any floating type.
        boxes: (R, 4) x1, y1, x2, y2.

    Returns:
        (R, K, 3) float32: x, y in the boxes' coordinates, and the score: the softmax value of the
        place over the map. Equal to what the host's resize to the box and argmax give; where two
        pixels are equal within rounding, either may come.
    """
    if maps.dim() != 4 or maps.shape[2] != maps.shape[3] or boxes.shape != (len(maps), 4):
        raise ValueError(
            f"expected maps (R, K, S, S) and boxes (R, 4), got {tuple(maps.shape)} "
            f"and {tuple(boxes.shape)}"
        )
    landmarks = maps.new_zeros((*maps.shape[:2], 3), dtype=torch.float32)
    for part in _blocks(maps):
        landmarks[part] = _decode_block(maps[part].float(), boxes[part].float())
    return landmarks


def _blocks(maps: Tensor) -> Iterator[slice]:
    elements = BLOCK_CPU if maps.device.type == "cpu" else BLOCK_GPU
    rois = max(1, elements // max(1, maps[0].numel())) if len(maps) else 1
    if maps.numel():
        yield from (slice(start, start + rois) for start in range(0, len(maps), rois))


def _decode_block(maps: Tensor, boxes: Tensor) -> Tensor:
    num_rois, num_landmarks, side, _ = maps.shape
    axes = (_Axis.of(boxes[:, 1], boxes[:, 3], side), _Axis.of(boxes[:, 0], boxes[:, 2], side))
    padded = F.pad(maps.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="replicate")[:, 0]
    roi = torch.arange(num_rois, device=maps.device).repeat_interleave(num_landmarks)
    value, y, x = _first_guess(maps.flatten(0, 1), padded, roi, axes)
    value, y, x = _improve(padded, roi, axes, value, y, x)
    score = 1 / (maps.flatten(2) - value.view(num_rois, num_landmarks, 1)).exp_().sum(2)
    shape = (num_rois, num_landmarks)
    ys = axes[0].coordinate(y.view(shape)) + boxes[:, 1, None]
    xs = axes[1].coordinate(x.view(shape)) + boxes[:, 0, None]
    return torch.stack((xs, ys, score), dim=2)


def _first_guess(
    maps: Tensor, padded: Tensor, roi: Tensor, axes: tuple[_Axis, _Axis]
) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) value, y, x of the pixel nearest to each map's largest sample."""
    side = maps.shape[-1]
    peak = maps.flatten(1).argmax(1)
    y = axes[0].nearest_pixel(roi, peak // side)
    x = axes[1].nearest_pixel(roi, peak % side)
    value = _pixel_values(padded, torch.arange(len(maps), device=maps.device), roi, axes, y, x)
    return value, y, x


def _pixel_values(
    padded: Tensor, index: Tensor, roi: Tensor, axes: tuple[_Axis, _Axis], y: Tensor, x: Tensor
) -> Tensor:
    """(M,) the resized maps' values at single pixels: ``padded[index]`` at ``y``, ``x``."""
    place_y, place_x = axes[0].place(roi, y), axes[1].place(roi, x)
    patches = _patches(padded, index, place_y.floor().long() + 1, place_x.floor().long() + 1)
    rows = (_cubic_weights(place_y)[..., None] * patches).sum(1)
    return (_cubic_weights(place_x) * rows).sum(1)


def _patches(padded: Tensor, index: Tensor, cell_y: Tensor, cell_x: Tensor) -> Tensor:
    """(M, 4, 4) the samples that cells are interpolated from."""
    width = padded.shape[-1]
    corner = (index * width + cell_y) * width + cell_x
    steps = torch.arange(4, device=padded.device)
    window = (steps[:, None] * width + steps).flatten()
    return padded.flatten()[corner[:, None] + window].view(-1, 4, 4)


def _cubic_weights(place: Tensor) -> Tensor:
    """(...) places -> (..., 4) weights of the samples around each."""
    t = place - place.floor()
    u = 1 - t
    return torch.stack((_outer(t + 1), _inner(t), _inner(u), _outer(u + 1)), dim=-1)


def _inner(d: Tensor) -> Tensor:
    """The bicubic kernel at distances up to 1."""
    return ((CUBIC_A + 2) * d - (CUBIC_A + 3)) * d * d + 1


def _outer(d: Tensor) -> Tensor:
    """The bicubic kernel at distances from 1 to 2."""
    return ((d - 5) * d + 8) * d * CUBIC_A - 4 * CUBIC_A


def _floor(value: Tensor) -> Tensor:
    """What must be exceeded to be more than ``value``."""
    return value + TOLERANCE * value.abs()


def _candidates(padded: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(M,) map, cell_y, cell_x of the cells that may hold more than ``value`` (N,), and their
    upper bounds."""
    near = padded[:, 1:-1, 1:-1]
    floor = _floor(value)[:, None, None]
    dx = (near[:, :, 2:] - near[:, :, :-2]).mul_(-CUBIC_A / 3)
    dxy = (dx[:, 2:] - dx[:, :-2]).mul_(-CUBIC_A / 3)
    dx = dx[:, 1:-1]
    dy = (near[:, 2:, 1:-1] - near[:, :-2, 1:-1]).mul_(-CUBIC_A / 3)
    sample = near[:, 1:-1, 1:-1]
    bound = sample + dx.abs() + dy.abs() + dxy.abs()
    index, y, x = torch.nonzero(bound > floor, as_tuple=True)
    found = tuple(a[index, y, x] for a in (sample, dx, dy, dxy))
    return _quadrants(index, y, x, found, value)


def _quadrants(
    index: Tensor, y: Tensor, x: Tensor, net: tuple[Tensor, ...], value: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the four cells around each sample those whose control points exceed ``value``."""
    signs = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]], device=y.device)
    sample, dx, dy, dxy = (a[:, None] for a in net)
    sy, sx = signs[:, 0] * dy, signs[:, 1] * dx
    corner = sy + sx + signs.prod(1) * dxy
    bound = sample + torch.stack((torch.zeros_like(sy), sy, sx, corner)).amax(0)
    which, quadrant = torch.nonzero(bound > _floor(value)[index, None], as_tuple=True)
    cell_y = y[which] + (signs[quadrant, 0] > 0)
    cell_x = x[which] + (signs[quadrant, 1] > 0)
    return index[which], cell_y, cell_x, bound[which, quadrant]


def _improve(
    padded: Tensor, roi: Tensor, axes: tuple[_Axis, _Axis], value: Tensor, y: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The largest pixel of each map, given one good pixel: (N,) value, y, x."""
    *cells, bound = _candidates(padded, value)
    width = axes[1].pixels[roi]
    best, place = value, y * width + x
    # The most promising cell of each map first: what it holds rules out most of the others.
    top = torch.full_like(value, -torch.inf).scatter_reduce(0, cells[0], bound, "amax")
    is_top = bound == top[cells[0]]
    best, place = _improve_by(padded, roi, axes, [c[is_top] for c in cells], best, place)
    others = ~is_top & (bound > _floor(best)[cells[0]])
    best, place = _improve_by(padded, roi, axes, [c[others] for c in cells], best, place)
    return best, place // width, place % width


def _improve_by(
    padded: Tensor,
    roi: Tensor,
    axes: tuple[_Axis, _Axis],
    cells: Sequence[Tensor],
    best: Tensor,
    place: Tensor,
) -> tuple[Tensor, Tensor]:
    """(N,) value and place (row times width plus column) once the cells are looked at, too."""
    width = axes[1].pixels[roi]
    for part in _cell_blocks(cells[0], axes):
        index, cell_y, cell_x = (c[part] for c in cells)
        values, ys, xs = _cell_maxima(padded, index, roi[index], axes, cell_y, cell_x)
        before = best
        best = before.scatter_reduce(0, index, values, "amax")
        # Among equal pixels the first in reading order, as argmax has it.
        place = place.masked_fill(best > before, torch.iinfo(torch.int64).max)
        ties = values == best[index]
        place = place.scatter_reduce(0, index[ties], (ys * width[index] + xs)[ties], "amin")
    return best, place


def _cell_blocks(index: Tensor, axes: tuple[_Axis, _Axis]) -> Iterator[slice]:
    """Blocks of cells whose pixels together stay within the block size."""
    elements = BLOCK_CPU if index.device.type == "cpu" else BLOCK_GPU
    pixels = 1
    for axis in axes:
        pixels *= axis.longest
    step = max(1, elements // pixels)
    yield from (slice(start, start + step) for start in range(0, len(index), step))


def _cell_maxima(
    padded: Tensor,
    index: Tensor,
    roi: Tensor,
    axes: tuple[_Axis, _Axis],
    cell_y: Tensor,
    cell_x: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """(M,) value, y, x of the largest pixel of each cell; -inf for a cell without pixels."""
    patches = _patches(padded, index, cell_y, cell_x)
    weights_y, ys, in_y = axes[0].pixels_of(roi, cell_y)
    weights_x, xs, in_x = axes[1].pixels_of(roi, cell_x)
    # Sums of products and no matrix products: those would be rounded under autocast and TF32.
    rows = (weights_y[..., None] * patches[:, None]).sum(2)
    values = (rows[:, :, None] * weights_x[:, None]).sum(3)
    inside = in_y[:, :, None] & in_x[:, None, :]
    values = values.masked_fill(~inside, -torch.inf).flatten(1)
    best, place = values.max(1)
    columns = weights_x.shape[1]
    return best, ys[:, 0] + place // columns, xs[:, 0] + place % columns
