"""Lengths of garments from their landmarks: what tailors and shops measure.

Which landmarks a measure joins is data (``match_rcnn/data/measures.json``). Lengths are those of
the picture: of a garment that is worn, what the body turns away is missing; widths (chest, waist,
hem) are those of one side, about half of the girth.

Shapes: ``n`` landmarks of a category.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from match_rcnn.data.taxonomy import Category
from match_rcnn.inference.drawing import color_of, draw_dot, draw_label, draw_lines
from match_rcnn.structures import Garment
from match_rcnn.utils.arrays import Image

FILE = Path(__file__).resolve().parents[1] / "data" / "measures.json"
#: Ratios are to it.
WHOLE = "length"
#: How far a reference's two scales may lie apart before its box cannot be right.
_SKEW = 1.2
_UNSURE = (90.0, 90.0, 90.0)
_READABLE = 1000  # pixels of the longer side

#: A landmark from 0, or several whose middle counts; a measure's lines, which say the same.
Node = tuple[int, ...]
Lines = tuple[tuple[Node, ...], ...]


class Rules(NamedTuple):
    """Of one category. Attributes: landmarks: (n,) what each is; measures: by name."""

    landmarks: tuple[str, ...]
    measures: dict[str, Lines]


@dataclass(frozen=True)
class Length:
    """One measure of one garment.

    Attributes:
        name: such as ``"sleeve"``.
        pixels: the mean of its lines, of those without unsure landmarks where there are any.
        ratio: to the garment's length, where that is known.
        cm: where a scale is given.
        unsure: what each landmark is that it rests on and that is occluded or uncertain.
        lines: (k, 2) points of each line that was used.
    """

    name: str
    pixels: float
    ratio: float | None
    cm: float | None
    unsure: tuple[str, ...]
    lines: tuple[npt.NDArray[np.float64], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the lines."""
        values = {"pixels": round(self.pixels, 2), "ratio": self.ratio, "cm": self.cm}
        shown = {k: v if v is None else round(v, 4) for k, v in values.items()}
        return {"name": self.name, **shown, "unsure": list(self.unsure)}


def read_rules(file: str | Path = FILE) -> dict[str, Rules]:
    """Rules by category, from JSON or yaml in the form of ``match_rcnn/data/measures.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another form; the message says where.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no yaml: {' '.join(str(error).split())}") from error
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, dict):
        raise ValueError(f"{file}: expected the key 'categories' with names of categories")
    return {name: _rules(values, f"{file}, {name!r}") for name, values in categories.items()}


def _rules(values: Any, where: str) -> Rules:
    try:
        landmarks = tuple(str(name) for name in values["landmarks"])
        measures = {
            str(name): tuple(tuple(_node(one, len(landmarks)) for one in line) for line in lines)
            for name, lines in values["measures"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: expected 'landmarks' and 'measures' ({error!r})") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    short = [name for name, lines in measures.items() if not all(len(x) > 1 for x in lines)]
    if short or not all(measures.values()):
        raise ValueError(f"{where}: a line needs two landmarks or more ({', '.join(short)})")
    return Rules(landmarks, measures)


def _node(one: Any, count: int) -> Node:
    numbers = one if isinstance(one, list) else [one]
    if not numbers or any(type(i) is not int or not 1 <= i <= count for i in numbers):
        raise ValueError(f"expected landmark numbers from 1 to {count}, got {one!r}")
    return tuple(i - 1 for i in numbers)


def measure(
    garment: Garment,
    rules: Mapping[str, Rules],
    cm_per_pixel: float | None = None,
    threshold: float = 0.05,
) -> list[Length]:
    """The lengths of a garment; none without landmarks or rules for its category.

    Args:
        threshold: predicted landmarks with a lower score are unsure; annotated ones are if they
            are occluded, and if they are not labelled their lines are left out.

    Raises:
        ValueError: the rules are for another number of landmarks.
    """
    own = rules.get(garment.category.name)
    if own is None or garment.landmarks is None:
        return []
    if len(own.landmarks) != len(garment.landmarks):
        raise ValueError(
            f"the measures of {garment.category.name!r} are for {len(own.landmarks)} landmarks; "
            f"the garment has {len(garment.landmarks)}"
        )
    values = garment.landmarks[:, 2]
    there = np.ones(len(values), bool) if garment.score is not None else values > 0
    sure = values >= threshold if garment.score is not None else values == 2
    found = {}
    for name, lines in own.measures.items():
        usable = [line for line in lines if all(there[list(node)].all() for node in line)]
        best = [line for line in usable if all(sure[list(node)].all() for node in line)] or usable
        if best:
            tracks = tuple(_track(line, garment.landmarks) for line in best)
            indices = sorted({i for line in best for node in line for i in node})
            unsure = tuple(own.landmarks[i] for i in indices if not sure[i])
            found[name] = float(np.mean([_along(track) for track in tracks])), unsure, tracks
    whole = found[WHOLE][0] if WHOLE in found else 0.0
    return [
        Length(
            name,
            pixels,
            pixels / whole if whole > 0 else None,
            None if cm_per_pixel is None else pixels * cm_per_pixel,
            unsure,
            tracks,
        )
        for name, (pixels, unsure, tracks) in found.items()
    ]


def _track(line: Sequence[Node], landmarks: Any) -> npt.NDArray[np.float64]:
    return np.array([landmarks[list(node), :2].mean(axis=0) for node in line], np.float64)


def _along(track: npt.NDArray[np.float64]) -> float:
    return float(np.linalg.norm(np.diff(track, axis=0), axis=1).sum())


class Known(NamedTuple):
    """A length that is known. ``category``: of which garment; "" of the first that has it."""

    category: str
    name: str
    cm: float

    @classmethod
    def parse(cls, text: str) -> "Known":
        """Of ``length=70`` or ``trousers:length=104``."""
        match = re.fullmatch(r"(?:([^:=]+):)?([^:=]+)=([0-9.]+)", text.strip())
        if not match or not _positive(match[3]):
            raise ValueError(f"expected a known length such as length=70, in cm; got {text!r}")
        return cls((match[1] or "").strip(), match[2].strip(), float(match[3]))

    def scale(
        self, garments: Sequence[Garment], rules: Mapping[str, Rules], threshold: float = 0.05
    ) -> float | None:
        """cm a pixel, by the most confident garment that has the measure from landmarks that are
        sure; None if none has."""
        for garment in garments:
            if self.category in ("", garment.category.name):
                for length in measure(garment, rules, threshold=threshold):
                    if length.name == self.name and length.pixels > 0 and not length.unsure:
                        return self.cm / length.pixels
        return None


def reference_scale(text: str) -> float:
    """cm a pixel by an object of known size, ``x1,y1,x2,y2=WIDTHxHEIGHT``: its box in pixels of the
    photo, its size in cm.

    Raises:
        ValueError: another form, or a box whose sides say scales that lie far apart.
    """
    number = r"\s*([0-9.]+)\s*"
    match = re.fullmatch(rf"{number},{number},{number},{number}={number}x{number}", text)
    if not match or not all(_positive(match[i]) for i in (3, 4, 5, 6)):
        raise ValueError(f"expected a reference such as 40,60,250,357=21x29.7, got {text!r}")
    x1, y1, x2, y2, width, height = map(float, match.groups())
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"the reference {text!r} has no area: x2 and y2 are the larger ones")
    scales = width / (x2 - x1), height / (y2 - y1)
    if max(scales) > _SKEW * min(scales):
        raise ValueError(
            f"by its width the reference {text!r} has {scales[0]:.4f} cm a pixel, by its height "
            f"{scales[1]:.4f}: is it turned, or seen from the side?"
        )
    return (scales[0] + scales[1]) / 2


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def draw_lengths(image: Image, measured: Sequence[tuple[Category, Sequence[Length]]]) -> Image:
    """A picture with the lines of each garment's lengths and their names; grey where unsure. Small
    images are enlarged, for the names' sake."""
    scale = max(1.0, _READABLE / max(image.shape[:2]))
    picture = np.asarray(cv2.resize(image, None, fx=scale, fy=scale), np.uint8)
    side = min(picture.shape[:2])
    width, radius = max(1, round(side / 300)), max(2.0, side / 130)
    labels = []
    for category, lengths in measured:
        red, green, blue = color_of(category)
        for length in lengths:
            color = _UNSURE if length.unsure else (255 * blue, 255 * green, 255 * red)
            lines = [scale * line for line in length.lines]
            draw_lines(picture, lines, color, width)
            for point in np.concatenate(lines):
                draw_dot(picture, point, color, radius)
            size = f"{length.pixels:.0f} px" if length.cm is None else f"{length.cm:.1f} cm"
            text = f"{length.name} {size}{'?' * bool(length.unsure)}"
            labels.append((lines[0].mean(axis=0), text, color))
    place = -np.inf
    for (x, y), text, color in sorted(labels, key=lambda label: label[0][1]):  # above all lines
        place = max(y, place + side / 28)  # from above to below, none on another
        draw_label(picture, text, (x, place, x, place), color)
    return picture
