"""From a trained model to a file of its own, with scores calibrated on photos."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from match_rcnn.d2 import CfgNode, DatasetCatalog, MetadataCatalog
from match_rcnn.data.images import read_image
from match_rcnn.data.taxonomy import taxonomy_of
from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth, ranked
from match_rcnn.evaluation.coco.files import read_ground_truth
from match_rcnn.inference.calibration import Calibration, fit_calibration
from match_rcnn.inference.model_file import write_model
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.reporting.numbers import analysis


@dataclass(frozen=True)
class Reliability:
    """How far scores say how often detections are right.

    Attributes:
        shown_from: the calibrated score above which F1 is highest.
        before, after: the scores held against what is right, as the network gives them and
            calibrated; on the photos that the calibration was fitted to.
    """

    calibration: Calibration
    shown_from: float
    before: analysis.Calibration
    after: analysis.Calibration


@dataclass(frozen=True)
class Packed:
    """A model file. ``checksum``: its SHA-256; ``size``: in bytes."""

    file: Path
    size: int
    checksum: str
    reliability: Reliability | None


def pack(cfg: CfgNode, output: Path, data_set: str | None = None) -> Packed:
    """Write ``cfg.MODEL.WEIGHTS`` as a model file.

    Args:
        data_set: photos on which scores are calibrated, and the least score that is shown is
            chosen.

    Raises:
        ValueError: as :func:`write_model` and :func:`fit_calibration`.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.SCORE_CALIBRATION, cfg.TEST.SHOWN_FROM = (), 0.0
    predictor = MatchRCNNPredictor(cfg)
    found = None if data_set is None else reliability(predictor, data_set)
    if found is not None:
        cfg.TEST.SCORE_CALIBRATION = (found.calibration.slope, found.calibration.offset)
        cfg.TEST.SHOWN_FROM = found.shown_from
    write_model(output, cfg, predictor.model.state_dict(), predictor.taxonomy)
    content = output.read_bytes()
    return Packed(output, len(content), sha256(content).hexdigest(), found)


def reliability(predictor: MatchRCNNPredictor, data_set: str) -> Reliability:
    metadata = MetadataCatalog.get(data_set)
    truth = read_ground_truth(metadata.json_file, ["bbox"], taxonomy_of(metadata))
    if truth is None:
        raise ValueError(f"{data_set} has no annotations to calibrate scores with")
    detections = _detect(predictor, data_set, truth)
    judged = analysis.rightness(truth, detections)
    scores, right = detections.scores[judged.counts], judged.right[judged.counts]
    calibration = fit_calibration(scores, right)
    calibrated = replace(detections, scores=calibration(torch.as_tensor(detections.scores)).numpy())
    return Reliability(
        calibration,
        float(calibration(torch.tensor([judged.best], dtype=torch.float64))),
        analysis.calibration(detections, judged),
        analysis.calibration(calibrated, judged),
    )


def _detect(predictor: MatchRCNNPredictor, data_set: str, truth: GroundTruth) -> Detections:
    """What the predictor finds in the photos of a data set, as the ground truth has them."""
    images, classes, scores, boxes = [], [], [], []
    for item in tqdm(DatasetCatalog.get(data_set), desc="calibrating", unit="photo"):
        found = predictor.instances(read_image(item["file_name"], upright=False))
        images.append(np.full(len(found), item["image_id"]))
        classes.append(found.pred_classes.numpy())
        scores.append(found.scores.numpy())
        boxes.append(found.pred_boxes.tensor.numpy())
    corners = np.concatenate(boxes).astype(np.float64)
    sizes = corners[:, 2:] - corners[:, :2]
    ids = np.array([category.id for category in predictor.taxonomy.categories])
    return ranked(
        truth.image_index(np.concatenate(images)),
        truth.category_index(ids[np.concatenate(classes)]),
        np.concatenate(scores).astype(np.float64),
        sizes.prod(1),
        limit=100,
        boxes=np.concatenate([corners[:, :2], sizes], axis=1),
    )
