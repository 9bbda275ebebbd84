"""Items that lack a label cost no loss of it, are in no mean, and keep their other losses."""

import numpy as np
import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import (
    Boxes,
    EventStorage,
    Instances,
    Keypoints,
    PolygonMasks,
    ShapeSpec,
    build_keypoint_head,
)
from match_rcnn.modeling.streams.landmarks import LandmarkStream
from match_rcnn.modeling.streams.mask import MaskStream

SIZE = (100, 120)
STRIDE, CHANNELS, SIDE = 4, 6, 7


def rois_of(boxes, seed):
    """RoIs that each are an item with every label; the last is background."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(boxes, dtype=torch.float32)
    corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    count = len(boxes)
    places = corner + size * torch.rand(count, 39, 2, generator=generator)
    own = (torch.arange(39) < 8).float()[None, :, None].expand(count, 39, 1)
    classes = torch.full((count,), 8)  # the category of eight landmarks
    classes[-1] = 13
    outlines = [[np.array([a, b, c, b, c, d], dtype=np.float64)] for a, b, c, d in boxes.tolist()]
    return Instances(
        SIZE,
        proposal_boxes=Boxes(boxes),
        gt_boxes=Boxes(boxes),
        gt_classes=classes,
        gt_masks=PolygonMasks(outlines),
        gt_keypoints=Keypoints(torch.cat([places, 2 * own], dim=2) * own),
    )


class FirstMap:
    """A pooler: the same crop for every box, moved by its corner."""

    def __call__(self, maps, boxes):
        every = torch.cat([b.tensor for b in boxes])
        image = torch.cat([torch.full((len(b),), i) for i, b in enumerate(boxes)])
        rows = [
            maps[0][i, :, int(y) // 8 : int(y) // 8 + SIDE, int(x) // 8 : int(x) // 8 + SIDE]
            for i, (x, y, _, _) in zip(image.tolist(), every.tolist(), strict=True)
        ]
        return torch.stack(rows) if rows else maps[0].new_zeros((0, CHANNELS, SIDE, SIDE))


def make_landmarks():
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 13
    node = cfg.MODEL.ROI_KEYPOINT_HEAD
    node.NAME, node.NUM_KEYPOINTS, node.CONV_DIMS = "CategoryAwareLandmarkHead", 294, [8]
    torch.manual_seed(0)
    head = build_keypoint_head(cfg, ShapeSpec(channels=CHANNELS, height=SIDE, width=SIDE))
    return LandmarkStream(levels=["p2"], pooler=FirstMap(), head=head.train(), num_classes=13)


class OneConvolution(torch.nn.Module):
    """A mask head: the mean over its RoIs of something that depends on each alone."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, x, instances):
        assert len(x) == sum(len(image) for image in instances)
        return {"loss_mask": self.conv(x).square().sum() / max(1, len(x))}


def make_masks():
    torch.manual_seed(0)
    return MaskStream(
        levels=["p2"], pooler=FirstMap(), head=OneConvolution(), num_classes=13, side=SIDE
    )


def learned(stream, images, maps=None):
    """Loss and gradients, by parameter and by map."""
    torch.manual_seed(1)
    maps = torch.randn(len(images), CHANNELS, 40, 40) if maps is None else maps
    maps = maps.clone().requires_grad_()
    stream.head.zero_grad()
    with EventStorage():
        losses, _ = stream.losses({"p2": maps}, images, {}, False)
    (loss,) = losses.values()
    loss.backward()
    gradients = [p.grad.clone() for p in stream.head.parameters()]
    return loss.detach(), [*gradients, maps.grad]


DRAWN = [[[8, 8, 60, 70], [40, 16, 100, 90], [0, 0, 20, 20]], [[16, 24, 88, 96], [0, 0, 9, 9]]]
CASES = {
    "landmarks": (make_landmarks, "gt_has_landmarks"),
    "masks": (make_masks, "gt_has_mask"),
}


@pytest.mark.parametrize("kind", CASES)
def test_mixed_with_items_that_lack_it_loss_and_gradients_are_those_of_the_others_alone(kind):
    """Drawn items have every label; the photograph's have boxes and perhaps masks."""
    make, mark = CASES[kind]
    drawn = [rois_of(boxes, seed) for seed, boxes in enumerate(DRAWN)]
    photograph = rois_of([[24, 8, 80, 64], [8, 40, 64, 96], [0, 0, 9, 9]], seed=5)
    photograph.set(mark, torch.zeros(3, dtype=torch.bool))
    if kind == "landmarks":
        photograph.gt_keypoints.tensor[..., 2] = 0
    torch.manual_seed(3)
    maps = torch.randn(3, CHANNELS, 40, 40)
    mixed, gradients = learned(make(), [*drawn, photograph], maps)
    alone, expected = learned(make(), drawn, maps[:2])
    assert alone > 0
    assert torch.equal(mixed, alone)
    assert not gradients[-1][2].any()
    for gradient, other in zip([*gradients[:-1], gradients[-1][:2]], expected, strict=True):
        assert torch.equal(gradient, other)


@pytest.mark.parametrize("kind", CASES)
def test_within_an_image_only_items_that_lack_the_label_are_left_out(kind):
    make, mark = CASES[kind]
    image = rois_of(DRAWN[0], 0)
    some = image[torch.tensor([1, 2])]
    image.set(mark, torch.tensor([False, True, True]))
    torch.manual_seed(3)
    maps = torch.randn(1, CHANNELS, 40, 40)
    mixed, gradients = learned(make(), [image], maps)
    alone, expected = learned(make(), [some], maps)
    assert alone > 0
    assert torch.equal(mixed, alone)
    assert all(map(torch.equal, gradients, expected))


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("lacking", ["the label of all items", "the field", "ground truth"])
def test_a_batch_without_the_label_is_zero_with_gradients(kind, lacking):
    make, mark = CASES[kind]
    image = rois_of(DRAWN[0], 0)
    if lacking == "the label of all items":
        image.set(mark, torch.zeros(3, dtype=torch.bool))
    else:
        image.gt_classes.fill_(13 if lacking == "ground truth" else 8)
        image.remove("gt_keypoints" if kind == "landmarks" else "gt_masks")
    loss, gradients = learned(make(), [image])
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients[:-1])
