"""detectron2's second place for :func:`register_coco_instances`."""

from .coco import register_coco_instances

__all__ = ["register_coco_instances"]
