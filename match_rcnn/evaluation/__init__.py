"""Scoring: COCO box, mask and landmark AP with DeepFashion2's rules, and result files.

- ``ground_truth``, ``results``: files to compact arrays; result files written in a stream.
- ``similarity``, ``oks``, ``rle``: how much each detection overlaps each item, computed once.
- ``matching``, ``coco_tasks``, ``subsets``: from similarities to COCO's numbers, for everything
  or for some images or items; ``views``: all of it for one task.
- ``retrieval*``: consumer-to-shop retrieval; ``submission``: what graders reject of a file.
- ``evaluator``: the host's evaluator over all of it; ``tables``: its tables.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from match_rcnn.evaluation.evaluator import DeepFashion2Evaluator

__all__ = ["DeepFashion2Evaluator"]


def __getattr__(name: str) -> Any:
    # On demand: scoring files needs neither torch nor a host.
    if name == "DeepFashion2Evaluator":
        from match_rcnn.evaluation.evaluator import DeepFashion2Evaluator

        return DeepFashion2Evaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
