"""Scoring: COCO box, mask and landmark AP with DeepFashion2's rules, and result files.

- ``coco``: ``files``, ``predictions``: files and a model's detections as compact ``arrays``;
  ``similarity``, ``rle``: how much each detection overlaps each item, computed once;
  ``assignment``, ``scoring``, ``subsets``: from there to COCO's numbers, for everything or for
  some images or items.
- ``retrieval``: ``protocol``: the official consumer-to-shop protocol on arrays; ``files``: its
  files and its ground truth; ``search``: from embeddings to what is retrieved; ``baselines``: what
  a learned embedding has to beat.
- ``evaluators``: those that a config asks for; ``pictures``; ``tables``: what is printed.
- ``submission``: what graders reject of a result file.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from match_rcnn.evaluation.coco.evaluator import DeepFashion2Evaluator

__all__ = ["DeepFashion2Evaluator"]


def __getattr__(name: str) -> Any:
    # On demand: scoring files needs neither torch nor a host.
    if name == "DeepFashion2Evaluator":
        from match_rcnn.evaluation.coco.evaluator import DeepFashion2Evaluator

        return DeepFashion2Evaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
