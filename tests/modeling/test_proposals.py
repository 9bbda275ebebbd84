"""Ignore regions: neither foreground nor background, in the RPN and in the RoI heads."""

import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, EventStorage, Instances, build_model
from match_rcnn.data.ignore_regions import ItemsBesideRegions
from match_rcnn.modeling.proposals import lies_in

SIZE = (128, 128)
ITEM = [10.0, 10, 50, 50]
REGION = [64.0, 64, 128, 128]


def make_model(name="MatchRCNNROIHeads", proposals="IgnoringRPN"):
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = proposals
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [96], [128]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    heads = cfg.MODEL.ROI_HEADS
    heads.NAME, heads.IN_FEATURES, heads.NUM_CLASSES = name, ["p2", "p3", "p4", "p5"], 13
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    torch.manual_seed(0)
    return build_model(cfg).train()


def items_of(*boxes, regions=None):
    fields = {
        "gt_boxes": Boxes(torch.tensor(boxes).reshape(-1, 4)),
        "gt_classes": torch.zeros(len(boxes), dtype=torch.int64),
    }
    if regions is None:
        return Instances(SIZE, **fields)
    return ItemsBesideRegions(SIZE, Boxes(torch.tensor(regions)), **fields).to("cpu")


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([70, 70, 90, 90], True),  # wholly
        ([54, 70, 74, 90], True),  # half of its own area
        ([53, 70, 74, 90], False),  # a little less
        ([0, 0, 128, 128], False),  # holds the region, which is a quarter of it
        ([0, 0, 10, 10], False),
        ([64, 64, 64, 64], False),  # no area
    ],
)
def test_a_box_lies_in_a_region_by_its_own_area(box, expected):
    boxes, regions = Boxes(torch.tensor([box]).float()), Boxes(torch.tensor([REGION]))
    assert lies_in(boxes, regions, 0.5).tolist() == [expected]
    assert lies_in(boxes, Boxes(torch.zeros(0, 4)), 0.5).tolist() == [False]


def anchor_labels(model, items):
    rpn = model.proposal_generator
    rpn.batch_size_per_image = 10**6  # no sample: every label is seen
    rpn.positive_fraction = 1.0
    maps = [torch.zeros(1, 16, 128 // s, 128 // s) for s in (4, 8, 16, 32, 64)]
    anchors = rpn.anchor_generator(maps)
    torch.manual_seed(1)
    labels, boxes = rpn.label_and_sample_anchors(anchors, items)
    return Boxes.cat(anchors), labels, boxes


@pytest.mark.parametrize("inside", [False, True])
def test_anchors_in_a_region_are_neither_foreground_nor_background(inside):
    model = make_model()
    boxes = [ITEM, [70.0, 70, 110, 110]] if inside else [ITEM]
    anchors, (plain, with_region, empty), found = anchor_labels(
        model,
        [
            items_of(*boxes),
            items_of(*boxes, regions=[REGION]),
            items_of(regions=[REGION]),
        ],
    )
    ignored = lies_in(anchors, Boxes(torch.tensor([REGION])), 0.5)
    assert ignored.any()
    assert torch.equal(with_region, plain.masked_fill(ignored & (plain == 0), -1))
    assert (with_region[ignored & (plain == 1)] == 1).all()  # an item comes first
    assert (with_region == 1).sum() == (plain == 1).sum() > 0
    assert torch.equal(empty, ignored.to(empty.dtype) * -1)
    assert torch.equal(found[0], found[1])
    assert not found[2].any()


def test_without_regions_the_rpn_is_the_host_s():
    ours, theirs = make_model(), make_model(proposals="RPN")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    items = [items_of(ITEM), items_of()]
    for rpn in (ours, theirs):
        rpn.proposal_generator.batch_size_per_image = 20
    torch.manual_seed(1)
    results = []
    for model in (ours, theirs):
        torch.manual_seed(2)
        rpn = model.proposal_generator
        maps = [torch.zeros(1, 16, 128 // s, 128 // s) for s in (4, 8, 16, 32, 64)]
        results.append(rpn.label_and_sample_anchors(rpn.anchor_generator(maps), items))
    for one, other in zip(*results, strict=True):
        assert all(map(torch.equal, one, other))


PROPOSALS = [ITEM, [70, 70, 90, 90], [54, 70, 74, 90], [53, 70, 74, 90], [0, 100, 20, 120]]


def proposals_of(boxes=PROPOSALS):
    boxes = torch.tensor(boxes).float()
    return Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))


def test_proposals_in_a_region_are_neither_foreground_nor_background():
    heads = make_model().roi_heads
    inside = [70.0, 70, 90, 90]  # an item in the region
    targets = [
        items_of(ITEM, regions=[REGION]),
        items_of(ITEM, inside, regions=[REGION]),
        items_of(regions=[REGION]),
    ]
    with EventStorage():
        sampled = heads.label_and_sample_proposals([proposals_of() for _ in targets], targets)

    def boxes(image, is_background):
        rows = (image.gt_classes == 13) == is_background
        return {tuple(b) for b in image.proposal_boxes.tensor[rows].tolist()}

    beside = {(53, 70, 74, 90), (0, 100, 20, 120)}
    assert [boxes(image, True) for image in sampled] == [beside, beside, beside | {tuple(ITEM)}]
    assert boxes(sampled[0], False) == {tuple(ITEM)}
    assert boxes(sampled[1], False) == {tuple(ITEM), tuple(inside)}


@pytest.mark.parametrize("name", ["MatchRCNNROIHeads", "MatchRCNNCascadeROIHeads"])
def test_a_step_beside_regions_learns_nothing_from_them(name):
    """Where the whole image is a region no loss is left."""
    model = make_model(name)
    regions = [[-500.0, -500, 600, 600]]  # anchors reach beyond the image
    image = torch.randint(0, 255, (3, *SIZE), dtype=torch.uint8)
    sample = {"image": image, "instances": items_of(regions=regions)}
    with EventStorage():
        losses = model([sample])
    sum(losses.values()).backward()
    assert {key: value.item() for key, value in losses.items() if value != 0} == {}
    sample["instances"] = items_of(ITEM, regions=regions)
    with EventStorage():
        losses = model([sample])
    assert all(value > 0 for key, value in losses.items() if "rpn" in key or "cls" in key)


def test_every_stage_of_a_cascade_leaves_regions_out():
    heads = make_model("MatchRCNNCascadeROIHeads").roi_heads
    targets = [items_of(ITEM, regions=[REGION])]
    for stage in range(3):
        with EventStorage():
            (labelled,) = heads._match_and_label_boxes([proposals_of()], stage, targets)
        assert labelled.gt_classes.tolist() == [0, 13, 13]
