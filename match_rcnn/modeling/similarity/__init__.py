"""How alike two garments are: what orders the candidates that a vector has found."""

from match_rcnn.modeling.similarity.pair_network import PairNetwork
from match_rcnn.modeling.similarity.product import ProductSimilarity
from match_rcnn.modeling.similarity.region_graph import RegionGraph
from match_rcnn.modeling.similarity.similarity import (
    CATEGORY,
    SIMILARITY_REGISTRY,
    Similarity,
    build_similarity,
    expect_features,
)

__all__ = [
    "CATEGORY",
    "SIMILARITY_REGISTRY",
    "PairNetwork",
    "ProductSimilarity",
    "RegionGraph",
    "Similarity",
    "build_similarity",
    "expect_features",
]
