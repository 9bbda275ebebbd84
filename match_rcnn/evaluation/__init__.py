"""Scoring: COCO box, mask and landmark AP with DeepFashion2's rules, and result files.

- ``ground_truth``, ``results``: files to compact arrays; result files written in a stream.
- ``records``, ``predictions``: these arrays, and a model's detections as such; ``columns``,
  ``joins``: what reading and comparing them takes.
- ``similarity``, ``oks``, ``rle``: how much each detection overlaps each item, computed once.
- ``matching``, ``coco_tasks``, ``subsets``: from similarities to COCO's numbers, for everything
  or for some images or items; ``views``: all of it for one task.
- ``retrieval``: the official consumer-to-shop protocol on arrays; ``retrieval_files``: its files
  and its ground truth; ``retrieval_search``: from embeddings to what is retrieved.
- ``evaluator``, ``retrieval_evaluator``: the host's evaluators over all of it; ``build``: those
  that a config asks for; ``tables``: their tables.
- ``submission``: what graders reject of a result file.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from match_rcnn.evaluation.evaluators import DeepFashion2Evaluator

__all__ = ["DeepFashion2Evaluator"]


def __getattr__(name: str) -> Any:
    # On demand: scoring files needs neither torch nor a host.
    if name == "DeepFashion2Evaluator":
        from match_rcnn.evaluation.evaluators import DeepFashion2Evaluator

        return DeepFashion2Evaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
