import pickle

import pytest
import yaml

from match_rcnn.lite.config import CfgNode, ConfigError, get_cfg


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return str(path)

    return write


class TestDefaults:
    def test_each_call_gives_its_own(self):
        cfg = get_cfg()
        cfg.MODEL.RPN.IOU_LABELS.append(5)
        assert get_cfg().MODEL.RPN.IOU_LABELS == [0, -1, 1]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            # A sample of what results depend on; detectron2 02b5c4e2's get_cfg() has these.
            ("VERSION", 2),
            ("MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675]),
            ("MODEL.BACKBONE.FREEZE_AT", 2),
            ("MODEL.RESNETS.STRIDE_IN_1X1", True),
            ("MODEL.RPN.IOU_THRESHOLDS", [0.3, 0.7]),
            ("MODEL.RPN.BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0)),
            ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0)),
            ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2"),
            ("MODEL.ROI_HEADS.POSITIVE_FRACTION", 0.25),
            ("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (512,) * 8),
            ("INPUT.MIN_SIZE_TRAIN", (800,)),
            ("INPUT.FORMAT", "BGR"),
            ("DATALOADER.ASPECT_RATIO_GROUPING", True),
            ("SOLVER.WARMUP_FACTOR", 0.001),
            ("SOLVER.WEIGHT_DECAY_BIAS", None),
            ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"),
            ("TEST.AUG.MIN_SIZES", (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)),
            ("TEST.DETECTIONS_PER_IMAGE", 100),
        ],
    )
    def test_values(self, key, value):
        node = get_cfg()
        for part in key.split("."):
            node = node[part]
        assert node == value
        assert type(node) is type(value)


class TestFiles:
    def test_base_chain(self, write):
        write("bases/root.yaml", "SOLVER: {BASE_LR: 0.5, MAX_ITER: 10}\nSEED: 1\n")
        write("middle.yaml", "_BASE_: bases/root.yaml\nSOLVER: {MAX_ITER: 20}\n")
        path = write("leaf.yaml", "_BASE_: ./middle.yaml\nSEED: 3\nDATASETS: {TRAIN: [a, b]}\n")
        cfg = get_cfg()
        cfg.merge_from_file(path)
        assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SEED) == (0.5, 20, 3)
        assert cfg.DATASETS.TRAIN == ("a", "b")  # as the default is a tuple
        assert cfg.SOLVER.GAMMA == 0.1  # what no file names stays

    def test_strings_are_read_as_literals(self, write):
        cfg = get_cfg()
        cfg.merge_from_file(write("a.yaml", 'SOLVER: {STEPS: "(5, 7)", BASE_LR: 1e-3}\n'))
        assert cfg.SOLVER.STEPS == (5, 7)
        assert cfg.SOLVER.BASE_LR == 0.001  # yaml takes 1e-3 for a string

    def test_an_unknown_key_names_the_file_that_has_it(self, write):
        base = write("base.yaml", "SOLVER: {BASE_LEARNING_RATE: 0.5}\n")
        path = write("leaf.yaml", "_BASE_: base.yaml\nSEED: 3\nMODEL: {MASKS_ON: True}\n")
        cfg = get_cfg()
        with pytest.raises(ConfigError) as error:
            cfg.merge_from_file(path)
        message = str(error.value)
        assert f"SOLVER.BASE_LEARNING_RATE in {base}" in message
        assert f"MODEL.MASKS_ON in {path}" in message
        assert "did you mean" in message
        assert "MODEL.MASK_ON" in message
        assert cfg == get_cfg()

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("SOLVER: {BASE_LR: fast}\n", ["SOLVER.BASE_LR", "float", "str"]),
            ("SOLVER: {MAX_ITER: 1.5}\n", ["SOLVER.MAX_ITER", "int", "float"]),
            ("SOLVER: 3\n", ["SOLVER to be a section"]),
            ("SEED: {A: 1}\n", ["SEED to be a value"]),
            ("VERSION: 1\n", ["VERSION 2, got 1"]),
            ("", ["mapping"]),
            ("- a\n- b\n", ["mapping"]),
            ("SOLVER: [1\n", ["yaml", "line 2"]),
            ("SEED: !!python/object/apply:os.getcwd []\n", ["yaml", "python/object"]),
        ],
    )
    def test_what_does_not_fit(self, write, text, parts):
        path, cfg = write("a.yaml", text), get_cfg()
        with pytest.raises(ConfigError) as error:
            cfg.merge_from_file(path)
        for part in [path, *parts]:
            assert part in str(error.value)
        assert cfg == get_cfg()

    def test_missing_files(self, write):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
            get_cfg().merge_from_file("nowhere.yaml")
        path = write("a.yaml", "_BASE_: nowhere.yaml\n")
        with pytest.raises(FileNotFoundError, match=r"a\.yaml.*nowhere\.yaml"):
            get_cfg().merge_from_file(path)

    def test_tags_run_when_asked_to(self, write):
        path = write("a.yaml", "SOLVER: {MAX_ITER: !!python/object/apply:eval ['3 * 7']}\n")
        cfg = get_cfg()
        cfg.merge_from_file(path, allow_unsafe=True)
        assert cfg.SOLVER.MAX_ITER == 21

    def test_dump_and_load(self, write):
        cfg = get_cfg()
        cfg.SOLVER.STEPS = (3, 4)
        cfg.OUTPUT_DIR = "somewhere"
        text = cfg.dump()
        assert "&id" not in text  # no yaml anchors
        again = get_cfg()
        again.merge_from_file(write("dump.yaml", text))
        assert again.dump() == text
        assert again.SOLVER == cfg.SOLVER
        assert yaml.safe_load(text)["SOLVER"]["STEPS"] == [3, 4]


class TestOverrides:
    def test_values(self):
        cfg = get_cfg()
        cfg.merge_from_list(
            ["SOLVER.BASE_LR", "0.5", "DATASETS.TRAIN", "('a',)", "SOLVER.STEPS", [1, 2], "SEED", 7]
        )
        assert cfg.SOLVER.BASE_LR == 0.5
        assert cfg.DATASETS.TRAIN == ("a",)
        assert cfg.SOLVER.STEPS == (1, 2)
        assert cfg.SEED == 7
        cfg.merge_from_list([])

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["SOLVER.BASE_LX", "1.0"], r"SOLVER\.BASE_LX.*did you mean SOLVER\.BASE_LR"),
            (["NOTHING.LIKE.THIS", "1.0"], r"NOTHING\.LIKE\.THIS"),
            (["SEED", "1", "SOLVER.MAX_ITER.X", "1"], r"SOLVER\.MAX_ITER\.X"),
            (["SEED", "1", "SOLVER.BASE_LR", "fast"], r"overrides.*SOLVER\.BASE_LR"),
            (["SOLVER.BASE_LR", "1"], r"int.*SOLVER\.BASE_LR"),
            (["SEED"], "KEY VALUE"),
            (["_BASE_", "a.yaml"], "_BASE_"),
        ],
    )
    def test_what_does_not_fit(self, overrides, message):
        cfg = get_cfg()
        with pytest.raises(ConfigError, match=message):
            cfg.merge_from_list(overrides)
        assert cfg == get_cfg()

    def test_the_error_is_of_upstream_s_kinds(self):
        # Whoever catches what yacs raises catches this as well.
        assert issubclass(ConfigError, KeyError)
        assert issubclass(ConfigError, ValueError)


class TestNode:
    def test_frozen(self):
        cfg = get_cfg()
        cfg.freeze()
        with pytest.raises(AttributeError, match="immutable"):
            cfg.MODEL.MASK_ON = True
        cfg.defrost()
        cfg.MODEL.MASK_ON = True
        assert cfg.clone() == cfg
        assert pickle.loads(pickle.dumps(cfg)) == cfg

    def test_own_keys_then_files(self, write):
        cfg = get_cfg()
        cfg.MODEL.OWN = CfgNode({"SIZE": 3})
        cfg.merge_from_file(write("a.yaml", "MODEL: {OWN: {SIZE: 4}}\n"))
        assert cfg.MODEL.OWN.SIZE == 4

    def test_new_keys_where_allowed(self, write):
        cfg = get_cfg()
        cfg.MODEL.set_new_allowed(True)
        cfg.merge_from_file(write("a.yaml", "MODEL: {OWN: {SIZE: 4}}\n"))
        assert cfg.MODEL.OWN.SIZE == 4
        with pytest.raises(ConfigError, match="OWN"):
            cfg.merge_from_file(write("b.yaml", "OWN: 4\n"))
