import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from match_rcnn.lite.structures import (
    Boxes,
    BoxMode,
    matched_pairwise_iou,
    pairwise_intersection,
    pairwise_ioa,
    pairwise_iou,
)

coordinate = st.floats(-50, 50, width=32)
box_lists = st.lists(st.tuples(*[coordinate] * 4), max_size=6)


def slow_iou(a, b):
    """One pair of boxes at a time, in Python floats."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0, 0.0, 0.0
    inter = width * height
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return inter, inter / (area_a + area_b - inter), inter / area_b


class TestBoxMode:
    def test_values_are_those_in_files(self):
        assert BoxMode.XYXY_ABS == 0
        assert BoxMode.XYWH_ABS == 1

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_one_box(self, kind):
        corners = BoxMode.convert(kind([1, 2.5, 3, 4]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        assert corners == kind([1, 2.5, 4, 6.5])
        assert type(corners) is kind
        assert BoxMode.convert(corners, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS) == kind([1, 2.5, 3, 4])

    def test_whole_numbers_stay_whole(self):
        box = BoxMode.convert([1, 2, 3, 4], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        assert box == [1, 2, 4, 6]
        assert all(type(v) is int for v in box)

    def test_floats_are_rounded_to_float32(self):
        box = BoxMode.convert([0.1, 0.0, 0.2, 1.0], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        assert box[2] == float(np.float32(0.1) + np.float32(0.2))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_arrays_keep_their_type_and_the_input(self, dtype):
        given_boxes = np.array([[1, 2, 3, 4], [0, 0, 5, 5]], dtype=dtype)
        before = given_boxes.copy()
        corners = BoxMode.convert(given_boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        assert corners.dtype == dtype
        assert corners.tolist() == [[1, 2, 4, 6], [0, 0, 5, 5]]
        assert (given_boxes == before).all()

    def test_tensors(self):
        boxes = torch.tensor([[1.0, 2, 4, 6]])
        sizes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        assert sizes.tolist() == [[1, 2, 3, 4]]
        assert boxes.tolist() == [[1, 2, 4, 6]]
        empty = BoxMode.convert(torch.zeros(0, 4), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        assert empty.shape == (0, 4)

    def test_equal_modes_give_the_same_object(self):
        box = [1, 2, 3, 4]
        assert BoxMode.convert(box, BoxMode.XYXY_ABS, BoxMode.XYXY_ABS) is box

    @pytest.mark.parametrize(
        "box", [[1, 2, 3], [[1, 2, 3, 4]], np.zeros(4), np.zeros((2, 5)), torch.zeros(3, 2)]
    )
    def test_wrong_shape(self, box):
        with pytest.raises(ValueError, match="4 numbers"):
            BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)

    def test_unsupported_mode(self):
        with pytest.raises(ValueError, match="2 is not a valid BoxMode"):
            BoxMode.convert([0, 0, 1, 1], 2, BoxMode.XYXY_ABS)


class TestBoxes:
    def test_construction(self):
        assert Boxes([[1, 2, 3, 4]]).tensor.dtype == torch.float32
        assert Boxes(np.zeros((2, 4))).tensor.shape == (2, 4)
        assert Boxes([]).tensor.shape == (0, 4)
        assert Boxes(torch.zeros(0)).tensor.shape == (0, 4)
        with pytest.raises(ValueError, match=r"\(2, 5\)"):
            Boxes(torch.zeros(2, 5))
        with pytest.raises(ValueError, match=r"\(4,\)"):
            Boxes(torch.zeros(4))

    def test_an_empty_tensor_stays_in_the_graph(self):
        source = torch.zeros(0, 4, requires_grad=True)
        Boxes(source).tensor.sum().backward()
        assert source.grad is not None

    def test_area_and_nonempty(self):
        # normal; without width; turned around; thinner than the threshold
        boxes = Boxes([[1, 2, 4, 8], [3, 3, 3, 9], [5, 5, 4, 4], [0, 0, 1, 30]])
        assert boxes.area().tolist() == [18, 0, 1, 30]
        assert boxes.nonempty().tolist() == [True, False, False, True]
        assert boxes.nonempty(threshold=2).tolist() == [True, False, False, False]

    def test_clip(self):
        boxes = Boxes([[-5, -6, 20, 30], [2, 3, 4, 5], [40, 50, 60, 70]])
        boxes.clip((10, 12))
        assert boxes.tensor.tolist() == [[0, 0, 12, 10], [2, 3, 4, 5], [12, 10, 12, 10]]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_clip_of_what_is_not_finite(self, bad):
        with pytest.raises(ValueError, match="infinite or NaN"):
            Boxes([[0, 0, bad, 1]]).clip((10, 10))

    def test_scale_is_in_place(self):
        boxes = Boxes([[1, 2, 3, 4]])
        boxes.scale(2, 10)
        assert boxes.tensor.tolist() == [[2, 20, 6, 40]]

    def test_indexing(self):
        boxes = Boxes(torch.arange(12.0).reshape(3, 4))
        assert boxes[1].tensor.tolist() == [[4, 5, 6, 7]]
        assert boxes[-1].tensor.tolist() == [[8, 9, 10, 11]]
        assert len(boxes[1:]) == 2
        assert boxes[torch.tensor([True, False, True])].tensor[:, 0].tolist() == [0, 8]
        assert boxes[torch.tensor([2, 0])].tensor[:, 0].tolist() == [8, 0]
        assert boxes[torch.zeros(3, dtype=torch.bool)].tensor.shape == (0, 4)
        with pytest.raises(IndexError, match="no"):
            boxes[torch.zeros(3, 4, dtype=torch.bool)]
        assert [b.tolist() for b in boxes] == boxes.tensor.tolist()

    def test_cat_clone_to(self):
        boxes = Boxes([[1, 2, 3, 4]])
        both = Boxes.cat([boxes, Boxes([]), boxes])
        assert both.tensor.tolist() == [[1, 2, 3, 4]] * 2
        assert len(Boxes.cat([])) == 0
        copy = boxes.clone()
        copy.tensor[0, 0] = 9
        assert boxes.tensor[0, 0] == 1
        assert boxes.to("cpu").device == torch.device("cpu")


class TestOverlap:
    a = Boxes([[0, 0, 10, 10], [5, 5, 15, 20], [3, 3, 3, 9], [0, 0, 4, 2]])
    b = Boxes([[0, 0, 10, 10], [8, 8, 12, 12], [100, 100, 101, 101]])

    def test_by_hand(self):
        inter = pairwise_intersection(self.a, self.b)
        assert inter.tolist() == [[100, 4, 0], [25, 16, 0], [0, 0, 0], [8, 0, 0]]
        iou = [[1, 4 / 112, 0], [25 / 225, 16 / 150, 0], [0, 0, 0], [8 / 100, 0, 0]]
        torch.testing.assert_close(pairwise_iou(self.a, self.b), torch.tensor(iou))
        ioa = [[1, 4 / 16, 0], [25 / 100, 1, 0], [0, 0, 0], [8 / 100, 0, 0]]
        torch.testing.assert_close(pairwise_ioa(self.a, self.b), torch.tensor(ioa))

    @pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
    def test_empty(self, n, m):
        a, b = Boxes(torch.ones(n, 4)), Boxes(torch.ones(m, 4))
        for function in (pairwise_intersection, pairwise_iou, pairwise_ioa):
            assert function(a, b).shape == (n, m)

    def test_two_boxes_without_area_do_not_overlap(self):
        point = Boxes([[3, 3, 3, 3]])
        assert pairwise_iou(point, point).item() == 0
        assert pairwise_ioa(point, point).item() == 0

    @given(box_lists, box_lists)
    def test_against_the_loop(self, first, second):
        # Corners in order, as wherever boxes are compared.
        first, second = ([(*sorted(b[::2]), *sorted(b[1::2])) for b in s] for s in (first, second))
        first, second = ([(b[0], b[2], b[1], b[3]) for b in s] for s in (first, second))
        a, b = Boxes(first), Boxes(second)
        results = [f(a, b) for f in (pairwise_intersection, pairwise_iou, pairwise_ioa)]
        for i, one in enumerate(a.tensor.tolist()):
            for j, other in enumerate(b.tensor.tolist()):
                expected = slow_iou(one, other)
                found = [r[i, j].item() for r in results]
                if expected[0] < 1e-6:
                    # Slivers: the ratio of rounding errors means nothing.
                    assert found[0] == pytest.approx(expected[0], abs=1e-6)
                else:
                    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)

    def test_matched(self):
        shifted = Boxes(self.b.tensor[[0, 1, 1, 0]])
        expected = pairwise_iou(self.a, shifted).diagonal()
        torch.testing.assert_close(matched_pairwise_iou(self.a, shifted), expected)
        with pytest.raises(ValueError, match="4, 3"):
            matched_pairwise_iou(self.a, self.b)

    def test_gradients_flow(self):
        moving = torch.tensor([[0.0, 0, 4, 4]], requires_grad=True)
        pairwise_iou(Boxes(moving), Boxes([[2, 2, 6, 6]])).sum().backward()
        # Growing the lower right corner towards the other box raises the overlap.
        assert moving.grad is not None
        assert (moving.grad[0, 2:] > 0).all()
