"""The default config: detectron2's keys with detectron2's values.

Every key of upstream is here, so that a config written by either host loads in the other. Keys
that lite has no code for (RetinaNet, semantic and panoptic segmentation, cascade, rotated boxes,
deformable convolution, proposals from files) do nothing; turning them on is an error where the
model is built.
"""

from typing import Any

from .config import VERSION, CfgNode

_INPUT: dict[str, Any] = {
    # Sizes are of the image's shorter and longer side, in pixels.
    "MIN_SIZE_TRAIN": (800,),
    "MIN_SIZE_TRAIN_SAMPLING": "choice",  # or "range": between two sizes
    "MAX_SIZE_TRAIN": 1333,
    "MIN_SIZE_TEST": 800,
    "MAX_SIZE_TEST": 1333,
    "RANDOM_FLIP": "horizontal",  # or "vertical", "none"
    "CROP": {"ENABLED": False, "TYPE": "relative_range", "SIZE": [0.9, 0.9]},
    "FORMAT": "BGR",
    "MASK_FORMAT": "polygon",  # or "bitmask"
}

_DATASETS: dict[str, Any] = {
    "TRAIN": (),
    "TEST": (),
    "PROPOSAL_FILES_TRAIN": (),
    "PROPOSAL_FILES_TEST": (),
    "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
    "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
}

_DATALOADER: dict[str, Any] = {
    "NUM_WORKERS": 4,
    "ASPECT_RATIO_GROUPING": True,
    "SAMPLER_TRAIN": "TrainingSampler",
    "REPEAT_THRESHOLD": 0.0,
    "REPEAT_SQRT": True,
    "FILTER_EMPTY_ANNOTATIONS": True,
}

_BACKBONE: dict[str, Any] = {
    # Stages from the stem (1) up to this one do not learn.
    "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
    "FPN": {"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum"},
    "RESNETS": {
        "DEPTH": 50,
        "OUT_FEATURES": ["res4"],
        "NUM_GROUPS": 1,
        "NORM": "FrozenBN",
        "WIDTH_PER_GROUP": 64,
        # True for weights from MSRA's release, False for those from torchvision.
        "STRIDE_IN_1X1": True,
        "RES5_DILATION": 1,
        "RES2_OUT_CHANNELS": 256,
        "STEM_OUT_CHANNELS": 64,
        "DEFORM_ON_PER_STAGE": [False] * 4,
        "DEFORM_MODULATED": False,
        "DEFORM_NUM_GROUPS": 1,
    },
}

_PROPOSALS: dict[str, Any] = {
    "LOAD_PROPOSALS": False,
    "PROPOSAL_GENERATOR": {"NAME": "RPN", "MIN_SIZE": 0},
    "ANCHOR_GENERATOR": {
        "NAME": "DefaultAnchorGenerator",
        # A list per feature map, or one list for all.
        "SIZES": [[32, 64, 128, 256, 512]],
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
        "ANGLES": [[-90, 0, 90]],
        "OFFSET": 0.0,
    },
    "RPN": {
        "HEAD_NAME": "StandardRPNHead",
        "IN_FEATURES": ["res4"],
        "CONV_DIMS": [-1],
        "BOUNDARY_THRESH": -1,
        "IOU_THRESHOLDS": [0.3, 0.7],
        "IOU_LABELS": [0, -1, 1],
        "BATCH_SIZE_PER_IMAGE": 256,
        "POSITIVE_FRACTION": 0.5,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (1.0,) * 4,
        "SMOOTH_L1_BETA": 0.0,
        "LOSS_WEIGHT": 1.0,
        # Per feature map; after NMS, per image.
        "PRE_NMS_TOPK_TRAIN": 12000,
        "PRE_NMS_TOPK_TEST": 6000,
        "POST_NMS_TOPK_TRAIN": 2000,
        "POST_NMS_TOPK_TEST": 1000,
        "NMS_THRESH": 0.7,
    },
}

_POOLER: dict[str, Any] = {
    "POOLER_RESOLUTION": 14,
    "POOLER_SAMPLING_RATIO": 0,
    "POOLER_TYPE": "ROIAlignV2",
}

_ROI_HEADS: dict[str, Any] = {
    "ROI_HEADS": {
        "NAME": "Res5ROIHeads",
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["res4"],
        "IOU_THRESHOLDS": [0.5],
        "IOU_LABELS": [0, 1],
        "BATCH_SIZE_PER_IMAGE": 512,
        "POSITIVE_FRACTION": 0.25,
        "PROPOSAL_APPEND_GT": True,
        "SCORE_THRESH_TEST": 0.05,
        "NMS_THRESH_TEST": 0.5,
    },
    "ROI_BOX_HEAD": {
        **_POOLER,
        "NAME": "",
        "NUM_FC": 0,
        "FC_DIM": 1024,
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
        "SMOOTH_L1_BETA": 0.0,
        "CLS_AGNOSTIC_BBOX_REG": False,
        "TRAIN_ON_PRED_BOXES": False,
        "USE_SIGMOID_CE": False,
        "USE_FED_LOSS": False,
        "FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
        "FED_LOSS_NUM_CLASSES": 50,
    },
    "ROI_MASK_HEAD": {
        **_POOLER,
        "NAME": "MaskRCNNConvUpsampleHead",
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "CLS_AGNOSTIC_MASK": False,
    },
    "ROI_KEYPOINT_HEAD": {
        **_POOLER,
        "NAME": "KRCNNConvDeconvUpsampleHead",
        "CONV_DIMS": (512,) * 8,
        "NUM_KEYPOINTS": 17,
        "MIN_KEYPOINTS_PER_IMAGE": 1,
        # False divides by the number of sampled RoIs times keypoints in place of the visible ones.
        "NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": True,
        "LOSS_WEIGHT": 1.0,
    },
}

_MODELS_OF_UPSTREAM_ALONE: dict[str, Any] = {
    "ROI_BOX_CASCADE_HEAD": {
        "BBOX_REG_WEIGHTS": tuple((10.0 * i, 10.0 * i, 5.0 * i, 5.0 * i) for i in (1, 2, 3)),
        "IOUS": (0.5, 0.6, 0.7),
    },
    "SEM_SEG_HEAD": {
        "NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "IGNORE_VALUE": 255,
        "NUM_CLASSES": 54,
        "CONVS_DIM": 128,
        "COMMON_STRIDE": 4,
        "NORM": "GN",
        "LOSS_WEIGHT": 1.0,
    },
    "PANOPTIC_FPN": {
        "INSTANCE_LOSS_WEIGHT": 1.0,
        "COMBINE": {
            "ENABLED": True,
            "OVERLAP_THRESH": 0.5,
            "STUFF_AREA_LIMIT": 4096,
            "INSTANCES_CONFIDENCE_THRESH": 0.5,
        },
    },
    "RETINANET": {
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
        "NUM_CONVS": 4,
        "IOU_THRESHOLDS": [0.4, 0.5],
        "IOU_LABELS": [0, -1, 1],
        "PRIOR_PROB": 0.01,
        "SCORE_THRESH_TEST": 0.05,
        "TOPK_CANDIDATES_TEST": 1000,
        "NMS_THRESH_TEST": 0.5,
        "BBOX_REG_WEIGHTS": (1.0,) * 4,
        "FOCAL_LOSS_GAMMA": 2.0,
        "FOCAL_LOSS_ALPHA": 0.25,
        "SMOOTH_L1_LOSS_BETA": 0.1,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "NORM": "",
    },
}

_MODEL: dict[str, Any] = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "DEVICE": "cuda",
    "WEIGHTS": "",
    "MASK_ON": False,
    "KEYPOINT_ON": False,
    # In the order of INPUT.FORMAT; the deviation of 1 is that of weights in Caffe2's scale.
    "PIXEL_MEAN": [103.530, 116.280, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    **_BACKBONE,
    **_PROPOSALS,
    **_ROI_HEADS,
    **_MODELS_OF_UPSTREAM_ALONE,
}

_SOLVER: dict[str, Any] = {
    "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "MAX_ITER": 40000,
    "BASE_LR": 0.001,
    "BASE_LR_END": 0.0,
    "MOMENTUM": 0.9,
    "NESTEROV": False,
    "WEIGHT_DECAY": 0.0001,
    "WEIGHT_DECAY_NORM": 0.0,
    "WEIGHT_DECAY_BIAS": None,  # as WEIGHT_DECAY
    "BIAS_LR_FACTOR": 1.0,
    "GAMMA": 0.1,
    "STEPS": (30000,),
    "NUM_DECAYS": 3,
    "RESCALE_INTERVAL": False,
    "WARMUP_METHOD": "linear",
    "WARMUP_ITERS": 1000,
    "WARMUP_FACTOR": 0.001,
    "CHECKPOINT_PERIOD": 5000,
    "IMS_PER_BATCH": 16,  # over all processes
    "REFERENCE_WORLD_SIZE": 0,
    "CLIP_GRADIENTS": {
        "ENABLED": False,
        "CLIP_TYPE": "value",  # or "norm"
        "CLIP_VALUE": 1.0,
        "NORM_TYPE": 2.0,
    },
    "AMP": {"ENABLED": False},
}

_TEST: dict[str, Any] = {
    "EXPECTED_RESULTS": [],
    "EVAL_PERIOD": 0,
    "KEYPOINT_OKS_SIGMAS": [],
    "DETECTIONS_PER_IMAGE": 100,
    "AUG": {
        "ENABLED": False,
        "MIN_SIZES": tuple(range(400, 1201, 100)),
        "MAX_SIZE": 4000,
        "FLIP": True,
    },
    "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
}

_DEFAULTS = CfgNode(
    {
        "VERSION": VERSION,
        "MODEL": _MODEL,
        "INPUT": _INPUT,
        "DATASETS": _DATASETS,
        "DATALOADER": _DATALOADER,
        "SOLVER": _SOLVER,
        "TEST": _TEST,
        "OUTPUT_DIR": "./output",
        "SEED": -1,  # below 0: not fixed
        "CUDNN_BENCHMARK": False,
        "FLOAT32_PRECISION": "",
        "VIS_PERIOD": 0,
        "GLOBAL": {"HACK": 1.0},
    }
)


def get_cfg() -> CfgNode:
    """A fresh copy of the default config."""
    return _DEFAULTS.clone()
