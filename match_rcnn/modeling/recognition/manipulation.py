"""A garment's vector with one attribute exchanged: this dress, but striped.

After FLAM (Shin et al., BMVC 2019), whose parts learn on frozen vectors: an embedder and a learned
dictionary for each type of attributes, then a generator that exchanges an attribute, against a
discriminator; beside it a memory of residuals, as AMNet (Zhao et al., CVPR 2017) and ADDE (Hou et
al., ICCV 2021) have one. Neither the exact losses of FLAM nor their weights are known here; what
is ours says so.

Attributes of one type are its *values*, of which a garment has one. Where it has none or several
its value is unknown, and costs no loss.

Shapes: ``N`` garments, ``D`` length of the fused vector, ``T`` types, ``V`` values of all types,
type after type, ``d`` length of an embedding. A value is a number from 0 to V - 1, whatever its
type; -1 where it is unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from match_rcnn.d2 import CfgNode, Registry, ShapeSpec, configurable
from match_rcnn.data.crops import UNKNOWN
from match_rcnn.data.taxonomy import Attribute, attribute_groups
from match_rcnn.modeling.recognition.branch import fully_connected
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.heads import RECOGNITION_HEAD_REGISTRY, RecognitionHead
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.streams.match_losses import mean_where
from match_rcnn.modeling.taxonomy import taxonomy_from_config

Tensor = torch.Tensor
Losses = dict[str, Tensor]

#: What tells the generator, in training, which value is wanted.
CONDITIONS = ("garment", "entry")

MANIPULATOR_REGISTRY = Registry("MANIPULATOR")
MANIPULATOR_REGISTRY.__doc__ = """
Classes ``(cfg, D, sizes) -> Manipulator``; sizes: (T,) of how many values each type has.
"""


class Dictionary(nn.Module):
    """Of each type a linear embedder, and of each value an entry; all of length 1.

    Args:
        dim: D.
        sizes: (T,) values of each type.
        embedding_dim: d.
        margin: by which the other entries of a type must be farther from an embedding than its own.
    """

    type_of: Tensor

    def __init__(
        self, dim: int, sizes: Sequence[int], embedding_dim: int, margin: float = 0.3
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.margin = margin
        self.embedders = nn.Linear(dim, len(sizes) * embedding_dim)
        nn.init.normal_(self.embedders.weight)
        nn.init.zeros_(self.embedders.bias)
        self.entries = nn.Parameter(torch.randn(sum(sizes), embedding_dim))
        types = [kind for kind, size in enumerate(self.sizes) for _ in range(size)]
        self.register_buffer("type_of", torch.tensor(types), persistent=False)

    def embed(self, vectors: Tensor) -> Tensor:
        """(N, D) -> (N, T, d)."""
        found = self.embedders(vectors).unflatten(1, (len(self.sizes), -1))
        return F.normalize(found, dim=-1)

    def entry(self, values: Tensor) -> Tensor:
        """(...) values -> (..., d)."""
        return F.normalize(self.entries, dim=-1)[values]

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, D) -> (N, V) distances between the embeddings of a value's type and its entry."""
        apart = self.embed(vectors)[:, self.type_of] - F.normalize(self.entries, dim=-1)
        return _length(apart)

    def nearest(self, vectors: Tensor) -> Tensor:
        """(N, D) -> (N, T) of each type the value with the nearest entry."""
        parts = self(vectors).split(self.sizes, 1)
        firsts = [sum(self.sizes[:kind]) for kind in range(len(self.sizes))]
        found = [part.argmin(1) + first for part, first in zip(parts, firsts, strict=True)]
        return torch.stack(found, 1)

    def triplets(self, distances: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """max(0, margin + d(x, own entry) - d(x, other entry)) of each other entry of the type.

        Args:
            distances: (N, V) of :meth:`forward`.
            values: (N, T).

        Returns:
            (N, V), and (N, V) whether it counts: the value of the type is known, and another.
        """
        own = distances.gather(1, values.clamp(min=0))[:, self.type_of]
        value = values[:, self.type_of]
        others = (value != UNKNOWN) & (value != torch.arange(value.shape[1], device=value.device))
        return F.relu(self.margin + own - distances), others


class Manipulator(nn.Module):
    """Exchanges one value in vectors of length 1."""

    def losses(self, vectors: Tensor, values: Tensor, dictionary: Dictionary) -> Losses:
        """Args: vectors: (N, D) of length 1; values: (N, T); dictionary: learns by its own loss."""
        raise NotImplementedError

    def forward(
        self, vectors: Tensor, had: Tensor, wanted: Tensor, dictionary: Dictionary
    ) -> Tensor:
        """(N, D) with, of one type each, the value ``had`` (N,) exchanged for ``wanted`` (N,)."""
        raise NotImplementedError


@MANIPULATOR_REGISTRY.register()
class ResidualMemory(Manipulator):
    """x + M[wanted] - M[had], with a learned prototype for each value.

    The prototypes are what the values of a garment add up to: ||x - b - sum of M[value]||^2 (ours).
    So a value's share is told from that of other types' values that come along with it.
    """

    @configurable
    def __init__(self, *, dim: int, sizes: Sequence[int], weight: float = 1.0) -> None:
        super().__init__()
        self.memory = nn.Parameter(torch.zeros(sum(sizes), dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, sizes: Sequence[int]) -> dict[str, Any]:
        weight = cfg.MODEL.RECOGNITION.MANIPULATION.MEMORY_WEIGHT
        return {"dim": dim, "sizes": sizes, "weight": weight}

    def losses(self, vectors: Tensor, values: Tensor, dictionary: Dictionary) -> Losses:
        shares = F.embedding(values.clamp(min=0), self.memory)
        told = self.bias + (shares * (values != UNKNOWN)[..., None]).sum(1)
        squares = (vectors - told).square().sum(-1)
        return {"loss_memory": self.weight * squares.mean()}

    def forward(
        self, vectors: Tensor, had: Tensor, wanted: Tensor, dictionary: Dictionary
    ) -> Tensor:
        return _as_vectors(vectors + self.memory[wanted] - self.memory[had])


@MANIPULATOR_REGISTRY.register()
class AttributeGenerator(Manipulator):
    """FLAM's generator, taught against a discriminator.

    G(x, e): x with the attribute that e tells. Asked for a value, e is the dictionary's entry; in
    training another garment of the batch with another value of a type has the value, and e is its
    embedding, as the paper has it, or its value's entry (``condition``). The losses, of which the
    discriminator's sees the generated vectors without gradient and the generator's sees
    discriminator and dictionary without gradient:

    - adversarial: log D(x) + log(1 - D(G(x, e))), the generator's in the form -log D(G(x, e));
    - cycle: sqrt(D) times the mean absolute difference of G(G(x, e), e of x) and x;
    - matching (ours): of the exchanged type the distance to the wanted value's entry, of the others
      the dictionary's triplets for the values that the vector should keep;
    - step (ours): the distance between G(x, e) and x, since a vector is found by distances and the
      way back tells nothing of how far the way led.

    Args:
        widths: hidden layers of G and of D.
        adversarial, cycle, matching, step: what the losses weigh.
        condition: of :data:`CONDITIONS`.

    Raises:
        ValueError: an unknown condition.
    """

    @configurable
    def __init__(
        self,
        *,
        dim: int,
        sizes: Sequence[int],
        embedding_dim: int,
        widths: Sequence[int],
        adversarial: float = 1.0,
        cycle: float = 1.0,
        matching: float = 1.0,
        step: float = 0.0,
        condition: str = "garment",
    ) -> None:
        super().__init__()
        if condition not in CONDITIONS:
            raise ValueError(
                f"MODEL.RECOGNITION.MANIPULATION.CONDITION must be one of {CONDITIONS}, got "
                f"{condition!r}"
            )
        self.condition = condition
        self.scale = dim**0.5
        self.num_types = len(sizes)
        last = nn.Linear(widths[-1], dim)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        inputs = dim + len(sizes) * embedding_dim
        self.generator = nn.Sequential(fully_connected(inputs, widths), last)
        judge = nn.Linear(widths[-1], 1)
        self.discriminator = nn.Sequential(fully_connected(dim, widths), judge, nn.Flatten(0))
        self.weights = {"discriminator": 1.0, "generator": adversarial}
        self.weights |= {"cycle": cycle, "matching": matching, "step": step}

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, sizes: Sequence[int]) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION.MANIPULATION
        return {
            "dim": dim,
            "sizes": sizes,
            "embedding_dim": node.EMBEDDING_DIM,
            "widths": node.WIDTHS,
            "adversarial": node.ADVERSARIAL_WEIGHT,
            "cycle": node.CYCLE_WEIGHT,
            "matching": node.MATCHING_WEIGHT,
            "step": node.STEP_WEIGHT,
            "condition": node.CONDITION,
        }

    def generate(self, vectors: Tensor, types: Tensor, conditions: Tensor) -> Tensor:
        """(N, D), the exchanged types (N,), embeddings of these (N, d) -> (N, D) of length 1."""
        slots = F.one_hot(types, self.num_types)[..., None] * conditions[:, None] * self.scale
        inputs = torch.cat([vectors * self.scale, slots.flatten(1)], 1)
        return _as_vectors(vectors + self.generator(inputs) / self.scale)

    def judge(self, vectors: Tensor, fixed: bool = False) -> Tensor:
        """(N, D) -> (N,) logits of being real."""
        judge = _fixed(self.discriminator) if fixed else self.discriminator
        found: Tensor = judge(vectors * self.scale)
        return found

    def losses(self, vectors: Tensor, values: Tensor, dictionary: Dictionary) -> Losses:
        types, donors, possible = draw_exchanges(values)
        rows = torch.arange(len(values), device=values.device)
        wanted = values.clone()
        wanted[rows, types] = values[donors, types]
        with torch.no_grad():
            told = dictionary.embed(vectors)
            if self.condition == "entry":
                told = dictionary.entry(values.clamp(min=0))
        made = self.generate(vectors, types, told[donors, types])
        back = self.generate(made, types, told[rows, types])
        real, false = F.softplus(-self.judge(vectors)), F.softplus(self.judge(made.detach()))
        losses = {
            "discriminator": mean_where(real, possible) + mean_where(false, possible),
            "generator": mean_where(F.softplus(-self.judge(made, fixed=True)), possible),
            "cycle": self.scale * mean_where((back - vectors).abs().mean(-1), possible),
            "matching": matching_loss(dictionary, made, wanted, types, possible),
            "step": mean_where(_length(made - vectors), possible),
        }
        return {f"loss_{n}": self.weights[n] * v for n, v in losses.items() if self.weights[n]}

    def forward(
        self, vectors: Tensor, had: Tensor, wanted: Tensor, dictionary: Dictionary
    ) -> Tensor:
        return self.generate(vectors, dictionary.type_of[wanted], dictionary.entry(wanted))


def matching_loss(
    dictionary: Dictionary, made: Tensor, wanted: Tensor, types: Tensor, counts: Tensor
) -> Tensor:
    """See :class:`AttributeGenerator`; the dictionary learns nothing.

    Args:
        made: (N, D) generated vectors.
        wanted: (N, T) values that they should have.
        types: (N,) the exchanged ones.
        counts: (N,) which garments count.
    """
    distances = _fixed(dictionary)(made)
    hinges, others = dictionary.triplets(distances, wanted)
    kept = dictionary.type_of != types[:, None]
    values = wanted.gather(1, types[:, None]).clamp(min=0)
    pull = mean_where(distances.gather(1, values)[:, 0], counts)
    return pull + mean_where(hinges, others & kept & counts[:, None])


def _length(vectors: Tensor) -> Tensor:
    # The root's slope is infinite at 0.
    return vectors.square().sum(-1).clamp(min=1e-12).sqrt()


def _single_precision(values: Tensor) -> torch.autocast:
    """No autocast: distances of vectors of length 1 are differences of small numbers."""
    return torch.autocast(values.device.type, enabled=False)


def _as_vectors(found: Tensor) -> Tensor:
    """(N, D) without negative numbers, which behind a ReLU there are none of, and of length 1."""
    return F.normalize(F.relu(found), dim=-1)


def _fixed(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A module that learns nothing: gradients flow through it, and not into it."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    return lambda inputs: functional_call(module, parameters, (inputs,))


def draw_exchanges(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each garment a type, all alike, and another garment with another value of it: the values
    of the batch have equal chances, and the garments of a value.

    Args:
        values: (N, T).

    Returns:
        (N,) types, (N,) garments, and (N,) whether there is one.
    """
    count = len(values)
    known = values != UNKNOWN
    differ = (values[:, None] != values[None]) & known[:, None] & known[None]
    there = differ.any(1)
    possible = there.any(1)
    types = torch.multinomial(torch.where(possible[:, None], there, True).float(), 1)[:, 0]
    alike = (values[:, None] == values[None]).sum(1)  # (N, T) how often a garment's value occurs
    rows = torch.arange(count, device=values.device)
    chances = differ[rows, :, types] / alike[:, types].T
    donors = torch.multinomial(torch.where(possible[:, None], chances, 1.0), 1)[:, 0]
    return types, donors, possible


@RECOGNITION_HEAD_REGISTRY.register()
class ManipulationHead(RecognitionHead):
    """The vector, of length 1, with each value of each type exchanged.

    Results: ``embedding`` (N, D), the vector itself, and ``changed`` (N, V, D).

    Args:
        groups: names of the values by type; of these the V are made.
        columns: (V,) where each stands among the model's attributes.
        dictionary: see there.
        manipulator: see there.
    """

    columns: Tensor

    @configurable
    def __init__(
        self,
        *,
        groups: Mapping[str, Sequence[str]],
        columns: Sequence[int],
        dictionary: Dictionary,
        manipulator: Manipulator,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.groups = {kind: tuple(names) for kind, names in groups.items()}
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.dictionary = dictionary
        self.manipulator = manipulator
        self.weight = weight

    @classmethod
    def from_config(cls, cfg: CfgNode, dim: int, shape: ShapeSpec) -> dict[str, Any]:
        """
        Raises:
            ValueError: a type that the training set has not, one without two values, an unknown
                manipulator, or a second head that gives embeddings.
        """
        recognition, node = cfg.MODEL.RECOGNITION, cfg.MODEL.RECOGNITION.MANIPULATION
        if "EmbeddingHead" in recognition.HEADS:
            raise ValueError(
                "MODEL.RECOGNITION.HEADS: ManipulationHead and EmbeddingHead both give embeddings; "
                "leave one out"
            )
        if node.NAME not in MANIPULATOR_REGISTRY:
            known = ", ".join(sorted(name for name, _ in MANIPULATOR_REGISTRY))
            raise ValueError(
                f"MODEL.RECOGNITION.MANIPULATION.NAME: {node.NAME!r} is not known; there are "
                f"{known}"
            )
        attributes = taxonomy_from_config(cfg).attributes
        groups = value_groups(attributes, node.TYPES)
        sizes = [len(names) for names in groups.values()]
        return {
            "groups": groups,
            "columns": _columns(attributes, groups),
            "dictionary": Dictionary(dim, sizes, node.EMBEDDING_DIM, node.MARGIN),
            "manipulator": MANIPULATOR_REGISTRY.get(node.NAME)(cfg, dim, sizes),
            "weight": node.DICTIONARY_WEIGHT,
        }

    def values(self, attributes: Tensor) -> Tensor:
        """(N, A) labels -> (N, T) values."""
        has = (attributes[:, self.columns] == 1).long()
        number = torch.arange(has.shape[1], device=has.device)
        of_type = F.one_hot(self.dictionary.type_of)  # (V, T)
        once = (has @ of_type) == 1
        return torch.where(once, (has * number) @ of_type, UNKNOWN)

    def losses(self, features: Features, truth: Truth) -> Losses:
        values = self.values(truth.attributes)
        with _single_precision(values):
            vectors = F.normalize(features.vectors.float(), dim=-1)
            hinges, others = self.dictionary.triplets(self.dictionary(vectors), values)
            own = {"loss_dictionary": self.weight * mean_where(hinges, others)}
            return own | self.manipulator.losses(vectors, values, self.dictionary)

    def predict(self, features: Features) -> dict[str, Tensor]:
        count, values = len(features.vectors), len(self.columns)
        with _single_precision(features.vectors):
            vectors = F.normalize(features.vectors.float(), dim=-1)
            wanted = torch.arange(values, device=vectors.device).repeat(count)
            had = self.dictionary.nearest(vectors)[:, self.dictionary.type_of].flatten()
            each = vectors.repeat_interleave(values, 0)
            changed = self.manipulator(each, had, wanted, self.dictionary)
        return {"embedding": vectors, "changed": changed.unflatten(0, (count, values))}

    def change(self, vectors: Tensor, wishes: Sequence[tuple[str, str]]) -> Tensor:
        """(N, D) embeddings, with (type, value) after (type, value) exchanged.

        Raises:
            ValueError: a type or a value is not known.
        """
        for kind, name in wishes:
            if kind not in self.groups:
                known = ", ".join(self.groups)
                raise ValueError(f"the model can change {known}; got {kind!r}")
            names = self.groups[kind]
            if name not in names:
                raise ValueError(f"{kind} can be {', '.join(names)}; got {name!r}")
            number = list(self.groups).index(kind)
            had = self.dictionary.nearest(vectors)[:, number]
            first = sum(self.dictionary.sizes[:number])
            wanted = torch.full_like(had, first + names.index(name))
            vectors = self.manipulator(vectors, had, wanted, self.dictionary)
        return vectors


def value_groups(
    attributes: Sequence[Attribute], types: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The values' names of the types that a manipulation can exchange.

    Args:
        types: ``MODEL.RECOGNITION.MANIPULATION.TYPES``; (): all.

    Raises:
        ValueError: a type that there is not, or that has no two values; there are no attributes.
    """
    key = "MODEL.RECOGNITION.MANIPULATION.TYPES"
    try:
        groups = attribute_groups(attributes, types)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    single = [kind for kind, names in groups.items() if len(names) < 2]
    if single or not groups:
        what = f"the type {single[0]!r} has no two values" if single else "there are no attributes"
        raise ValueError(f"{key}: {what} to exchange in the training set")
    return groups


def _columns(attributes: Sequence[Attribute], groups: Mapping[str, Sequence[str]]) -> list[int]:
    where = {attribute.name: i for i, attribute in enumerate(attributes)}
    return [where[name] for names in groups.values() for name in names]
