"""From the network's coordinates to those of the picture that the user asked about."""

from torch import Tensor

from ..layers import paste_masks_in_image
from ..structures import Boxes, Instances
from ..utils.memory import retry_if_cuda_oom


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Scale detections to another image size and paste their masks. The input stays as it is.

    Args:
        results: R detections at the size the network saw: ``pred_boxes`` (or ``proposal_boxes``),
            optionally ``pred_masks`` (R, 1, M, M) probabilities and ``pred_keypoints`` (R, K, 3).
        output_height: pixels.
        output_width: pixels.
        mask_threshold: a pixel belongs to the mask from this probability on.

    Returns:
        The detections that are not empty after scaling and clipping; ``pred_masks`` are now
        (R', output_height, output_width) bool.

    Raises:
        ValueError: for detections without boxes.
    """
    height, width = results.image_size
    scale_x, scale_y = output_width / width, output_height / height
    name = "pred_boxes" if results.has("pred_boxes") else "proposal_boxes"
    if not results.has(name):
        raise ValueError(f"expected pred_boxes or proposal_boxes, got {list(results.get_fields())}")
    boxes: Boxes = results.get(name).clone()
    boxes.scale(scale_x, scale_y)
    boxes.clip((output_height, output_width))
    scaled = Instances((int(output_height), int(output_width)), **results.get_fields())
    scaled.set(name, boxes)
    scaled = scaled[boxes.nonempty()]
    if scaled.has("pred_masks"):
        scaled.pred_masks = _paste(scaled, output_height, output_width, mask_threshold)
    if scaled.has("pred_keypoints"):
        # In place: they are a copy since the indexing above.
        scaled.pred_keypoints *= scaled.pred_keypoints.new_tensor([scale_x, scale_y, 1.0])
    return scaled


def _paste(results: Instances, height: int, width: int, threshold: float) -> Tensor:
    masks, boxes = results.pred_masks[:, 0], results.pred_boxes.tensor
    pasted: Tensor = retry_if_cuda_oom(paste_masks_in_image)(
        masks, boxes, (height, width), threshold=threshold
    )
    return pasted
