"""What the host tests feed to either host: made from numpy seeds alone, nothing drawn by torch.

The model's settings stand here in full, rather than in a file of ``configs/``, so that the
expected numbers do not change when a shipped configuration does.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, DatasetCatalog, Instances, Keypoints, MetadataCatalog, PolygonMasks
from match_rcnn.data.datasets import register_deepfashion2_instances
from match_rcnn.data.taxonomy import DEEPFASHION2

DATASET = "host_tests"
HEIGHT, WIDTH = 96, 128

#: All streams on a ResNet-50 of few channels; every loss of the model is there.
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.MASK_ON": True,
    "MODEL.KEYPOINT_ON": True,
    "MODEL.MATCH_ON": True,
    "MODEL.PIXEL_STD": [57.375, 57.12, 58.395],
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[12], [24], [48], [80], [128]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 200,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
    "MODEL.ROI_HEADS.NAME": "MatchRCNNROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_HEADS.NUM_CLASSES": 13,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": "CategoryAwareLandmarkHead",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 294,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [16, 16],
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MATCH_HEAD.CONV_DIMS": [16, 16],
    "MODEL.ROI_MATCH_HEAD.EMBEDDING_DIM": 8,
    "INPUT.MIN_SIZE_TRAIN": [80, 96],
    "INPUT.MAX_SIZE_TRAIN": 112,
    "INPUT.MIN_SIZE_TEST": 90,
    "INPUT.MAX_SIZE_TEST": 112,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.SAMPLER_TRAIN": "PairSampler",
    "DATASETS.TRAIN": (DATASET,),
    "DATASETS.TEST": (DATASET,),
    "SOLVER.IMS_PER_BATCH": 4,
    "SEED": 5,
    # Weights from a seed find many boxes of nearly one score: keep a few of them.
    "TEST.DETECTIONS_PER_IMAGE": 10,
}

#: The paper's model: ResNet-50-FPN, 294 landmarks, matching on pose and class.
FULL = {
    **{k: v for k, v in TINY.items() if k.startswith(("MODEL.DEVICE", "MODEL.WEIGHTS"))},
    **{k: v for k, v in TINY.items() if k.endswith((".NAME", "_ON", "_FEATURES", "NUM_KEYPOINTS"))},
    "MODEL.ROI_HEADS.NUM_CLASSES": 13,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
}


#: Cascade box heads and masks, all of the host's own.
CASCADE = {
    **TINY,
    "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.MATCH_ON": False,
}

#: What a config names that says nothing about the model, on fewer channels.
C4 = {
    **{k: v for k, v in TINY.items() if k.startswith(("MODEL.RESNETS", "MODEL.DEVICE", "TEST"))},
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.ROI_HEADS.NUM_CLASSES": 13,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
}


#: Where the variance that keeps a signal alive would give scores of 0 and 1 and boxes of no size.
SCALES = {
    "objectness_logits.weight": 0.1,
    "anchor_deltas.weight": 0.02,
    "cls_score.weight": 0.5,
    "bbox_pred.weight": 0.3,
    "predictor.weight": 2.0,
}


def config(settings, base=get_match_rcnn_cfg):
    cfg = base()
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    return cfg


def fill(model, dtype=torch.float64):
    """Give every parameter and buffer values that depend on its name and shape only."""
    model.to(dtype)
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_floating_point():
            values = _values(name, tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(values))
    predictors = model.roi_heads.box_predictor
    stages = list(predictors) if isinstance(predictors, torch.nn.ModuleList) else [predictors]
    for head in (model.proposal_generator.rpn_head, *stages):
        head.register_forward_hook(_single_precision)
    if hasattr(model.roi_heads, "match_head"):
        model.roi_heads.match_head.classifier.float()  # as the embeddings it takes
    return model


def _single_precision(module, arguments, outputs):
    """Scores and deltas as hosts take them, also from a model in double precision."""
    del module, arguments
    return tuple(
        [t.float() for t in part] if isinstance(part, list) else part.float() for part in outputs
    )


def _values(name, shape):
    # The generator's raw integers are the same with every version of numpy.
    generator = np.random.PCG64(zlib.crc32(name.encode()))
    raw = generator.random_raw(int(np.prod(shape))).reshape(shape)
    uniform = (raw >> np.uint64(11)) * 2.0**-52 - 1  # in -1 to 1
    uniform = uniform * next((scale for end, scale in SCALES.items() if name.endswith(end)), 1)
    if len(shape) > 1:
        return uniform * np.sqrt(6 / np.prod(shape[1:]))  # keeps the variance through a ReLU
    if name.endswith("conv3.norm.weight"):
        return 0.25 + 0.1 * uniform  # sixteen blocks add up
    if name.endswith(("norm.weight", "running_var")):
        return 1 + 0.25 * uniform
    return 0.1 * uniform


#: category id, box x y w h, style, of the items of each image; images alternate user and shop.
ITEMS = (
    ((1, (20, 10, 60, 40), 1), (8, (30, 45, 40, 48), 2)),
    ((1, (10, 16, 70, 44), 1), (8, (28, 50, 44, 40), 2), (7, (90, 20, 30, 50), 0)),
    ((13, (40, 4, 50, 88), 1),),
    ((13, (24, 6, 60, 84), 1), (11, (88, 8, 36, 80), 3)),
    ((3, (8, 8, 110, 70), 0),),
    (),
)


def write_dataset(folder):
    """Register :data:`DATASET`: PNG images of noise in patches, and a compact COCO file."""
    folder = Path(folder)
    rng = np.random.Generator(np.random.PCG64(7))
    images, annotations = [], []
    for number, items in enumerate(ITEMS, 1):
        patches = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        Image.fromarray(patches.repeat(8, 0).repeat(8, 1)).save(folder / f"{number:06d}.png")
        images.append(
            {
                "id": number,
                "file_name": f"{number:06d}.png",
                "width": WIDTH,
                "height": HEIGHT,
                "source": ("user", "shop")[(number - 1) % 2],
                "pair_id": (number + 1) // 2,
            }
        )
        annotations += [
            _annotation(number, item, len(annotations) + k) for k, item in enumerate(items, 1)
        ]
    names = [{"id": c.id, "name": c.coco_name} for c in DEEPFASHION2.categories]
    file = folder / "annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    if DATASET in DatasetCatalog.list():
        DatasetCatalog.remove(DATASET)
        MetadataCatalog.remove(DATASET)
    register_deepfashion2_instances(DATASET, file, folder)
    return file


def _annotation(image_id, item, number):
    category_id, (x, y, w, h), style = item
    count = DEEPFASHION2.categories[category_id - 1].num_landmarks
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "style": style,
        "pair_id": (image_id + 1) // 2,
        "segmentation": [polygon(x, y, w, h)],
        "keypoints": landmarks(x, y, w, h, count).flatten().tolist(),
        "num_keypoints": count - count // 3,
        "scale": 1 + number % 3,
        "occlusion": 1,
        "zoom_in": 2,
        "viewpoint": 2,
    }


def polygon(x, y, w, h):
    """A hexagon in the box."""
    return [
        *(x + w / 4, y, x + 3 * w / 4, y, x + w, y + h / 2),
        *(x + 3 * w / 4, y + h, x + w / 4, y + h, x, y + h / 2),
    ]


def landmarks(x, y, w, h, count):
    """(count, 3) whole pixels spread over the box; v is 2, 1, 0, 2, ..."""
    steps = np.arange(count)
    points = np.stack([x + (steps * 7) % w, y + (steps * 5) % h, 2 - steps % 3], axis=1)
    points[points[:, 2] == 0] = 0
    return points


def model_inputs(with_targets):
    """Four images as the mapper would give them, of two sizes."""
    rng = np.random.Generator(np.random.PCG64(11))
    batch = []
    for number, items in enumerate(ITEMS[:4], 1):
        height, width = (HEIGHT, WIDTH) if number < 3 else (HEIGHT - 5, WIDTH - 16)
        pixels = rng.integers(0, 256, (3, HEIGHT // 8, WIDTH // 8), dtype=np.uint8)
        image = torch.from_numpy(pixels.repeat(8, 1).repeat(8, 2)[:, :height, :width].copy())
        sample = {"image": image, "height": 2 * height, "width": 2 * width, "image_id": number}
        if with_targets:
            sample["instances"] = _targets(items, (height, width), number)
        batch.append(sample)
    return batch


def _targets(items, size, number):
    boxes = torch.tensor([(x, y, x + w, y + h) for _, (x, y, w, h), _ in items]).float()
    points = torch.zeros(len(items), max(c.num_landmarks for c in DEEPFASHION2.categories), 3)
    for row, (category_id, box, _) in zip(points, items, strict=True):
        count = DEEPFASHION2.categories[category_id - 1].num_landmarks
        row[:count] = torch.from_numpy(landmarks(*box, count)).float()
        row[:count, :2] += 0.5 * (row[:count, 2:] > 0)
    styles = torch.tensor([style for _, _, style in items])
    targets = Instances(size)
    targets.gt_boxes = Boxes(boxes)
    targets.gt_boxes.clip(size)
    targets.gt_classes = torch.tensor([category_id - 1 for category_id, _, _ in items])
    targets.gt_masks = PolygonMasks(
        [[np.array(polygon(*box), dtype=np.float64)] for _, box, _ in items]
    )
    targets.gt_keypoints = Keypoints(points)
    targets.gt_pair_ids = torch.full((len(items),), (number + 1) // 2)
    targets.gt_sources = torch.full((len(items),), (number - 1) % 2)
    targets.gt_styles = styles
    targets.gt_has_partner = (styles == 1) | (styles == 2)
    return targets
