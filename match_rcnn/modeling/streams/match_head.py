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
"""

from collections.abc import Sequence
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
    get_event_storage,
)
from match_rcnn.data.image_sources import SOURCE_CODES
from match_rcnn.modeling.gather import gather_rows
from match_rcnn.modeling.streams.match_losses import LOSSES, METRIC_LOSSES, PairClassifier, pair_ce

Tensor = torch.Tensor

ROI_MATCH_HEAD_REGISTRY = Registry("ROI_MATCH_HEAD")
ROI_MATCH_HEAD_REGISTRY.__doc__ = """
Match heads, made as ``obj(cfg, input_shapes)``; ``input_shapes`` names the streams' features.
"""

#: The feature variants, those of the paper's Table 8 first, and the streams that each takes.
VARIANTS: dict[str, tuple[str, ...]] = {
    "class": ("class",),
    "pose": ("pose",),
    "mask": ("mask",),
    "pose+class": ("pose", "class"),
    "mask+class": ("mask", "class"),
    "pyramid": ("pyramid",),
    "pyramid+class": ("pyramid", "class"),
}
#: So many RoIs go through the extractor at a time at inference; bounds the memory.
ROIS_PER_CHUNK = 32
#: ``gt_sources`` of a user and of a shop image.
USER, SHOP = SOURCE_CODES.values()


def build_match_head(cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> nn.Module:
    """The head that ``MODEL.ROI_MATCH_HEAD.NAME`` names.

    Args:
        input_shapes: of the features of each stream that ``FEATURES`` asks for.
    """
    return ROI_MATCH_HEAD_REGISTRY.get(cfg.MODEL.ROI_MATCH_HEAD.NAME)(cfg, input_shapes)


def streams_of(variant: str) -> tuple[str, ...]:
    """The streams of a feature variant.

    Raises:
        ValueError: an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"MODEL.ROI_MATCH_HEAD.FEATURES must be one of {', '.join(VARIANTS)}; got {variant!r}"
        )
    return VARIANTS[variant]


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
        loss: str = "pair_ce",
        loss_weight: float = 1.0,
        margin: float = 0.3,
        temperature: float = 0.07,
        gather_negatives: bool = False,
    ) -> None:
        """
        Args:
            input_shapes: the features by stream; channels, and height and width of maps.
            conv_dims: channels of the 3x3 convolutions.
            embedding_dim: d.
            loss: ``pair_ce`` (the paper's), ``triplet``, ``contrastive`` or ``info_nce``.
            margin, temperature: of the last three.
            gather_negatives: pair the RoIs of all processes, not only of one's own.

        Raises:
            ValueError: an unknown loss.
        """
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(
                f"MODEL.ROI_MATCH_HEAD.LOSS must be one of {', '.join(LOSSES)}; got {loss!r}"
            )
        self.loss = loss
        self.loss_weight = loss_weight
        self.settings = {"margin": margin, "temperature": temperature}
        self.gather_negatives = gather_negatives
        self.map_stream = next((s for s in input_shapes if s != "class"), None)
        self._build_extractor(input_shapes, conv_dims, embedding_dim)
        self.classifier = PairClassifier(embedding_dim) if loss == "pair_ce" else None

    def _build_extractor(
        self, input_shapes: dict[str, ShapeSpec], conv_dims: Sequence[int], embedding_dim: int
    ) -> None:
        channels = {stream: _channels(stream, shape) for stream, shape in input_shapes.items()}
        main = channels[self.map_stream or "class"]
        self.convs = nn.ModuleList()
        for channels_in, channels_out in zip([main, *conv_dims[:-1]], conv_dims, strict=True):
            conv = Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
            c2_msra_fill(conv)
            self.convs.append(conv)
        joined = self.map_stream is not None and "class" in input_shapes
        self.join = Linear(channels["class"], conv_dims[0]) if joined else None
        self.fc = Linear(conv_dims[-1], embedding_dim)
        self.norm = nn.BatchNorm1d(embedding_dim)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.ROI_MATCH_HEAD
        return {
            "input_shapes": input_shapes,
            "conv_dims": node.CONV_DIMS,
            "embedding_dim": node.EMBEDDING_DIM,
            "loss": node.LOSS,
            "loss_weight": node.LOSS_WEIGHT,
            "margin": node.MARGIN,
            "temperature": node.TEMPERATURE,
            "gather_negatives": node.GATHER_NEGATIVES,
        }

    def forward(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """
        Args:
            features: of the M RoIs, by stream.
            instances: one an image; in training with ``gt_pair_ids``, ``gt_styles`` and
                ``gt_sources``.

        Returns:
            In training ``{"loss_match": ...}``; otherwise ``instances`` with ``embedding`` (M, d).
        """
        if self.training:
            return {"loss_match": self._loss(features, instances) * self.loss_weight}
        names, maps = zip(*features.items(), strict=True)
        chunks = zip(*(m.split(ROIS_PER_CHUNK) for m in maps), strict=True)
        embeddings = torch.cat([self.embed(dict(zip(names, c, strict=True))) for c in chunks])
        sizes = [len(image) for image in instances]
        for image, part in zip(instances, embeddings.split(sizes), strict=True):
            image.embedding = part
        return instances

    def embed(self, features: dict[str, Tensor]) -> Tensor:
        """(M, d) embeddings; of unit length where the loss is a metric one."""
        x = features[self.map_stream] if self.map_stream else features["class"][..., None, None]
        first, *others = self.convs
        x = first(x)
        if self.join is not None:
            x = x + self.join(features["class"])[..., None, None]
        x = F.relu_(x)
        for conv in others:
            x = F.relu_(conv(x))
        embedding: Tensor = self.norm(self.fc(F.relu(x.mean((2, 3)))))
        return embedding if self.classifier is not None else F.normalize(embedding.float())

    def score_weights(self) -> tuple[Tensor, Tensor]:
        """(d,) w and b of the pair score w . (q - g)^2 + b; more is more alike.

        For a metric loss the score is the negative squared distance.
        """
        if self.classifier is not None:
            return self.classifier.score_weights()
        weight = self.fc.weight.new_full((self.fc.weight.shape[0],), -1.0)
        return weight, weight.new_zeros(())

    def _loss(self, features: dict[str, Tensor], instances: list[Instances]) -> Tensor:
        labels = _labels(instances, self.fc.weight.device)
        # Batch norm has no variance of a single row.
        if len(labels) > 1:
            embeddings = self.embed(features).float()
        else:
            nothing = torch.stack([f.flatten()[:0].float().sum() for f in features.values()]).sum()
            embeddings = nothing.expand(0, self.norm.num_features)
            labels = labels[:0]
        # In front of the gathering, so that a process without RoIs, too, passes its gradients on
        # only behind the gathering's own exchange: all must exchange in one order.
        embeddings = embeddings + self._parameters_touched()
        if self.gather_negatives and comm.get_world_size() > 1:
            embeddings, labels = gather_rows(embeddings), gather_rows(labels)
        return self._pair_loss(embeddings, labels)

    def _pair_loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        user, shop = ((labels[:, 0] == source).nonzero()[:, 0] for source in (USER, SHOP))
        products = labels[:, 1:]
        positive = (products[user, None] == products[None, shop]).all(-1)
        _log_pairs(positive)
        a, b = embeddings[user], embeddings[shop]
        if self.classifier is not None:
            return pair_ce(self.classifier(a, b), positive)
        loss = METRIC_LOSSES[self.loss]
        return loss.function(a, b, positive, self.settings[loss.parameter])

    def _parameters_touched(self) -> Tensor:
        """0 with a gradient path to every parameter, which distributed training must see."""
        return torch.stack([p.flatten()[:0].float().sum() for p in self.parameters()]).sum()


def _channels(stream: str, shape: ShapeSpec) -> int:
    if shape.channels is None:
        raise ValueError(f"the {stream} stream's features state no number of channels")
    return shape.channels


def _labels(instances: list[Instances], device: torch.device) -> Tensor:
    """(M, 3) source, pair id and style of each RoI."""
    rows = [
        torch.stack((image.gt_sources, image.gt_pair_ids, image.gt_styles), dim=1)
        for image in instances
        if len(image)
    ]
    return torch.cat(rows) if rows else torch.zeros((0, 3), dtype=torch.int64, device=device)


def _log_pairs(positive: Tensor) -> None:
    storage = get_event_storage()
    storage.put_scalar("match/num_pairs", positive.numel())
    storage.put_scalar("match/num_positive_pairs", int(positive.sum()))
