"""Batches on their way to the GPU while it still works on the one before."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils import data as torchdata

Batch = list[dict[str, Any]]


class PrefetchingLoader(torchdata.DataLoader[Batch]):
    """A ``DataLoader`` whose images are in page-locked memory and come on the GPU: a batch is
    copied while the model works on the one before. The copies are of the uint8 images alone;
    ground truth is small and is moved by the model. Batches, and their order, stay.

    Args:
        device: where images go.
        **kwargs: of torch's ``DataLoader``.
    """

    def __init__(self, *args: Any, device: torch.device | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = torch.device(device)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        return one_ahead(_moved(batch, self.device) for batch in super().__iter__())


def one_ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches; each is asked for before the one in front of it is given."""
    ahead = iter(batches)
    try:
        waiting = next(ahead)
    except StopIteration:
        return
    for following in ahead:
        yield waiting
        waiting = following
    yield waiting


def _moved(batch: Batch, device: torch.device) -> Batch:
    return [{**sample, "image": _move(sample["image"], device)} for sample in batch]


def _move(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        # Copies from page-locked memory alone run beside the model.
        image = image.pin_memory()
    return image.to(device, non_blocking=True)
