"""This process's host against what upstream detectron2 gave.

The stored numbers were made in double precision, from weights that are a function of their names
and shapes, and so are those they are compared with. The convolutions' sums come out in another
order on another CPU; in single precision that is 1e-6 of a value, which 50 layers enlarge and
which turns near-ties of scores around. In double precision it is 1e-15: what the heads hand on,
rounded to single precision, is the same everywhere, and so is every decision (sampling, NMS, the
mask's pixels), which is why those are compared exactly. Single precision is compared host against
host on one machine, in test_other_host.py.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import HOST, build_model
from match_rcnn.data.taxonomy import DEEPFASHION2, Attribute
from match_rcnn.modeling.taxonomy import set_taxonomy

ROOT = Path(__file__).parents[2]
EXPECTED = Path(__file__).parent / "expected"
SUBJECTS = (
    *("config_defaults", "state_dicts", "training_step", "inference"),
    *("data_loading", "evaluation", "weight_files", "cascade", "bare_default"),
)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_numbers_of_upstream(observations, subject):
    expected = json.loads((EXPECTED / f"{subject}.json").read_text())
    found = observations.observe(torch.float64, [subject])[subject]
    assert found["exact"] == expected["exact"]
    observations.assert_close(found["close"], expected["close"], subject)


def norms(fc_bias, bias, weight=2.0):
    module = "gradient norm roi_heads.match_head."
    values = {f"{module}fc.bias": fc_bias, f"{module}norm.bias": bias, f"{module}fc.weight": weight}
    return {name: [value] for name, value in values.items()}


def test_gradients_are_compared_on_the_scale_of_their_module(observations):
    """A norm whose true value is 0 is another on every processor; all others are as they were."""
    observations.assert_close(norms(2.2e-16, 0.1), norms(9.7e-17, 0.1), "")
    for wrong in (norms(1e-6, 0.1), norms(0, 0.10001), norms(0, 0.1, 2.0001)):
        with pytest.raises(AssertionError, match="match_head"):
            observations.assert_close(wrong, norms(9.7e-17, 0.1), "")
    alone = {"gradient norm backbone.fpn_output5.bias": [1e-4]}
    with pytest.raises(AssertionError, match="fpn_output5"):
        observations.assert_close({next(iter(alone)): [1.0001e-4]}, alone, "")


def test_every_subject_is_compared(observations):
    assert set(SUBJECTS) == observations.SUBJECTS.keys()
    assert {path.stem for path in EXPECTED.glob("*.json")} == set(SUBJECTS)


def test_the_expected_numbers_are_of_a_model_at_work():
    """That nothing would be found, or that nothing would be learned, would be equal as well."""
    step = json.loads((EXPECTED / "training_step.json").read_text())
    assert len(step["exact"]["losses"]) == 7
    assert all(0.001 < step["close"][name][0] < 100 for name in step["exact"]["losses"])
    assert step["close"]["logged match/num_positive_pairs"][0] > 0
    cascade = json.loads((EXPECTED / "cascade.json").read_text())
    assert all(0.001 < cascade["close"][name][0] < 100 for name in cascade["exact"]["losses"])
    assert all(cascade["close"][f"logged stage{k}/roi_head/num_fg_samples"][0] > 0 for k in (1, 2))
    assert len(cascade["exact"]["losses"]) == 9
    found = json.loads((EXPECTED / "inference.json").read_text())
    for image in range(4):
        assert len(set(found["exact"][f"image {image} classes"])) > 1
        assert len(found["close"][f"image {image} scores"]) == 10
        assert sum(area for area, _ in found["exact"][f"image {image} masks"]) > 100


def has_roi_heads(path):
    """Recognition models have none; tests/modeling/recognition builds them on either host."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(path))
    return cfg.MODEL.META_ARCHITECTURE != "Recognition"


CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml") if has_roi_heads(path))


@pytest.mark.parametrize("file", CONFIGS)
def test_configs_load_and_build(file):
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / file))
    if cfg.MODEL.ATTRIBUTE_ON:  # they follow from the training set
        set_taxonomy(cfg, replace(DEEPFASHION2, attributes=(Attribute("floral", "texture"),)))
    # Half of the building time is the two layers that a box's 12544 features enter.
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.ROI_BOX_HEAD.FC_DIM", 32])
    cfg.MODEL.WEIGHTS = "anything"  # then nothing is fetched for the backbone
    heads = build_model(cfg).roi_heads
    assert type(heads).__name__ == cfg.MODEL.ROI_HEADS.NAME
    (host,) = (c for c in type(heads).__mro__ if c.__name__ == "StandardROIHeads")
    assert host.__module__.split(".")[0] == ("detectron2" if HOST == "detectron2" else "match_rcnn")
    assert heads.mask_on == cfg.MODEL.MASK_ON
    assert heads.keypoint_on == cfg.MODEL.KEYPOINT_ON
    assert hasattr(heads, "match_head") == cfg.MODEL.MATCH_ON
