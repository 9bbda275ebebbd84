"""Consumer-to-shop search: exact match scores at matrix speed, and galleries on disk."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from match_rcnn.retrieval.scoring import MatchScorer, PreparedGallery, TopK

__all__ = ["MatchScorer", "PreparedGallery", "TopK"]


def __getattr__(name: str) -> Any:
    # On demand: a result file is scored without torch.
    if name in __all__:
        from match_rcnn.retrieval import scoring

        return getattr(scoring, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
