"""The host's evaluators for DeepFashion (2016): categories, attributes, landmarks, retrieval.

Shapes: ``N`` images of a data set with ``C'`` categories and ``A'`` attributes.
"""

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from match_rcnn.d2 import CfgNode, DatasetCatalog, DatasetEvaluator, MetadataCatalog, comm
from match_rcnn.data.recognition_loader import Named, places, taxonomy_of_records
from match_rcnn.data.sources.deepfashion import ATTRIBUTE_TYPES
from match_rcnn.data.taxonomy import Attribute
from match_rcnn.evaluation.evaluators import EVALUATOR_REGISTRY, inference_folder
from match_rcnn.evaluation.recognition.files import (
    DISTANCES,
    TASKS,
    score_attributes,
    score_categories,
    score_embeddings,
    score_in_two_stages,
    scores_table,
)
from match_rcnn.evaluation.recognition.landmarks import landmark_errors, summarise_landmarks
from match_rcnn.evaluation.recognition.manipulation import score_manipulation
from match_rcnn.evaluation.recognition.words import Words
from match_rcnn.modeling.recognition.manipulation import value_groups
from match_rcnn.modeling.similarity import Similarity
from match_rcnn.modeling.taxonomy import taxonomy_from_config
from match_rcnn.utils.arrays import Array
from match_rcnn.utils.files import atomic_write, write_json

logger = logging.getLogger(__name__)

FILE_NAME, SCORES_NAME = "predictions.npz", "scores.json"
#: Fields of a model's results, by the name that ``tools/evaluate_results.py`` knows them under.
_FIELDS = {
    "category_scores": "category_scores",
    "attribute_scores": "attribute_scores",
    "landmarks": "pred_slots",
    "embeddings": "embedding",
    "changed": "changed",
}
#: ``evaluator_type`` of data sets of one garment an image, by what is asked of them.
RECOGNITION = ("deepfashion_category", "deepfashion_fine", "deepfashion_landmark")
RETRIEVAL = {"deepfashion_inshop": "inshop", "deepfashion_consumer2shop": "consumer2shop"}


@EVALUATOR_REGISTRY.register()
class RecognitionEvaluator(DatasetEvaluator):
    """Scores a :class:`~match_rcnn.modeling.recognition.Recognition` model by the protocol of its
    data set, and writes what it predicted in the form that ``tools/evaluate_results.py`` takes.

    Metrics in percent (but normalised errors): ``category/top3``,
    ``attributes/mean_of_types_top3``, ``landmarks/ne_mean`` and ``pdl_0.1``, or ``inshop/hit20``,
    ``recall20`` and ``map``; ``manipulation/top30`` beside ``unchanged_top30``; of a model of
    words, on a data set with descriptions, ``words/mean_rank``, ``recall10`` and ``image_map``
    (:func:`~match_rcnn.evaluation.recognition.words.score_words`). What was pooled around the true
    landmarks stands under ``oracle_...``.

    Where the model has a similarity, it orders the first ``shortlist`` images of each query, and
    retrieval's metrics are of that order. Beside them stand those of the embedding alone,
    ``inshop_embedding/hit20`` etc., and there ``shortlist_recall``: the share of queries with a
    right image among these, the most that the similarity can reach.

    Args:
        dataset_name: registered, with one garment an image.
        categories, attributes: (C',) and (A',) which outputs of the model are the data set's; None:
            the model does not know them all, and they are not scored.
        output_dir: where :data:`FILE_NAME` and :data:`SCORES_NAME` are written; None: nowhere.
        prefix: of the tasks' names.
        groups: by type, the data set's attributes that the model's ``changed`` vectors have one
            after the other; {}: it gives none.
        words: that the model knows, if it knows some.
        similarity: what orders the candidates of a search; None: the embedding alone does.
        shortlist: so many of them.

    Raises:
        ValueError: the data set holds a part of what its protocol needs.
    """

    def __init__(
        self,
        dataset_name: str,
        categories: Array | None,
        attributes: Array | None,
        output_dir: Path | None = None,
        prefix: str = "",
        groups: Mapping[str, Sequence[str]] | None = None,
        words: Words | None = None,
        similarity: Similarity | None = None,
        shortlist: int = 100,
    ) -> None:
        self._name = dataset_name
        self._words = words
        self._metadata = MetadataCatalog.get(dataset_name)
        self._columns = {"category_scores": categories, "attribute_scores": attributes}
        self._output_dir = output_dir
        self._prefix = prefix
        self._groups = dict(groups or {})
        self._task = RETRIEVAL.get(self._metadata.evaluator_type)
        self._similarity, self._shortlist = similarity if self._task else None, shortlist
        wanted = self._similarity.features() if self._similarity else {}
        self._fields = {**_FIELDS, **{name: name for name in wanted}}
        if self._metadata.evaluator_type in RETRIEVAL and self._metadata.split != "test":
            raise ValueError(
                f"{dataset_name} is a part of what retrieval is scored on; evaluate "
                f"{self._metadata.evaluator_type}_test"
            )
        self.reset()

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dataset_name: str, model: Any = None
    ) -> "RecognitionEvaluator | None":
        """Where the model is one for a given box."""
        if cfg.MODEL.META_ARCHITECTURE != "Recognition":
            return None
        own, known = taxonomy_of_records(dataset_name), taxonomy_from_config(cfg)
        return cls(
            dataset_name,
            _outputs("categories", own.categories, known.categories, dataset_name),
            _outputs("attributes", own.attributes, known.attributes, dataset_name),
            inference_folder(cfg, dataset_name),
            "oracle_" if cfg.TEST.ORACLE_LANDMARKS else "",
            _groups(cfg, own.attributes, dataset_name),
            Words.of(model, known.words),
            getattr(model, "similarity", None),
            cfg.TEST.SHORTLIST,
        )

    @classmethod
    def tables(cls, cfg: CfgNode, labels: Collection[str]) -> list[str]:
        return []

    def reset(self) -> None:
        self._images: list[str] = []
        self._found: dict[str, list[Array]] = {name: [] for name in self._fields}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take a batch: samples with ``image_name``, and the model's instances of one row."""
        for sample, output in zip(inputs, outputs, strict=True):
            found = output["instances"]
            self._images.append(sample["image_name"])
            for name, field in self._fields.items():
                if found.has(field):
                    row = found.get(field)[0].cpu()
                    if name not in _FIELDS:  # as galleries keep it
                        row = row.half() if row.is_floating_point() else row
                    else:
                        row = row[:, :2].float() if field == "pred_slots" else row.float()
                    self._found[name].append(row.numpy())

    def evaluate(self) -> dict[str, Any] | None:
        """Metrics by task; None but on the main process. All processes must call it."""
        gathered = comm.gather((self._images, self._found))
        if not comm.is_main_process():
            return None
        images = np.array([name for names, _ in gathered for name in names], dtype=str)
        arrays = {
            name: np.stack(rows)
            for name in self._fields
            if (rows := [row for _, found in gathered for row in found[name]])
        }
        for name, columns in self._columns.items():
            values = arrays.pop(name, None)
            if values is not None and columns is not None and len(columns):
                arrays[name] = values[:, columns]
        features = {name: arrays.pop(name) for name in set(arrays) - set(_FIELDS)}
        if not self._groups:
            arrays.pop("changed", None)
        self._write(images, arrays)
        scores = self._retrieval(images, arrays, features)
        scores |= self._recognition(images, arrays)
        logger.info("%s%s\n%s", self._prefix, self._name, scores_table(scores))
        metrics = OrderedDict(self._named(scores))
        if self._output_dir is not None:
            write_json(self._output_dir / SCORES_NAME, metrics)
        return metrics

    def _write(self, images: Array, arrays: Mapping[str, Array]) -> None:
        if self._output_dir is None:
            return
        written = {"images": images, **arrays}
        if "changed" in arrays:
            written["changed"] = arrays["changed"].astype(np.float16)  # of numbers below 1
            written["changed_to"] = np.array([n for own in self._groups.values() for n in own])
        with atomic_write(self._output_dir / FILE_NAME) as file:
            np.savez(file, **written)  # type: ignore[arg-type]

    def _retrieval(
        self, images: Array, arrays: Mapping[str, Array], features: Mapping[str, Array]
    ) -> dict[str, Any]:
        if self._task is None or "embeddings" not in arrays:
            return {}
        asked, source = TASKS[self._task](self._metadata.root), f"{self._name}'s results"
        if self._similarity is None:
            return score_embeddings(asked, images, arrays["embeddings"], source)
        second = features, self._similarity, self._shortlist, source
        return score_in_two_stages(asked, images, arrays["embeddings"], *second)

    def _recognition(self, images: Array, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """What the records state of categories, attributes and landmarks."""
        truth = _Truth(DatasetCatalog.get(self._name), images)
        scores: dict[str, Any] = {"images": len(images)}
        if "category_scores" in arrays and (known := truth.categories >= 0).any():
            found = arrays["category_scores"][known]
            scores["category"] = score_categories(found, truth.categories[known])
        if "attribute_scores" in arrays and truth.attributes is not None:
            types = np.asarray(self._metadata.attribute_types, dtype=np.int64)
            names = self._metadata.get("attribute_type_names", ATTRIBUTE_TYPES)
            found = arrays["attribute_scores"]
            scores["attributes"] = score_attributes(found, truth.attributes, types, names)
        if "changed" in arrays and self._groups and truth.attributes is not None:
            where = {name: i for i, name in enumerate(self._metadata.attribute_names)}
            columns = [np.array([where[n] for n in own]) for own in self._groups.values()]
            vectors = arrays["embeddings"], arrays["changed"]
            scores |= score_manipulation(truth.attributes, columns, *vectors)
        if "landmarks" in arrays and truth.landmarks is not None:
            errors = landmark_errors(arrays["landmarks"], truth.landmarks, truth.boxes)
            scores["landmarks"] = summarise_landmarks(errors, DISTANCES)
        if "embeddings" in arrays and self._words is not None:
            records = DatasetCatalog.get(self._name)
            scores["words"] = self._words.scores(records, images.tolist(), arrays["embeddings"])
        return scores

    def _named(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """By task, flat, without what there is none of."""
        tasks: dict[str, dict[str, float | None]] = {}
        first = scores.get("embedding", {})
        if "category" in scores:
            tasks["category"] = _percent(scores["category"])
        if "attributes" in scores:
            rows = scores["attributes"].items()
            tasks["attributes"] = _percent(
                {f"{group}_{top}": value for group, row in rows for top, value in row.items()}
            )
        if "landmarks" in scores:
            errors, near = scores["landmarks"]["ne"], scores["landmarks"]["pdl"]
            tasks["landmarks"] = {f"ne_{name}": value for name, value in errors.items()}
            tasks["landmarks"] |= _percent({f"pdl_{d}": share for d, share in near.items()})
        if words := scores.get("words"):
            ranks = {k: v for k, v in words.items() if k.endswith("_rank")}
            shares = {k: v for k, v in words.items() if k not in ranks}
            tasks["words"] = {**ranks, **_percent(shares)}
        for task, found in ((self._task, scores), (f"{self._task}_embedding", first)):
            if task and "hit" in found:
                tasks[task] = _retrieval_shares(found)
        if "manipulation" in scores:
            for before, own in scores["manipulation"].items():
                head = "" if before == "changed" else f"{before}_"
                named = {f"{head}{name}": value for name, value in own.items()}
                tasks["manipulation"] = tasks.get("manipulation", {}) | _percent(named)
        known = {t: {k: v for k, v in own.items() if v is not None} for t, own in tasks.items()}
        return {f"{self._prefix}{task}": found for task, found in known.items() if found}


class _Truth:
    """The labels of a data set's records, in the order of ``images``.

    Attributes:
        categories: (N,) -1 where unknown.
        attributes: (N, A'), or None.
        landmarks: (N, 8, 3) x, y, visibility, or None.
        boxes: (N, 4).
    """

    def __init__(self, records: Sequence[dict[str, Any]], images: Array) -> None:
        by_name = {record["image_name"]: record["annotations"][0] for record in records}
        own = [by_name[name] for name in images.tolist()]
        self.categories = np.array([a.get("category_id", -1) for a in own], dtype=np.int64)
        self.boxes = np.array([a["bbox"] for a in own], dtype=np.float64)
        has = {key: all(key in a for a in own) for key in ("attributes", "landmarks")}
        self.attributes = np.stack([a["attributes"] for a in own]) if has["attributes"] else None
        self.landmarks = None
        if has["landmarks"]:
            rows = [np.column_stack([a["landmarks"], a["visibility"]]) for a in own]
            self.landmarks = np.stack(rows).astype(np.float64)


def _outputs(what: str, own: Named, known: Named, dataset: str) -> Array | None:
    """Where the data set's names stand among the model's; None where one is not among them."""
    found = places(own, known)
    unknown = [each.name for each, place in zip(own, found, strict=True) if place < 0]
    if not unknown:
        return found
    text = "%s has %d %s that the model does not know, such as %r; they are not scored"
    logger.warning(text, dataset, len(unknown), what, unknown[0])
    return None


def _groups(cfg: CfgNode, own: Sequence[Attribute], dataset: str) -> dict[str, tuple[str, ...]]:
    """Of a model's ``changed`` vectors; {} where it gives none, or the data set has not all."""
    if "ManipulationHead" not in cfg.MODEL.RECOGNITION.HEADS:
        return {}
    known = taxonomy_from_config(cfg).attributes
    groups = value_groups(known, cfg.MODEL.RECOGNITION.MANIPULATION.TYPES)
    changed = [attribute for attribute in known if attribute.type in groups]
    return groups if _outputs("attributes", changed, own, dataset) is not None else {}


def _retrieval_shares(scores: Mapping[str, Any]) -> dict[str, float | None]:
    shares = {f"{n}{k}": v for n in ("hit", "recall") for k, v in scores[n].items()}
    return _percent(
        {**shares, **{n: scores[n] for n in ("map", "shortlist_recall") if n in scores}}
    )


def _percent(shares: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if share is None else 100 * share for name, share in shares.items()}
