import numpy as np
import pytest

from match_rcnn.data.synthetic.looks import (
    GRAPHICS,
    Graphic,
    Look,
    contrasting,
    random_colour,
    random_look,
    restyle,
    vary_look,
)
from match_rcnn.data.synthetic.textures import PATTERNS, Print, random_print, weights


def cloth(kind, **changes):
    return Print(
        **{
            "scale": 0.2,
            "duty": 0.5,
            "angle": 0.0,
            "phase": 0.0,
            "seed": 5,
            **changes,
            "kind": kind,
        }
    )


@pytest.fixture
def plane():
    v, u = np.mgrid[0:1:200j, -0.5:0.5:200j].astype(np.float32)
    return u, v


@pytest.mark.parametrize("kind", sorted(PATTERNS))
def test_weights_are_shares(kind, plane):
    for result in weights(cloth(kind), *plane, 0.005):
        assert result.shape == plane[0].shape
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 1


@pytest.mark.parametrize("kind", sorted(set(PATTERNS) - {"plain"}))
def test_every_print_shows_both_colours(kind, plane):
    second, _ = weights(cloth(kind), *plane, 0.005)
    assert second.min() < 0.2
    assert second.max() > 0.3


def test_stripes_run_across_and_repeat():
    u = np.zeros((1, 9), np.float32)
    v = np.linspace(0, 0.4, 9, dtype=np.float32)[None]  # two periods in steps of a quarter
    second, third = weights(cloth("stripes", duty=0.4), u, v, 0.001)
    # Period 0.2; the stripe is centred at 0.1 and 0.08 wide.
    np.testing.assert_allclose(second[0], [0, 0, 1, 0, 0, 0, 1, 0, 0])
    assert not third.any()
    turned, _ = weights(cloth("stripes", duty=0.4, angle=np.pi / 2), v, u, 0.001)
    np.testing.assert_allclose(turned, second)


def test_dots_sit_on_a_brick_lattice():
    u = np.array([[0.1, 0.0, 0.2, 0.0, 0.1]], np.float32)
    v = np.array([[0.1, 0.1, 0.1, 0.3, 0.3]], np.float32)
    second, _ = weights(cloth("dots"), u, v, 0.001)
    np.testing.assert_allclose(second[0], [1, 0, 0, 1, 0])


def test_the_graphic_is_on_the_torso_only():
    look = Look(
        ((10, 10, 10),) * 3, cloth("plain"), Graphic("disc", 0.0, 0.4, 0.1, (200.0, 0.0, 0.0))
    )
    u, v = np.array([[0.0, 0.3]], np.float32), np.array([[0.4, 0.4]], np.float32)
    np.testing.assert_allclose(look.paint(u, v, 0.01, torso=True)[0], [[200, 0, 0], [10, 10, 10]])
    np.testing.assert_allclose(look.paint(u, v, 0.01, torso=False)[0], [[10, 10, 10]] * 2)


@pytest.mark.parametrize("kind", GRAPHICS)
def test_graphics_have_the_size_asked_for(kind, plane):
    look = Look(((0, 0, 0),) * 3, cloth("plain"), Graphic(kind, 0.0, 0.5, 0.1, (255.0,) * 3))
    u, v = plane
    shown = look.paint(u, v, 0.002, torso=True)[..., 0] > 127
    assert 0.1 < shown.sum() * (1 / 199) ** 2 / 0.1**2 < 4.0  # against the size's square
    assert np.abs(u[shown]).max() < 0.13
    assert np.abs(v[shown] - 0.5).max() < 0.16


def test_contrasting_colours_can_be_told_apart():
    rng = np.random.default_rng(0)
    for _ in range(200):
        colour = random_colour(rng)
        assert np.abs(np.subtract(contrasting(rng, colour), colour)).sum() > 100


def test_styles_differ_in_colour_or_print():
    rng = np.random.default_rng(1)
    for category_id in range(1, 14):
        for _ in range(10):
            look = random_look(rng, category_id)
            style = restyle(rng, look)
            far = np.abs(np.subtract(style.colours[0], look.colours[0])).sum() > 100
            assert far or style.cloth != look.cloth


def test_sisters_look_alike_but_not_the_same():
    rng = np.random.default_rng(2)
    for category_id in range(1, 14):
        look = random_look(rng, category_id)
        assert all(vary_look(rng, category_id, look) != look for _ in range(10))


def test_every_kind_of_print_is_drawn():
    rng = np.random.default_rng(3)
    assert {random_print(rng).kind for _ in range(600)} == set(PATTERNS)
