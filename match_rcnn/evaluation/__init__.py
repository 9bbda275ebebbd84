"""Scoring: COCO box, mask and landmark AP with DeepFashion2's rules, and result files.

- ``ground_truth``, ``results``: files to compact arrays; result files written in a stream.
- ``similarity``, ``oks``, ``rle``: how much each detection overlaps each item, computed once.
- ``matching``, ``coco_tasks``: from similarities to COCO's numbers, for any subset of items.
- ``evaluator``: the host's evaluator over all of it.
"""
