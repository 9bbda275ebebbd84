import numpy as np
import pytest
import torch

from match_rcnn.inference.calibration import Calibration, fit_calibration


def test_by_hand():
    calibration = Calibration(2.0, -1.0)
    # The logit of 0.5 is 0, that of 0.9 is log 9.
    expected = [1 / (1 + np.e), 1 / (1 + np.exp(1 - 2 * np.log(9)))]
    assert calibration(torch.tensor([0.5, 0.9])).tolist() == pytest.approx(expected)


def test_the_order_stays_to_the_ends():
    scores = torch.tensor([0.0, 1e-5, 0.2, 0.7, 0.99, 1.0])
    calibrated = Calibration(0.7, -2.0)(scores)
    assert (calibrated.diff() > 0).all()
    assert calibrated.min() > 0
    assert calibrated.max() < 1


def test_what_scores_were_made_with_is_found_again():
    """Right as often as a known calibration says."""
    generator = np.random.default_rng(0)
    true = Calibration(0.6, -1.2)
    scores = generator.uniform(0.01, 0.99, 40_000)
    right = generator.uniform(size=len(scores)) < true(torch.as_tensor(scores)).numpy()
    found = fit_calibration(scores, right)
    assert found.slope == pytest.approx(true.slope, abs=0.03)
    assert found.offset == pytest.approx(true.offset, abs=0.05)


def test_the_fit_is_the_least_loss():
    generator = np.random.default_rng(1)
    scores = generator.uniform(0.05, 0.95, 300)
    right = generator.uniform(size=300) < scores**2
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))

    def loss(calibration):
        found = calibration(torch.as_tensor(scores)).numpy()
        return -(targets * np.log(found) + (1 - targets) * np.log(1 - found)).sum()

    best = fit_calibration(scores, right)
    for slope, offset in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(Calibration(best.slope + slope, best.offset + offset)) > loss(best)


def test_scores_that_tell_all_apart_stay_finite():
    found = fit_calibration(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert 0 < found.slope < 100


@pytest.mark.parametrize(
    ("right", "message"),
    [
        ([True, True], "got 2 and 0"),
        ([False, False], "got 0 and 2"),
        ([True, False], "the less often"),
    ],
)
def test_nothing_to_fit(right, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(np.array([0.2, 0.8]), np.array(right))


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 0.0), (1.0, float("nan"))])
def test_values_without_meaning(values):
    with pytest.raises(ValueError, match=r"TEST\.SCORE_CALIBRATION: expected a slope above 0"):
        Calibration(*values)
