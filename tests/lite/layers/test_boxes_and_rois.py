"""nms, RoIAlign."""

import pytest
import torch

from match_rcnn.lite.layers import ROIAlign, batched_nms, nms


class TestBatchedNms:
    # two that overlap by half, one apart
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5.1], [20, 20, 30, 30]])
    scores = torch.tensor([0.5, 0.9, 0.7])

    def test_within_a_group_only(self):
        assert batched_nms(self.boxes, self.scores, torch.zeros(3), 0.5).tolist() == [1, 2]
        apart = torch.tensor([0, 1, 0])
        assert batched_nms(self.boxes, self.scores, apart, 0.5).tolist() == [1, 2, 0]

    def test_the_threshold_itself_survives(self):
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
        scores = torch.tensor([0.9, 0.5])
        assert batched_nms(boxes, scores, torch.zeros(2), 0.5).tolist() == [0, 1]

    def test_half_precision_boxes_do_not_overflow(self):
        boxes = torch.tensor([[0.0, 0, 1000, 1000], [0, 0, 1000, 998]], dtype=torch.float16)
        keep = batched_nms(boxes, self.scores[:2], torch.tensor([80, 81]), 0.5)
        assert keep.tolist() == [1, 0]

    def test_many_boxes_by_group(self):
        # Beyond some thousand boxes torchvision goes group by group; the result is the same.
        generator = torch.Generator().manual_seed(0)
        boxes = torch.rand(3000, 4, generator=generator) * 100
        boxes[:, 2:] += boxes[:, :2]
        scores = torch.rand(3000, generator=generator)
        groups = torch.randint(0, 3, (3000,), generator=generator)
        members = [torch.nonzero(groups == group)[:, 0] for group in range(3)]
        kept = [m[nms(boxes[m], scores[m], 0.5)] for m in members]
        found = batched_nms(boxes, scores, groups, 0.5)
        assert sorted(found.tolist()) == sorted(torch.cat(kept).tolist())
        assert (scores[found].diff() <= 0).all()

    def test_empty_and_wrong(self):
        assert batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5).shape == (0,)
        with pytest.raises(ValueError, match=r"\(2, 5\)"):
            batched_nms(torch.zeros(2, 5), torch.zeros(2), torch.zeros(2), 0.5)


class TestROIAlign:
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    rois = torch.tensor([[0, 1.0, 1, 7, 6]])

    @pytest.mark.parametrize(
        ("aligned", "expected"),
        [
            # By hand: 3 x 2.5 cells from (0.5, 0.5); a bin is 1.5 x 1.25 cells with 2 x 2 samples
            # whose mean is the value at its centre, (1.25, 1.125), less the half cell.
            (True, [[0.75 + 0.625 * 5, 2.25 + 0.625 * 5], [0.75 + 1.875 * 5, 2.25 + 1.875 * 5]]),
            (False, [[6.875, 8.375], [13.125, 14.625]]),
        ],
    )
    def test_by_hand(self, aligned, expected):
        # detectron2 02b5c4e2 gives 3.875, 5.375, 10.125, 11.625 and the second row's.
        pooled = ROIAlign((2, 2), 0.5, 0, aligned)(self.x, self.rois)
        torch.testing.assert_close(pooled[0, 0], torch.tensor(expected))

    def test_shapes(self):
        assert ROIAlign(7, 1.0, 2)(self.x, self.rois).shape == (1, 1, 7, 7)
        assert ROIAlign((7, 3), 1.0, 0)(self.x, self.rois[:0]).shape == (0, 1, 7, 3)
        assert "aligned=True" in repr(ROIAlign(7, 1.0, 2))

    def test_boxes_of_another_type(self):
        pooled = ROIAlign(2, 0.5, 0)(self.x.double(), self.rois)
        assert pooled.dtype == torch.float64

    def test_boxes_without_index(self):
        with pytest.raises(ValueError, match=r"\(R, 5\), got \(1, 4\)"):
            ROIAlign(2, 1.0, 0)(self.x, self.rois[:, 1:])
