"""Attention against plain loops, and its place in the model."""

import pytest
import torch

from match_rcnn.d2 import build_model
from match_rcnn.modeling.recognition.attention import (
    CategoryAttention,
    LandmarkAttention,
    UnifiedAttention,
    UShape,
)
from match_rcnn.modeling.recognition.features import Features
from match_rcnn.modeling.recognition.landmarks import Landmarks
from tests.modeling.recognition.test_recognition_model import SMALL, batch, config, losses_of


def found(n=2, side=4, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return Landmarks(draw(n, 8, 2), draw(n, 8), heat=3 * draw(n, 8, side, side) - 1)


def slow_landmark_attention(landmarks, merge):
    """One cell after the other."""
    n, number, height, width = landmarks.heat.shape
    rows = torch.zeros(n, 1, height, width, dtype=torch.float64)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                values = [
                    float(landmarks.visible[i, j]) * min(max(float(heat[y, x]), 0.0), 1.0)
                    for j, heat in enumerate(landmarks.heat[i])
                ]
                merged = {"sum": sum(values), "mean": sum(values) / number, "max": max(values)}
                rows[i, 0, y, x] = merged[merge]
    return rows


@pytest.mark.parametrize("merge", ["sum", "mean", "max"])
def test_landmark_attention_equals_a_loop(merge):
    landmarks = found()
    maps = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    attention = LandmarkAttention(merge=merge)(maps, landmarks)
    expected = slow_landmark_attention(landmarks, merge)
    torch.testing.assert_close(attention, expected, rtol=0, atol=1e-12)


def test_larger_heat_maps_are_averaged_to_the_maps_cells():
    heat = torch.zeros(1, 8, 4, 4)
    heat[0, 2, :2, 2:] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    landmarks = Landmarks(torch.zeros(1, 8, 2), torch.ones(1, 8), heat=heat)
    attention = LandmarkAttention()(torch.zeros(1, 5, 2, 2), landmarks)
    assert attention.tolist() == [[[[0.0, 0.5], [0.0, 0.0]]]]


@pytest.mark.parametrize("merge", ["sum", "max"])
def test_gradients_of_landmark_attention(merge):
    landmarks = found(n=1, side=3)
    heat = landmarks.heat.requires_grad_()
    visible = landmarks.visible.requires_grad_()
    maps = torch.zeros(1, 2, 3, 3, dtype=torch.float64)

    def attend(heat, visible):
        return LandmarkAttention(merge=merge)(maps, Landmarks(landmarks.xy, visible, heat=heat))

    assert torch.autograd.gradcheck(attend, (heat, visible))


@pytest.mark.parametrize("kind", [CategoryAttention, UnifiedAttention])
def test_the_networks_range_and_gradients(kind):
    more = kind is UnifiedAttention
    attention = kind(network=UShape(3 + more, 3, [4, 5, 6])).double()
    maps = torch.rand(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)  # odd sides as well
    landmarks = found()
    with torch.no_grad():
        attention.network.leave.weight *= 100
    values = attention(maps, landmarks)
    assert values.shape == maps.shape
    assert values.max() > 0.9
    assert values.min() < (-0.9 if more else 0.1)
    assert values.min() >= (-1 if more else 0)
    values.sum().backward()
    assert all(p.grad is not None for p in attention.parameters())


def test_a_bad_setting():
    with pytest.raises(ValueError, match="ATTENTION_MERGE must be one of"):
        LandmarkAttention(merge="median")
    with pytest.raises(ValueError, match="dims must be two widths or more"):
        UShape(3, 3, [4])


def test_all_behind_the_maps_sees_what_attention_makes_of_them():
    """(1 + sum) * F, worked out from the parts."""
    model = build_model(config(**SMALL, MODEL__RECOGNITION__ATTENTION=["CategoryAttention"]))
    model.eval()
    samples = batch()
    with torch.no_grad():
        maps = model.region_maps(samples)
        landmarks = model.landmark_branch(maps)
        looked = (1 + model.attentions["CategoryAttention"](maps, None)) * maps
        features = Features(model.vectors(samples, looked, landmarks), looked)
        scores = model.heads["CategoryHead"].predict(features)
    results = torch.cat([one["instances"].category_scores for one in model(samples)])
    torch.testing.assert_close(results, scores["category_scores"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ATTENTION": ["Guess"]}, "ATTENTION: 'Guess' is not known; there are CategoryAttention"),
        ({"ATTENTION": ["LandmarkAttention"]}, "lists LandmarkAttention, which looks where"),
        (
            {"ATTENTION": ["CategoryAttention"], "ATTENTION_DIMS": [8] * 5},
            "ATTENTION_DIMS must be two widths or more, and maps of 4 cells",
        ),
    ],
)
def test_bad_configs(keys, message):
    keys = {f"MODEL__RECOGNITION__{key}": value for key, value in keys.items()}
    with pytest.raises(ValueError, match=message):
        build_model(config(**SMALL, **keys))


@pytest.mark.parametrize(
    ("name", "heat", "attentions"),
    [
        ("fashion_grammar", 28, {"LandmarkAttention", "CategoryAttention"}),
        ("liu_lu", 224, {"UnifiedAttention"}),
    ],
)
def test_a_step_at_paper_size(name, heat, attentions):
    """On the meta device: every shape of a step forth and back, without its seconds."""
    cfg = config("VGG16", name, MODEL__WEIGHTS="")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
        losses = losses_of(model, side=224)
    names = ("landmarks", "visibility", "category", "attributes")
    assert list(losses) == [f"loss_{name}" for name in names]
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert set(model.attentions) == attentions
    maps = torch.zeros(1, 512, 28, 28, device="meta")
    assert model.landmark_branch(maps).heat.shape == (1, 8, heat, heat)


@pytest.mark.parametrize("name", ["fashion_grammar", "liu_lu"])
def test_a_step_of_the_quick_config(name):
    model = build_model(config("quick", name))
    losses = losses_of(model, side=96)
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    assert not [n for n, p in model.named_parameters() if p.grad is None]
