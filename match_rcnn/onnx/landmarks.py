"""Landmark positions from heat maps in numpy: what
:mod:`match_rcnn.modeling.streams.landmark_decoding` computes, a landmark at a time.

A map is resized to its box (bicubic), and its largest pixel is the landmark. One pixel beside the
largest sample gives a value that the answer reaches at least; samples whose bicubic cells cannot
exceed it are ruled out by their Bezier control points; the pixels of the window that holds the
others are computed.

Shapes: ``n`` landmarks; ``S`` side of the maps; a box of ``H x W`` pixels.
"""

import numpy as np

from match_rcnn.utils.arrays import BoolArray, Float32Array, FloatArray, IntArray

#: The free parameter of torch's bicubic kernel.
_CUBIC_A = -0.75
#: Rounding of one float32 interpolation, relative. Values closer than this are equal.
_TOLERANCE = 1e-6


def decode_landmarks(maps: Float32Array, box: Float32Array) -> Float32Array:
    """(n, 3) x, y in the box's coordinates and the score, of (n, S, S) logits.

    The score is the softmax value of the place over the map.
    """
    side = maps.shape[-1]
    extent = np.maximum(box[2:] - box[:2], np.float32(1))
    width, height = np.ceil(extent).astype(int).tolist()
    rows, columns = _cubic_weights(height, side), _cubic_weights(width, side)
    candidates, guess = _candidates(maps.astype(np.float64), rows, columns)
    found = np.empty((len(maps), 3), dtype=np.float32)
    for i, logits in enumerate(maps):
        value, y, x = _largest(logits.astype(np.float64), rows, columns, candidates[i], guess[i])
        place = np.array([x, y], dtype=np.float32) + np.float32(0.5)
        found[i, :2] = place * (extent / np.ceil(extent)) + box[:2]
        found[i, 2] = 1 / np.exp(logits - np.float32(value)).sum()
    return found


def _cubic_weights(pixels: int, side: int) -> FloatArray:
    """(pixels, side) how much each sample counts at each pixel; beyond the border samples repeat.

    The places are float32's, as the host's are.
    """
    scale = np.float32(side) / np.float32(pixels)
    place = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    first = np.floor(place).astype(int) - 1
    weights = np.zeros((pixels, side))
    for step in range(4):
        sample = np.clip(first + step, 0, side - 1)
        distance = np.abs(place.astype(np.float64) - (first + step))
        near = ((_CUBIC_A + 2) * distance - (_CUBIC_A + 3)) * distance**2 + 1
        far = ((distance - 5) * distance + 8) * distance * _CUBIC_A - 4 * _CUBIC_A
        np.add.at(weights, (np.arange(pixels), sample), np.where(distance <= 1, near, far))
    return weights


def _candidates(
    maps: FloatArray, rows: FloatArray, columns: FloatArray
) -> tuple[BoolArray, list[tuple[float, int, int]]]:
    """(n, S, S) the samples around which a map may hold more than its first guess, and of each
    map that guess: value, y, x of the pixel nearest to the largest sample."""
    side = maps.shape[-1]
    peak = maps.reshape(len(maps), -1).argmax(axis=1)
    guess = []
    for logits, sample in zip(maps, peak.tolist(), strict=True):
        y, x = (
            min((2 * at + 1) * len(axis) // (2 * side), len(axis) - 1)
            for at, axis in zip(divmod(sample, side), (rows, columns), strict=True)
        )
        guess.append((float(rows[y] @ logits @ columns[x]), y, x))
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    dx = (padded[:, :, 2:] - padded[:, :, :-2]) * (-_CUBIC_A / 3)
    dy = (padded[:, 2:] - padded[:, :-2])[:, :, 1:-1] * (-_CUBIC_A / 3)
    dxy = (dx[:, 2:] - dx[:, :-2]) * (-_CUBIC_A / 3)
    bound = maps + np.abs(dx[:, 1:-1]) + np.abs(dy) + np.abs(dxy)
    least = np.array([value for value, _, _ in guess])
    return bound > (least + _TOLERANCE * np.abs(least))[:, None, None], guess


def _largest(
    logits: FloatArray,
    rows: FloatArray,
    columns: FloatArray,
    candidates: BoolArray,
    guess: tuple[float, int, int],
) -> tuple[float, int, int]:
    """Value, y and x of the largest pixel of one map; the first in reading order among equals."""
    if not candidates.any():
        return guess
    marked = np.nonzero(candidates)
    ys, xs = _pixels(marked[0], rows), _pixels(marked[1], columns)
    window = rows[ys] @ logits @ columns[xs].T
    y, x = np.unravel_index(window.argmax(), window.shape)
    value = float(window[y, x])
    # Within rounding of it, the guess is as good.
    if not value > guess[0]:
        return guess
    return value, ys.start + int(y), xs.start + int(x)


def _pixels(samples: IntArray, weights: FloatArray) -> slice:
    """The pixels of all cells that touch one of the samples, along one axis."""
    pixels, side = weights.shape
    step = pixels / side
    first = int(np.floor((int(samples.min()) - 0.5) * step - 0.5))
    last = int(np.ceil((int(samples.max()) + 1.5) * step + 0.5))
    return slice(max(0, first), min(pixels, last + 1))
