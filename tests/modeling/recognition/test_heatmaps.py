"""Heat maps of landmarks: targets and positions by hand, loss against a loop, in the model."""

import math

import pytest
import torch

from match_rcnn.d2 import build_model
from match_rcnn.modeling.recognition.heatmaps import (
    HeatmapBranch,
    heat_loss,
    positions,
    targets,
)
from tests.modeling.recognition.test_recognition_model import SMALL, batch, config, losses_of


def test_targets_by_hand():
    """Cells of a quarter: their centres are at 1/8, 3/8, ..."""
    xy = torch.tensor([[[0.375, 0.125]]])
    found = targets(xy, 4, 4, 0.25, "gaussian")[0, 0]
    assert found[0].tolist() == pytest.approx([math.exp(-d * d / 2) for d in (1, 0, 1, 2)])
    assert found[1, 0].item() == pytest.approx(math.exp(-1))  # a diagonal: d squared is 2
    found = targets(xy, 4, 4, 0.25, "exponential")[0, 0]
    assert found[0].tolist() == pytest.approx([math.exp(-d / 2) for d in (1, 0, 1, 2)])


def test_the_loss_equals_a_loop_and_hidden_landmarks_cost_nothing():
    generator = torch.Generator().manual_seed(0)
    heat = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    slots = torch.rand(2, 3, 3, generator=generator)
    slots[..., 2] = torch.tensor([[0, 1, 2], [0, -1, 0]])
    values = []
    for i, j in ((0, 0), (1, 0), (1, 2)):
        above, below = 0.0, 0.0
        for r in range(4):
            for c in range(5):
                d = math.hypot((c + 0.5) / 5 - slots[i, j, 0], (r + 0.5) / 4 - slots[i, j, 1])
                wanted = math.exp(-((d / 0.2) ** 2) / 2)
                above += (heat[i, j, r, c] - wanted) ** 2
                below += wanted**2
        values.append(above / below)
    expected = sum(values) / 3
    found = heat_loss(heat, slots, 0.2, "gaussian")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    ours, slow = (torch.autograd.grad(loss, heat)[0] for loss in (found, expected))
    torch.testing.assert_close(ours, slow, rtol=0, atol=1e-6)
    hidden = torch.full((2, 3, 3), 1.0)
    assert heat_loss(heat, hidden, 0.2, "gaussian").item() == 0


@pytest.mark.parametrize("side", [12, 28, 40])
def test_positions_of_perfect_maps(side):
    """Within a fifth of a cell, away from the edge."""
    xy = 0.25 + 0.5 * torch.rand(3, 8, 2, generator=torch.Generator().manual_seed(0))
    spread = 1 / side
    found = positions(targets(xy, side, side, spread, "gaussian"), spread)
    torch.testing.assert_close(found, xy, rtol=0, atol=0.2 / side)


def test_positions_of_a_far_second_peak_and_of_nothing():
    heat = torch.zeros(1, 3, 10, 10)
    heat[0, 0, 2, 3], heat[0, 0, 8, 8] = 1.0, 0.9  # the mean would lie between
    heat[0, 1] = -1
    heat[0, 2, 2, 3], heat[0, 2, 2, 4] = 1.0, 1.0
    found = positions(heat, 0.1)[0]
    assert found[0].tolist() == pytest.approx([0.35, 0.25])
    assert found[1].tolist() == pytest.approx([0.05, 0.05])
    assert found[2].tolist() == pytest.approx([0.4, 0.25])


HEAT = {
    "MODEL__RECOGNITION__LANDMARKS__NAME": "HeatmapBranch",
    "MODEL__RECOGNITION__LANDMARKS__CONV_DIMS": [8],
    "MODEL__RECOGNITION__STAGES__LENGTHS": (),
    "MODEL__RECOGNITION__ATTENTION": ["LandmarkAttention", "CategoryAttention"],
    "MODEL__RECOGNITION__ATTENTION_DIMS": [4, 8],
}


def test_the_whole_model_learns_and_answers():
    """Pooling around landmarks, attention to them, and all parameters with a gradient."""
    keys = {"GRAMMAR": 2, "GRAMMAR_DIM": 4, "GRAMMAR_KERNEL": 3, "UPSAMPLE_DIMS": [4]}
    keys = {f"MODEL__RECOGNITION__LANDMARKS__{key}": value for key, value in keys.items()}
    model = build_model(config(**SMALL, **HEAT, **keys))
    losses = losses_of(model)
    names = ("landmarks", "visibility", "category", "attributes", "triplet")
    assert list(losses) == [f"loss_{name}" for name in names]
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    with torch.no_grad():
        landmarks = model.landmark_branch(torch.rand(2, 128, 4, 4))
    assert landmarks.heat.shape == (2, 8, 8, 8)  # twice the maps' side
    assert landmarks.xy.shape == (2, 8, 2)
    assert landmarks.visibility.shape == (2, 8, 4)
    slots = model.eval()(batch())[0]["instances"].pred_slots
    assert slots.shape == (1, 8, 3)
    assert slots.isfinite().all()


def test_landmarks_that_are_not_wanted_rest():
    """A stage without the landmarks' losses: their branch gets no gradient by attention either."""
    keys = {"LENGTHS": (1, 1), "LANDMARKS": (1.0, 0.0), "REST": (0.0, 1.0)}
    keys = {f"MODEL__RECOGNITION__STAGES__{key}": value for key, value in keys.items()}
    model = build_model(config(**SMALL, **HEAT | keys))
    sum(losses_of(model, 1).values()).backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {"backbone", "attentions", "global_branch", "local_branch", "fusion", "heads"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"TARGET": "square"}, "TARGET must be one of"),
        ({"SPREAD": 0.0}, "SPREAD above 0"),
        ({"CHAINS": [["left_hem", "knee"]]}, r"CHAINS: \['left_hem', 'knee'\] names no landmark"),
    ],
)
def test_bad_settings(keys, message):
    keys = {f"MODEL__RECOGNITION__LANDMARKS__{key}": value for key, value in keys.items()}
    with pytest.raises(ValueError, match=message):
        build_model(config(**SMALL, **HEAT | keys))


def test_lower_precision_refines_in_float32():
    branch = build_model(config(**SMALL, **HEAT)).landmark_branch
    assert isinstance(branch, HeatmapBranch)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = branch(torch.rand(2, 128, 4, 4))
    assert found.heat.dtype == found.xy.dtype == torch.float32
