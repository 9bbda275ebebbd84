"""A model written as ONNX, in parts, with a ``model.json`` that says how they are joined.

Each part is a network of fixed wiring: what depends on what is found (choosing, suppressing, from
which map a RoI is pooled, which category's landmarks) stays outside (docs/export.md says why).

Shapes: ``N`` images of ``H x W``; ``R`` RoIs; ``C`` classes.
"""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import match_rcnn
from match_rcnn.d2 import RPN, CfgNode, ROIPooler
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.modeling.roi_heads import MatchRCNNCascadeROIHeads, MatchRCNNROIHeads
from match_rcnn.modeling.streams.attributes import AttributeStream
from match_rcnn.modeling.streams.landmark_head import UP_SCALE, CategoryAwareLandmarkHead
from match_rcnn.modeling.streams.landmarks import LandmarkStream
from match_rcnn.modeling.streams.mask import MaskStream
from match_rcnn.modeling.streams.matching import MatchStream
from match_rcnn.onnx.parts import DESCRIPTION, FORMAT, Sessions
from match_rcnn.utils.files import write_json

logger = logging.getLogger(__name__)

Tensor = torch.Tensor

#: RoiAlign has half-pixel places since 16; onnxruntime reads 18 since its version 1.14.
OPSET = 18
#: Of the files, which onnxruntime of that age reads.
IR_VERSION = 8
#: A part's outputs differ by no more from torch's, relative to the largest of them.
TOLERANCE = 1e-4


def export(cfg: CfgNode, output: str | Path) -> dict[str, Any]:
    """Write the model of a config to a new folder, whole or not at all.

    Every part is run beside torch at two sizes before the folder gets its name.

    Args:
        cfg: a whole config; ``MODEL.WEIGHTS`` names the checkpoint.
        output: a folder that is not there yet, or empty.

    Returns:
        What ``model.json`` says.

    Raises:
        ValueError: the folder is not empty, the model has a part that cannot be exported, or a
            part computes something else than torch.
        ImportError: ``onnx`` or ``onnxruntime`` is not installed.
    """
    output = Path(output).absolute()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is there already; remove it, or export to another folder")
    if cfg.TEST.AUG.ENABLED:
        raise ValueError("TEST.AUG.ENABLED: an exported model sees a photo once; set it to False")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.MODEL.CHANNELS_LAST, cfg.TEST.PRECISION = "cpu", False, ""
    predictor = MatchRCNNPredictor(cfg)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        description = _Writer(folder, predictor).write()
        folder.chmod(0o777 & ~_umask())
        folder.replace(output)  # a folder takes the place of an empty one
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return description


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _Function(nn.Module):
    """A function of tensors as the module that the exporter wants."""

    def __init__(self, function: Callable[..., Any], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.used = nn.ModuleList(modules)
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


class _Writer:
    """Writes the parts of a predictor's model into a folder."""

    def __init__(self, folder: Path, predictor: MatchRCNNPredictor) -> None:
        self.folder = folder
        self.cfg = predictor.cfg
        self.taxonomy = predictor.taxonomy
        self.model: Any = predictor.model
        self.heads: Any = self.model.roi_heads
        self.files: list[str] = []
        self.sessions = Sessions(folder, threads=1)

    def write(self) -> dict[str, Any]:
        streams = self._streams()
        head = self._boxes()
        description = {
            "format": FORMAT,
            "opset": OPSET,
            "made_with": {"match_rcnn": match_rcnn.__version__, "torch": torch.__version__},
            "input": self._input(),
            "proposals": self._backbone(streams),
            "boxes": head,
            "masks": self._masks(streams.get(MaskStream), streams),
            "landmarks": self._landmarks(streams.get(LandmarkStream)),
            "matching": self._matching(streams.get(MatchStream)),
            "attributes": self._attributes(streams.get(AttributeStream)),
            "shown": {
                "duplicates_threshold": float(self.cfg.TEST.AGNOSTIC_NMS_THRESH),
                "calibration": list(map(float, self.cfg.TEST.SCORE_CALIBRATION)) or None,
                "from": float(self.cfg.TEST.SHOWN_FROM),
            },
            "taxonomy": self.taxonomy.to_dict(),
        }
        self._write_suppression()
        description["files"] = self.files
        write_json(self.folder / DESCRIPTION, description)
        return description

    def _streams(self) -> dict[type, Any]:
        """The model's streams by kind.

        Raises:
            ValueError: there is something that no part stands for.
        """
        rpn = self.model.proposal_generator
        if type(self.heads) not in (MatchRCNNROIHeads, MatchRCNNCascadeROIHeads):
            raise _unknown("MODEL.ROI_HEADS.NAME", self.heads)
        if not isinstance(rpn, RPN):
            raise _unknown("MODEL.PROPOSAL_GENERATOR.NAME", rpn)
        known = (MaskStream, LandmarkStream, MatchStream, AttributeStream)
        for stream in self.heads.streams:
            if type(stream) not in known:
                raise _unknown("MODEL.ROI_STREAMS", stream)
        return {type(stream): stream for stream in self.heads.streams}

    def _input(self) -> dict[str, Any]:
        cfg, model = self.cfg, self.model
        return {
            "channels": cfg.INPUT.FORMAT,
            "min_size": int(cfg.INPUT.MIN_SIZE_TEST),
            "max_size": int(cfg.INPUT.MAX_SIZE_TEST),
            "mean": model.pixel_mean.flatten().tolist(),
            "std": model.pixel_std.flatten().tolist(),
            "divisibility": int(model.backbone.size_divisibility),
        }

    def _backbone(self, streams: Mapping[type, Any]) -> dict[str, Any]:
        """The maps that RoIs are pooled from, and the proposal network's; what these mean."""
        rpn, backbone = self.model.proposal_generator, self.model.backbone
        pooled = {*self.heads.box_in_features}
        for stream in streams.values():
            sources = getattr(stream, "sources", {"": stream})
            pooled |= {level for source in sources.values() for level in source.levels}
        levels = [name for name in backbone.output_shape() if name in pooled]

        def run(images: Tensor) -> tuple[Tensor, ...]:
            maps = backbone(images)
            logits, deltas = rpn.rpn_head([maps[name] for name in rpn.in_features])
            return (*(maps[name] for name in levels), *logits, *deltas)

        names = [f"{kind}_{level}" for kind in ("logits", "deltas") for level in rpn.in_features]
        step = max(1, backbone.size_divisibility)
        examples = [(torch.randn(n, 3, h * step, w * step),) for n, h, w in ((2, 3, 4), (1, 5, 2))]
        part = _Function(run, [backbone, rpn.rpn_head])
        outputs = [*levels, *names]
        self._write("backbone.onnx", part, examples, ["images"], outputs, axes=(0, 2, 3))
        anchors = rpn.anchor_generator
        return {
            "levels": list(rpn.in_features),
            "strides": [int(stride) for stride in anchors.strides],
            "anchors": [cell.tolist() for cell in anchors.cell_anchors],
            "offset": float(anchors.offset),
            "box_weights": list(rpn.box2box_transform.weights),
            "scale_clamp": float(rpn.box2box_transform.scale_clamp),
            "pre_nms_topk": int(rpn.pre_nms_topk[False]),
            "post_nms_topk": int(rpn.post_nms_topk[False]),
            "nms_threshold": float(rpn.nms_thresh),
            "min_size": float(rpn.min_box_size),
        }

    def _boxes(self) -> dict[str, Any]:
        """The box head of each stage."""
        cascade = isinstance(self.heads, MatchRCNNCascadeROIHeads)
        heads = list(self.heads.box_head) if cascade else [self.heads.box_head]
        predictors = list(self.heads.box_predictor) if cascade else [self.heads.box_predictor]
        stages = []
        for number, (head, predictor) in enumerate(zip(heads, predictors, strict=True)):

            def run(pooled: Tensor, head: Any = head, predictor: Any = predictor) -> Any:
                features = head(pooled)
                logits, deltas = predictor(features)
                return features, logits.softmax(dim=-1), deltas

            file = f"box_head_{number + 1}.onnx" if cascade else "box_head.onnx"
            examples = self._pooled(self.heads.box_pooler, self.heads.box_in_features)
            names = ["features", "scores", "deltas"]
            self._write(file, _Function(run, [head, predictor]), examples, ["pooled"], names)
            weights = list(predictor.box2box_transform.weights)
            stages.append({"file": file, "box_weights": weights})
        last = predictors[-1]
        return {
            "stages": stages,
            "pooler": self._pooler("boxes", self.heads.box_pooler, self.heads.box_in_features),
            "scale_clamp": float(last.box2box_transform.scale_clamp),
            "score_threshold": float(last.test_score_thresh),
            "nms_threshold": float(last.test_nms_thresh),
            "detections_per_image": int(last.test_topk_per_image),
        }

    def _masks(
        self, stream: MaskStream | None, streams: Mapping[type, Any]
    ) -> dict[str, Any] | None:
        """Probabilities; where another stream takes it, also what the convolutions make."""
        if stream is None:
            return None
        head: Any = stream.head
        taken = any("mask" in getattr(other, "sources", ()) for other in streams.values())
        source: Any = stream.source if taken else None

        def run(pooled: Tensor) -> Any:
            masks = head.layers(pooled).sigmoid()
            return masks if source is None else (masks, source.layers(pooled))

        examples = self._pooled(stream.pooler, stream.levels)
        names = ["masks"] if source is None else ["masks", "features"]
        self._write("mask_head.onnx", _Function(run, [head]), examples, ["pooled"], names)
        pooler = self._pooler("masks", stream.pooler, stream.levels)
        return {"file": "mask_head.onnx", "pooler": pooler}

    def _landmarks(self, stream: LandmarkStream | None) -> dict[str, Any] | None:
        """The tower that all categories share, and the channels of each."""
        if stream is None:
            return None
        head = stream.head
        if not isinstance(head, CategoryAwareLandmarkHead):
            raise _unknown("MODEL.ROI_KEYPOINT_HEAD.NAME", head)
        tower = _Function(head.features, [head])
        examples = self._pooled(stream.pooler, stream.levels)
        self._write("landmark_tower.onnx", tower, examples, ["pooled"], ["features"])
        shape: Any = head.features_shape
        sizes = [(rois, shape.channels, shape.height, shape.width) for rois in (2, 3)]
        tails: list[str | None] = []
        for category in self.taxonomy.categories:
            file = f"landmarks_{category.id:02d}.onnx" if category.num_landmarks else None
            tails.append(file)
            if file is not None:
                tail = _Function(_tail(head, category.slice), [])
                made = [(torch.randn(size),) for size in sizes]
                self._write(file, tail, made, ["features"], ["heatmaps"])
        return {
            "file": "landmark_tower.onnx",
            "pooler": self._pooler("landmarks", stream.pooler, stream.levels),
            "tails": tails,
        }

    def _matching(self, stream: MatchStream | None) -> dict[str, Any] | None:
        if stream is None:
            return None
        head: Any = stream.head
        weight, bias = (value.detach() for value in head.score_weights())
        return {
            **self._on_sources("match_head.onnx", stream, head.embed, "embeddings"),
            "score_weights": weight.tolist(),
            "score_bias": float(bias),
        }

    def _attributes(self, stream: AttributeStream | None) -> dict[str, Any] | None:
        if stream is None:
            return None

        def scores(features: dict[str, Tensor]) -> Any:
            return stream.head(features).sigmoid()

        return {
            **self._on_sources("attribute_head.onnx", stream, scores, "scores"),
            "threshold": float(self.cfg.TEST.ATTRIBUTE_SCORE_THRESH),
        }

    def _on_sources(
        self, file: str, stream: Any, head: Callable[[dict[str, Tensor]], Any], output: str
    ) -> dict[str, Any]:
        """A head that works on the features of other streams, or of the pyramid."""
        names = list(stream.sources)

        def run(*features: Tensor) -> Any:
            return head(dict(zip(names, features, strict=True)))

        shapes = [source.shape for source in stream.sources.values()]
        sizes = [(s.channels, s.height, s.width) if s.height else (s.channels,) for s in shapes]
        examples = [tuple(torch.randn(rois, *size).relu() for size in sizes) for rois in (2, 3)]
        self._write(file, _Function(run, [stream.head]), examples, names, [output])
        own = stream.sources.get("pyramid")
        name = Path(file).stem
        pooler = None if own is None else self._pooler(name, own.pooler, own.levels)
        return {"file": file, "features": names, "pooler": pooler}

    def _pooled(self, pooler: Any, levels: Sequence[str]) -> list[tuple[Tensor]]:
        """Made-up RoI features of two and of three RoIs."""
        channels = self.model.backbone.output_shape()[levels[0]].channels
        return [(torch.randn(rois, channels, *pooler.output_size),) for rois in (2, 3)]

    def _write(
        self,
        file: str,
        part: nn.Module,
        examples: Sequence[tuple[Tensor, ...]],
        inputs: Sequence[str],
        outputs: Sequence[str],
        axes: Sequence[int] = (0,),
    ) -> None:
        """Export a part by its first example, and compare it with torch on all.

        Args:
            axes: of inputs and outputs, that any size may have.
        """
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the exporter says of itself
            torch.onnx.export(
                part.eval(),
                examples[0],
                str(self.folder / file),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={
                    name: {axis: f"{name}_{axis}" for axis in axes} for name in (*inputs, *outputs)
                },
                opset_version=OPSET,
                dynamo=False,
            )
        self.files.append(file)
        for example in examples:
            self._check(file, part, dict(zip(inputs, example, strict=True)))

    def _check(self, file: str, part: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            made = part(*inputs.values())
        expected = [made] if isinstance(made, Tensor) else made
        found = self.sessions.run(file, {name: value.numpy() for name, value in inputs.items()})
        for (name, values), wanted in zip(found.items(), expected, strict=True):
            reference = wanted.numpy()
            same = values.shape == reference.shape
            allowed = TOLERANCE * max(1e-6, float(np.abs(reference).max()))
            if not same or float(np.abs(values - reference).max()) > allowed:
                sizes = ", ".join(str(tuple(value.shape)) for value in inputs.values())
                raise ValueError(
                    f"{file}: its output {name} is not torch's for inputs of {sizes}; the network "
                    "does something that depends on the size of its input and cannot be exported"
                )

    def _pooler(self, name: str, pooler: Any, levels: Sequence[str]) -> dict[str, Any]:
        """RoIAlign on each level, in a file; which RoI belongs to which level is not in it.

        Raises:
            ValueError: the stream has another pooler than the host's, or none.
        """
        from onnx import TensorProto, helper

        if not isinstance(pooler, ROIPooler):
            raise _unknown(f"the pooler of {name}", pooler)
        inputs, nodes = [], []
        for level, align in zip(levels, pooler.level_poolers, strict=True):
            inputs += [
                helper.make_tensor_value_info(level, TensorProto.FLOAT, ["n", "c", None, None]),
                helper.make_tensor_value_info(f"boxes_{level}", TensorProto.FLOAT, [None, 4]),
                helper.make_tensor_value_info(f"images_{level}", TensorProto.INT64, [None]),
            ]
            nodes.append(_roi_align(level, align))
        parts = [node.output[0] for node in nodes]
        nodes.append(helper.make_node("Concat", parts, ["features"], axis=0))
        output = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None] * 4)
        graph = helper.make_graph(nodes, f"pool_{name}", inputs, [output])
        self._save(f"pool_{name}.onnx", graph)
        return {
            "file": f"pool_{name}.onnx",
            "levels": list(levels),
            "lowest_level": int(pooler.min_level),
            "canonical_size": pooler.canonical_box_size,
            "canonical_level": pooler.canonical_level,
        }

    def _write_suppression(self) -> None:
        """``NonMaxSuppression``, thresholds as inputs."""
        from onnx import TensorProto, helper

        inputs = [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, None, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, None]),
            helper.make_tensor_value_info("most", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("threshold", TensorProto.FLOAT, [1]),
        ]
        output = helper.make_tensor_value_info("selected", TensorProto.INT64, [None, 3])
        node = helper.make_node("NonMaxSuppression", [i.name for i in inputs], ["selected"])
        self._save("nms.onnx", helper.make_graph([node], "nms", inputs, [output]))

    def _save(self, file: str, graph: Any) -> None:
        import onnx

        opset = onnx.helper.make_opsetid("", OPSET)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        onnx.save(model, str(self.folder / file))
        self.files.append(file)


def _roi_align(level: str, align: Any) -> Any:
    from onnx import helper

    mode = "half_pixel" if align.aligned else "output_half_pixel"
    return helper.make_node(
        "RoiAlign",
        [level, f"boxes_{level}", f"images_{level}"],
        [f"features_{level}"],
        output_height=align.output_size[0],
        output_width=align.output_size[1],
        sampling_ratio=align.sampling_ratio,
        spatial_scale=align.spatial_scale,
        coordinate_transformation_mode=mode,
    )


def _tail(head: Any, channels: slice) -> Callable[[Tensor], Tensor]:
    """From the tower's features to a category's heat maps."""
    deconv = head.score_lowres
    weight, bias = deconv.weight[:, channels].detach(), deconv.bias[channels].detach()

    def run(features: Tensor) -> Tensor:
        scores = F.conv_transpose2d(features, weight, bias, stride=2, padding=1)
        return F.interpolate(scores, scale_factor=UP_SCALE, mode="bilinear", align_corners=False)

    return run


def _unknown(what: str, found: Any) -> ValueError:
    return ValueError(
        f"{what}: {type(found).__name__} cannot be exported; docs/export.md lists what can be"
    )
