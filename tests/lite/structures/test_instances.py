import copy
import pickle

import numpy as np
import pytest
import torch

from match_rcnn.lite.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks


def some(count: int = 3, size: tuple[int, int] = (10, 20)) -> Instances:
    triangle = [[0, 0, 4, 0, 4, 4]]
    return Instances(
        size,
        gt_boxes=Boxes(torch.arange(4.0 * count).reshape(count, 4)),
        gt_classes=torch.arange(count),
        gt_keypoints=Keypoints(torch.zeros(count, 2, 3)),
        gt_masks=PolygonMasks([triangle] * count),
        gt_bits=BitMasks(torch.zeros(count, 5, 6)),
        names=[f"n{i}" for i in range(count)],
    )


def test_fields():
    instances = Instances((4, 6))
    assert instances.image_size == (4, 6)
    instances.scores = torch.tensor([0.5, 0.25])
    instances.set("labels", ["a", "b"])
    assert instances.has("scores")
    assert not instances.has("other")
    assert instances.get("labels") is instances.labels
    assert list(instances.get_fields()) == ["scores", "labels"]
    assert len(instances) == 2
    instances.remove("labels")
    assert list(instances.get_fields()) == ["scores"]


def test_missing_field_is_named():
    with pytest.raises(AttributeError, match=r"gt_boxes.*scores"):
        _ = Instances((1, 1), scores=[1]).gt_boxes


def test_lengths_must_agree():
    instances = Instances((4, 6), scores=torch.zeros(2))
    with pytest.raises(ValueError, match=r"'labels' of length 2.*got 3"):
        instances.labels = [1, 2, 3]
    # The only field may change its length.
    lonely = Instances((4, 6), scores=torch.zeros(2))
    lonely.remove("scores")
    lonely.scores = torch.zeros(5)
    assert len(lonely) == 5


def test_no_fields_no_length():
    with pytest.raises(NotImplementedError):
        len(Instances((1, 1)))
    with pytest.raises(NotImplementedError):
        iter(Instances((1, 1)))
    assert "num_instances=0" in str(Instances((1, 1)))


@pytest.mark.parametrize(
    ("item", "rows"),
    [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (slice(1, 3), [1, 2]),
        (torch.tensor([2, 0]), [2, 0]),
        (torch.tensor([True, False, True]), [0, 2]),
        (torch.zeros(0, dtype=torch.long), []),
    ],
)
def test_indexing_takes_the_same_rows_of_every_field(item, rows):
    instances = some()
    if isinstance(item, torch.Tensor):
        instances.remove("names")  # lists know no tensors
    part = instances[item]
    assert part.image_size == (10, 20)
    assert part.gt_classes.tolist() == rows
    assert part.gt_boxes.tensor[:, 0].tolist() == [4 * r for r in rows]
    assert len(part.gt_keypoints) == len(part.gt_masks) == len(part.gt_bits) == len(rows)
    assert not part.has("names") or part.names == [f"n{r}" for r in rows]


@pytest.mark.parametrize("item", [3, -4])
def test_index_beyond(item):
    with pytest.raises(IndexError, match=f"{item}.*3"):
        some()[item]


def test_mask_of_another_length():
    instances = Instances((4, 4), scores=torch.zeros(3))
    with pytest.raises(IndexError, match="3 instances"):
        instances[torch.ones(2, dtype=torch.bool)]


def test_cat():
    both = Instances.cat([some(2), some(1)])
    assert len(both) == 3
    assert both.gt_classes.tolist() == [0, 1, 0]
    assert both.names == ["n0", "n1", "n0"]
    assert isinstance(both.gt_masks, PolygonMasks)
    only = some()
    assert Instances.cat([only]) is only


def test_cat_errors():
    with pytest.raises(ValueError, match="at least one"):
        Instances.cat([])
    with pytest.raises(ValueError, match="image sizes"):
        Instances.cat([some(size=(1, 2)), some(size=(3, 4))])
    strings = Instances((1, 2), text="abc")
    with pytest.raises(ValueError, match="'text' of type str"):
        Instances.cat([strings, strings])


def test_to_moves_what_can_move():
    moved = some().to("cpu")
    assert moved.gt_boxes.device.type == "cpu"
    assert moved.names == ["n0", "n1", "n2"]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda i: pickle.loads(pickle.dumps(i))]
)
def test_copies(copied):
    again = copied(some())
    assert again.image_size == (10, 20)
    assert again.gt_classes.tolist() == [0, 1, 2]


def test_text_shows_the_fields():
    text = str(Instances((4, 6), scores=[0.5]))
    assert text == (
        "Instances(num_instances=1, image_height=4, image_width=6, fields=[scores: [0.5]])"
    )
