"""A tower of layers for shops' photos and one for consumers', or one for both.

After DARN (Huang et al., ICCV 2015): two networks of the same form, of which each sees the photos
of one domain, and whose vectors are compared across the domains. What has no domain, such as
in-shop's photos, goes through the shop's tower.

Shapes: ``N`` garments, one an image.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Tensor = torch.Tensor
Rows = Tensor | slice

#: The parts of a model that each tower has of its own; those of the consumer's are called so.
PARTS = ("backbone", "local_branch", "global_branch", "fusion")
CONSUMER = "consumer_"


@dataclass(frozen=True)
class Tower:
    """A tower, and which garments of a batch go through it.

    Attributes:
        parts: by name of :data:`PARTS`; None: there is none.
        rows: all as a slice, or (n,).
    """

    parts: Mapping[str, Any]
    rows: Rows

    @property
    def idle(self) -> bool:
        """Whether no garment goes through it."""
        return not isinstance(self.rows, slice) and not len(self.rows)


def add_consumer_tower(model: nn.Module) -> None:
    """Give a model a copy of each of its :data:`PARTS`; both towers start alike."""
    for name in PARTS:
        part = getattr(model, name)
        model.add_module(CONSUMER + name, None if part is None else deepcopy(part))


def towers(model: nn.Module, domains: Iterable[str | None]) -> list[Tower]:
    """The towers of a model, for garments of these domains."""
    shop = {name: getattr(model, name) for name in PARTS}
    if not hasattr(model, CONSUMER + PARTS[0]):
        return [Tower(shop, slice(None))]
    consumer = {name: getattr(model, CONSUMER + name) for name in PARTS}
    is_consumer = torch.tensor([domain == "consumer" for domain in domains], dtype=torch.bool)
    return [
        Tower(parts, own.nonzero()[:, 0])
        for parts, own in ((shop, ~is_consumer), (consumer, is_consumer))
    ]


def through(built: Sequence[Tower], layers: Callable[[Mapping[str, Any], Rows], Tensor]) -> Tensor:
    """(N, ...) what ``layers`` (a tower's parts, its rows -> (n, ...)) makes in each tower.

    A tower without garments gives 0 as the gradient of its parameters: processes that train
    together wait for every gradient.
    """
    found = [layers(tower.parts, tower.rows) for tower in built if not tower.idle]
    if len(built) == 1:
        return found[0]
    rows = torch.cat([torch.as_tensor(tower.rows) for tower in built])
    joined = torch.cat(found)[rows.argsort().to(found[0].device)]
    idle = [p for tower in built if tower.idle for p in _parameters(tower) if p.requires_grad]
    return joined + 0 * torch.stack([p.sum() for p in idle]).sum() if idle else joined


def _parameters(tower: Tower) -> Iterable[Tensor]:
    return (p for part in tower.parts.values() if part is not None for p in part.parameters())


def fill_consumer_tower(state: dict[str, Any], prefix: str) -> None:
    """Where weights know no consumer's tower, it gets the shop's, in place.

    Args:
        state: weights by name.
        prefix: of the model's own.
    """
    if any(name.startswith(prefix + CONSUMER) for name in state):
        return
    for name in list(state):
        if name.startswith(tuple(f"{prefix}{part}." for part in PARTS)):
            state[f"{prefix}{CONSUMER}{name.removeprefix(prefix)}"] = state[name]
