import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from match_rcnn.lite.structures import Keypoints, heatmaps_to_keypoints
from match_rcnn.lite.structures import keypoints as module


class TestKeypoints:
    def test_construction(self):
        assert Keypoints([[[1, 2, 2]]]).tensor.dtype == torch.float32
        assert len(Keypoints(torch.zeros(0, 5, 3))) == 0
        with pytest.raises(ValueError, match=r"\(2, 5\)"):
            Keypoints(torch.zeros(2, 5))

    def test_subsets_and_cat(self):
        keypoints = Keypoints(torch.arange(18.0).reshape(3, 2, 3))
        assert keypoints[1].tensor.shape == (1, 2, 3)
        assert keypoints[torch.tensor([True, False, True])].tensor[:, 0, 0].tolist() == [0, 12]
        both = Keypoints.cat([keypoints[:1], keypoints])
        assert both.tensor.shape == (4, 2, 3)
        assert both.to("cpu").device.type == "cpu"
        with pytest.raises(ValueError, match="at least one"):
            Keypoints.cat([])


class TestToHeatmap:
    box = torch.tensor([[10.0, 20, 18, 28]])  # 8 x 8 pixels: 2 pixels a cell of 4 x 4

    @pytest.mark.parametrize(
        ("point", "cell", "valid"),
        [
            ((10, 20, 2), (0, 0), True),  # the near corner
            ((11.99, 22, 1), (0, 1), True),  # floor; occluded counts
            ((18, 28, 2), (3, 3), True),  # the far edge falls in the last cell
            ((18, 20, 2), (3, 0), True),
            ((17.99, 27.99, 2), (3, 3), True),
            ((18.01, 20, 2), None, False),  # beyond
            ((9.99, 20, 2), None, False),
            ((14, 24, 0), None, False),  # not labelled
        ],
    )
    def test_by_hand(self, point, cell, valid):
        index, mask = Keypoints([[point]]).to_heatmap(self.box, 4)
        assert mask.tolist() == [[int(valid)]]
        assert index.tolist() == [[cell[1] * 4 + cell[0] if valid else 0]]
        assert index.dtype == mask.dtype == torch.int64

    def test_a_box_without_area_holds_nothing(self):
        boxes = torch.tensor([[5.0, 5, 5, 9], [5.0, 5, 5, 5]])
        points = Keypoints([[[5.0, 5, 2], [6, 6, 2]]] * 2)
        _, valid = points.to_heatmap(boxes, 4)
        # As detectron2 02b5c4e2: the far edge counts, which is the near one too.
        assert valid.tolist() == [[1, 0], [1, 0]]

    def test_empty(self):
        index, valid = Keypoints(torch.zeros(0, 3, 3)).to_heatmap(torch.zeros(0, 4), 56)
        assert index.shape == valid.shape == (0, 3)

    def test_boxes_of_another_number(self):
        with pytest.raises(ValueError, match="2 for 1"):
            Keypoints(torch.zeros(1, 1, 3)).to_heatmap(torch.zeros(2, 4), 4)

    @given(st.floats(-5, 45, width=32), st.floats(-5, 45, width=32), st.integers(0, 2))
    def test_against_the_definition(self, x, y, visible):
        box, size = (3.0, 7.0, 35.0, 39.0), 16  # 2 pixels a cell, exact in binary
        index, valid = Keypoints([[[x, y, visible]]]).to_heatmap(torch.tensor([box]), size)
        inside = 3 <= x <= 35 and 7 <= y <= 39 and visible > 0
        assert bool(valid.item()) == inside
        if inside:
            column, row = (min(math.floor((v - low) / 2), 15) for v, low in ((x, 3), (y, 7)))
            assert index.item() == row * size + column


class TestHeatmapsToKeypoints:
    def test_by_hand(self):
        # One strong cell in the middle of a 3 x 3 map over a box of 9 x 9: its centre's pixel.
        maps = torch.zeros(1, 1, 3, 3)
        maps[0, 0, 1, 1] = 5.0
        x, y, logit, score = heatmaps_to_keypoints(maps, torch.tensor([[2.0, 30, 11, 39]]))[0, 0]
        assert (x.item(), y.item()) == (2 + 4.5, 30 + 4.5)
        assert logit.item() == pytest.approx(5.0, abs=1e-5)
        assert score.item() == pytest.approx(math.exp(5) / (math.exp(5) + 8), abs=1e-5)

    def test_upstream_numbers(self):
        # detectron2 02b5c4e2 gives these; the second box is thinner than a pixel.
        maps = ((torch.arange(2 * 3 * 16) * 7) % 11).reshape(2, 3, 4, 4).float()
        rois = torch.tensor([[10.0, 20, 17.5, 30], [0, 0, 0.5, 6.2]])
        expected = [
            [
                [17.031250, 20.500000, 11.417439, 1.556592],
                [10.468750, 29.500000, 10.211283, 0.590367],
                [17.031250, 29.500000, 11.527689, 1.748468],
            ],
            [
                [0.500000, 5.757143, 8.183175, 0.082285],
                [0.500000, 2.214286, 8.896176, 0.187291],
                [0.500000, 5.757143, 5.549608, 0.003924],
            ],
        ]
        torch.testing.assert_close(
            heatmaps_to_keypoints(maps, rois), torch.tensor(expected), atol=1e-4, rtol=1e-5
        )

    def test_the_first_of_equal_values_wins(self):
        result = heatmaps_to_keypoints(torch.zeros(1, 2, 4, 4), torch.tensor([[0.0, 0, 8, 8]]))
        assert result[0, :, :2].tolist() == [[0.5, 0.5]] * 2

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
    def test_empty(self, shape):
        maps = torch.zeros(*shape, 4, 4)
        assert heatmaps_to_keypoints(maps, torch.zeros(shape[0], 4)).shape == (*shape, 4)

    def test_chunks_change_nothing(self, monkeypatch):
        generator = torch.Generator().manual_seed(0)
        maps = torch.randn(2, 7, 8, 8, generator=generator)
        rois = torch.tensor([[0.0, 0, 20.5, 31], [3, 4, 9, 40]])
        whole = heatmaps_to_keypoints(maps, rois)
        monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 21 * 31 * 2)
        assert torch.equal(heatmaps_to_keypoints(maps, rois), whole)

    def test_against_the_full_size_softmax(self):
        generator = torch.Generator().manual_seed(1)
        maps = torch.randn(1, 4, 14, 14, generator=generator) * 3
        rois = torch.tensor([[5.0, 6, 35, 50]])
        large = F.interpolate(maps, size=(44, 30), mode="bicubic", align_corners=False)[0]
        for k, found in enumerate(heatmaps_to_keypoints(maps, rois)[0]):
            row, column = divmod(int(large[k].argmax()), 30)
            scores = large[k].exp() / maps[0, k].exp().sum()
            expected = torch.tensor([5 + column + 0.5, 6 + row + 0.5, large[k].max(), scores.max()])
            torch.testing.assert_close(found, expected)

    def test_no_gradient(self):
        maps = torch.zeros(1, 1, 4, 4, requires_grad=True)
        assert not heatmaps_to_keypoints(maps, torch.tensor([[0.0, 0, 4, 4]])).requires_grad
