"""The evaluators that a config and its model ask for."""

from pathlib import Path
from typing import Any

import torch

from match_rcnn.d2 import CfgNode, DatasetEvaluator, DatasetEvaluators, Instances
from match_rcnn.evaluation.coco.evaluator import DeepFashion2Evaluator
from match_rcnn.evaluation.pictures import PredictionPictures
from match_rcnn.evaluation.retrieval.evaluator import RetrievalEvaluator
from match_rcnn.retrieval.scoring import MatchScorer


def build_evaluator(
    cfg: CfgNode, dataset_name: str, model: torch.nn.Module | None = None
) -> DatasetEvaluator:
    """Box AP, mask and landmark AP where the config has the streams, and retrieval where it has the
    match network; pictures if it asks for them. Files go to
    ``OUTPUT_DIR/inference/<dataset_name>``.

    Args:
        model: whose match network scores pairs; None: no retrieval.
    """
    folder = Path(cfg.OUTPUT_DIR) / "inference" / dataset_name
    parts: list[DatasetEvaluator] = [DeepFashion2Evaluator.from_cfg(cfg, dataset_name)]
    if model is not None and cfg.MODEL.MATCH_ON:
        embedder = BoxEmbedder(model)
        retrieval = RetrievalEvaluator(
            dataset_name,
            embedder.scorer,
            output_dir=folder,
            max_detections=cfg.TEST.LANDMARK_DETECTIONS_PER_IMAGE,
            min_score=cfg.TEST.RETRIEVAL_MIN_SCORE,
            embed_boxes=embedder,
        )
        parts.append(retrieval)
    if cfg.TEST.VISUALIZE_IMAGES:
        parts.append(PredictionPictures(cfg.TEST.VISUALIZE_IMAGES, folder / "pictures"))
    return DatasetEvaluators(parts) if len(parts) > 1 else parts[0]


class BoxEmbedder:
    """A model's match network on given boxes, as :class:`RetrievalEvaluator` asks for it.

    Args:
        model: the host's ``GeneralizedRCNN`` with ``MatchRCNNROIHeads``, or that in a
            ``DistributedDataParallel``.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model: Any = getattr(model, "module", model)

    def scorer(self) -> MatchScorer:
        """The pair score with the present weights."""
        weight, bias = self.model.roi_heads.match_head.score_weights()
        return MatchScorer(weight.detach().float().cpu(), float(bias))

    @torch.no_grad()
    def __call__(self, batch: list[dict[str, Any]], boxes: list[Instances]) -> list[Instances]:
        """
        Args:
            batch: inputs as the model takes them.
            boxes: for each, ``Instances`` of the network's image size with ``pred_boxes`` and
                ``pred_classes``.

        Returns:
            The instances with ``embedding``, on the model's device.
        """
        given = [image.to(self.model.device) for image in boxes]
        found: list[Instances] = self.model.inference(
            batch, detected_instances=given, do_postprocess=False
        )
        return found
