"""From a trained model to a file of its own, with scores calibrated on photos."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from tqdm import tqdm

from match_rcnn.d2 import CfgNode, DatasetCatalog
from match_rcnn.data.images import read_image
from match_rcnn.evaluation.coco.evaluator import DeepFashion2Evaluator
from match_rcnn.evaluation.coco.predictions import to_detections
from match_rcnn.evaluation.coco.scoring import TASKS
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
    """Hold what a predictor finds in the photos of a registered data set against its annotations.

    Raises:
        ValueError: it has none; or as :func:`fit_calibration`.
    """
    evaluator = DeepFashion2Evaluator(data_set, ["bbox"], distributed=False)
    truth = evaluator.ground_truth
    if truth is None:
        raise ValueError(f"{data_set} has no annotations to calibrate scores with")
    for item in tqdm(DatasetCatalog.get(data_set), desc="calibrating", unit="photo"):
        found = predictor.instances(read_image(item["file_name"], upright=False))
        evaluator.process([item], [{"instances": found}])
    detections = to_detections("bbox", evaluator.predictions, truth, TASKS["bbox"].limits[-1])
    judged = analysis.rightness(truth, detections)
    calibration = fit_calibration(detections.scores[judged.counts], judged.right[judged.counts])
    calibrated = calibration(torch.as_tensor(detections.scores)).numpy()
    return Reliability(
        calibration,
        float(calibration(torch.tensor([judged.best], dtype=torch.float64))),
        analysis.calibration(detections, judged),
        analysis.calibration(replace(detections, scores=calibrated), judged),
    )
