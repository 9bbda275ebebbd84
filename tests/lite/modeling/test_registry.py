import pytest

from match_rcnn.lite import modeling


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("META_ARCHITECTURE", "META_ARCH"),
        ("BACKBONE.NAME", "BACKBONE"),
        ("PROPOSAL_GENERATOR.NAME", "PROPOSAL_GENERATOR"),
        ("RPN.HEAD_NAME", "RPN_HEAD"),
        ("ANCHOR_GENERATOR.NAME", "ANCHOR_GENERATOR"),
        ("ROI_HEADS.NAME", "ROI_HEADS"),
        ("ROI_BOX_HEAD.NAME", "ROI_BOX_HEAD"),
        ("ROI_MASK_HEAD.NAME", "ROI_MASK_HEAD"),
        ("ROI_KEYPOINT_HEAD.NAME", "ROI_KEYPOINT_HEAD"),
    ],
)
def test_every_part_is_built_by_name(small_cfg, key, registry):
    small_cfg.merge_from_list([f"MODEL.{key}", "Nonesuch"])
    with pytest.raises(KeyError, match=f"'Nonesuch' is not in the registry {registry}; there are"):
        modeling.build_model(small_cfg)
