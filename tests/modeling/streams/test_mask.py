import pytest
import torch

from match_rcnn.modeling.streams.mask import mask_confidence


def test_the_mean_probability_inside():
    masks = torch.tensor([[[0.9, 0.5], [0.4, 0.1]], [[0.4, 0.3], [0.2, 0.1]]])[:, None]
    assert mask_confidence(masks).tolist() == pytest.approx([0.7, 0.0])
    assert mask_confidence(masks[:0]).shape == (0,)
