"""What is known of the garments of a batch, as losses want it.

Shapes: ``N`` garments, one an image; ``A`` attributes; ``L`` landmark slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class Truth:
    """Labels of N garments; :data:`~match_rcnn.data.crops.UNKNOWN` (-1) where there is none.

    Attributes:
        categories: (N,) int64.
        attributes: (N, A) int8: 1 has it, -1 has it not, 0 unknown.
        slots: (N, L, 3) float32: x and y as shares of the region that the features are of, and a
            visibility (:data:`match_rcnn.data.crops.VISIBILITIES`).
        items, domains: (N,) int64.
        words: (N,) int64 the place in the vocabulary of one word of the description;
            None where the samples have none.
    """

    categories: Tensor
    attributes: Tensor
    slots: Tensor
    items: Tensor
    domains: Tensor
    words: Tensor | None = None

    @classmethod
    def of(cls, batch: Sequence[dict[str, Any]], device: torch.device) -> "Truth":
        """From samples of :class:`match_rcnn.data.crops.CropMapper`.

        Raises:
            ValueError: a sample has no ``instances``.
        """
        for sample in batch:
            if "instances" not in sample:
                raise ValueError(
                    f"{sample.get('file_name')} comes without its labels; training, and the oracle "
                    "of TEST.ORACLE_LANDMARKS, need the mapper's keep_truth"
                )
        found = [sample["instances"].to(device) for sample in batch]
        slots = torch.cat([image.gt_slots for image in found]).clone()
        boxes = torch.cat([image.gt_boxes.tensor for image in found])[:, None]
        slots[..., :2] = (slots[..., :2] - boxes[..., :2]) / (boxes[..., 2:] - boxes[..., :2])
        return cls(
            categories=torch.cat([image.gt_classes for image in found]),
            attributes=torch.cat([image.gt_attributes for image in found]),
            slots=slots,
            items=torch.cat([image.gt_items for image in found]),
            domains=torch.cat([image.gt_domains for image in found]),
            words=torch.cat([image.gt_words for image in found])
            if all(image.has("gt_words") for image in found)
            else None,
        )
