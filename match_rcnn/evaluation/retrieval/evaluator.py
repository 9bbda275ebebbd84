"""The host's evaluator for consumer-to-shop retrieval: both domains in one pass.

Shapes: ``R`` detections of an image, ``N`` of a data set, ``d`` the embedding's length.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from match_rcnn.d2 import Boxes, CfgNode, DatasetEvaluator, Instances, MetadataCatalog, comm
from match_rcnn.data.given_boxes import is_given
from match_rcnn.data.sources.deepfashion2 import SOURCES
from match_rcnn.evaluation.coco.evaluator import category_ids
from match_rcnn.evaluation.coco.predictions import BOX_DIGITS, rounded
from match_rcnn.evaluation.evaluators import EVALUATOR_REGISTRY, inference_folder
from match_rcnn.evaluation.retrieval.files import (
    FILE_NAMES,
    RetrievalTruth,
    query_subsets,
    read_retrieval_truth,
    write_retrieved,
)
from match_rcnn.evaluation.retrieval.protocol import (
    SUBSET_TOPS,
    QueryTruth,
    RetrievalScores,
    Retrieved,
    decisive,
    score_retrieval,
)
from match_rcnn.evaluation.retrieval.search import Embedded, search, search_in_two_stages
from match_rcnn.evaluation.tables import flatten, retrieval_subset_table, retrieval_table
from match_rcnn.modeling.similarity import Similarity
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import IntArray

logger = logging.getLogger(__name__)

#: Runs the model on given boxes: a batch of dataset dicts, and for each of them ``Instances`` of
#: the *network's* image size with ``pred_boxes``, ``pred_classes``, ``scores`` and ``item``. It
#: returns as many, with ``embedding`` and the ``item`` of each row that is left.
EmbedBoxes = Callable[[list[dict[str, Any]], list[Instances]], list[Instances]]


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

    def similarity(self) -> Similarity | None:
        """What orders the candidates; None: the pair score itself."""
        found: Similarity | None = getattr(self.model.roi_heads.match_head, "similarity", None)
        return found

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


@EVALUATOR_REGISTRY.register()
class RetrievalEvaluator(DatasetEvaluator):
    """Scores a model's embeddings by the official protocol.

    Detections on images whose ``source`` (in the annotation file, or else in the dataset dict) is
    ``user`` are queries, those on ``shop`` images are the gallery. Without annotations all of them
    are searched for and written, and nothing is scored; with annotations, only those that can
    change a score (see ``retrieval.decisive``).

    Metrics, under ``"retrieval"`` and in percent: ``top1``, ``top5``, ``top10``,
    ``top15``, ``top20``, and ``top{1,20}-<subset>`` for the levels of the query items (see
    ``subsets.LEVELS``) and for those with more than five matching gallery items
    (``more_than_five``); counts: ``queries``, ``missed``, ``missed_official``,
    ``without_partner``. With ``embed_boxes`` the same under ``"retrieval_gt_boxes"``, with the
    ground truth's boxes and classes in place of detections.

    Where the model has a similarity, it orders the first ``shortlist`` candidates of each query
    anew, and all of this is of that order; beside it stand the same metrics without it, under
    ``"retrieval_product"`` and ``"retrieval_gt_boxes_product"``, with ``shortlist_recall``: the
    share of query items that have a right item among these candidates, the most that the similarity
    can reach.

    Memory: 4 d + 44 bytes a detection, and what a similarity compares beside the embedding.
    """

    def __init__(
        self,
        dataset_name: str,
        scorer: MatchScorer | Callable[[], MatchScorer],
        distributed: bool = True,
        output_dir: str | Path | None = None,
        *,
        max_detections: int = 20,
        min_score: float = 0.0,
        embed_boxes: EmbedBoxes | None = None,
        by_subset: bool = True,
        device: torch.device | str | None = None,
        similarity: Similarity | None = None,
        shortlist: int = 100,
    ) -> None:
        """
        Args:
            dataset_name: its metadata may name the annotations as ``json_file`` (COCO form with
                the ``source`` of each image, as ``tools/convert_df2.py`` writes it).
            scorer: of the model's match network; a function is asked at each evaluation, when the
                weights of a model in training are known.
            distributed: gather the detections of all processes; else each scores its own.
            output_dir: where ``retrieval_results.json``, and with ``embed_boxes``
                ``retrieval_gt_boxes_results.json``, are written; None: nowhere.
            max_detections: of an image that take part, the best ones.
            min_score: of a detection to take part.
            embed_boxes: runs the model on given boxes, for the ground truth's.
            by_subset: score the levels of the query items too.
            device: where to search; None: a GPU if there is one.
            similarity: what orders the candidates of the model; None: the pair score itself.
            shortlist: so many of them.
        """
        self._metadata = MetadataCatalog.get(dataset_name)
        self._scorer = scorer
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._max_detections = max_detections
        self._min_score = min_score
        self._embed_boxes = embed_boxes
        self._by_subset = by_subset
        self._device = device
        self._similarity, self._shortlist = similarity, shortlist
        self._category_ids = category_ids(self._metadata)
        self._truth: RetrievalTruth | None = None
        self._truth_is_read = False
        self.reset()

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dataset_name: str, model: torch.nn.Module | None
    ) -> "RetrievalEvaluator | None":
        """Where there is a model with the match network, which scores pairs, and there may be
        pairs."""
        if model is None or not cfg.MODEL.MATCH_ON or is_given(dataset_name):
            return None
        embedder = BoxEmbedder(model)
        return cls(
            dataset_name,
            embedder.scorer,
            output_dir=inference_folder(cfg, dataset_name),
            max_detections=cfg.TEST.RETRIEVAL_DETECTIONS_PER_IMAGE,
            min_score=cfg.TEST.RETRIEVAL_MIN_SCORE,
            embed_boxes=embedder,
            similarity=embedder.similarity(),
            shortlist=cfg.TEST.SHORTLIST,
        )

    @classmethod
    def tables(cls, cfg: CfgNode, labels: Collection[str]) -> list[str]:
        return list(FILE_NAMES) if cfg.MODEL.MATCH_ON and "pairs" in labels else []

    def reset(self) -> None:
        self._detected: list[Embedded] = []
        self._given: list[Embedded] = []
        self._sources: dict[int, str] = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take a batch. Args: inputs: dataset dicts, with ``image`` if boxes are to be embedded;
        outputs: ``{"instances": Instances}`` each, in the original image's pixels, with
        ``embedding`` (R, d)."""
        for image, output in zip(inputs, outputs, strict=True):
            if image.get("source") in SOURCES:
                self._sources[image["image_id"]] = image["source"]
            instances = output["instances"]
            instances = instances[instances.scores >= self._min_score]
            best = (-instances.scores).argsort(stable=True)[: self._max_detections]
            if len(best):
                self._detected.append(self._compact(image["image_id"], instances[best]))
        truth = None if self._embed_boxes is None else self._read_truth()
        if truth is not None:
            self._process_given(inputs, truth)

    def _compact(self, image_id: int, instances: Instances) -> Embedded:
        instances = instances.to("cpu")
        boxes = instances.pred_boxes.tensor.numpy()
        return Embedded(
            np.full(len(instances), image_id, dtype=np.int64),
            rounded(boxes, BOX_DIGITS),
            self._category_ids[instances.pred_classes.numpy()],
            instances.scores.numpy().astype(np.float32),
            *self._numbers(instances),
        )

    def _numbers(self, instances: Instances) -> tuple[Any, dict[str, Any]]:
        """Embeddings, and what the similarity compares beside them."""
        wanted = {} if self._similarity is None else self._similarity.features()
        names = ["embedding", *(name for name in wanted if name != "vector")]
        for name in names:
            if not instances.has(name):
                raise ValueError(
                    f"retrieval needs the field {name!r}, which the model's output lacks; "
                    "turn the match network on (MODEL.MATCH_ON) or leave the evaluator out"
                )
        embeddings, *features = (instances.get(name).cpu() for name in names)
        named = zip(names[1:], features, strict=True)
        return embeddings.float().numpy(), {name: values.numpy() for name, values in named}

    def _process_given(self, inputs: list[dict[str, Any]], truth: RetrievalTruth) -> None:
        """Embed the ground truth's boxes of a batch."""
        assert self._embed_boxes is not None
        items = [np.flatnonzero(truth.image_ids == image["image_id"]) for image in inputs]
        filled = [i for i, own in enumerate(items) if len(own)]
        if not filled:
            return
        asked = [self._given_boxes(inputs[i], truth, items[i]) for i in filled]
        answers = self._embed_boxes([inputs[i] for i in filled], asked)
        for i, answer in zip(filled, answers, strict=True):
            rows = items[i][answer.item.cpu().numpy()]
            scores = np.ones(len(rows), dtype=np.float32)
            columns = truth.image_ids[rows], truth.boxes[rows], truth.classes[rows]
            self._given.append(Embedded(*columns, scores, *self._numbers(answer)))

    def _given_boxes(
        self, image: dict[str, Any], truth: RetrievalTruth, rows: IntArray
    ) -> Instances:
        """Some of the ground truth's items as detections in the network's image."""
        height, width = image["image"].shape[-2:]
        scale = np.array([width / image["width"], height / image["height"]] * 2)
        instances = Instances((height, width))
        instances.pred_boxes = Boxes(torch.from_numpy(truth.boxes[rows] * scale).float())
        places = {category_id: i for i, category_id in enumerate(self._category_ids.tolist())}
        classes = [places[category_id] for category_id in truth.classes[rows].tolist()]
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        instances.scores = torch.ones(len(rows))
        instances.item = torch.arange(len(rows))
        return instances

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """Search, write the result files and score them, on the main process; ``{}`` elsewhere,
        for a data set that does not tell consumers' from shops' photos, and for a test set."""
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        found, sources = self._gather()
        if not comm.is_main_process():
            return results
        truth = self._read_truth()
        sources |= {} if truth is None else truth.sources
        if not sources:
            logger.warning(
                "neither the annotations nor the dataset dicts say which images are a user's and "
                "which a shop's: retrieval is not scored, and there is no result file"
            )
            return results
        scorer = self._scorer if isinstance(self._scorer, MatchScorer) else self._scorer()
        if truth is None or not len(truth.image_ids):
            self._search("retrieval", found["retrieval"], sources, None, scorer)
            logger.info("no annotations: retrieval is not scored")
            return results
        scores = {}
        for name, own in found.items():
            retrieved, candidates = self._search(name, own, sources, truth.queries, scorer)
            scores[name] = score_retrieval(truth.queries, truth.gallery, retrieved)
            results[name] = self._metrics(scores[name], truth)
            if candidates is None:
                continue
            product = score_retrieval(truth.queries, truth.gallery, candidates)
            scores[f"{name}_product"] = product
            recall = 100 * product.found_among(self._shortlist)
            metrics = self._metrics(product, truth)
            results[f"{name}_product"] = {**metrics, "shortlist_recall": recall}
            logger.info(
                "%s: %.1f %% of the queries have a right item among the first %d by the product, "
                "which the similarity orders",
                *(name, recall, self._shortlist),
            )
        shown = [retrieval_table(scores)]
        shown += [retrieval_subset_table(flatten(results))] * self._by_subset
        logger.info("retrieval, accuracy\n%s", "\n\n".join(shown))
        return results

    def _gather(self) -> tuple[dict[str, Embedded], dict[int, str]]:
        """Detections by the boxes used, in one order however many processes there were, and the
        sources of images; everything on the main process, nothing elsewhere."""
        parts = {"retrieval": Embedded.joined(self._detected)}
        if self._embed_boxes is not None:
            parts["retrieval_gt_boxes"] = Embedded.joined(self._given)
        gathered = [(parts, self._sources)]
        if self._distributed:
            comm.synchronize()
            gathered = comm.gather(gathered[0], dst=0)
        joined = {n: Embedded.joined([own[n] for own, _ in gathered]) for n in parts}
        sources = {i: source for _, own in gathered for i, source in own.items()}
        ordered = {n: e.take(np.argsort(e.image_ids, kind="stable")) for n, e in joined.items()}
        return ordered, sources

    def _read_truth(self) -> RetrievalTruth | None:
        json_file = self._metadata.get("json_file")
        if not self._truth_is_read and json_file is not None:
            self._truth = read_retrieval_truth(json_file)
        self._truth_is_read = True
        return self._truth

    def _search(
        self,
        name: str,
        found: Embedded,
        sources: dict[int, str],
        asked: QueryTruth | None,
        scorer: MatchScorer,
    ) -> tuple[Retrieved, Retrieved | None]:
        """Search for all detections on consumers' photos, or for those that decide what becomes of
        the items ``asked`` for, and write the result file. Returns what was retrieved and, in two
        stages, the candidates in the first one's order."""
        known = np.array([sources.get(i, "") for i in found.image_ids.tolist()], dtype="U4")
        queries, gallery = (found.take(known == source) for source in SOURCES)
        queries = queries if asked is None else queries.take(decisive(asked, queries))
        candidates = None
        if self._similarity is None:
            retrieved = search(queries, gallery, scorer, self._device)
        else:
            second = self._similarity, self._shortlist, self._device
            candidates, retrieved = search_in_two_stages(queries, gallery, scorer, *second)
        logger.info("%d detections searched among %d", len(queries), len(gallery))
        if self._output_dir is not None:
            path = self._output_dir / FILE_NAMES[name]
            write_retrieved(path, retrieved)
            logger.info("results written to %s", path)
        return retrieved, candidates

    def _metrics(self, scores: RetrievalScores, truth: RetrievalTruth) -> dict[str, float]:
        metrics = {f"top{k}": 100 * value for k, value in scores.accuracy().items()}
        metrics |= {name: float(count) for name, count in scores.counts.items()}
        for name, among in query_subsets(truth, scores).items() if self._by_subset else ():
            part = scores.accuracy(among)
            metrics |= {f"top{k}-{name}": 100 * part[k] for k in SUBSET_TOPS}
        return metrics
