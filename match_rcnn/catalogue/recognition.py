"""A recognition model, which is given a box, as a gallery's model: its vectors, and the words that
it knows as a way to ask.

Of a photo without boxes the whole photo is the garment's region.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from match_rcnn.catalogue.model import GalleryModel, GarmentModel, model_fingerprint
from match_rcnn.d2 import CfgNode, DetectionCheckpointer, Instances, build_model
from match_rcnn.data.crops import UNKNOWN, CropMapper
from match_rcnn.data.taxonomy import Category, Taxonomy
from match_rcnn.data.words import Vocabulary
from match_rcnn.inference.model_file import stated_taxonomy
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.inference.weights import model_config
from match_rcnn.modeling.similarity import CATEGORY, Similarity
from match_rcnn.modeling.taxonomy import set_taxonomy, taxonomy_from_config
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.structures import Garment, named_attributes
from match_rcnn.utils.arrays import Float32Array, Image

#: What items are of whose category the model does not tell.
GARMENT = Category(1, "garment")


class RecognitionModel:
    """A trained ``Recognition`` as a :class:`~match_rcnn.catalogue.model.GarmentModel`. Vectors are
    compared by their Euclidean distance; a garment's attributes are those that the model reads, or
    the words that it finds most probable.

    Args:
        cfg: a whole config; ``MODEL.WEIGHTS`` names the checkpoint.

    Attributes:
        taxonomy: the model's categories, :data:`GARMENT` alone where it reads none.

    Raises:
        ValueError: no head gives an embedding, or its similarity compares other vectors.
    """

    def __init__(self, cfg: CfgNode) -> None:
        cfg = cfg.clone()
        cfg.defrost()
        known = stated_taxonomy(cfg.MODEL.WEIGHTS) or taxonomy_from_config(cfg)
        set_taxonomy(cfg, known)
        if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        self._model = cast(Any, build_model(cfg).eval())
        DetectionCheckpointer(self._model).load(cfg.MODEL.WEIGHTS)
        self._mapper = CropMapper(cfg, is_train=False, keep_truth=False)
        self._heads = self._model.heads
        self.vocabulary = Vocabulary(known.words if "WordHead" in self._heads else ())
        self._known = known
        categories = known.categories if "CategoryHead" in self._heads else (GARMENT,)
        self.taxonomy = Taxonomy(known.name, categories, known.attributes)
        self.attribute_threshold: float = cfg.TEST.ATTRIBUTE_SCORE_THRESH
        probe = self._probe()
        self.scorer = MatchScorer.euclidean(probe.embedding.shape[1])
        self.similarity: Similarity | None = self._model.similarity
        self.shortlist: int = cfg.TEST.SHORTLIST
        self._expect_the_vectors_that_are_kept(probe)
        self.fingerprint = model_fingerprint(self._model, cfg, name=cfg.MODEL.WEIGHTS)

    def _probe(self) -> Instances:
        """What the model says of noise: two regions, as (2, ...) fields.

        Raises:
            ValueError: no embedding.
        """
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        found = Instances.cat(self._found(noise, [[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 32.0, 64.0]]))
        if not found.has("embedding"):
            raise ValueError(
                "a gallery needs a model with an embedding: its MODEL.RECOGNITION.HEADS are "
                f"{', '.join(self._heads)}; train it with EmbeddingHead or WordHead"
            )
        return found

    @torch.no_grad()
    def _expect_the_vectors_that_are_kept(self, found: Instances) -> None:
        """A gallery keeps a garment's embedding; what a similarity compares may be another vector.

        Raises:
            ValueError: it is, and the similarity says something else of it.
        """
        if self.similarity is None or "vector" not in self.similarity.features():
            return
        unknown = {CATEGORY: torch.full((1,), UNKNOWN)}
        said = [
            self.similarity.pairs({"vector": own[:1], **unknown}, {"vector": own[1:]})
            for own in (found.vector, found.embedding)
            if own.shape == found.vector.shape
        ]
        if len(said) < 2 or not torch.allclose(said[0], said[1], rtol=1e-3, atol=1e-5):
            raise ValueError(
                f"a gallery keeps embeddings, and {type(self.similarity).__name__} compares other "
                "vectors of this model; train it with EMBEDDING_DIM 0 and a PairNetwork or a "
                "RegionGraph"
            )

    def __call__(self, photo: Image) -> list[Garment]:
        """The photo as one garment, with what the model reads from it."""
        height, width = photo.shape[:2]
        (garment,) = self.describe(photo, [_garment(self.taxonomy, [0, 0, width, height])])
        return [garment]

    @torch.no_grad()
    def describe(self, photo: Image, garments: Sequence[Garment]) -> list[Garment]:
        """See :meth:`GarmentModel.describe`; garments without a score get their categories too."""
        if not garments:
            return []
        found = self._found(photo, [g.box.tolist() for g in garments])
        return [self._described(g, own) for g, own in zip(garments, found, strict=True)]

    def _found(self, photo: Image, boxes: Sequence[Sequence[float]]) -> list[Instances]:
        samples = [self._mapper.given(photo, box) for box in boxes]
        return [output["instances"].to("cpu") for output in self._model(samples)]

    def _described(self, garment: Garment, found: Instances) -> Garment:
        changes: dict[str, Any] = {"embedding": found.embedding[0].float().numpy()}
        if garment.score is not None and found.has("category_scores"):
            best = int(found.category_scores[0].argmax())
            changes["category"] = self.taxonomy.categories[best]
        if self.similarity is not None:
            changes["features"] = {
                name: found.get(name)[0].half().numpy()
                for name in self.similarity.features()
                if name not in ("vector", CATEGORY)
            }
            category = changes.get("category", garment.category)
            number = self.taxonomy.index(category.id) if found.has(CATEGORY) else UNKNOWN
            changes["features"][CATEGORY] = np.int64(number)
        if found.has("attribute_scores"):
            scores = found.attribute_scores[0].float().numpy()
            changes["attributes"] = named_attributes(scores, self._known, self.attribute_threshold)
        elif found.has("pred_words"):
            words = [self.vocabulary.words[i] for i in found.pred_words[0].tolist()]
            scores = found.pred_word_scores[0].tolist()
            changes["attributes"] = dict(zip(words, scores, strict=True))
        return replace(garment, **changes)

    @property
    def can_change(self) -> bool:
        """Whether it exchanges attributes."""
        return "ManipulationHead" in self._heads

    @torch.no_grad()
    def changed(self, embedding: Float32Array, wishes: Sequence[tuple[str, str]]) -> Float32Array:
        """A garment's embedding (d,) with (type, value) after (type, value) exchanged.

        Raises:
            ValueError: the model does not know a type or a value.
        """
        vector = torch.from_numpy(embedding)[None].to(self._model.device)
        moved = self._heads["ManipulationHead"].change(vector, wishes)[0]
        found: Float32Array = moved.cpu().numpy()
        return found

    def text_vector(self, text: str) -> Float32Array:
        """(d,) where a gallery's items lie whose photos say these words.

        Raises:
            ValueError: the model does not know one of them.
        """
        words = torch.from_numpy(self.vocabulary.asked(text)).to(self._model.device)
        with torch.no_grad():
            vector: Float32Array = self._heads["WordHead"].text_vector(words).float().cpu().numpy()
        return vector


def _garment(taxonomy: Taxonomy, box: Sequence[float]) -> Garment:
    """Nothing is known of its category; nothing was detected, so that it is there is certain."""
    return Garment(taxonomy.categories[0], np.array(box, np.float32), 1.0)


def gallery_model(
    config_file: str | Path | None,
    weights: str | Path,
    min_score: float | None = None,
    opts: list[str] | None = None,
) -> GarmentModel:
    """The model of these files as one that galleries are built and searched with.

    Raises:
        FileNotFoundError, ValueError: see :func:`~match_rcnn.inference.weights.model_config` and
            the models.
    """
    cfg = model_config(weights, config_file, opts)
    if cfg.MODEL.META_ARCHITECTURE == "Recognition":
        return RecognitionModel(cfg)
    return GalleryModel(MatchRCNNPredictor(cfg, min_score))
