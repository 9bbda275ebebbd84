import pytest
import torch

from match_rcnn.lite.modeling.postprocessing import detector_postprocess
from match_rcnn.lite.structures import Boxes, Instances


def detections():
    return Instances(
        (50, 100),
        pred_boxes=Boxes(
            torch.tensor([[10.0, 10, 30, 20], [90, 40, 120, 60], [110.0, 10, 120, 20]])
        ),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        pred_masks=torch.ones(3, 1, 4, 4),
        pred_keypoints=torch.tensor([[[10.0, 20.0, 0.5]]]).repeat(3, 1, 1),
    )


def test_everything_is_scaled_and_what_is_outside_is_dropped():
    raw = detections()
    results = detector_postprocess(raw, 100, 400)
    assert results.image_size == (100, 400)
    assert results.pred_boxes.tensor.tolist() == [[40.0, 20, 120, 40], [360, 80, 400, 100]]
    assert results.scores.tolist() == pytest.approx([0.9, 0.8])
    assert results.pred_keypoints.tolist() == [[[40.0, 40.0, 0.5]]] * 2
    assert results.pred_masks.shape == (2, 100, 400)
    # A mask that is full everywhere spans its box; what is outside of it counts as 0, so that the
    # box's very corners are below the threshold.
    rows, columns = results.pred_masks[0].nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (20, 39)
    assert (int(columns.min()), int(columns.max())) == (40, 119)
    assert results.pred_masks[0, 30, 40:120].all()
    assert not results.pred_masks[0, 20, 40]


def test_the_input_stays_as_it_was():
    raw = detections()
    detector_postprocess(raw, 100, 400)
    before = detections()
    assert torch.equal(raw.pred_boxes.tensor, before.pred_boxes.tensor)
    assert torch.equal(raw.pred_keypoints, before.pred_keypoints)
    assert raw.pred_masks.shape == (3, 1, 4, 4)


def test_masks_at_the_threshold():
    raw = detections()
    raw.pred_masks = torch.full((3, 1, 4, 4), 0.4)
    assert not detector_postprocess(raw, 50, 100).pred_masks.any()
    masks = detector_postprocess(raw, 50, 100, mask_threshold=0.3).pred_masks
    assert masks[0, 15, 20]
    assert not masks[0, 5, 20]


def test_no_detections():
    results = detector_postprocess(detections()[:0], 20, 30)
    assert len(results) == 0
    assert results.pred_masks.shape == (0, 20, 30)


def test_proposals_are_scaled_too():
    raw = Instances((10, 10), proposal_boxes=Boxes(torch.tensor([[1.0, 2, 3, 4]])))
    results = detector_postprocess(raw, 20, 30)
    assert results.proposal_boxes.tensor.tolist() == [[3.0, 4, 9, 8]]


def test_results_without_boxes_are_an_error():
    with pytest.raises(ValueError, match="expected pred_boxes or proposal_boxes"):
        detector_postprocess(Instances((10, 10), scores=torch.ones(1)), 20, 30)
