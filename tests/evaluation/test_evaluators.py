import importlib.util
from types import SimpleNamespace

import pytest

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.evaluation import evaluators
from match_rcnn.evaluation.coco.evaluator import DeepFashion2Evaluator
from match_rcnn.evaluation.evaluators import EVALUATOR_REGISTRY, build_evaluator, tables
from match_rcnn.evaluation.pictures import PredictionPictures
from match_rcnn.evaluation.retrieval.evaluator import RetrievalEvaluator

LABELS = {"boxes", "masks", "landmarks", "pairs"}

NEW = """
from match_rcnn.d2 import DatasetEvaluator
from match_rcnn.evaluation.evaluators import EVALUATOR_REGISTRY


@EVALUATOR_REGISTRY.register()
class Counter(DatasetEvaluator):
    @classmethod
    def from_config(cls, cfg, dataset_name, model):
        return cls() if cfg.TEST.DETECTIONS_PER_IMAGE == 7 else None

    @classmethod
    def tables(cls, cfg, labels):
        return ["count"] if "colours" in labels else []

    def reset(self):
        self.images = 0

    def process(self, inputs, outputs):
        self.images += len(inputs)

    def evaluate(self):
        return {"count": {"images": self.images}}
"""
#: Without a similarity.
MODEL = SimpleNamespace(roi_heads=SimpleNamespace(match_head=object()))


@pytest.fixture
def cfg(tmp_path):
    cfg = get_match_rcnn_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    return cfg


@pytest.fixture
def parts(monkeypatch):
    # Hosts keep the parts of several evaluators each in their own way.
    monkeypatch.setattr(evaluators, "DatasetEvaluators", list)

    def build(cfg, model=None):
        built = build_evaluator(cfg, "an_evaluated_set", model)
        return built if isinstance(built, list) else [built]

    return build


def test_what_applies_to_a_config_and_a_model(cfg, parts):
    assert [type(part) for part in parts(cfg)] == [DeepFashion2Evaluator]
    cfg.MODEL.MATCH_ON = True
    cfg.TEST.VISUALIZE_IMAGES = 2
    cfg.TEST.RETRIEVAL_DETECTIONS_PER_IMAGE = 3
    assert {type(part) for part in parts(cfg)} == {DeepFashion2Evaluator, PredictionPictures}
    every = {type(part): part for part in parts(cfg, model=MODEL)}
    assert every.keys() == {DeepFashion2Evaluator, PredictionPictures, RetrievalEvaluator}
    # The limit of landmark results is not retrieval's.
    assert every[RetrievalEvaluator]._max_detections == 3
    assert every[DeepFashion2Evaluator]._max_landmark_detections == 20


def test_the_limit_of_landmark_results_is_not_retrievals(cfg, parts):
    cfg.MODEL.MATCH_ON = True
    cfg.TEST.LANDMARK_DETECTIONS_PER_IMAGE = 1
    (retrieval,) = [p for p in parts(cfg, MODEL) if isinstance(p, RetrievalEvaluator)]
    assert retrieval._max_detections == 20


def test_the_tables_are_known_before_a_run(cfg):
    assert tables(cfg, LABELS) == ["bbox"]
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = cfg.MODEL.MATCH_ON = True
    whole = {"bbox", "segm", "keypoints_visible", "keypoints", "retrieval", "retrieval_gt_boxes"}
    assert set(tables(cfg, LABELS)) == whole
    assert set(tables(cfg, {"boxes", "masks"})) == {"bbox", "segm"}


def test_a_new_evaluator_is_one_file(cfg, parts, tmp_path):
    file = tmp_path / "counter.py"
    file.write_text(NEW)
    spec = importlib.util.spec_from_file_location("counter", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        assert [type(part) for part in parts(cfg)] == [DeepFashion2Evaluator]
        cfg.TEST.DETECTIONS_PER_IMAGE = 7
        _, counter = parts(cfg)
        counter.reset()
        counter.process([{}, {}], [])
        assert counter.evaluate() == {"count": {"images": 2}}
        assert tables(cfg, {"boxes", "colours"}) == ["bbox", "count"]
    finally:
        EVALUATOR_REGISTRY._obj_map.pop("Counter")


def test_a_data_set_that_nothing_applies_to(cfg, monkeypatch):
    monkeypatch.setattr(evaluators, "registered", lambda: iter([PredictionPictures]))
    with pytest.raises(ValueError, match="none of the evaluators applies; there are Pred"):
        build_evaluator(cfg, "an_evaluated_set")
