import pytest

from match_rcnn.config import follow_taxonomy, get_match_rcnn_cfg
from match_rcnn.data.taxonomy import DEEPFASHION2, Category, Taxonomy
from match_rcnn.modeling.taxonomy import set_taxonomy, taxonomy_from_config

DRESS = Category(8, "dress", ("neck", "hem"), sigmas=(0.05, 0.05))
SHOP = Taxonomy("shop", (Category(3, "bag"), DRESS))


def test_a_config_that_says_nothing_is_deepfashion2_s():
    cfg = get_match_rcnn_cfg()
    assert taxonomy_from_config(cfg) is DEEPFASHION2
    set_taxonomy(cfg, DEEPFASHION2)
    assert cfg.MODEL.TAXONOMY == "deepfashion2"


def test_the_training_set_s_taxonomy_travels_in_the_config(tmp_path):
    cfg = get_match_rcnn_cfg()
    follow_taxonomy(cfg, SHOP)
    file = tmp_path / "config.yaml"
    file.write_text(cfg.dump())
    read = get_match_rcnn_cfg()
    read.merge_from_file(str(file))
    assert taxonomy_from_config(read) == SHOP
    assert taxonomy_from_config(read).name == "shop"
    follow_taxonomy(read, SHOP)
    assert read.MODEL.TAXONOMY == cfg.MODEL.TAXONOMY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deepfashion2", "13 categories with 294 landmarks, but .* 2 with 2"),
        ("shop", "MODEL.TAXONOMY: expected the key 'categories'"),
        ("[1", "MODEL.TAXONOMY is no yaml"),
    ],
)
def test_a_contradiction_is_an_error_that_names_both(text, message):
    cfg = get_match_rcnn_cfg()
    cfg.MODEL.TAXONOMY = text
    with pytest.raises(ValueError, match=message):
        set_taxonomy(cfg, SHOP)
