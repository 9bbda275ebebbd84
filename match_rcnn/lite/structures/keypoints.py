"""Keypoints, and the heat maps that stand for them inside a model.

Shapes used below: ``N`` instances of ``K`` keypoints each, heat maps of ``S`` x ``S`` cells.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Elements of an enlarged heat map that are held at a time.
_CHUNK_ELEMENTS = 1 << 24


class Keypoints:
    """(N, K, 3) float32: x, y in pixels and the visibility 0 (unlabelled), 1 (occluded), 2.

    Args:
        keypoints: (N, K, 3) tensor or array, or nested lists.
    """

    def __init__(self, keypoints: Any) -> None:
        tensor = torch.as_tensor(keypoints, dtype=torch.float32)
        if tensor.dim() != 3 or tensor.shape[2] != 3:
            raise ValueError(f"expected keypoints of shape (N, K, 3), got {tuple(tensor.shape)}")
        self.tensor: Tensor = tensor

    def __len__(self) -> int:
        return int(self.tensor.shape[0])

    def to(self, *args: Any, **kwargs: Any) -> "Keypoints":
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """The heat map cell of each keypoint, for training a head.

        Args:
            boxes: (N, 4) the box that the instance's heat map covers.
            heatmap_size: S.

        Returns:
            (N, K) int64 cells ``y * S + x`` (0 where not valid), and (N, K) int64, 1 where the
            keypoint is labelled and in the box.
        """
        return _keypoints_to_heatmap(self.tensor, boxes, heatmap_size)

    def __getitem__(self, item: int | slice | Tensor) -> "Keypoints":
        """A subset; an int gives one instance."""
        if isinstance(item, int):
            return type(self)(self.tensor[item][None])
        return type(self)(self.tensor[item])

    @staticmethod
    def cat(keypoints_list: "Sequence[Keypoints]") -> "Keypoints":
        """All instances, one list after the other; at least one list."""
        if not keypoints_list or not all(isinstance(k, Keypoints) for k in keypoints_list):
            raise ValueError("expected at least one Keypoints, and nothing else")
        cls = type(keypoints_list[0])
        return cls(torch.cat([k.tensor for k in keypoints_list], dim=0))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"


def _keypoints_to_heatmap(
    keypoints: Tensor, rois: Tensor, heatmap_size: int
) -> tuple[Tensor, Tensor]:
    """See :meth:`Keypoints.to_heatmap`; (N, K, 3) keypoints and (N, 4) boxes."""
    if len(keypoints) != len(rois):
        raise ValueError(f"expected a box per instance, got {len(rois)} for {len(keypoints)}")
    xy, labelled = keypoints[..., :2], keypoints[..., 2] > 0
    low, high = rois[:, None, :2], rois[:, None, 2:]
    cell = ((xy - low) * (heatmap_size / (high - low))).floor()
    # The far edge belongs to the last cell.
    cell = torch.where(xy == high, cell.new_tensor(heatmap_size - 1.0), cell)
    valid = labelled & ((cell >= 0) & (cell < heatmap_size)).all(dim=-1)
    index = cell[..., 1] * heatmap_size + cell[..., 0]
    return torch.where(valid, index, index.new_zeros(())).long(), valid.long()


@torch.no_grad()
def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """The strongest point of each heat map, in image coordinates.

    Each map is enlarged to its box (bicubic, the size rounded up to whole pixels), the greatest
    value taken, and the centre of its pixel scaled back onto the box.

    Args:
        maps: (N, K, S, S) logits.
        rois: (N, 4) boxes that the maps cover; sides below 1 count as 1.

    Returns:
        (N, K, 4): x, y, the logit there, and exp(logit) over the sum of exp(map), a score.
    """
    sizes = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
    whole = sizes.ceil()
    count, channels = maps.shape[:2]
    result = maps.new_zeros((count, channels, 4))
    if maps.numel() == 0:
        return result
    pixels: list[list[int]] = whole.long().tolist()
    for i, (width, height) in enumerate(pixels):
        step = max(1, _CHUNK_ELEMENTS // (width * height))
        for start in range(0, channels, step):
            part = slice(start, start + step)
            peak, position = _peaks(maps[i, part], height, width)
            x, y = position % width, position.div(width, rounding_mode="floor")
            centres = torch.stack([x, y], dim=1) + 0.5
            result[i, part, :2] = centres * (sizes[i] / whole[i]) + rois[i, :2]
            result[i, part, 2] = peak
            result[i, part, 3] = 1 / (maps[i, part] - peak[:, None, None]).exp().sum((1, 2))
    return result


def _peaks(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Value and flat position of the maximum of each (K, S, S) map enlarged to a size."""
    large = F.interpolate(maps[None], size=(height, width), mode="bicubic", align_corners=False)[
        0
    ].flatten(1)
    position = large.argmax(dim=1)
    return large.gather(1, position[:, None])[:, 0], position
