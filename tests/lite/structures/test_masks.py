import numpy as np
import pytest
import torch

from match_rcnn.experiments.benchmarks.rcnn.waits import WaitCounter
from match_rcnn.lite.layers import ROIAlign
from match_rcnn.lite.structures import (
    BitMasks,
    PolygonMasks,
    polygons_to_bitmask,
)

#: A triangle and a rectangle, as the parts of one instance.
SHAPE = [[2.0, 1, 9, 4, 4, 8], [6.0, 6, 9, 6, 9, 8, 6, 8]]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


class TestPolygonsToBitmask:
    def test_whole_pixels(self):
        bitmask = polygons_to_bitmask([np.array(rectangle(1, 2, 4, 5))], 6, 7)
        expected = np.zeros((6, 7), dtype=bool)
        expected[2:5, 1:4] = True
        assert bitmask.dtype == bool
        assert (bitmask == expected).all()

    def test_union(self):
        parts = [np.array(rectangle(0, 0, 2, 2)), np.array(rectangle(1, 1, 4, 4))]
        assert polygons_to_bitmask(parts, 5, 5).sum() == 4 + 9 - 1

    def test_none(self):
        assert not polygons_to_bitmask([], 3, 4).any()
        assert polygons_to_bitmask([], 3, 4).shape == (3, 4)


class TestBitMasks:
    def test_construction(self):
        masks = BitMasks(np.array([[[0, 2, 0], [1, 0, 0]]]))
        assert masks.tensor.dtype == torch.bool
        assert masks.image_size == (2, 3)
        with pytest.raises(ValueError, match=r"\(2, 3\)"):
            BitMasks(torch.zeros(2, 3))

    def test_subsets_and_cat(self):
        masks = BitMasks(torch.eye(3)[:, None].expand(3, 2, 3))
        assert masks[0].tensor.shape == (1, 2, 3)
        assert masks[torch.tensor([False, True, True])].tensor[:, 0, 1].tolist() == [True, False]
        assert len(BitMasks.cat([masks, masks[:2]])) == 5
        assert [m.shape for m in masks] == [(2, 3)] * 3
        with pytest.raises(IndexError, match="no"):
            masks[torch.zeros(3, 2, dtype=torch.bool)]

    def test_nonempty(self):
        tensor = torch.zeros(2, 6, 8, dtype=torch.bool)
        tensor[1, 5, 7] = True
        assert BitMasks(tensor).nonempty().tolist() == [False, True]

    def test_crop_of_whole_cells(self):
        # Each cell is one pixel: the crop is the bitmap.
        tensor = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.5
        crop = BitMasks(tensor).crop_and_resize(torch.tensor([[2.0, 3, 7, 8]] * 2), 5)
        assert crop.dtype == torch.bool
        assert torch.equal(crop, tensor[:, 3:8, 2:7])

    def test_crop_upstream_numbers(self):
        bits = ((torch.arange(7)[:, None] * 3 + torch.arange(9) * 5) % 7 < 4)[None]
        crop = BitMasks(bits).crop_and_resize(torch.tensor([[1.2, 0.7, 8.1, 6.4]]), 5)
        # detectron2 02b5c4e2 gives this.
        expected = ["10111", "01010", "11101", "10010", "01111"]
        assert ["".join(str(int(v)) for v in row) for row in crop[0]] == expected

    def test_crop_is_roi_align_at_a_half(self):
        generator = torch.Generator().manual_seed(0)
        tensor = torch.rand(3, 30, 40, generator=generator) > 0.4
        boxes = torch.tensor([[3.0, 4, 25, 20], [0, 0, 40, 30], [10, 10, 10, 10]])
        for mask, box, crop in zip(
            tensor, boxes, BitMasks(tensor).crop_and_resize(boxes, 7), strict=True
        ):
            roi = torch.cat([torch.zeros(1), box])[None]
            pooled = ROIAlign(7, 1.0, 0, aligned=True)(mask[None, None].float(), roi)[0, 0]
            assert torch.equal(crop, pooled >= 0.5)

    def test_crop_of_none_and_of_a_wrong_number(self):
        assert BitMasks(torch.zeros(0, 5, 5)).crop_and_resize(torch.zeros(0, 4), 28).shape == (
            0,
            28,
            28,
        )
        with pytest.raises(ValueError, match=r"\(1, 4\), got \(2, 4\)"):
            BitMasks(torch.zeros(1, 5, 5)).crop_and_resize(torch.zeros(2, 4), 28)


class TestPolygonMasks:
    def test_construction(self):
        masks = PolygonMasks([SHAPE, [torch.tensor([0.0, 0, 1, 0, 1, 1])]])
        assert masks.polygons[1][0].dtype == np.float64
        assert masks.device.type == "cpu"
        assert masks.to("cpu") is masks

    @pytest.mark.parametrize(
        ("polygons", "message"),
        [
            ("text", "polygons of each instance"),
            ([np.zeros(6)], "for an instance"),
            ([[[0, 0, 1, 1]]], "3 corners"),
            ([[[0, 0, 1, 1, 2, 2, 3]]], "3 corners"),
            ([[[[0, 0], [1, 1], [2, 0]]]], "3 corners"),
        ],
    )
    def test_what_is_no_polygon(self, polygons, message):
        with pytest.raises(ValueError, match=message):
            PolygonMasks(polygons)

    def test_subsets_and_cat(self):
        masks = PolygonMasks([[rectangle(i, 0, i + 1, 1)] for i in range(3)])
        for item, first in [
            (1, [1]),
            (slice(1, 3), [1, 2]),
            ([2, 0], [2, 0]),
            (torch.tensor([2, 0]), [2, 0]),
            (torch.tensor([True, False, True]), [0, 2]),
            (torch.zeros(3, dtype=torch.bool), []),
        ]:
            assert [p[0][0] for p in masks[item]] == first
        assert len(PolygonMasks.cat([masks, masks[0]])) == 4
        with pytest.raises(IndexError, match="vector"):
            masks[torch.zeros(2, 2, dtype=torch.long)]

    def test_subsets_of_subsets_are_read_at_the_end(self):
        masks = PolygonMasks([[rectangle(i, 0, i + 1, 1)] for i in range(5)])
        counter = WaitCounter(lambda: "")
        with counter.counting():
            subset = masks[torch.tensor([4, 3, 1])][torch.tensor([2, 0])]
            assert len(subset) == 2
        assert not counter.counts
        assert [p[0][0] for p in subset] == [1, 4]
        assert [p[0][0] for p in subset[torch.tensor([1])]] == [4]
        with pytest.raises(IndexError):
            list(masks[torch.tensor([5])])

    def test_an_instance_without_polygons(self):
        masks = PolygonMasks([[], SHAPE])
        assert masks.nonempty().tolist() == [False, True]
        assert not masks[0].crop_and_resize(torch.tensor([[0.0, 0, 4, 4]]), 4).any()

    def test_crop_by_hand(self):
        # The box is 4 x 8 pixels over 4 x 4 cells: the left half is covered.
        masks = PolygonMasks([[rectangle(10, 20, 12, 28)]])
        crop = masks.crop_and_resize(torch.tensor([[10.0, 20, 14, 28]]), 4)
        assert crop[0].int().tolist() == [[1, 1, 0, 0]] * 4

    @pytest.mark.parametrize(
        ("box", "rows"),
        [
            # detectron2 02b5c4e2 gives these.
            (
                [1.0, 0, 9, 8],
                "00000000 01000000 01111000 00111110 00111110 00111100 00011111 00010111",
            ),
            ([3.5, 2.5, 7, 9], "11111 11111 11111 11001 00000"),
        ],
    )
    def test_crop_upstream_numbers(self, box, rows):
        size = len(rows.split()[0])
        crop = PolygonMasks([SHAPE]).crop_and_resize(torch.tensor([box]), size)[0]
        assert ["".join(str(int(v)) for v in row) for row in crop] == rows.split()

    def test_crop_near_the_bitmap_crop(self):
        outline = [10.0, 5, 90, 20, 60, 95, 20, 70]
        polygons = PolygonMasks([[outline]])
        bits = BitMasks(polygons_to_bitmask([outline], 100, 100)[None])
        box = torch.tensor([[8.0, 4, 92, 96]])
        first, second = (m.crop_and_resize(box, 28) for m in (polygons, bits))
        assert (first != second).sum() < 0.08 * 28 * 28

    def test_crop_of_a_box_without_area(self):
        crop = PolygonMasks([SHAPE]).crop_and_resize(torch.tensor([[5.0, 5, 5, 5]]), 6)
        assert crop.shape == (1, 6, 6)

    def test_none(self):
        masks = PolygonMasks([])
        assert masks.crop_and_resize(torch.zeros(0, 4), 28).shape == (0, 28, 28)
        assert masks.nonempty().shape == (0,)
