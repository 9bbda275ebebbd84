"""The category-aware head against the plain one: the host's, and an independent one below."""

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import (
    Boxes,
    EventStorage,
    Instances,
    Keypoints,
    KRCNNConvDeconvUpsampleHead,
    ShapeSpec,
    build_keypoint_head,
)
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.modeling import CategoryAwareLandmarkHead

SHOP = Taxonomy(
    "shop", (Category(3, "bag"), Category(8, "dress", tuple("abcd"), sigmas=(0.05,) * 4))
)

CATEGORIES = DEEPFASHION2.categories
MAX_LANDMARKS = DEEPFASHION2.max_landmarks
CHANNELS, SIDE = 6, 7
IMAGES = [[0, 3, 3, 12], [], [7, 8]]


def build(cls, **kwargs):
    torch.manual_seed(0)
    kwargs = {"num_keypoints": DEEPFASHION2.num_landmarks, "loss_normalizer": "visible", **kwargs}
    return cls(ShapeSpec(channels=CHANNELS, height=SIDE, width=SIDE), conv_dims=(8, 5), **kwargs)


@pytest.fixture(scope="module")
def heads():
    """Ours and the host's with equal weights (the same seed drew them)."""
    return build(CategoryAwareLandmarkHead), build(KRCNNConvDeconvUpsampleHead)


def features(num_rois, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rois, CHANNELS, SIDE, SIDE, generator=generator)


def loss_and_gradients(head, x, instances):
    """The loss, and its gradients by the input and by every parameter."""
    head.train()
    head.zero_grad()
    x = x.clone().requires_grad_()
    with EventStorage():
        loss = head(x, instances)["loss_keypoint"]
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in head.named_parameters()}
    return loss.detach(), {"x": x.grad, **gradients}


@pytest.fixture(scope="session")
def assert_equal_training(assert_gradients_close):
    def check(ours, theirs):
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
        assert_gradients_close(ours[1], theirs[1])

    return check


def plain_logits(head, x):
    """All L heat maps, from the weights alone."""
    weights = head.state_dict()
    for i in (1, 2):
        x = F.conv2d(x, weights[f"conv_fcn{i}.weight"], weights[f"conv_fcn{i}.bias"], padding=1)
        x = x.clamp(min=0)
    x = F.conv_transpose2d(
        x, weights["score_lowres.weight"], weights["score_lowres.bias"], stride=2, padding=1
    )
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def plain_loss(logits, instances):
    """(sum of cross-entropies, number of valid landmarks), landmark by landmark."""
    total, valid, row = 0.0, 0, 0
    side = logits.shape[-1]
    for image in instances:
        for box, c, landmarks in zip(
            image.proposal_boxes.tensor.tolist(),
            image.gt_classes.tolist(),
            image.gt_keypoints.tensor,
            strict=True,
        ):
            category = CATEGORIES[c]
            maps = logits[row, category.slice]
            for heat, (x, y, v) in zip(maps, landmarks.tolist(), strict=False):
                inside = box[0] <= x <= box[2] and box[1] <= y <= box[3]
                if v > 0 and inside:
                    column = min(int((x - box[0]) / (box[2] - box[0]) * side), side - 1)
                    line = min(int((y - box[1]) / (box[3] - box[1]) * side), side - 1)
                    total += float(heat.double().logsumexp((0, 1)) - heat[line, column])
                    valid += 1
            row += 1
    return total, valid


def test_weights_are_the_plain_heads(heads):
    ours, theirs = (head.state_dict() for head in heads)
    assert list(ours) == list(theirs)
    assert [n for n, _ in heads[0].named_parameters()] == [
        n for n, _ in heads[1].named_parameters()
    ]
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert ours["score_lowres.weight"].shape == (5, 294, 4, 4)
    assert set(ours) == {
        f"{layer}.{kind}"
        for layer in ("conv_fcn1", "conv_fcn2", "score_lowres")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("layout", ["compact", "dense"])
def test_loss_and_gradients_are_the_hosts(heads, make_ground_truth, layout, assert_equal_training):
    x = features(6)
    ours = loss_and_gradients(heads[0], x, make_ground_truth(IMAGES, layout=layout))
    theirs = loss_and_gradients(heads[1], x, make_ground_truth(IMAGES, layout="dense"))
    assert_equal_training(ours, theirs)


def test_loss_is_the_plain_one(heads, make_ground_truth):
    x, instances = features(6), make_ground_truth(IMAGES)
    total, valid = plain_loss(plain_logits(heads[0], x), instances)
    loss, _ = loss_and_gradients(heads[0], x, instances)
    assert valid > 40
    assert float(loss) == pytest.approx(total / valid, rel=1e-5)


def test_loss_weight_and_static_normalizer(make_ground_truth, assert_equal_training):
    kwargs = {"loss_weight": 3.0, "loss_normalizer": 50.0}
    x = features(6)
    head = build(CategoryAwareLandmarkHead, **kwargs)
    instances = make_ground_truth(IMAGES)
    total, _ = plain_loss(plain_logits(head, x), instances)
    ours = loss_and_gradients(head, x, instances)
    assert float(ours[0]) == pytest.approx(3 * total / (50 * len(IMAGES)), rel=1e-5)
    theirs = build(KRCNNConvDeconvUpsampleHead, **kwargs)
    dense = make_ground_truth(IMAGES, layout="dense")
    assert_equal_training(ours, loss_and_gradients(theirs, x, dense))


images_of_classes = st.lists(
    st.lists(st.integers(0, len(CATEGORIES) - 1), max_size=5), min_size=1, max_size=3
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    classes=images_of_classes,
    visible=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_training_equals_the_host_for_any_mixture(
    heads, make_ground_truth, assert_equal_training, classes, visible, seed
):
    x = features(sum(map(len, classes)), seed)
    compact = make_ground_truth(classes, visible, seed)
    dense = make_ground_truth(classes, visible, seed, layout="dense")
    ours = loss_and_gradients(heads[0], x, compact)
    assert_equal_training(ours, loss_and_gradients(heads[1], x, dense))


@pytest.mark.parametrize(
    ("classes", "visible"),
    [
        ([[], []], 1.0),  # no RoI at all
        ([[2, 5], [5]], 0.0),  # RoIs, but nothing labelled
    ],
)
def test_nothing_to_learn_is_a_zero_loss_that_reaches_every_parameter(
    heads, make_ground_truth, classes, visible
):
    x = features(sum(map(len, classes)))
    with torch.no_grad():
        x.fill_(torch.inf)  # must not become NaN
    loss, gradients = loss_and_gradients(heads[0], x, make_ground_truth(classes, visible))
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients.values())


def test_an_image_without_ground_truth_needs_no_fields(
    heads, make_ground_truth, assert_equal_training
):
    instances = make_ground_truth([[1], []])
    whole = loss_and_gradients(heads[0], features(1), instances)
    instances[1].remove("gt_keypoints")
    assert_equal_training(loss_and_gradients(heads[0], features(1), instances), whole)


def test_skipped_batches_are_counted(make_ground_truth):
    head = build(CategoryAwareLandmarkHead).train()
    with EventStorage() as storage:
        head(features(0), make_ground_truth([[]]))
        head(features(0), make_ground_truth([[]]))
    assert storage.latest()["kpts_num_skipped_batches"][0] == 2


def predict(head, x, instances):
    with torch.no_grad():
        return head.eval()(x, instances)


def test_predictions_are_the_hosts(heads, make_detections):
    x = features(6)
    ours = predict(heads[0], x, make_detections(IMAGES))
    theirs = predict(heads[1], x, make_detections(IMAGES))
    for image, expected in zip(ours, theirs, strict=True):
        assert image.pred_keypoints.shape == (len(image), MAX_LANDMARKS, 3)
        assert not image.has("pred_keypoint_heatmaps")
        for row, dense, c in zip(
            image.pred_keypoints, expected.pred_keypoints, image.pred_classes.tolist(), strict=True
        ):
            n = CATEGORIES[c].num_landmarks
            torch.testing.assert_close(row[:n], dense[CATEGORIES[c].slice], rtol=1e-5, atol=1e-5)
            assert not row[n:].any()


@pytest.mark.parametrize("rois_per_chunk", [1, 4, 6, 100])
def test_chunks_change_nothing(heads, make_detections, rois_per_chunk):
    head = build(CategoryAwareLandmarkHead, rois_per_chunk=rois_per_chunk)
    x = features(6)
    for one, other in zip(
        predict(head, x, make_detections(IMAGES)),
        predict(heads[0], x, make_detections(IMAGES)),
        strict=True,
    ):
        torch.testing.assert_close(one.pred_keypoints, other.pred_keypoints)


def test_heat_maps_on_request(heads, make_detections):
    head = build(CategoryAwareLandmarkHead, return_heatmaps=True)
    x = features(6)
    logits = plain_logits(head, x)
    row = 0
    for image in predict(head, x, make_detections(IMAGES)):
        maps = image.pred_keypoint_heatmaps
        assert maps.shape == (len(image), MAX_LANDMARKS, 4 * SIDE, 4 * SIDE)
        for own, c in zip(maps, image.pred_classes.tolist(), strict=True):
            n = CATEGORIES[c].num_landmarks
            torch.testing.assert_close(own[:n], logits[row, CATEGORIES[c].slice])
            assert not own[n:].any()
            row += 1


def test_no_detection(heads, make_detections):
    images = predict(heads[0], features(0), make_detections([[], []]))
    assert [image.pred_keypoints.shape for image in images] == [(0, MAX_LANDMARKS, 3)] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(heads, make_ground_truth, make_detections, dtype):
    head, x = heads[0], features(6)
    exact, _ = loss_and_gradients(head, x, make_ground_truth(IMAGES))
    expected = predict(head, x, make_detections(IMAGES))
    with torch.autocast("cpu", dtype=dtype):
        loss, gradients = loss_and_gradients(head, x.to(dtype), make_ground_truth(IMAGES))
        images = predict(head, x.to(dtype), make_detections(IMAGES))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), rel=0.02)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    for image, reference in zip(images, expected, strict=True):
        assert image.pred_keypoints.dtype == torch.float32
        torch.testing.assert_close(
            image.pred_keypoints[..., 2], reference.pred_keypoints[..., 2], rtol=0.1, atol=1e-4
        )


def test_wrong_widths_are_refused(heads, make_ground_truth):
    with pytest.raises(ValueError, match="294; got 17"):
        build(CategoryAwareLandmarkHead, num_keypoints=17)
    instances = make_ground_truth([[1]])
    instances[0].gt_keypoints.tensor = torch.ones(1, 17, 3)
    with pytest.raises(ValueError, match=r"39 \(compact\) or 294 \(dense\) landmarks, got 17"):
        loss_and_gradients(heads[0], features(1), instances)


def test_from_config():
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 13
    cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "CategoryAwareLandmarkHead"
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 294
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [8, 8]
    cfg.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = False
    cfg.MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT = 0.5
    head = build_keypoint_head(cfg, ShapeSpec(channels=4, height=14, width=14))
    assert isinstance(head, CategoryAwareLandmarkHead)
    assert head.score_lowres.weight.shape == (8, 294, 4, 4)
    # landmarks * RoIs per image * share of positives
    assert (head.loss_weight, head.loss_normalizer) == (0.5, 294 * 512 * 0.25)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    with pytest.raises(ValueError, match=r"13 categories, but .* is 80"):
        build_keypoint_head(cfg, ShapeSpec(channels=4, height=14, width=14))


# Of three categories the second has no landmarks.
COUNTS = (3, 0, 2)


def test_a_category_without_landmarks_has_no_channel_no_loss_and_no_result():
    head = build(CategoryAwareLandmarkHead, num_keypoints=5, landmark_counts=COUNTS)
    box = torch.tensor([[10.0, 10, 60, 80]])
    points = torch.tensor([[[20.0, 30, 2], [40, 50, 1], [15, 70, 2]]])

    def image(*classes):
        kinds = torch.tensor(classes)
        own = torch.arange(3) < torch.tensor(COUNTS)[kinds][:, None]
        return Instances(
            (100, 100),
            proposal_boxes=Boxes(box.repeat(len(classes), 1)),
            gt_classes=kinds,
            gt_keypoints=Keypoints(points.repeat(len(classes), 1, 1) * own[..., None]),
        )

    x = features(3)
    loss, gradients = loss_and_gradients(head, x, [image(0, 1, 2)])
    expected, others = loss_and_gradients(head, x[[0, 2]], [image(0, 2)])
    assert torch.equal(loss, expected)
    assert not gradients["x"][1].any()
    for name, gradient in others.items():
        torch.testing.assert_close(
            gradients[name][[0, 2]] if name == "x" else gradients[name], gradient
        )
    assert loss_and_gradients(head, x[:1], [image(1)])[0] == 0
    kinds = torch.tensor([1, 2, 1, 0])
    found = Instances((100, 100), pred_boxes=Boxes(box.repeat(4, 1)), pred_classes=kinds)
    (found,) = predict(head, features(4), [found])
    assert found.pred_keypoints.any(2).sum(1).tolist() == [0, 2, 0, 3]


def test_the_taxonomy_gives_the_numbers():
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.TAXONOMY = yaml.safe_dump(SHOP.to_dict())
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 2, 4
    cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "CategoryAwareLandmarkHead"
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [8]
    head = build_keypoint_head(cfg, ShapeSpec(channels=4, height=14, width=14))
    assert head.landmark_counts == (0, 4)
    assert head.score_lowres.weight.shape == (8, 4, 4, 4)
