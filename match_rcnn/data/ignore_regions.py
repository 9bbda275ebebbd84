"""Parts of an image of which nothing is known (``iscrowd``), beside its items."""

from typing import Any

from match_rcnn.d2 import Boxes, Instances


class ItemsBesideRegions(Instances):
    """The items of an image that has ignore regions.

    Models take it as what it is, ``Instances`` of the items; those that know of the regions find
    them in ``ignore_regions``. Fields and ``to`` are the host's; what is taken of it, by index, is
    plain ``Instances``.

    Attributes:
        ignore_regions: in pixels of the image.
    """

    def __init__(self, image_size: tuple[int, int], ignore_regions: Boxes, **fields: Any) -> None:
        super().__init__(image_size, **fields)
        self._ignore_regions = ignore_regions

    @property
    def ignore_regions(self) -> Boxes:
        return self._ignore_regions

    def to(self, *args: Any, **kwargs: Any) -> "ItemsBesideRegions":
        moved = super().to(*args, **kwargs)
        regions = Boxes(self._ignore_regions.tensor.to(*args, **kwargs))
        return ItemsBesideRegions(self.image_size, regions, **moved.get_fields())


def ignore_regions_of(items: Instances) -> Boxes | None:
    """None where an image has none."""
    return items.ignore_regions if isinstance(items, ItemsBesideRegions) else None
