"""What is wrong with annotation files: the reasons, one record a finding, and the report."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class MissingDataError(FileNotFoundError):
    """A file or folder of a data set is not there."""


class Reason(str, Enum):
    """Why something was left out, or (the last group) kept although it is unusual."""

    ANNOTATION_UNREADABLE = "unreadable annotation file"
    IMAGE_UNREADABLE = "unreadable image"
    IMAGE_TRUNCATED = "truncated image"
    ANNOTATION_MISSING = "image without annotation file"
    IMAGE_MISSING = "annotation file without image"
    FILE_NAME = "file name is not a number"
    DUPLICATE = "second file of this number"
    KEY_MISSING = "missing key"
    WRONG_TYPE = "value of the wrong type"
    NOT_FINITE = "not a finite number"
    CATEGORY = "unknown category"
    LANDMARK_COUNT = "wrong landmark list length"
    VISIBILITY = "unknown landmark visibility"
    BOX_EMPTY = "box without area"
    BOX_OUTSIDE = "box wholly outside the image"
    POLYGON = "polygon of fewer than 3 points"
    LISTED_IMAGE_MISSING = "listed image without a file"
    SPLIT = "unknown split"
    NO_BOX = "image without a box"
    SHAPE = "two resolutions of different shape"

    BOX_PARTLY_OUTSIDE = "box partly outside the image"
    ATTRIBUTE_RANGE = "attribute out of its range"
    SOURCE_UNKNOWN = "source is neither user nor shop"
    BOX_REPLACED = "box without area or outside the image, the whole image in its place"
    LABEL_MISSING = "image without a row in a list of labels, these unknown"
    CATEGORY_UNLISTED = "category that the list of names has not, unknown"
    LANDMARK_OUTSIDE = "visible landmark outside the image, counted as cut off"
    LANDMARK_VISIBILITY = "landmark visibility other than 0, 1, 2, counted as cut off"
    CLOTHES_TYPE = "category and landmarks of different types of clothes"
    SEVERAL_ITEMS = "image of several items, the first kept"
    DOMAIN = "lists that disagree whether a photo is of a consumer or a shop"


IMAGE_LEFT_OUT = "image left out"
ITEM_LEFT_OUT = "item left out"
FILE_LEFT_OUT = "file left out"


class AnnotationError(ValueError):
    """A file or an item cannot be used. ``str()`` is what was expected and what came."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Problem:
    """One thing that was left out.

    Attributes:
        file: relative to the data set's root, such as ``"train/annos/000123.json"``.
        item: its key in the file, such as ``"item2"``; None when the whole image is concerned.
        reason: the kind; reports count by it.
        detail: what was expected and what came.
        action: what was done about it.
    """

    file: str
    item: str | None
    reason: Reason
    detail: str
    action: str

    def __str__(self) -> str:
        return f"{self.detail} in {self.file}" + (f" ({self.item})" if self.item else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "item": self.item,
            "reason": self.reason.value,
            "detail": self.detail,
            "action": self.action,
        }


@dataclass
class ProblemReport:
    """Everything that a run over a split found.

    Attributes:
        images: how many were used.
        items: how many were used.
        problems: what was left out, in file order.
        kept: how often something unusual was used as it is, by reason.
    """

    images: int = 0
    items: int = 0
    problems: list[Problem] = field(default_factory=list)
    kept: Counter[Reason] = field(default_factory=Counter)

    def add(self, problems: Iterable[Problem], kept: Iterable[Reason] = ()) -> None:
        self.problems.extend(problems)
        self.kept.update(kept)

    @property
    def left_out(self) -> Counter[Reason]:
        """How often something was left out, by reason."""
        return Counter(problem.reason for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        actions = Counter(problem.action for problem in self.problems)
        return {
            "counts": {
                "images": self.images,
                "items": self.items,
                "images_left_out": actions[IMAGE_LEFT_OUT],
                "items_left_out": actions[ITEM_LEFT_OUT],
                "files_left_out": actions[FILE_LEFT_OUT],
                "left_out_by_reason": _by_name(self.left_out),
                "kept_by_reason": _by_name(self.kept),
            },
            "problems": [problem.to_json() for problem in self.problems],
        }

    def summary(self) -> str:
        """A few lines for the console."""
        lines = [f"{self.images} images with {self.items} items"]
        lines += [f"  left out, {name}: {n}" for name, n in _by_name(self.left_out).items()]
        lines += [f"  kept as it is, {name}: {n}" for name, n in _by_name(self.kept).items()]
        return "\n".join(lines)


def _by_name(counts: Counter[Reason]) -> dict[str, int]:
    return {reason.value: counts[reason] for reason in Reason if counts[reason]}
