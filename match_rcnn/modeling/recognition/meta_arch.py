"""``MODEL.META_ARCHITECTURE Recognition``: one given box an image, everything that is known of the
garment in it.

The parts, each a choice of the config: shared layers (a backbone, of whose maps one is taken), a
landmark branch, attention to places of the maps, features pooled around the landmarks that were
found, global features, a fusion of both, and heads that read categories, attributes and an
embedding from the fused vector. FashionNet (Liu et al., CVPR 2016) is
``configs/fashionnet_VGG16.yaml``.

Shapes: ``N`` garments, one an image; maps ``(N, C, h, w)`` of the garment's *region*, its box with
a margin: the whole image where the mapper has cropped it (``MODEL.RECOGNITION.INPUT crop``), or
what RoIAlign takes from the maps of the whole photo (``roi``). ``D`` length of the fused vector.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from match_rcnn.d2 import (
    META_ARCH_REGISTRY,
    Backbone,
    Boxes,
    CfgNode,
    ImageList,
    Instances,
    ROIPooler,
    ShapeSpec,
    build_backbone,
    configurable,
    get_event_storage,
)
from match_rcnn.modeling.recognition.attention import ATTENTION_REGISTRY, Attention
from match_rcnn.modeling.recognition.branch import ConvBranch, fully_connected
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.heads import (
    RECOGNITION_HEAD_REGISTRY,
    RecognitionHead,
    SimilarityHead,
)
from match_rcnn.modeling.recognition.landmarks import (
    LANDMARK_BRANCH_REGISTRY,
    LandmarkBranch,
    Landmarks,
    LocalBranch,
)
from match_rcnn.modeling.recognition.schedule import Stages
from match_rcnn.modeling.recognition.towers import (
    Rows,
    Tower,
    add_consumer_tower,
    fill_consumer_tower,
    through,
    towers,
)
from match_rcnn.modeling.recognition.truth import Truth
from match_rcnn.modeling.similarity import Similarity

Tensor = torch.Tensor
Batch = list[dict[str, Any]]


@META_ARCH_REGISTRY.register()
class Recognition(nn.Module):
    """See the module. Inference pools around predicted landmarks, unless ``oracle`` is set.

    Args:
        backbone: images to maps by name.
        tap: the name of the map that the branches take.
        pooler: from the maps of whole photos to those of regions; None: images are the regions.
        landmark_branch: None: no landmarks, and no local features.
        attentions: by name; their sum and 1 multiply the maps for all that is behind them.
        local_branch: None: global features alone.
        global_branch: (N, C, h, w) -> (N, its dim).
        fusion: (N, dim of both branches) -> (N, D).
        heads: by name.
        stages: what the losses weigh when.
        pixel_mean, pixel_std: by channel.
        oracle: let inference pool around the true landmarks; its results say so.
        frozen: only heads learn. All else is without gradient and as in evaluation, so that the
            statistics of batch norm stay too; landmarks' losses are left out, and ``stages`` with
            them.
        frozen_heads: names of heads that stay too, and have no loss; of ``frozen`` alone.
        domain_towers: whether consumers' photos have a backbone, branches and a fusion of their
            own. Landmarks, attention and heads are of both domains.

    Raises:
        ValueError: local features without landmarks to pool around, attention to heat maps of
            landmarks without a branch that has some, or no head is left to learn.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        tap: str,
        pooler: ROIPooler | None = None,
        landmark_branch: LandmarkBranch | None,
        attentions: Mapping[str, Attention] | None = None,
        local_branch: LocalBranch | None,
        global_branch: ConvBranch,
        fusion: nn.Module,
        heads: Mapping[str, RecognitionHead],
        stages: Stages | None = None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        oracle: bool = False,
        frozen: bool = False,
        frozen_heads: Sequence[str] = (),
        domain_towers: bool = False,
    ) -> None:
        super().__init__()
        if local_branch is not None and landmark_branch is None:
            raise ValueError(
                "MODEL.RECOGNITION.LOCAL.ENABLED pools around landmarks: name a branch that finds "
                "them in MODEL.RECOGNITION.LANDMARKS.NAME"
            )
        for name, attention in (attentions or {}).items():
            if attention.needs_heat and not (landmark_branch and landmark_branch.gives_heat):
                raise ValueError(
                    f"MODEL.RECOGNITION.ATTENTION lists {name}, which looks where landmarks' heat "
                    "maps say: name a branch that has some, such as HeatmapBranch, in "
                    "MODEL.RECOGNITION.LANDMARKS.NAME"
                )
        self.backbone = backbone
        self.tap = tap
        self.pooler = pooler
        self.landmark_branch = landmark_branch
        self.attentions = nn.ModuleDict(dict(attentions or {}))
        self.local_branch = local_branch
        self.global_branch = global_branch
        self.fusion = fusion
        self.domain_towers = domain_towers
        if domain_towers:
            add_consumer_tower(self)
        self.heads = nn.ModuleDict(dict(heads))
        self.stages = stages or Stages()
        self.oracle = oracle
        self.frozen = frozen
        self.learning = _learning(heads, frozen, frozen_heads)
        if frozen:
            own = {p for name in self.learning for p in self.heads[name].parameters()}
            for parameter in self.parameters():
                if parameter not in own:  # what rests in a head goes on resting
                    parameter.requires_grad_(False)
        self.pixel_mean: Tensor
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.RECOGNITION
        backbone = build_backbone(cfg)
        shape, pooler = _tap(cfg, backbone)
        landmarks, local = node.LANDMARKS.NAME, node.LOCAL.ENABLED
        global_branch = ConvBranch(cfg, shape, node.GLOBAL.CONV_DIMS, node.GLOBAL.FC_DIMS)
        local_branch = LocalBranch(cfg, shape) if local else None
        dim = global_branch.dim + (local_branch.dim if local_branch else 0)
        fusion_dims = [node.FUSION_DIM] if node.FUSION_DIM else []
        for key, names, registry in (
            ("HEADS", node.HEADS, RECOGNITION_HEAD_REGISTRY),
            ("ATTENTION", node.ATTENTION, ATTENTION_REGISTRY),
            ("LANDMARKS.NAME", [landmarks] if landmarks else [], LANDMARK_BRANCH_REGISTRY),
        ):
            for name in names:
                _expect_known(key, name, registry)
        return {
            "backbone": backbone,
            "tap": node.IN_FEATURE,
            "pooler": pooler,
            "landmark_branch": LANDMARK_BRANCH_REGISTRY.get(landmarks)(cfg, shape)
            if landmarks
            else None,
            "attentions": {n: ATTENTION_REGISTRY.get(n)(cfg, shape) for n in node.ATTENTION},
            "local_branch": local_branch,
            "global_branch": global_branch,
            "fusion": fully_connected(dim, fusion_dims, node.DROPOUT),
            "heads": {
                name: RECOGNITION_HEAD_REGISTRY.get(name)(cfg, node.FUSION_DIM or dim, shape)
                for name in node.HEADS
            },
            "stages": Stages.from_config(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "oracle": cfg.TEST.ORACLE_LANDMARKS,
            "frozen": node.FROZEN,
            "frozen_heads": node.FROZEN_HEADS,
            "domain_towers": node.DOMAIN_TOWERS,
        }

    def train(self, mode: bool = True) -> "Recognition":
        """As torch's; what is frozen stays in evaluation."""
        super().train(mode)
        if mode and self.frozen:
            for name, part in (*self.named_children(), *self.heads.named_children()):
                part.train(name == "heads" or name in self.learning)
        return self

    def _typed_heads(self) -> list[RecognitionHead]:
        return [cast(RecognitionHead, head) for head in self.heads.values()]

    @property
    def similarity(self) -> Similarity | None:
        """What orders the candidates of a search; None: their vectors alone."""
        heads = [head for head in self.heads.values() if isinstance(head, SimilarityHead)]
        return heads[0].similarity if heads else None

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def learn_counts(self, counts: Tensor, together: Tensor) -> None:
        """For heads that go by the training set's labels; see ``RecognitionHead``."""
        for head in self._typed_heads():
            head.learn_counts(counts, together)

    def forward(self, batched_inputs: Batch) -> Any:
        """Losses in training, else of each image ``{"instances": Instances}``.

        Args:
            batched_inputs: samples of :class:`match_rcnn.data.crops.CropMapper`.
        """
        if not self.training:
            return self.inference(batched_inputs)
        truth = Truth.of(batched_inputs, self.device)
        if self.frozen:
            return self._losses_of_heads(self._frozen_features(batched_inputs), truth)
        weights = self.stages.weights(get_event_storage().iter)
        maps = self.region_maps(batched_inputs)
        losses: dict[str, Tensor] = {}
        landmarks = None
        if self.landmark_branch is not None:
            with torch.set_grad_enabled(bool(weights.landmarks)):
                landmarks = self.landmark_branch(maps)
            if weights.landmarks:
                found = self.landmark_branch.losses(landmarks, truth)
                losses |= {name: weights.landmarks * loss for name, loss in found.items()}
        if weights.rest:
            features = self.features(batched_inputs, maps, landmarks, landmarks)
            found = self._losses_of_heads(features, truth)
            losses |= {name: weights.rest * loss for name, loss in found.items()}
        return losses

    def _losses_of_heads(self, features: Features, truth: Truth) -> dict[str, Tensor]:
        heads = [cast(RecognitionHead, self.heads[name]) for name in self.learning]
        return {k: loss for head in heads for k, loss in head.losses(features, truth).items()}

    @torch.no_grad()
    def _frozen_features(self, batched_inputs: Batch) -> Features:
        maps = self.region_maps(batched_inputs)
        landmarks = None if self.landmark_branch is None else self.landmark_branch(maps)
        return self.features(batched_inputs, maps, landmarks, landmarks)

    def inference(self, batched_inputs: Batch) -> list[dict[str, Instances]]:
        """Of each image ``{"instances": Instances}`` of the file's size, with one row:
        ``pred_boxes``, the region; ``pred_slots`` (1, L, 3) x and y in the file's pixels and the
        probability that the landmark is visible; and what the heads read (``category_scores``,
        ``attribute_scores``, ``embedding``, what a similarity needs)."""
        assert not self.training, "inference needs model.eval()"
        with torch.no_grad():
            maps = self.region_maps(batched_inputs)
            landmarks = None if self.landmark_branch is None else self.landmark_branch(maps)
            around = landmarks
            if self.oracle:
                around = Landmarks.given(Truth.of(batched_inputs, self.device).slots)
            features = self.features(batched_inputs, maps, landmarks, around)
            fields: dict[str, Tensor] = {}
            for head in self._typed_heads():
                fields |= head.predict(features)
            regions = torch.stack([x["region"] for x in batched_inputs]).to(self.device)
            if landmarks is not None:
                fields["pred_slots"] = _slots_in_file(landmarks, regions)
        rows = ({name: v[i : i + 1] for name, v in fields.items()} for i in range(len(regions)))
        return [
            {"instances": _one_row(sample, region, own)}
            for sample, region, own in zip(batched_inputs, regions, rows, strict=True)
        ]

    def region_maps(self, batched_inputs: Batch) -> Tensor:
        """(N, C, h, w) of the garments' regions."""
        images = [
            (x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        batch = ImageList.from_tensors(images, self.backbone.size_divisibility)
        maps = through(
            self._towers(batched_inputs),
            lambda parts, rows: parts["backbone"](batch.tensor[rows])[self.tap],
        )
        if self.pooler is None:
            return maps
        boxes = [Boxes(x["box"][None].to(self.device)) for x in batched_inputs]
        pooled: Tensor = self.pooler([maps], boxes)
        return pooled

    def _towers(self, batched_inputs: Batch) -> list[Tower]:
        return towers(self, (sample.get("domain") for sample in batched_inputs))

    def attend(self, maps: Tensor, landmarks: Landmarks | None) -> Tensor:
        """(N, C, h, w) -> (1 + the sum of all attention) times it."""
        found = [attention(maps, landmarks) for attention in self.attentions.values()]
        return maps * (1 + sum(found)) if found else maps

    def features(
        self,
        batched_inputs: Batch,
        maps: Tensor,
        found: Landmarks | None,
        around: Landmarks | None,
    ) -> Features:
        """(N, C, h, w), the landmarks found in them, and those to pool around."""
        attended = self.attend(maps, found)
        return Features(self.vectors(batched_inputs, attended, around), attended)

    def vectors(self, batched_inputs: Batch, maps: Tensor, landmarks: Landmarks | None) -> Tensor:
        """(N, C, h, w) and landmarks to pool around -> (N, D)."""

        def fused(parts: Mapping[str, Any], rows: Rows) -> Tensor:
            own = [parts["global_branch"](maps[rows])]
            if parts["local_branch"] is not None:
                assert landmarks is not None
                own.append(parts["local_branch"](maps[rows], landmarks.at(rows)))
            vectors: Tensor = parts["fusion"](torch.cat(own, 1))
            return vectors

        return through(self._towers(batched_inputs), fused)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if self.domain_towers:
            fill_consumer_tower(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _tap(cfg: CfgNode, backbone: Backbone) -> tuple[ShapeSpec, ROIPooler | None]:
    """The shape of the maps that branches get, and what makes them of whole photos' maps."""
    node = cfg.MODEL.RECOGNITION
    shapes: dict[str, ShapeSpec] = backbone.output_shape()
    if node.IN_FEATURE not in shapes:
        raise ValueError(
            f"MODEL.RECOGNITION.IN_FEATURE is {node.IN_FEATURE!r}; the backbone gives "
            f"{', '.join(shapes)}"
        )
    shape = shapes[node.IN_FEATURE]
    stride: int = shape.stride  # type: ignore[assignment]
    if node.INPUT == "crop":
        if node.CROP_SIZE % stride:
            raise ValueError(
                f"MODEL.RECOGNITION.CROP_SIZE ({node.CROP_SIZE}) must be a multiple of {stride}, "
                f"the stride of {node.IN_FEATURE}"
            )
        side = node.CROP_SIZE // stride
        return ShapeSpec(shape.channels, side, side, stride), None
    if node.INPUT != "roi":
        raise ValueError(f"MODEL.RECOGNITION.INPUT must be 'crop' or 'roi', got {node.INPUT!r}")
    side = node.POOLER_RESOLUTION
    pooler = ROIPooler(side, [1.0 / stride], node.POOLER_SAMPLING_RATIO, "ROIAlignV2")
    return ShapeSpec(shape.channels, side, side, stride), pooler


def _learning(heads: Mapping[str, Any], frozen: bool, frozen_heads: Sequence[str]) -> list[str]:
    """The names of the heads that learn."""
    unknown = [name for name in frozen_heads if name not in heads]
    if unknown or (frozen_heads and not frozen):
        why = f"{unknown[0]!r} is not in HEADS" if unknown else "FROZEN is False"
        raise ValueError(f"MODEL.RECOGNITION.FROZEN_HEADS names heads that stay, but {why}")
    found = [name for name in heads if name not in frozen_heads]
    if frozen and not found:
        raise ValueError(
            "MODEL.RECOGNITION.FROZEN lets heads alone learn, and no head is left to: add one to "
            "HEADS, or take one out of FROZEN_HEADS"
        )
    return found


def _expect_known(key: str, name: str, registry: Any) -> None:
    if name not in registry:
        known = ", ".join(sorted(known for known, _ in registry))
        raise ValueError(f"MODEL.RECOGNITION.{key}: {name!r} is not known; there are {known}")


def _slots_in_file(landmarks: Landmarks, regions: Tensor) -> Tensor:
    """(N, L, 3) x and y in the file's pixels, and the probability to be visible."""
    corner, size = regions[:, None, :2], regions[:, None, 2:] - regions[:, None, :2]
    xy = corner + landmarks.xy * size
    return torch.cat([xy, landmarks.visible[..., None]], -1)


def _one_row(sample: dict[str, Any], region: Tensor, fields: Mapping[str, Tensor]) -> Instances:
    size = (sample["height"], sample["width"])
    return Instances(size, pred_boxes=Boxes(region[None]), **fields)
