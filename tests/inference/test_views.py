import numpy as np
import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import Boxes, Instances, build_model
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.inference.switches import apply_switches
from match_rcnn.inference.views import View, Views, _join, fuse, mirrored_rows, views_of

SIZE = (64, 48)


@pytest.fixture(scope="module")
def cfg(tiny_overrides):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file("configs/quickstart.yaml")
    cfg.merge_from_list(tiny_overrides)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 6
    return cfg


@pytest.fixture(scope="module")
def model(cfg):
    torch.manual_seed(1)
    return build_model(cfg).eval()


@pytest.fixture(scope="module")
def image():
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 255, (3, *SIZE), generator=generator, dtype=torch.uint8)


def sample(image):
    return {"image": image, "height": 2 * image.shape[1], "width": 2 * image.shape[2]}


def given(boxes, classes):
    found = Instances(SIZE, pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)))
    found.pred_classes = torch.tensor(classes)
    return found


def run(model, views, image, boxes=None, **kwargs):
    with torch.no_grad():
        joined = Views(views, DEEPFASHION2, 6)
        instances = None if boxes is None else [boxes]
        return joined.infer(model, [sample(image)], instances, **kwargs)[0]


def test_one_plain_view_is_the_models_own_inference(model, image):
    with torch.no_grad():
        expected = model.inference([sample(image)])[0]["instances"]
    found = run(model, [View()], image)["instances"]
    assert len(found) == len(expected) > 0
    assert found.image_size == expected.image_size
    for field, value in expected.get_fields().items():
        value, other = getattr(value, "tensor", value), found.get(field)
        other = getattr(other, "tensor", other)
        torch.testing.assert_close(other.float(), value.float(), rtol=1e-5, atol=1e-5)


def test_an_image_and_its_mirror_image_give_the_same(model, image):
    """With both sides in view, whatever the model does: all that is found is mirrored."""
    views = views_of((1.0,), flip=True)
    width = SIZE[1]
    one = given([[4, 6, 30, 50], [10, 8, 44, 60]], [3, 8])
    other = given([[width - 30, 6, width - 4, 50], [width - 44, 8, width - 10, 60]], [3, 8])
    here = run(model, views, image, one, do_postprocess=False)
    there = run(model, views, image.flip(2), other, do_postprocess=False)
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(here.pred_masks, there.pred_masks.flip(-1), **close)
    torch.testing.assert_close(here.embedding, there.embedding, **close)
    for index, kind in enumerate((DEEPFASHION2.categories[3], DEEPFASHION2.categories[8])):
        points = there.pred_keypoints[index][: kind.num_landmarks].clone()
        points[:, 0] = width - points[:, 0]
        expected = points[torch.as_tensor(kind.flip_permutation.copy())]
        torch.testing.assert_close(
            here.pred_keypoints[index][: kind.num_landmarks], expected, **close
        )


def test_found_boxes_are_mirrored_too(model, image):
    views = views_of((1.0,), flip=True)
    here = run(model, views, image, do_postprocess=False)
    there = run(model, views, image.flip(2), do_postprocess=False)
    boxes = there.pred_boxes.tensor[:, [2, 1, 0, 3]]
    boxes[:, [0, 2]] = SIZE[1] - boxes[:, [0, 2]]
    torch.testing.assert_close(here.pred_boxes.tensor, boxes, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(here.scores, there.scores, rtol=1e-3, atol=1e-4)


def test_what_is_found_in_a_smaller_view_comes_in_the_images_pixels(model, image):
    boxes = given([[4, 6, 30, 50]], [0])
    small = run(model, [View(0.5)], image, boxes, do_postprocess=False)
    assert small.image_size == SIZE
    points = small.pred_keypoints[0][:25, :2]
    assert ((points >= torch.tensor([3.0, 5.0])) & (points <= torch.tensor([31.0, 51.0]))).all()
    assert points[:, 1].max() > 25  # not left in the small view's pixels
    mean = run(model, [View(), View(0.5)], image, boxes, do_postprocess=False)
    large = run(model, [View()], image, boxes, do_postprocess=False)
    expected = (small.embedding + large.embedding) / 2
    torch.testing.assert_close(mean.embedding, expected, rtol=1e-5, atol=1e-6)
    a, b = large.pred_keypoints[0][:25], small.pred_keypoints[0][:25]
    weighted = (a[:, :2] * a[:, 2:] + b[:, :2] * b[:, 2:]) / (a[:, 2:] + b[:, 2:])
    torch.testing.assert_close(mean.pred_keypoints[0][:25, :2], weighted, rtol=1e-4, atol=1e-3)
    assert not mean.pred_keypoints[0][25:].any()


def detections(boxes, scores, classes):
    found = given(boxes, classes)
    found.scores = torch.tensor(scores)
    return found


def test_fusion_by_hand():
    first = detections([[0, 0, 10, 10], [20, 20, 30, 30]], [0.8, 0.6], [1, 1])
    second = detections([[0, 0, 12, 10], [20, 20, 30, 30]], [0.4, 0.5], [1, 2])
    fused = fuse([first, second], most=10)
    # The mean of two, weighted 2 to 1; two that one view alone found, of other categories.
    assert fused.scores.tolist() == pytest.approx([0.6, 0.3, 0.25])
    assert fused.pred_classes.tolist() == [1, 1, 2]
    assert fused.pred_boxes.tensor[0].tolist() == pytest.approx([0, 0, 32 / 3, 10])
    assert fuse([first, second], most=1).scores.tolist() == pytest.approx([0.6])


def test_fusion_of_nothing():
    empty = detections(np.zeros((0, 4)).tolist(), [], [])
    empty.pred_boxes = Boxes(torch.zeros(0, 4))
    empty.pred_classes = torch.zeros(0, dtype=torch.int64)
    assert len(fuse([empty, empty], 5)) == 0


@pytest.mark.parametrize("layout", ["compact", "dense"])
def test_mirrored_rows_are_each_categorys_permutation(layout):
    dense = layout == "dense"
    rows = DEEPFASHION2.num_landmarks if dense else DEEPFASHION2.max_landmarks
    table = mirrored_rows(torch.arange(13), rows, DEEPFASHION2)
    for index, kind in enumerate(DEEPFASHION2.categories):
        start = kind.offset if dense else 0
        names = [kind.landmark_names[i] for i in kind.flip_permutation]
        own = table[index, start : start + kind.num_landmarks] - start
        assert [kind.landmark_names[i] for i in own] == names
        rest = [i for i in range(rows) if not start <= i < start + kind.num_landmarks]
        assert table[index, rest].tolist() == rest


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, 1.5)])
def test_scales_without_meaning(scales):
    with pytest.raises(
        ValueError, match=r"TEST\.AUG\.SCALES: expected numbers above 0 and up to 1"
    ):
        views_of(scales, True)


def test_the_config_switches_views_on(cfg, image):
    cfg = cfg.clone()
    cfg.TEST.AUG.ENABLED = True
    cfg.TEST.AUG.SCALES = (1.0, 0.5)
    torch.manual_seed(1)
    model = build_model(cfg).eval()
    apply_switches(model, cfg)
    with torch.no_grad():
        found = model([sample(image)])[0]["instances"]
    expected = run(model, views_of((1.0, 0.5), True), image)["instances"]
    assert torch.equal(found.scores, expected.scores)
    assert found.pred_masks.shape[1:] == (2 * SIZE[0], 2 * SIZE[1])


def test_regions_are_the_first_views_and_embeddings_the_mean():
    seen = [
        Instances(
            SIZE, regions=torch.full((1, 5, 2), value).half(), embedding=torch.full((1, 3), value)
        )
        for value in (1.0, 4.0)
    ]
    joined = _join(given([[0, 0, 9, 9]], [2]), seen)
    assert joined.regions.tolist() == [[[1.0, 1.0]] * 5]
    assert joined.regions.dtype == torch.float16
    assert joined.embedding.tolist() == [[2.5] * 3]
