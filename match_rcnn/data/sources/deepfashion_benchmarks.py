"""DeepFashion's (2016) benchmarks: labels checked against the images that they are of.

Shapes: ``N`` images of a benchmark. What a list says of the low resolution's pixels is moved to the
images that are wanted. What cannot be used is left out, what is strange is kept and counted; see
``datasets/README.md``.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from match_rcnn.data.image_size import UnreadableImageError, read_image_size
from match_rcnn.data.problems import (
    IMAGE_LEFT_OUT,
    MissingDataError,
    Problem,
    Reason,
)
from match_rcnn.data.sources.deepfashion import (
    NO_SLOT,
    TRUNCATED,
    VISIBLE,
    Strings,
)
from match_rcnn.data.sources.deepfashion_labels import Benchmark, clothes_type, read_labels
from match_rcnn.utils.arrays import BoolArray, IntArray
from match_rcnn.utils.parallel import available_cores, ordered_map

#: Where the images may lie: the official folders, as unpacked into ``Img`` or beside it.
_IMAGE_FOLDERS = {False: ("Img/img", "img"), True: ("Img/img_highres", "img_highres")}
#: Folders that lists and images call by different names (consumer-to-shop, high resolution).
_OTHER_NAMES = (("CLOTHING/Summer_Suit/", "CLOTHING/Summer_Wear/"),)
_CHUNK = 512
#: Two sizes of an image are of one shape when their sides' proportions agree up to this.
_SAME_SHAPE = 0.03


@dataclass(frozen=True)
class ImageFolder:
    """Where a benchmark's images lie.

    Attributes:
        path: below the root.
        renamed: what stands in the lists, and what the folder is called.
    """

    path: str
    renamed: tuple[tuple[str, str], ...] = ()

    def file(self, image: str) -> str:
        """An image's file, below the root; lists call the folder of either resolution ``img``."""
        name = image.removeprefix("img/")
        for listed, own in self.renamed:
            name = own + name.removeprefix(listed) if name.startswith(listed) else name
        return f"{self.path}/{name}"


def read_benchmark(
    root: Path, name: str, high_resolution: bool = False, progress: bool = False
) -> tuple[Benchmark, ImageFolder]:
    """A benchmark's labels, checked against its images; and where these lie.

    Args:
        name: of :data:`~match_rcnn.data.sources.deepfashion_labels.PARTITIONS`.
        high_resolution: take the images of ``img_highres``; boxes and landmarks, whose lists count
            the pixels of ``img``, are moved to them.
        progress: show a bar while the images' sizes are read.

    Raises:
        FileNotFoundError: a list or the folder of the images is not there, or no image of it.
        ValueError: a list cannot be used.
    """
    low, folder = find_images(root, False), find_images(root, high_resolution)
    data = read_labels(root, name)
    sizes, problems = _read_sizes(root, folder, data.images, progress)
    if len(data) and not sizes.any():
        raise MissingDataError(
            f"none of the {len(data)} listed images is there, such as "
            f"{root / folder.file(str(data.images[0]))}; unpack the benchmark's images"
        )
    data.sizes = sizes
    if high_resolution:
        small, more = _read_sizes(root, low, data.images, progress)
        problems += [problem for problem in more if problem.file not in {p.file for p in problems}]
        problems += _enlarge(data, small)
    data.report.add(problems)
    broken = np.isin(data.images, [problem.file for problem in data.report.problems])
    data = data.take(~broken)
    data.report.kept.update(_check_boxes(data))
    data.report.kept.update(_check_landmarks(data))
    data.report.images = data.report.items = len(data)
    return data, folder


def find_images(root: Path, high_resolution: bool) -> ImageFolder:
    """Where the images lie.

    Raises:
        FileNotFoundError: nowhere.
    """
    folders = _IMAGE_FOLDERS[high_resolution]
    for folder in folders:
        if (root / folder).is_dir():
            here = root / folder
            renamed = [(a, b) for a, b in _OTHER_NAMES if not (here / a).is_dir()]
            return ImageFolder(folder, tuple(r for r in renamed if (here / r[1]).is_dir()))
    also = "" if high_resolution else "; boxes count its pixels, so img_highres does not do"
    raise MissingDataError(f"expected the images in {root / folders[0]}, got no such folder{also}")


def _read_sizes(
    root: Path, folder: ImageFolder, images: Strings, progress: bool
) -> tuple[IntArray, list[Problem]]:
    """(N, 2) width and height, zeros where an image cannot be used, and why not."""
    job = partial(_sizes_of_chunk, root, folder, images)
    chunks = -(-len(images) // _CHUNK)
    workers = max(1, min(available_cores(), chunks // 8))
    sizes = np.zeros((len(images), 2), dtype=np.int64)
    problems: list[Problem] = []
    with ordered_map(job, chunks, workers) as results:
        bar = tqdm(results, total=chunks, desc=f"sizes of {folder.path}", disable=not progress)
        for index, (own, more) in enumerate(bar):
            sizes[index * _CHUNK : index * _CHUNK + len(own)] = own
            problems += more
    return sizes, problems


def _sizes_of_chunk(
    root: Path, folder: ImageFolder, images: Strings, index: int
) -> tuple[list[tuple[int, int]], list[Problem]]:
    sizes, problems = [], []
    for image in images[index * _CHUNK : (index + 1) * _CHUNK].tolist():
        size, reason, detail = (0, 0), None, ""
        try:
            size = read_image_size(root / folder.file(image))
        except FileNotFoundError:
            reason, detail = Reason.LISTED_IMAGE_MISSING, f"expected a file in {folder.path}"
        except (UnreadableImageError, OSError) as error:
            reason, detail = Reason.IMAGE_UNREADABLE, f"{error} in {folder.path}"
        sizes.append(size)
        if reason is not None:
            problems.append(Problem(image, None, reason, detail, IMAGE_LEFT_OUT))
    return sizes, problems


def _enlarge(data: Benchmark, small: IntArray) -> list[Problem]:
    """Move boxes and landmarks from images of sizes ``small`` to those of ``data.sizes``.

    Images of one shape are scaled. A square small one beside a large one that is not is taken as
    padded around its middle, which is how in-shop's images of 256 x 256 look.
    """
    large = data.sizes.astype(float)
    known = np.asarray((small > 0).all(1) & (large > 0).all(1))
    scale = np.where(known[:, None], large / np.maximum(small, 1), 1.0)
    same = np.abs(scale[:, 0] / np.maximum(scale[:, 1], 1e-9) - 1) <= _SAME_SHAPE
    padded = known & ~same & (small[:, 0] == small[:, 1])
    scale[padded] = (large.max(1) / np.maximum(small[:, 0], 1))[padded, None]
    shift = np.where(padded[:, None], (large - large.max(1, keepdims=True)) / 2, 0.0)
    data.boxes = data.boxes * np.tile(scale, 2) + np.tile(shift, 2)
    if data.landmarks is not None:
        data.landmarks[:, :, :2] = data.landmarks[:, :, :2] * scale[:, None] + shift[:, None]
    wrong = np.flatnonzero(known & ~same & ~padded)
    return [
        Problem(
            str(data.images[i]),
            None,
            Reason.SHAPE,
            f"expected two images of one shape, got {small[i].tolist()} and "
            f"{data.sizes[i].tolist()} pixels",
            IMAGE_LEFT_OUT,
        )
        for i in wrong
    ]


def _check_boxes(data: Benchmark) -> Counter[Reason]:
    """Boxes without area, or outside the image, become the whole image."""
    width, height = data.sizes[:, :1], data.sizes[:, 1:]
    x, y = data.boxes[:, ::2], data.boxes[:, 1::2]
    usable = (x[:, 1] > x[:, 0]) & (y[:, 1] > y[:, 0])
    usable &= (x.clip(0, width)[:, 1] > x.clip(0, width)[:, 0]) & (
        y.clip(0, height)[:, 1] > y.clip(0, height)[:, 0]
    )
    data.boxes[~usable] = np.hstack([np.zeros_like(data.sizes), data.sizes])[~usable]
    partly = (data.boxes < 0).any(1) | (data.boxes > np.tile(data.sizes, 2)).any(1)
    return Counter(
        {
            Reason.BOX_REPLACED: int((~usable).sum()),
            Reason.BOX_PARTLY_OUTSIDE: int(partly.sum()),
        }
    )


def _check_landmarks(data: Benchmark) -> Counter[Reason]:
    """Landmarks that cannot be seen where they are said to be count as cut off."""
    if data.landmarks is None:
        return Counter()
    seen = data.landmarks[:, :, 2]
    strange = ~np.isin(seen, (VISIBLE, 1, TRUNCATED, NO_SLOT))
    points = data.landmarks[:, :, :2]
    outside = (points < 0).any(2) | (points > data.sizes[:, None]).any(2)
    outside &= seen == VISIBLE
    seen[strange | outside] = TRUNCATED
    types = clothes_type(data.landmarks)
    named = np.array([*data.clothes_types, 0])[data.category]
    contradicted: BoolArray = (types > 0) & (named > 0) & (types != named)
    return Counter(
        {
            Reason.LANDMARK_VISIBILITY: int(strange.sum()),
            Reason.LANDMARK_OUTSIDE: int(outside.sum()),
            Reason.CLOTHES_TYPE: int(contradicted.sum()),
        }
    )
