"""Images of different sizes in one batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class ImageList:
    """A batch of padded images that knows the size of each.

    Args:
        tensor: (N, H, W) or (N, C, H, W); images are padded right and below.
        image_sizes: (height, width) of each image before padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """Image ``idx`` in its own size: (H, W) or (C, H, W)."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor], size_divisibility: int = 0, pad_value: float = 0.0
    ) -> "ImageList":
        """Pad images to their common size, right and below.

        Args:
            tensors: (H_i, W_i) or (C, H_i, W_i) each; equal but for height and width.
            size_divisibility: height and width of the batch become multiples of it, if above 1.
            pad_value: for the pixels that are added.

        Raises:
            ValueError: no images, or images that differ in more than height and width.
        """
        if len(tensors) == 0 or any(t.shape[:-2] != tensors[0].shape[:-2] for t in tensors):
            shapes = [tuple(t.shape) for t in tensors]
            raise ValueError(f"expected images that differ only in height and width, got {shapes}")
        sizes = [(int(t.shape[-2]), int(t.shape[-1])) for t in tensors]
        step = max(size_divisibility, 1)
        height, width = (-(-max(edges) // step) * step for edges in zip(*sizes, strict=True))
        first = tensors[0]
        batch = first.new_full((len(tensors), *first.shape[:-2], height, width), pad_value)
        for image, (h, w), place in zip(tensors, sizes, batch, strict=True):
            place[..., :h, :w].copy_(image)
        return ImageList(batch, sizes)
