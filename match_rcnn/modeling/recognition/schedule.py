"""What the losses weigh at an iteration: all at once, or in two stages that take turns.

FashionNet (Liu et al., CVPR 2016) is taught in two stages that alternate until it converges: first
the landmarks' losses weigh much and the others little, then categories, attributes and pairs, with
features pooled around the landmarks as they are predicted. The weights and the length of a stage
are published nowhere.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from match_rcnn.d2 import CfgNode, comm


class Weights(NamedTuple):
    """What the landmarks' losses and the rest weigh; what weighs 0 is not computed, and what it
    alone would teach rests."""

    landmarks: float
    rest: float


EQUAL = Weights(1.0, 1.0)


@dataclass(frozen=True)
class Stages:
    """A pure function of the iteration, so that there is nothing to save.

    Attributes:
        lengths: iterations of the landmarks' stage and of the other's, in turn; (): one stage in
            which all losses weigh 1.
        landmarks, rest: the weights in the two stages.
    """

    lengths: tuple[int, ...] = ()
    landmarks: Weights = EQUAL
    rest: Weights = EQUAL

    def __post_init__(self) -> None:
        if self.lengths and (len(self.lengths) != 2 or min(self.lengths) < 1):
            raise ValueError(
                "MODEL.RECOGNITION.STAGES.LENGTHS must be (), or the iterations of two stages such "
                f"as (200, 400); got {self.lengths}"
            )
        for name in ("landmarks", "rest"):
            weights = getattr(self, name)
            if len(weights) != 2 or min(weights) < 0 or not any(weights):
                raise ValueError(
                    f"MODEL.RECOGNITION.STAGES.{name.upper()} must be two weights, of the "
                    f"landmarks' losses and of the rest, such as (1.0, 0.2); got {tuple(weights)}"
                )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Stages":
        """
        Raises:
            ValueError: a key has a value without meaning, or several processes train with a weight
                of 0, whose gradients they would wait for.
        """
        node = cfg.MODEL.RECOGNITION.STAGES
        for name in ("LANDMARKS", "REST"):
            if node.LENGTHS and comm.get_world_size() > 1 and 0 in tuple(node[name]):
                raise ValueError(
                    f"MODEL.RECOGNITION.STAGES.{name} is {tuple(node[name])}: with several "
                    "processes each loss must weigh something; give a small number"
                )
        weights: list[Any] = [
            Weights(*node[name]) if len(node[name]) == 2 else tuple(node[name])
            for name in ("LANDMARKS", "REST")
        ]
        return cls(tuple(node.LENGTHS), *weights)

    def weights(self, iteration: int) -> Weights:
        """At an iteration, from 0."""
        if not self.lengths:
            return EQUAL
        first = iteration % sum(self.lengths) < self.lengths[0]
        return self.landmarks if first else self.rest
