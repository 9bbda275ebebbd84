import argparse

import torch

from match_rcnn.d2 import (
    BaseKeypointRCNNHead,
    Boxes,
    EventStorage,
    Instances,
    Keypoints,
    KRCNNConvDeconvUpsampleHead,
    ShapeSpec,
)
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.experiments.benchmarks import landmark_head as benchmark


def arguments(*options):
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    return parser.parse_args(options)


def test_a_small_run_is_correct_and_has_the_issues_goals():
    options = ["--runs", "1", "--detections", "1", "--rois", "4", "--channels", "8"]
    result = benchmark.run(arguments(*options))
    assert result.correct, result.checks
    assert len(result.checks) == 6
    assert result.ratios.keys() == result.goals.keys()
    assert sorted(result.goals.values()) == [3, 6, 10, 40]
    assert arguments().detections == 100
    assert arguments().rois == 64


def test_garment_boxes():
    boxes = benchmark.garment_boxes(500)
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    assert 0.3 * 1067 <= width.min() < width.max() <= 0.6 * 1067
    assert 0.4 * 800 <= height.min() < height.max() <= 0.8 * 800
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 1067).all()
    assert (boxes[:, 3] <= 800).all()


def test_the_plain_decoding_is_the_hosts():
    class Given(BaseKeypointRCNNHead):
        def layers(self, x):
            return x

    torch.manual_seed(0)
    boxes, maps = benchmark.garment_boxes(2) / 5, torch.randn(2, 294, 56, 56)
    host = Given(num_keypoints=294, loss_normalizer="visible").eval()
    (image,) = host(maps, [Instances((160, 214), pred_boxes=Boxes(boxes))])
    found = benchmark.plain_decoding(maps, boxes)
    torch.testing.assert_close(found, image.pred_keypoints, rtol=1e-5, atol=1e-5)


def test_the_plain_loss_is_the_hosts():
    torch.manual_seed(0)
    host = KRCNNConvDeconvUpsampleHead(
        ShapeSpec(channels=8, height=14, width=14),
        num_keypoints=DEEPFASHION2.num_landmarks,
        conv_dims=(),
        loss_normalizer="visible",
    ).train()
    image = benchmark.training_instances(3)
    dense = Keypoints(benchmark.dense_landmarks(image.gt_keypoints.tensor, image.gt_classes))
    features = torch.randn(3, 8, 14, 14)
    found = benchmark.plain_loss(host, features, image.proposal_boxes.tensor, dense)
    image.gt_keypoints = dense
    with EventStorage():
        expected = host(features, [image])["loss_keypoint"]
    torch.testing.assert_close(found, expected)
