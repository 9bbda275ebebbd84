"""The seam: everything that the plugin asks of its host, and the only place that imports it.

The host is upstream detectron2 or ``match_rcnn.lite``, our embedded one. The environment variable
``MATCH_RCNN_HOST`` chooses: ``detectron2``, ``lite`` or ``auto`` (the default: upstream where it
imports, lite otherwise). One choice a process: the classes of two hosts must never meet, since
``Instances.cat`` and others test types.

Both lists below hold the same names (``tests/test_d2.py``); upstream's sub-package names are
lite's.
"""

import importlib.util
import logging
import os
from typing import TYPE_CHECKING

# Ours on either host: upstream's way to read a pickle runs what the file says.
from match_rcnn.lite.checkpoint.weight_files import PlainWeights, read_plain

HOSTS = ("auto", "detectron2", "lite")


def _choose() -> str:
    asked = os.environ.get("MATCH_RCNN_HOST", "auto")
    if asked not in HOSTS:
        raise ValueError(f"MATCH_RCNN_HOST must be one of {', '.join(HOSTS)}; got {asked!r}")
    installed = importlib.util.find_spec("detectron2") is not None
    if asked == "detectron2" and not installed:
        raise ImportError(
            "MATCH_RCNN_HOST=detectron2, but detectron2 is not installed here; "
            "install it or set MATCH_RCNN_HOST=lite"
        )
    if asked == "auto":
        return "detectron2" if installed else "lite"
    return asked


#: ``"detectron2"`` or ``"lite"``.
HOST: str = _choose()

if TYPE_CHECKING or HOST == "lite":
    from match_rcnn import __version__ as HOST_VERSION
    from match_rcnn.lite.checkpoint import DetectionCheckpointer
    from match_rcnn.lite.config import CfgNode, configurable, get_cfg
    from match_rcnn.lite.data import (
        DatasetCatalog,
        DatasetFromList,
        MetadataCatalog,
        build_detection_test_loader,
        get_detection_dataset_dicts,
    )
    from match_rcnn.lite.data import detection_utils
    from match_rcnn.lite.data import transforms as T
    from match_rcnn.lite.engine import (
        DefaultPredictor,
        DefaultTrainer,
        HookBase,
        default_argument_parser,
        default_setup,
        hooks,
        launch,
    )
    from match_rcnn.lite.evaluation import (
        DatasetEvaluator,
        DatasetEvaluators,
        inference_on_dataset,
        verify_results,
    )
    from match_rcnn.lite.layers import Conv2d, FrozenBatchNorm2d, Linear, ShapeSpec
    from match_rcnn.lite.modeling import (
        BACKBONE_REGISTRY,
        META_ARCH_REGISTRY,
        ROI_HEADS_REGISTRY,
        ROI_KEYPOINT_HEAD_REGISTRY,
        StandardROIHeads,
        build_model,
    )
    from match_rcnn.lite.modeling.backbone import FPN, Backbone, build_backbone
    from match_rcnn.lite.modeling.backbone.fpn import LastLevelMaxPool
    from match_rcnn.lite.modeling.poolers import ROIPooler
    from match_rcnn.lite.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
    from match_rcnn.lite.modeling.roi_heads import (
        BaseKeypointRCNNHead,
        CascadeROIHeads,
        FastRCNNConvFCHead,
        KRCNNConvDeconvUpsampleHead,
        build_keypoint_head,
    )
    from match_rcnn.lite.solver import get_default_optimizer_params
    from match_rcnn.lite.solver.build import maybe_add_gradient_clipping
    from match_rcnn.lite.structures import (
        Boxes,
        BoxMode,
        ImageList,
        Instances,
        Keypoints,
        PolygonMasks,
    )
    from match_rcnn.lite.structures.boxes import matched_pairwise_iou, pairwise_ioa, pairwise_iou
    from match_rcnn.lite.utils import comm
    from match_rcnn.lite.utils.events import EventStorage, EventWriter, get_event_storage
    from match_rcnn.lite.utils.file_io import PathManager
    from match_rcnn.lite.utils.logger import setup_logger
    from match_rcnn.lite.utils.registry import Registry
else:
    from detectron2 import __version__ as HOST_VERSION
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import CfgNode, configurable, get_cfg
    from detectron2.data import (
        DatasetCatalog,
        DatasetFromList,
        MetadataCatalog,
        build_detection_test_loader,
        get_detection_dataset_dicts,
    )
    from detectron2.data import detection_utils
    from detectron2.data import transforms as T
    from detectron2.engine import (
        DefaultPredictor,
        DefaultTrainer,
        HookBase,
        default_argument_parser,
        default_setup,
        hooks,
        launch,
    )
    from detectron2.evaluation import (
        DatasetEvaluator,
        DatasetEvaluators,
        inference_on_dataset,
        verify_results,
    )
    from detectron2.layers import Conv2d, FrozenBatchNorm2d, Linear, ShapeSpec
    from detectron2.modeling import (
        BACKBONE_REGISTRY,
        META_ARCH_REGISTRY,
        ROI_HEADS_REGISTRY,
        ROI_KEYPOINT_HEAD_REGISTRY,
        StandardROIHeads,
        build_model,
    )
    from detectron2.modeling.backbone import FPN, Backbone, build_backbone
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.modeling.poolers import ROIPooler
    from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
    from detectron2.modeling.roi_heads import (
        BaseKeypointRCNNHead,
        CascadeROIHeads,
        FastRCNNConvFCHead,
        KRCNNConvDeconvUpsampleHead,
        build_keypoint_head,
    )
    from detectron2.solver import get_default_optimizer_params
    from detectron2.solver.build import maybe_add_gradient_clipping
    from detectron2.structures import (
        Boxes,
        BoxMode,
        ImageList,
        Instances,
        Keypoints,
        PolygonMasks,
    )
    from detectron2.structures.boxes import matched_pairwise_iou, pairwise_ioa, pairwise_iou
    from detectron2.utils import comm
    from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
    from detectron2.utils.file_io import PathManager
    from detectron2.utils.logger import setup_logger
    from detectron2.utils.registry import Registry

if HOST == "detectron2":
    # A class of upstream's that reads weights as ours does.
    DetectionCheckpointer = type(  # type: ignore[misc, assignment]
        "DetectionCheckpointer", (PlainWeights, DetectionCheckpointer), {}
    )


def log_host() -> None:
    """Say in one line which host this process runs on."""
    logging.getLogger("match_rcnn").info("host: %s %s", HOST, HOST_VERSION)
