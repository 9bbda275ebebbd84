"""Box regression losses beyond smooth L1 (fvcore has that one and GIoU)."""

from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss


def diou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Distance-IoU loss (Zheng et al., 2020) of (N, 4) boxes in absolute x0, y0, x1, y1.

    Returns:
        (N,) losses, or their "sum" or "mean".
    """
    return distance_box_iou_loss(boxes1, boxes2, reduction, eps)


def ciou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Complete-IoU loss (Zheng et al., 2020) of (N, 4) boxes in absolute x0, y0, x1, y1.

    Returns:
        (N,) losses, or their "sum" or "mean".
    """
    return complete_box_iou_loss(boxes1, boxes2, reduction, eps)
