"""COCO's compressed run-length masks: checked and measured, many at once.

A mask of ``h * w`` pixels, read column by column, is a list of run lengths, background first.
Each is written in characters of five bits (lowest first, value + 48, bit 32: more follow), from
the fourth on as the difference to the one two places before.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_utils

from match_rcnn.utils.arrays import IntArray
from match_rcnn.utils.columns import as_numbers

_FIRST, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5
_LONGEST = 13  # characters of a 64 bit number
_SHORT = 5  # characters of a number that is surely less than 2 ** 31
_CHUNK = 64  # masks at a time: their numbers stay in the processor's cache


def rle_areas(counts: Sequence[bytes], pixels: IntArray) -> IntArray:
    """(N,) foreground pixels of N compressed masks, -1 where one is malformed.

    Args:
        counts: the N ``counts`` strings.
        pixels: (N,) ``h * w`` of each; the runs must sum to it.
    """
    parts = [slice(start, start + _CHUNK) for start in range(0, len(counts), _CHUNK)]
    areas = []
    for part in parts:
        own = _areas_of_good(counts[part], pixels[part])
        areas.append(_areas(counts[part], pixels[part]) if own is None else own)
    return np.concatenate(areas) if areas else np.zeros(0, dtype=np.int64)


def _areas_of_good(counts: Sequence[bytes], pixels: IntArray) -> IntArray | None:
    """The same in a fifth of the time, where nothing is malformed or odd; else None."""
    codes = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(_FIRST)
    sizes = np.fromiter(map(len, counts), np.int64, len(counts))
    behind = np.cumsum(sizes)
    if not sizes.all() or codes.max() >= 64 or (codes[behind - 1] >= _MORE).any():
        return None
    ends = np.flatnonzero(codes < _MORE)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _SHORT:
        return None
    values = (codes[ends].astype(np.int32) ^ _SIGN) - _SIGN
    for k in range(1, int(lengths.max())):
        longer = np.flatnonzero(lengths > k)
        values[longer] = (values[longer] << _BITS) + (codes[ends[longer] - k] & 0x1F)
    return _sum_runs(values, np.searchsorted(ends, behind), pixels)


def _sum_runs(values: Any, stop: IntArray, pixels: IntArray) -> IntArray | None:
    """Args: values: as they are written, of all masks; stop: where each mask's end."""
    numbers = np.diff(stop, prepend=0)
    halves = (numbers + 1) // 2
    start = np.cumsum(halves) - halves
    # A row for each two runs, background and foreground, so that one sum undoes the differences.
    pairs = np.zeros((int(halves.sum()), 2), dtype=np.int64)
    shift = 2 * start - (stop - numbers)
    pairs.reshape(-1)[np.arange(len(values)) + np.repeat(shift, numbers)] = values
    begin = pairs[start, 0]
    pairs[start, 0] = 0  # the first run is none of those that differences count from
    runs = np.cumsum(pairs, axis=0)
    runs -= np.repeat(runs[start] - pairs[start], halves, axis=0)
    runs[(start + halves - 1)[numbers % 2 == 1], 1] = 0
    background, foreground = np.add.reduceat(runs, start, axis=0).T
    if min(begin.min(), runs.min()) < 0 or (begin + background + foreground != pixels).any():
        return None
    return foreground


def _areas(counts: Sequence[bytes], pixels: IntArray) -> IntArray:
    sizes = np.array([len(c) for c in counts], dtype=np.int64)
    areas = np.full(len(sizes), -1, dtype=np.int64)
    good = (sizes > 0) & _readable(counts, sizes)
    if not good.any():
        return areas
    runs, first = _runs([c for c, ok in zip(counts, good, strict=True) if ok], sizes[good])
    lengths = np.diff(np.append(first, len(runs)))
    odd = (np.arange(len(runs)) - np.repeat(first, lengths)) % 2 == 1
    total = np.add.reduceat(runs, first)
    positive = np.minimum.reduceat(runs, first) >= 0
    area = np.add.reduceat(np.where(odd, runs, 0), first)
    areas[good] = np.where(positive & (total == pixels[good]), area, -1)
    return areas


def _readable(counts: Sequence[bytes], sizes: IntArray) -> npt.NDArray[np.bool_]:
    """(N,) only legal characters, the last one ending a number, and no endless number."""
    good = np.ones(len(sizes), dtype=bool)
    codes = np.frombuffer(b"".join(counts), dtype=np.uint8).astype(np.int64) - _FIRST
    owner = np.repeat(np.arange(len(sizes)), sizes)
    good[owner[(codes < 0) | (codes >= 64)]] = False
    last = np.cumsum(sizes)[sizes > 0] - 1
    good[owner[last[codes[last] & _MORE != 0]]] = False
    ends = np.flatnonzero(codes & _MORE == 0)
    long = np.diff(ends, prepend=-1) >= _LONGEST
    good[owner[ends[long]]] = False
    return good


def _runs(counts: Sequence[bytes], sizes: IntArray) -> tuple[IntArray, IntArray]:
    """All run lengths of readable masks in a row, and where each mask's begin."""
    codes = np.frombuffer(b"".join(counts), dtype=np.uint8).astype(np.int64) - _FIRST
    ends = np.flatnonzero(codes & _MORE == 0)
    starts = np.append(0, ends[:-1] + 1)
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((codes & 0x1F) << (_BITS * place), starts)
    values -= np.where(codes[ends] & _SIGN, np.int64(1) << (_BITS * (place[ends] + 1)), 0)
    first = np.searchsorted(starts, np.cumsum(sizes) - sizes)
    return _undo_differences(values, first), first


def _undo_differences(values: IntArray, first: IntArray) -> IntArray:
    lengths = np.diff(np.append(first, len(values)))
    place = np.arange(len(values)) - np.repeat(first, lengths)
    runs = np.where(place == 0, values, 0)
    for chain in (place % 2 == 1, (place % 2 == 0) & (place > 0)):
        sums = np.cumsum(np.where(chain, values, 0))
        before = np.repeat(sums[first] - np.where(chain, values, 0)[first], lengths)
        runs += np.where(chain, sums - before, 0)
    return runs


def to_rle(segmentation: Any, height: int, width: int) -> bytes:
    """The ``counts`` of polygons, of an uncompressed or of a compressed mask.

    Raises:
        ValueError: it is none of these, of another size, or malformed.
    """
    if isinstance(segmentation, dict):
        return _rle_counts(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("segmentation is neither a list of polygons nor a run-length mask")
    if height <= 0 or width <= 0:
        raise ValueError("its image has no height and width, which masks of polygons need")
    for polygon in segmentation:
        values = as_numbers(list(polygon)) if isinstance(polygon, (list, np.ndarray)) else None
        if values is None or values.ndim != 1:
            raise ValueError("a polygon of segmentation is not a list of finite numbers")
        if len(values) < 6 or len(values) % 2:
            raise ValueError(f"a polygon needs 3 or more x, y pairs, got {len(values)} numbers")
    parts = mask_utils.frPyObjects(segmentation, height, width)
    return mask_utils.merge(parts)["counts"]


def _rle_counts(mask: dict[str, Any], height: int, width: int) -> bytes:
    counts = mask_counts(mask, height, width)
    if rle_areas([counts], np.array([height * width]))[0] < 0:
        raise ValueError(f"malformed run-length mask: its runs do not fill {height} x {width}")
    return counts


def mask_counts(mask: Any, height: int, width: int) -> bytes:
    """The ``counts`` bytes of a result's mask, not yet checked themselves.

    Raises:
        ValueError: no mask with ``size`` and ``counts``, or of another size than the image.
    """
    if not isinstance(mask, dict) or not {"size", "counts"} <= mask.keys():
        raise ValueError("segmentation must be a run-length mask with 'size' and 'counts'")
    if mask["size"] != [height, width]:
        raise ValueError(
            f"the mask's size is {mask['size']}, its image's [height, width] [{height}, {width}]"
        )
    counts = mask["counts"]
    if isinstance(counts, list):
        return _compress(counts, height, width)
    if not isinstance(counts, str):
        raise ValueError(f"counts of a mask must be a string, got {type(counts).__name__}")
    return counts.encode("ascii", errors="replace")


def _compress(counts: list[Any], height: int, width: int) -> bytes:
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu" or (runs < 0).any():
        raise ValueError("uncompressed counts of a mask must be whole numbers >= 0")
    if runs.sum() != height * width:
        raise ValueError(f"malformed run-length mask: its runs do not fill {height} x {width}")
    return mask_utils.frPyObjects({"size": [height, width], "counts": counts}, height, width)[
        "counts"
    ]
