"""What of a config follows from the training set."""

import pytest

from match_rcnn.config import follow_taxonomy, get_match_rcnn_cfg
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy

OWN = Taxonomy.from_coco(
    [
        {"id": 1, "name": "hat"},
        {"id": 2, "name": "tie", "keypoints": ["a", "b"], "keypoint_sigmas": [0.1, 0.1]},
        {"id": 3, "name": "sock"},
    ],
    "own",
)
HATS = Taxonomy.from_coco([{"id": 1, "name": "hat"}], "hats")
CLASSES, LANDMARKS = "MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"


def numbers(cfg):
    return cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS


@pytest.mark.parametrize(
    ("keys", "taxonomy", "expected"),
    [
        ([], OWN, (3, 2)),  # the host's defaults, 80 and 17, are not set
        ([CLASSES, 13, LANDMARKS, 294], OWN, (3, 2)),  # nor are those of our configs
        ([CLASSES, 3, LANDMARKS, 2], OWN, (3, 2)),
        ([], DEEPFASHION2, (13, 294)),
        ([], HATS, (1, 17)),  # no landmarks: the head is off, its key means nothing
    ],
)
def test_numbers_follow(keys, taxonomy, expected):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_list(keys)
    follow_taxonomy(cfg, taxonomy)
    assert numbers(cfg) == expected


@pytest.mark.parametrize(
    ("keys", "stated", "message"),
    [
        ([CLASSES, 5], [], r"NUM_CLASSES is 5, but the training set \(own\) has 3 categories"),
        ([LANDMARKS, 4], [], r"NUM_KEYPOINTS is 4, but the training set \(own\) has 2 landmarks"),
        ([CLASSES, 13], [CLASSES], r"NUM_CLASSES is 13, but .* has 3"),
    ],
)
def test_a_contradiction_names_both_numbers(keys, stated, message):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_list(keys)
    with pytest.raises(ValueError, match=message):
        follow_taxonomy(cfg, OWN, stated)


def test_landmarks_that_nobody_labelled_cannot_be_learned():
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ValueError, match="no category of hats has landmarks"):
        follow_taxonomy(cfg, HATS)
