"""What a stream over RoIs is, and which there are.

A stream is one file in this folder: a class that registers itself and whose name a config lists
in ``MODEL.ROI_STREAMS``. Streams run in that order, behind the box stream.

Shapes: ``R`` RoIs of all images of a batch, image after image; ``M`` of them that a stream works
on; ``P`` side of pooled features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from match_rcnn.d2 import Boxes, CfgNode, Instances, Registry, ROIPooler, ShapeSpec

Tensor = torch.Tensor
#: (images, channels, height, width) by name of the level.
Maps = dict[str, Tensor]
Losses = dict[str, Tensor]

ROI_STREAM_REGISTRY = Registry("ROI_STREAM")
ROI_STREAM_REGISTRY.__doc__ = """
Classes of :class:`Stream`, made by their ``from_config``.
"""


class FeatureSource(Protocol):
    """Where features of RoIs can be had."""

    @property
    def shape(self) -> ShapeSpec:
        """Channels, and of maps height and width; a vector has none."""

    def __call__(self, maps: Maps, boxes: list[Boxes]) -> Tensor:
        """(M, channels, P, P) or (M, channels) for boxes of each image."""

    def covers(self, image: Instances) -> Tensor | None:
        """(R_i,) for which of an image's sampled RoIs the features say something; None: all."""


@dataclass(frozen=True)
class RoIFeatures:
    """Features that a stream made of some of a batch's RoIs, for a later stream to take.

    Attributes:
        values: (M, ...) in any order.
        rows: (R,) the row of ``values`` of each RoI, -1 where it has none.
    """

    values: Tensor
    rows: Tensor

    def of(self, rois: Tensor) -> Tensor:
        """The features of the RoIs of these numbers, 0 to R - 1.

        Raises:
            ValueError: one of them has none. On a GPU, which is not waited for, the device's own
                error for an index out of range comes instead.
        """
        try:
            # Not values[...], which would take a row from the end for -1.
            return self.values.index_select(0, self.rows.index_select(0, rois))
        except (IndexError, RuntimeError) as error:
            if rois.is_cuda or bool((self.rows[rois] >= 0).all()):
                raise
            missing = rois[self.rows[rois] < 0].tolist()
            raise ValueError(
                f"features of RoIs {missing} were asked for, which the stream did not work on"
            ) from error


@dataclass(frozen=True)
class Built:
    """What there is when a stream is made.

    Attributes:
        heads: the modules that the host made, by the names of its ``StandardROIHeads`` arguments.
        sources: features that the box stream and the streams in front of this one offer, by name.
    """

    heads: Mapping[str, Any]
    sources: Mapping[str, FeatureSource]


class Stream:
    """Something that is learned or computed for RoIs.

    A plain object, and no module, so that its modules keep the names of released weights: the RoI
    heads get them as ``modules`` says.

    Attributes:
        switch: the key of ``MODEL`` that turns it on and off where it is listed; "": always on.
        feature: the name of the features that it offers other streams; "": none.
        label, loss: what of an item it learns from (``masks``, ``landmarks``, ``pairs``,
            ``attributes``; "": something else), and the loss that it gives; they are told before a
            run starts.
        modules: its modules, by their names in the RoI heads.
        source: where the features that it offers can be had for any boxes.
        takes: names of the features of other streams that it wants handed.
    """

    switch: ClassVar[str] = ""
    feature: ClassVar[str] = ""
    label: ClassVar[str] = ""
    loss: ClassVar[str] = ""

    def __init__(
        self,
        *,
        modules: Mapping[str, nn.Module] | None = None,
        source: FeatureSource | None = None,
        takes: Sequence[str] = (),
    ) -> None:
        self.modules = dict(modules or {})
        self.source = source
        self.takes = tuple(takes)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec], built: Built
    ) -> dict[str, Any]:
        """The constructor's arguments.

        Args:
            input_shape: of the backbone's levels.
        """
        raise NotImplementedError

    def losses(
        self,
        maps: Maps,
        rois: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[Losses, RoIFeatures | None]:
        """In training.

        Args:
            maps: the backbone's.
            rois: R sampled proposals, an entry an image, with ``proposal_boxes``, ``gt_classes``
                and, where the image has ground truth, each ``gt_*`` field of the item they match.
                An item that lacks a label costs no loss and is in no mean. An image whose items
                are of no known category (:mod:`match_rcnn.data.given_boxes`) has their boxes as
                its proposals, of class -1.
            given: what earlier streams made in this pass, by the name of their features.
            is_taken: a later stream takes this one's features.

        Returns:
            ``loss_*`` by name, and the features that were made on the way, if any.
        """
        raise NotImplementedError

    def infer(
        self,
        maps: Maps,
        detections: list[Instances],
        given: Mapping[str, RoIFeatures],
        is_taken: bool,
    ) -> tuple[list[Instances], RoIFeatures | None]:
        """At inference: the detections (``pred_boxes``, ``pred_classes``) with further fields, and
        the features that were made on the way, if any."""
        raise NotImplementedError


def build_streams(cfg: CfgNode, input_shape: dict[str, ShapeSpec], built: Built) -> list[Stream]:
    """Those that ``MODEL.ROI_STREAMS`` lists and no switch turns off, in that order.

    Raises:
        ValueError: a switch is on, but the list leaves its stream out.
    """
    names = list(cfg.MODEL.ROI_STREAMS)
    for name, stream in ROI_STREAM_REGISTRY:
        if stream.switch and cfg.MODEL[stream.switch] and name not in names:
            raise ValueError(
                f"MODEL.{stream.switch} is True, but MODEL.ROI_STREAMS has no {name}; "
                f"it has {', '.join(names) or 'nothing'}"
            )
    streams, sources = [], dict(built.sources)
    for cls in map(ROI_STREAM_REGISTRY.get, names):
        if cls.switch and not cfg.MODEL[cls.switch]:
            continue
        stream = cls(**cls.from_config(cfg, input_shape, Built(built.heads, dict(sources))))
        streams.append(stream)
        if stream.source is not None:
            sources[stream.feature] = stream.source
    return streams


@dataclass(frozen=True)
class PooledFeatures:
    """Features as a pooler and some layers behind it make them; a :class:`FeatureSource`.

    Attributes:
        levels: of the backbone.
        layers: from (M, C, P, P) to what ``shape`` says.
        covered: see :meth:`FeatureSource.covers`.
    """

    levels: Sequence[str]
    pooler: Any
    layers: Any
    shape: ShapeSpec
    covered: Callable[[Instances], Tensor] | None = None

    def __call__(self, maps: Maps, boxes: list[Boxes]) -> Tensor:
        pooled: Tensor = self.layers(pool(maps, self.levels, self.pooler, boxes))
        return pooled

    def covers(self, image: Instances) -> Tensor | None:
        return None if self.covered is None else self.covered(image)


def pool(maps: Maps, levels: Sequence[str], pooler: Any, boxes: list[Boxes]) -> Any:
    """What a head gets: RoI features, or without a pooler the levels by name."""
    if pooler is None:
        return {name: maps[name] for name in levels}
    return pooler([maps[name] for name in levels], boxes)


def make_pooler(node: CfgNode, levels: Sequence[ShapeSpec]) -> ROIPooler:
    """By a head's ``POOLER_*`` keys."""
    return ROIPooler(
        output_size=node.POOLER_RESOLUTION,
        scales=[1.0 / (level.stride or 1) for level in levels],
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        pooler_type=node.POOLER_TYPE,
    )


def pyramid_features(
    cfg: CfgNode, head: str, input_shape: Mapping[str, ShapeSpec]
) -> PooledFeatures:
    """RoI features of the pyramid itself, in front of any stream's layers, as the head's
    ``IN_FEATURES`` and ``POOLER_*`` keys say.

    Args:
        head: its node of ``MODEL``.

    Raises:
        ValueError: the backbone has no such level.
    """
    node = cfg.MODEL[head]
    levels = list(node.IN_FEATURES or cfg.MODEL.ROI_HEADS.IN_FEATURES)
    for name in levels:
        if name not in input_shape:
            raise ValueError(
                f"MODEL.{head}.IN_FEATURES names {name!r}; the backbone has "
                f"{', '.join(input_shape)}"
            )
    shapes = [input_shape[name] for name in levels]
    side = node.POOLER_RESOLUTION
    shape = ShapeSpec(channels=shapes[0].channels, height=side, width=side)
    return PooledFeatures(levels, make_pooler(node, shapes), nn.Identity(), shape)


def chosen_sources(
    head: str, node: CfgNode, offered: Mapping[str, FeatureSource]
) -> dict[str, FeatureSource]:
    """Those that the head's ``FEATURES`` names, joined by "+".

    Raises:
        ValueError: one of them is not offered.
    """
    names = node.FEATURES.split("+")
    for name in names:
        if name not in offered:
            raise ValueError(
                f"MODEL.{head}.FEATURES names {name!r}, but there are only "
                f"{', '.join(sorted(offered))}, joined by '+'. The streams that offer features "
                f"must be on and in front of this one in MODEL.ROI_STREAMS: 'mask' comes with "
                f"MODEL.MASK_ON, 'pose' with MODEL.KEYPOINT_ON and MODEL.ROI_KEYPOINT_HEAD.NAME "
                f"CategoryAwareLandmarkHead"
            )
    return {name: offered[name] for name in names}


def features_of_detections(
    sources: Mapping[str, FeatureSource],
    maps: Maps,
    detections: list[Instances],
    given: Mapping[str, RoIFeatures],
) -> dict[str, Tensor]:
    """At inference, each source's features of all detections; what an earlier stream made of them
    is not made again."""
    boxes = [image.pred_boxes for image in detections]
    return {
        name: given[name].values if name in given else source(maps, boxes)
        for name, source in sources.items()
    }


def take(rois: list[Instances], rows: list[Tensor]) -> list[Instances]:
    """Of each image the RoIs in these rows."""
    return [image[chosen] for image, chosen in zip(rois, rows, strict=True)]


def numbers(rois: list[Instances], rows: list[Tensor]) -> Tensor:
    """(M,) the numbers among all R of the RoIs in these rows of each image."""
    first, found = 0, []
    for image, chosen in zip(rois, rows, strict=True):
        found.append(chosen + first)
        first += len(image)
    return torch.cat(found)


def labelled(image: Instances, num_classes: int, field: str, mark: str) -> Tensor:
    """(R_i,) whether RoIs are foreground and match an item with a label.

    Args:
        image: RoIs of one image.
        num_classes: the background's class.
        field: that holds the label, such as ``gt_masks``.
        mark: that says which items have it, such as ``gt_has_mask``; without it all have.
    """
    classes = image.gt_classes
    # An image without ground truth, or without a label of this kind, may lack the field.
    if not image.has(field):
        return torch.zeros_like(classes, dtype=torch.bool)
    wanted: Tensor = (classes >= 0) & (classes < num_classes)
    return wanted & image.get(mark) if image.has(mark) else wanted
