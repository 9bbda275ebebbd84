"""The streams over one set of RoIs, beside the host's StandardROIHeads with the same weights."""

import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import (
    ROI_HEADS_REGISTRY,
    Boxes,
    EventStorage,
    ImageList,
    Instances,
    PolygonMasks,
    ShapeSpec,
)
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.ablation import VARIANTS
from match_rcnn.modeling import MatchRCNNROIHeads
from match_rcnn.modeling.streams.matching import MatchStream
from match_rcnn.modeling.streams.stream import ROI_STREAM_REGISTRY, RoIFeatures, Stream

CATEGORIES = DEEPFASHION2.categories

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
IMAGE = (400, 500)
IMAGES = ImageList(torch.zeros(2, 3, *IMAGE), [IMAGE] * 2)


def build(name, **options):
    """ROI heads with few channels. ``options``: MASK_ON, KEYPOINT_ON, MATCH_ON, ROI_STREAMS; of
    the match head FEATURES, IN_FEATURES, SIMILARITY (its NAME)."""
    ours = name != "StandardROIHeads"
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.MASK_ON = options.get("MASK_ON", True)
    cfg.MODEL.KEYPOINT_ON = options.get("KEYPOINT_ON", True)
    cfg.MODEL.MATCH_ON = options.get("MATCH_ON", False)
    cfg.MODEL.ROI_STREAMS = options.get("ROI_STREAMS", cfg.MODEL.ROI_STREAMS)
    cfg.MODEL.ROI_MATCH_HEAD.CONV_DIMS = [8, 8]
    cfg.MODEL.ROI_MATCH_HEAD.FEATURES = options.get("FEATURES", "pose+class")
    cfg.MODEL.ROI_MATCH_HEAD.IN_FEATURES = options.get("IN_FEATURES", [])
    cfg.MODEL.ROI_MATCH_HEAD.SIMILARITY.NAME = options.get("SIMILARITY", "ProductSimilarity")
    heads, keypoints = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_KEYPOINT_HEAD
    heads.NAME, heads.NUM_CLASSES, heads.IN_FEATURES = name, 13, list(STRIDES)
    heads.BATCH_SIZE_PER_IMAGE, heads.SCORE_THRESH_TEST = 32, 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 8
    keypoints.NAME = "CategoryAwareLandmarkHead" if ours else "KRCNNConvDeconvUpsampleHead"
    keypoints.NUM_KEYPOINTS, keypoints.CONV_DIMS = 294, [8, 8]
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = "Cascade" in name
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    shapes = {level: ShapeSpec(channels=8, stride=stride) for level, stride in STRIDES.items()}
    torch.manual_seed(0)
    model = ROI_HEADS_REGISTRY.get(name)(cfg, shapes)
    with torch.no_grad():  # the default 0.01 leaves every class equally likely
        stages = model.box_predictor if "Cascade" in name else [model.box_predictor]
        for stage in stages:
            stage.cls_score.weight.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(5)
    sizes = {level: (2, 8, IMAGE[0] // s + 1, IMAGE[1] // s + 1) for level, s in STRIDES.items()}
    return {level: torch.randn(size, generator=generator) for level, size in sizes.items()}


def proposals():
    generator = torch.Generator().manual_seed(6)
    images = []
    for _ in range(2):
        corner = 200 * torch.rand(40, 2, generator=generator)
        size = 20 + 180 * torch.rand(40, 2, generator=generator)
        boxes = Boxes(torch.cat([corner, corner + size], dim=1))
        images.append(Instances(IMAGE, proposal_boxes=boxes, objectness_logits=torch.zeros(40)))
    return images


@pytest.fixture
def targets(make_ground_truth):
    """``targets(classes, layout="compact")`` -> what the mapper gives, one Instances an image."""

    def make(classes, layout="compact", visible=0.7):
        images = make_ground_truth(classes, visible, layout=layout)
        for image in images:
            image.gt_boxes = image.proposal_boxes
            image.remove("proposal_boxes")
            corners = image.gt_boxes.tensor[:, [0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()
            image.gt_masks = PolygonMasks([[corner] for corner in corners])
            # Fields of later streams ride along.
            image.gt_pair_ids = torch.arange(len(image))
        return images

    return make


def train(model, features, targets):
    torch.manual_seed(7)  # the sampler draws the same proposals
    with EventStorage():
        return model.train()(IMAGES, features, proposals(), targets)


def detect(model, features):
    with torch.no_grad():
        detections, losses = model.eval()(IMAGES, features, proposals())
    assert losses == {}
    return detections


def test_same_weights_as_the_hosts():
    ours, theirs = build("MatchRCNNROIHeads"), build("StandardROIHeads")
    assert isinstance(ours, MatchRCNNROIHeads)
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [
        (n, p.shape) for n, p in theirs.named_parameters()
    ]
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_losses_are_the_hosts(features, targets):
    classes = [[0, 3, 12], [7]]
    ours, theirs = build("MatchRCNNROIHeads"), build("StandardROIHeads")
    sampled, losses = train(ours, features, targets(classes))
    _, expected = train(theirs, features, targets(classes, layout="dense"))
    assert list(losses) == ["loss_cls", "loss_box_reg", "loss_mask", "loss_keypoint"]
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(float(value.detach()), rel=1e-5)
        assert value > 0
    assert all(image.has("gt_pair_ids") for image in sampled)


def test_detections_are_the_hosts(features):
    ours, theirs = build("MatchRCNNROIHeads"), build("StandardROIHeads")
    for image, expected in zip(detect(ours, features), detect(theirs, features), strict=True):
        assert len(image) == 7
        for field in ("scores", "pred_classes", "pred_masks"):
            assert torch.equal(image.get(field), expected.get(field))
        assert torch.equal(image.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert image.pred_keypoints.shape == (7, DEEPFASHION2.max_landmarks, 3)
        for own, dense, c in zip(
            image.pred_keypoints, expected.pred_keypoints, image.pred_classes.tolist(), strict=True
        ):
            n = CATEGORIES[c].num_landmarks
            torch.testing.assert_close(own[:n], dense[CATEGORIES[c].slice], rtol=1e-5, atol=1e-4)


def test_streams_that_are_off(features, targets):
    model = build("MatchRCNNROIHeads", MASK_ON=False, KEYPOINT_ON=False)
    instances = targets([[0], [5]])
    for image in instances:
        image.remove("gt_masks")
        image.remove("gt_keypoints")
    assert set(train(model, features, instances)[1]) == {"loss_cls", "loss_box_reg"}
    (image, _) = detect(model, features)
    assert set(image.get_fields()) == {"pred_boxes", "scores", "pred_classes"}


def test_given_boxes(features, make_detections):
    model = build("MatchRCNNROIHeads").eval()
    given = make_detections([[0, 8], []])
    boxes = given[0].pred_boxes.tensor.clone()
    with torch.no_grad():
        first, second = model.forward_with_given_boxes(features, given)
    assert torch.equal(first.pred_boxes.tensor, boxes)
    assert first.pred_keypoints.shape == (2, DEEPFASHION2.max_landmarks, 3)
    assert second.pred_keypoints.shape == (0, DEEPFASHION2.max_landmarks, 3)
    assert first.pred_masks.shape[:2] == (2, 1)
    corner, far = boxes[:, None, :2], boxes[:, None, 2:]
    places = first.pred_keypoints[:, :8, :2]  # every category has 8 landmarks at least
    assert ((places >= corner) & (places <= far)).all()


@pytest.mark.parametrize(("classes", "visible"), [([[], []], 1.0), ([[4], [5]], 0.0)])
def test_batches_without_landmarks_still_reach_every_parameter(features, targets, classes, visible):
    model = build("MatchRCNNROIHeads")
    _, losses = train(model, features, targets(classes, visible=visible))
    assert losses["loss_keypoint"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.keypoint_head.parameters())


def test_training_needs_targets(features):
    with pytest.raises(ValueError, match="needs targets"):
        train(build("MatchRCNNROIHeads"), features, None)


class Attributes(Stream):
    """A stream as a user would write it, in one file: each attribute of a garment is one of three
    values; -1 where it is not known."""

    feature = "attributes"
    NUM_ATTRIBUTES, NUM_VALUES = 2, 3

    def __init__(self, *, class_features, num_classes):
        head = torch.nn.Linear(class_features.shape.channels, self.NUM_ATTRIBUTES * self.NUM_VALUES)
        super().__init__(modules={"attribute_head": head})
        self.class_features = class_features
        self.head = head
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg, input_shape, built):
        return {
            "class_features": built.sources["class"],
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def _logits(self, maps, boxes):
        logits = self.head(self.class_features(maps, boxes))
        return logits.view(-1, self.NUM_ATTRIBUTES, self.NUM_VALUES)

    def losses(self, maps, rois, given, is_taken):
        rois = [image[image.gt_classes < self.num_classes] for image in rois]
        rois = [image for image in rois if len(image)]
        logits = self._logits(maps, [image.proposal_boxes for image in rois]).flatten(0, 1)
        labels = torch.cat([image.gt_attributes for image in rois]).flatten()
        known = (labels >= 0).nonzero()[:, 0]
        loss = torch.nn.functional.cross_entropy(logits[known], labels[known], reduction="sum")
        return {"loss_attributes": loss / max(1, len(known))}, None

    def infer(self, maps, detections, given, is_taken):
        found = self._logits(maps, [image.pred_boxes for image in detections]).argmax(-1)
        for image, part in zip(detections, found.split([len(i) for i in detections]), strict=True):
            image.pred_attributes = part
        return detections, None


@pytest.fixture
def registered_attributes():
    ROI_STREAM_REGISTRY.register(Attributes)
    yield
    del ROI_STREAM_REGISTRY._obj_map["Attributes"]


def test_a_new_stream_is_one_class_and_one_line_of_a_config(
    features, targets, registered_attributes
):
    streams = ["MaskStream", "LandmarkStream", "MatchStream", "Attributes"]
    before = build("MatchRCNNROIHeads", MATCH_ON=True)
    model = build("MatchRCNNROIHeads", MATCH_ON=True, ROI_STREAMS=streams)
    # Behind all others, so that optimizer state that is stored by index keeps its place.
    assert list(model.state_dict())[:-2] == list(before.state_dict())
    images = targets([[0, 3], [0]])
    make_pair(images)
    for image in images:
        image.gt_attributes = torch.full((len(image), 2), -1)

    def learned():
        model.zero_grad()
        losses = train(model, features, images)[1]
        losses["loss_attributes"].backward()
        return losses["loss_attributes"].item(), model.attribute_head.weight.grad.clone()

    nothing, no_gradient = learned()
    assert nothing == 0
    assert not no_gradient.any()
    images[0].gt_attributes[0, 1] = 2  # of one attribute of one item
    loss, gradient = learned()
    assert loss > 0
    assert not gradient[:3].any()
    assert gradient[3:].any()
    (image, _) = detect(model, features)
    assert image.pred_attributes.shape == (7, 2)
    assert image.embedding.shape == (7, 256)


def test_a_stream_that_is_on_but_not_listed_is_an_error():
    with pytest.raises(ValueError, match=r"MODEL\.KEYPOINT_ON is True.*has no LandmarkStream"):
        build("MatchRCNNROIHeads", ROI_STREAMS=["MaskStream"])


def test_features_that_no_stream_offers_are_an_error():
    with pytest.raises(ValueError, match="names 'pose', but there are only class, mask, pyramid"):
        build("MatchRCNNROIHeads", MATCH_ON=True, KEYPOINT_ON=False)
    with pytest.raises(ValueError, match="names 'colour', but there are only"):
        build("MatchRCNNROIHeads", MATCH_ON=True, FEATURES="colour")


def test_features_of_a_roi_that_a_stream_left_out_are_an_error_and_not_a_neighbour_s():
    values = torch.arange(6.0).view(3, 2)
    features = RoIFeatures(values, torch.tensor([2, -1, 0, 1]))
    assert features.of(torch.tensor([3, 0])).tolist() == [[2, 3], [4, 5]]
    with pytest.raises(ValueError, match=r"features of RoIs \[1\]"):
        features.of(torch.tensor([0, 1]))


@pytest.mark.parametrize("visible", [0.7, 0.02])
def test_matching_on_shared_landmark_features_is_matching_on_its_own(
    features, targets, visible, assert_gradients_close
):
    """Losses and gradients as if the match stream computed the landmark features once more."""

    def losses_and_gradients(is_shared):
        model = build("MatchRCNNROIHeads", MATCH_ON=True)
        *_, landmarks, matching = model.streams
        matching.iou_threshold = 0.5  # more RoIs, and some that do not fill their item
        own = landmarks.losses

        def losses(*args):
            found, made = own(*args)
            assert made is not None
            return found, made if is_shared else None

        landmarks.losses = losses
        images = targets([[0, 3, 12], [7, 0]], visible=visible)
        for number, image in enumerate(images):
            image.gt_sources = torch.full((len(image),), number)
            image.gt_styles = image.gt_pair_ids + 1
            image.gt_has_partner = torch.ones(len(image), dtype=torch.bool)
        _, losses = train(model, features, images)
        sum(losses.values()).backward()
        assert losses["loss_match"] > 0
        return losses, {name: p.grad for name, p in model.named_parameters()}

    losses, gradients = losses_and_gradients(True)
    expected_losses, expected_gradients = losses_and_gradients(False)
    for name, value in expected_losses.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-6), name
    assert_gradients_close(gradients, expected_gradients, relative=1e-4)


def make_pair(images):
    """The first image becomes the user's, the second the shop's; equal categories match."""
    for number, image in enumerate(images):
        image.gt_sources = torch.full((len(image),), number)
        image.gt_pair_ids = image.gt_classes.clone()
        image.gt_styles = torch.ones(len(image), dtype=torch.int64)
        image.gt_has_partner = torch.ones(len(image), dtype=torch.bool)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_takes_its_features_from_the_streams(features, targets, variant):
    model = build("MatchRCNNROIHeads", MATCH_ON=True, FEATURES=variant)
    images = targets([[0, 3], [0]], visible=0.7)
    make_pair(images)
    _, losses = train(model, features, images)
    assert losses["loss_match"] > 0
    losses["loss_match"].backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    heads = {"class": "box_head", "pose": "keypoint_head", "mask": "mask_head"}
    expected = {heads[stream] for stream in variant.split("+") if stream in heads}
    assert reached == {"match_head", *expected}
    (image, _) = detect(model.eval(), features)
    assert image.embedding.shape == (7, 256)


def test_a_similarity_learns_beside_the_match_score(features, targets):
    given = {name: value.clone().requires_grad_() for name, value in features.items()}
    options = {"MATCH_ON": True, "FEATURES": "pyramid+class", "SIMILARITY": "RegionGraph"}
    model = build("MatchRCNNROIHeads", **options)
    images = targets([[0, 3], [0]], visible=0.7)
    make_pair(images)
    _, losses = train(model, given, images)
    assert {"loss_match", "loss_similarity"} < losses.keys()
    losses["loss_similarity"].backward()
    assert given["p3"].grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.match_head.parameters())
    (image, _) = detect(model.eval(), features)
    assert image.regions.shape == (7, 1 + 4 + 16, 128)
    plain = build("MatchRCNNROIHeads", **{**options, "SIMILARITY": "ProductSimilarity"})
    assert plain.load_state_dict(model.state_dict(), strict=False).missing_keys == []
    (other, _) = detect(plain.eval(), features)
    assert torch.equal(image.embedding, other.embedding)
    assert not other.has("regions")


@pytest.mark.parametrize("variant", VARIANTS)
def test_alone_the_match_loss_is_the_same(features, targets, variant):
    def losses(alone):
        model = build("MatchRCNNROIHeads", MATCH_ON=True, FEATURES=variant)
        if alone:
            model.train_only(MatchStream)
        images = targets([[0, 3], [0]], visible=0.7)
        make_pair(images)
        return train(model, features, images)[1]

    alone, together = losses(True), losses(False)
    assert alone.keys() == {"loss_match"} < together.keys()
    assert alone["loss_match"].item() == pytest.approx(together["loss_match"].item(), rel=1e-5)


def test_the_only_stream_can_be_trained_alone(features, targets):
    options = {"MATCH_ON": True, "MASK_ON": False, "KEYPOINT_ON": False, "FEATURES": "pyramid"}
    model = build("MatchRCNNROIHeads", **options)
    model.train_only(MatchStream)
    images = targets([[0, 3], [0]], visible=0.7)
    make_pair(images)
    assert train(model, features, images)[1].keys() == {"loss_match"}


def test_the_pyramid_s_levels_are_chosen_by_config(features, targets):
    """Gradients of the match loss reach those levels and no others."""

    def reached(**options):
        torch.manual_seed(0)
        model = build("MatchRCNNROIHeads", MATCH_ON=True, FEATURES="pyramid", **options)
        own = {level: f.clone().requires_grad_() for level, f in features.items()}
        images = targets([[0], [0]])
        make_pair(images)
        train(model, own, images)[1]["loss_match"].backward()
        return {level for level, f in own.items() if f.grad is not None and f.grad.any()}

    assert reached(IN_FEATURES=["p2"]) == {"p2"}
    assert len(reached(IN_FEATURES=[])) > 0
    with pytest.raises(ValueError, match="names 'p9'; the backbone has p2, p3, p4, p5"):
        reached(IN_FEATURES=["p9"])


def test_matching_where_no_landmark_is_visible(features, targets):
    model = build("MatchRCNNROIHeads", MATCH_ON=True)
    images = targets([[4], [5]], visible=0.0)
    for image in images:
        image.gt_sources = image.gt_styles = torch.ones(1, dtype=torch.int64)
        image.gt_has_partner = torch.ones(1, dtype=torch.bool)
    _, losses = train(model, features, images)
    assert losses["loss_match"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.match_head.parameters())


def test_every_stream_runs_on_a_cascade_s_boxes(features, targets):
    model = build("MatchRCNNCascadeROIHeads", MATCH_ON=True, FEATURES="pose+class")
    assert {name.split(".")[0] for name in model.state_dict()} == {
        "box_head",
        "box_predictor",
        "mask_head",
        "keypoint_head",
        "match_head",
    }
    assert "box_predictor.2.cls_score.weight" in model.state_dict()
    images = targets([[0, 3], [0]])
    make_pair(images)
    _, losses = train(model, features, images)
    stages = [f"loss_{kind}_stage{k}" for k in range(3) for kind in ("cls", "box_reg")]
    assert list(losses) == [*stages, "loss_mask", "loss_keypoint", "loss_match"]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    # Matching takes the last stage's vectors.
    model.zero_grad()
    train(model, features, images)[1]["loss_match"].backward()
    assert model.box_head[0].fc1.weight.grad is None
    assert model.box_head[2].fc1.weight.grad.any()
    (image, _) = detect(model, features)
    assert image.embedding.shape == (7, 256)
    assert image.pred_keypoints.shape == (7, DEEPFASHION2.max_landmarks, 3)
    assert image.pred_masks.shape[:2] == (7, 1)
