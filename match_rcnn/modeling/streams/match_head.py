"""The match network: RoI features of a garment to a vector, vectors of two photos to a score.

After the paper (section 4.2) and the authors' answers (repository issues #12, #27, #31).

Shapes: ``R`` RoIs of all images, ``M`` of them that the match stream keeps, ``P`` side of pooled
features, ``d`` the embedding's length. The RoI features that the extractor may work on:

=========  ===================  ==============================================================
stream     shape                taken
=========  ===================  ==============================================================
class      (M, 1024)            behind the box head's two fully connected layers
pose       (M, 512, 14, 14)     behind the landmark head's eight convolutions
mask       (M, 256, 14, 14)     behind the mask head's four convolutions
pyramid    (M, 256, 14, 14)     RoI features of the pyramid, in front of any stream's layers
=========  ===================  ==============================================================

The first three are the paper's (Table 8), each taken where its stream is most its own and not yet
cut down to scores. ``pyramid`` is ours: a stream passes on what its own task needs and loses the
rest, such as colours, the more so the narrower it is and the shorter it was trained
(``docs/matching.md``). A level that no other stream uses is the match network's own.

The extractor is a stack of 3x3 convolutions: maps go in as they are; ``class`` alone goes in as a
map of one position, on which a 3x3 convolution is its centre tap, so that all variants share one
extractor. Joined with a map (``pose+class``), the class vector is added, through a linear
layer, to the first convolution's output at every position: what concatenating the vector at each
position would give with a 1x1 kernel for its channels, at a fraction of the cost.

A similarity that is no function of the embeddings alone (``SIMILARITY.NAME``, such as a graph over
regions) works on the maps behind the extractor's last convolution, and learns from pairs of a
user's and a shop's RoIs beside the pair score, which still finds the candidates that it orders.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn
from torch.nn import functional as F

from match_rcnn.d2 import (
    CfgNode,
    Conv2d,
    Instances,
    Linear,
    Registry,
    ShapeSpec,
    comm,
    configurable,
)
from match_rcnn.data.image_sources import SOURCE_CODES, USER
from match_rcnn.modeling.gather import gather_rows
from match_rcnn.modeling.similarity import CATEGORY, Similarity, build_similarity
from match_rcnn.modeling.similarity.learning import pair_loss
from match_rcnn.modeling.streams.match_losses import (
    MatchLoss,
    PairCrossEntropy,
    build_match_loss,
    products,
)

Tensor = torch.Tensor

ROI_MATCH_HEAD_REGISTRY = Registry("ROI_MATCH_HEAD")
ROI_MATCH_HEAD_REGISTRY.__doc__ = """
Match heads, made as ``obj(cfg, input_shapes)``; ``input_shapes`` names the streams' features.
"""

#: So many RoIs go through the extractor at a time at inference; bounds the memory.
ROIS_PER_CHUNK = 32


def build_match_head(cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> nn.Module:
    """The head that ``MODEL.ROI_MATCH_HEAD.NAME`` names.

    Args:
        input_shapes: of the features that ``FEATURES`` asks for, by name.
    """
    return ROI_MATCH_HEAD_REGISTRY.get(cfg.MODEL.ROI_MATCH_HEAD.NAME)(cfg, input_shapes)


@ROI_MATCH_HEAD_REGISTRY.register()
class SiameseMatchHead(nn.Module):
    """Features to embeddings, and the loss on the pairs of a batch.

    The extractor's weights are shared by user and shop images (#27). The convolutions are each
    followed by ReLU; global average pooling, ReLU, and a fully connected layer with batch norm
    give the embedding (#31).
    """

    @configurable
    def __init__(
        self,
        input_shapes: dict[str, ShapeSpec],
        *,
        conv_dims: Sequence[int] = (256, 256, 256, 1024),
        embedding_dim: int = 256,
        loss: Callable[[int], MatchLoss] = PairCrossEntropy,
        loss_weight: float = 1.0,
        gather_negatives: bool = False,
        similarity: Callable[[int, ShapeSpec | None], Similarity] | None = None,
        similarity_weight: float = 1.0,
        similarity_negatives: int = 3,
    ) -> None:
        """
        Args:
            input_shapes: the features by name; channels, and height and width of a map. One map
                and one vector at most.
            conv_dims: channels of the 3x3 convolutions.
            embedding_dim: d.
            loss: makes the loss on embeddings of length d.
            gather_negatives: pair the RoIs of all processes, not only of one's own.
            similarity: makes what orders candidates, of d and the shape of the extractor's maps
                (None without one); None: the pair score does.
            similarity_weight: of its loss.
            similarity_negatives: of each user's RoI, the nearest, that it learns from; 0: all.

        Raises:
            ValueError: two maps, or two vectors.
        """
        super().__init__()
        self.loss_weight = loss_weight
        self.gather_negatives = gather_negatives
        self.map = _only("map", [n for n, shape in input_shapes.items() if shape.height])
        self.vector = _only("vector", [n for n, shape in input_shapes.items() if not shape.height])
        self._build_extractor(input_shapes, conv_dims, embedding_dim)
        # The name under which released weights hold the paper's loss's layer.
        self.classifier = loss(embedding_dim)
        self.similarity: Similarity | None = None
        self.similarity_weight = similarity_weight
        self.similarity_negatives = similarity_negatives
        if similarity is not None:
            maps = None
            if self.map:
                side = input_shapes[self.map].height
                maps = ShapeSpec(channels=conv_dims[-1], height=side, width=side)
            self.similarity = similarity(embedding_dim, maps)

    def _build_extractor(
        self, input_shapes: dict[str, ShapeSpec], conv_dims: Sequence[int], embedding_dim: int
    ) -> None:
        channels = {name: _channels(name, shape) for name, shape in input_shapes.items()}
        main = channels[self.map or self.vector]
        self.convs = nn.ModuleList()
        for channels_in, channels_out in zip([main, *conv_dims[:-1]], conv_dims, strict=True):
            conv = Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
            c2_msra_fill(conv)
            self.convs.append(conv)
        joined = self.map and self.vector
        self.join = Linear(channels[self.vector], conv_dims[0]) if joined else None
        self.fc = Linear(conv_dims[-1], embedding_dim)
        self.norm = nn.BatchNorm1d(embedding_dim)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.ROI_MATCH_HEAD
        return {
            "input_shapes": input_shapes,
            "conv_dims": node.CONV_DIMS,
            "embedding_dim": node.EMBEDDING_DIM,
            "loss": partial(build_match_loss, cfg),
            "loss_weight": node.LOSS_WEIGHT,
            "gather_negatives": node.GATHER_NEGATIVES,
            **cls._similarity(node.SIMILARITY, cfg.MODEL.ROI_HEADS.NUM_CLASSES),
        }

    @classmethod
    def _similarity(cls, node: CfgNode, num_classes: int) -> dict[str, Any]:
        if node.NAME == "ProductSimilarity":
            return {}
        return {
            "similarity": partial(build_similarity, node, num_categories=num_classes),
            "similarity_weight": node.WEIGHT,
            "similarity_negatives": node.NEGATIVES,
        }

    def forward(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """
        Args:
            features: of the M RoIs, by stream.
            instances: one an image; in training with ``gt_pair_ids``, ``gt_styles`` and
                ``gt_sources``, at inference with ``pred_classes``.

        Returns:
            In training ``{"loss_match": ...}``, and ``loss_similarity`` with a similarity;
            otherwise ``instances`` with ``embedding`` (M, d), and what a similarity compares beside
            it, by name, in float16 as galleries keep it.
        """
        if self.training:
            return self._losses(features, instances)
        names, maps = zip(*features.items(), strict=True)
        chunks = zip(*(m.split(ROIS_PER_CHUNK) for m in maps), strict=True)
        parts = [self.describe(dict(zip(names, c, strict=True))) for c in chunks]
        sizes = [len(image) for image in instances]
        for name in parts[0]:
            values = torch.cat([part[name] for part in parts])
            values = values if name == "embedding" else values.half()
            for image, own in zip(instances, values.split(sizes), strict=True):
                image.set(name, own)
        if CATEGORY in self._wanted():
            for image in instances:
                image.set(CATEGORY, image.pred_classes)
        return instances

    def describe(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """``embedding`` (M, d), and what the similarity compares beside it and the category."""
        maps = self._maps(features)
        embeddings = self._embeddings(maps)
        if self.similarity is None:
            return {"embedding": embeddings}
        described = self.similarity.describe(embeddings, maps)
        return {"embedding": embeddings, **{n: v for n, v in described.items() if n != "vector"}}

    def embed(self, features: dict[str, Tensor]) -> Tensor:
        """(M, d) embeddings; of unit length where the loss asks for it."""
        return self._embeddings(self._maps(features))

    def _maps(self, features: dict[str, Tensor]) -> Tensor:
        """(M, C, P, P) behind the last convolution."""
        x = features[self.map] if self.map else features[self.vector][..., None, None]
        first, *others = self.convs
        x = first(x)
        if self.join is not None:
            x = x + self.join(features[self.vector])[..., None, None]
        x = F.relu_(x)
        for conv in others:
            x = F.relu_(conv(x))
        return x

    def _embeddings(self, maps: Tensor) -> Tensor:
        embedding: Tensor = self.norm(self.fc(F.relu(maps.mean((2, 3)))))
        return F.normalize(embedding.float()) if self.classifier.unit_length else embedding

    def score_weights(self) -> tuple[Tensor, Tensor]:
        """(d,) w and b of the pair score w . (q - g)^2 + b; more is more alike."""
        weight, bias = self.classifier.score_weights()
        return weight.to(self.fc.weight), bias.to(self.fc.weight)

    def _losses(self, features: dict[str, Tensor], instances: list[Instances]) -> dict[str, Any]:
        labels = _labels(instances, self.fc.weight.device)
        # Batch norm has no variance of a single row.
        if len(labels) > 1:
            described = {name: v.float() for name, v in self.describe(features).items()}
        else:
            nothing = torch.stack([f.flatten()[:0].float().sum() for f in features.values()]).sum()
            shapes = {"embedding": (self.norm.num_features,), **self._wanted()}
            shapes.pop(CATEGORY, None)
            described = {name: nothing.expand(0, *shape) for name, shape in shapes.items()}
            labels = labels[:0]
        # In front of the gathering, so that a process without RoIs, too, passes its gradients on
        # only behind the gathering's own exchange: all must exchange in one order.
        touched = self._parameters_touched()
        described = {name: values + touched for name, values in described.items()}
        if CATEGORY in self._wanted():
            classes = torch.cat([image.gt_classes for image in instances])
            described[CATEGORY] = classes[: len(labels)]
        if self.gather_negatives and comm.get_world_size() > 1:
            described = {name: gather_rows(values) for name, values in described.items()}
            labels = gather_rows(labels)
        embeddings = described["embedding"]
        losses = {"loss_match": self.classifier(embeddings, labels) * self.loss_weight}
        if self.similarity is not None:
            domains = (labels[:, 0] == SOURCE_CODES[USER]).long()
            learned = {**described, "vector": embeddings}, embeddings, products(labels), domains
            loss = pair_loss(self.similarity, *learned, self.similarity_negatives)
            losses["loss_similarity"] = loss * self.similarity_weight
        return losses

    def _wanted(self) -> dict[str, tuple[int, ...]]:
        """What the similarity compares beside the embedding."""
        wanted = {} if self.similarity is None else self.similarity.features()
        return {name: shape for name, shape in wanted.items() if name != "vector"}

    def _parameters_touched(self) -> Tensor:
        """0 with a gradient path to every parameter, which distributed training must see."""
        return torch.stack([p.flatten()[:0].float().sum() for p in self.parameters()]).sum()


def _only(kind: str, names: list[str]) -> str:
    if len(names) > 1:
        raise ValueError(
            f"MODEL.ROI_MATCH_HEAD.FEATURES: one {kind} at most, got {', '.join(names)}"
        )
    return names[0] if names else ""


def _channels(name: str, shape: ShapeSpec) -> int:
    if shape.channels is None:
        raise ValueError(f"the {name} features state no number of channels")
    return shape.channels


def _labels(instances: list[Instances], device: torch.device) -> Tensor:
    """(M, 3) source, pair id and style of each RoI."""
    rows = [
        torch.stack((image.gt_sources, image.gt_pair_ids, image.gt_styles), dim=1)
        for image in instances
        if len(image)
    ]
    return torch.cat(rows) if rows else torch.zeros((0, 3), dtype=torch.int64, device=device)
