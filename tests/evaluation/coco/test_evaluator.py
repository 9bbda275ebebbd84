import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from match_rcnn.d2 import Boxes, Instances, MetadataCatalog
from match_rcnn.data import taxonomy
from match_rcnn.data.synthetic.templates import TEMPLATES
from match_rcnn.evaluation import DeepFashion2Evaluator
from match_rcnn.evaluation.coco import evaluator
from match_rcnn.evaluation.coco.subsets import evaluate_files

HEIGHT, WIDTH = 60, 80
CATEGORY_IDS = (7, 8)


class World:
    """Ground truth in a file, and what a model that is nearly right says about its images."""

    def __init__(self, folder, name, seed=0):
        self.rng = np.random.default_rng(seed)
        self.items = [self._item(i) for i in range(24)]
        images = [
            {"id": i, "height": HEIGHT, "width": WIDTH, "source": ("user", "shop")[i % 2]}
            for i in range(1, 9)
        ]
        names = [{"id": c.id, "name": c.coco_name} for c in taxonomy.DEEPFASHION2.categories]
        self.truth = {"images": images, "annotations": self.items, "categories": names}
        self.path = folder / "gt.json"
        self.path.write_text(json.dumps(self.truth))
        self.name = f"{name}_{folder.name}"
        classes = [c.name for c in taxonomy.DEEPFASHION2.categories]
        MetadataCatalog.get(self.name).set(json_file=str(self.path), thing_classes=classes)

    def _item(self, index):
        category = taxonomy.DEEPFASHION2.category(int(self.rng.choice(CATEGORY_IDS)))
        box = self.rng.integers([0, 0, 20, 20], [40, 30, 40, 30])
        labels = self.rng.choice([0, 1, 2], size=category.num_landmarks) * (index % 5 > 0)
        xy = np.rint(box[:2] + TEMPLATES[category.id].xy * box[2:])
        points = np.column_stack([xy, labels]) * (labels > 0)[:, None]
        x, y, w, h = box.tolist()
        return {
            "id": index + 1,
            "image_id": index // 3 + 1,
            "category_id": category.id,
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "num_keypoints": int((labels > 0).sum()),
            "keypoints": points.reshape(-1).tolist(),
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            "scale": index % 3 + 1,
        }

    def instances(self, image_id, channels=39, repeat=1):
        items = [a for a in self.items if a["image_id"] == image_id] * repeat
        rng = np.random.default_rng(image_id)
        ids = [a["category_id"] for a in items]
        boxes = np.array([a["bbox"] for a in items], float).reshape(-1, 4)
        boxes += rng.normal(0, 1, boxes.shape)
        masks = np.zeros((len(items), HEIGHT, WIDTH), bool)
        points = np.zeros((len(items), channels, 3), np.float32)
        for index, (category_id, box) in enumerate(zip(ids, boxes, strict=True)):
            x, y, w, h = np.rint(box).astype(int).clip(0)
            masks[index, y : y + h, x : x + w] = True
            category = taxonomy.DEEPFASHION2.category(category_id)
            own = category.slice if channels == 294 else slice(category.num_landmarks)
            points[index, own, :2] = box[:2] + TEMPLATES[category.id].xy * box[2:] + 0.5
            points[index, own, 2] = 0.25
        boxes[:, 2:] += boxes[:, :2]
        found = Instances((HEIGHT, WIDTH))
        found.pred_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
        found.scores = torch.as_tensor(rng.uniform(0.05, 1, len(items)), dtype=torch.float32)
        found.pred_classes = torch.tensor(ids, dtype=torch.int64) - 1
        found.pred_masks = torch.as_tensor(masks)
        found.pred_keypoints = torch.as_tensor(points)
        return found

    def run(self, evaluated, **options):
        evaluated.reset()
        for image_id in range(1, 9):
            found = self.instances(image_id, **options)
            evaluated.process([{"image_id": image_id}], [{"instances": found}])
        return evaluated.evaluate()


@pytest.fixture
def world(tmp_path, request):
    return World(tmp_path, request.node.name)


def test_the_written_files_score_the_same(world, tmp_path, tools):
    results = world.run(DeepFashion2Evaluator(world.name, output_dir=tmp_path / "out"))
    assert list(results) == ["bbox", "segm", "keypoints_visible", "keypoints"]
    for task, values in results.items():
        kind = task.removesuffix("_visible")
        path = tmp_path / "out" / f"{kind}_results.json"
        scores = evaluate_files(kind, world.path, path, visible_only=task != kind).whole
        for name, value in scores.stats.items():
            if name.startswith("AP"):
                expected = 100 * value if value >= 0 else math.nan
                assert values[name] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert 20 < values["AP50"] <= 100
    dense = {**world.truth, "annotations": [dict(a) for a in world.items]}
    for annotation in dense["annotations"]:
        points = np.zeros((294, 3))
        own = taxonomy.DEEPFASHION2.category(annotation["category_id"]).slice
        points[own] = np.reshape(annotation["keypoints"], (-1, 3))
        annotation["keypoints"] = points.reshape(-1).tolist()
    for task in ("bbox", "segm", "keypoints"):
        written = json.loads((tmp_path / "out" / f"{task}_results.json").read_text())
        reference = tools.reference(dense, written, task)
        assert results[task]["AP"] == pytest.approx(100 * reference.stats[0], abs=1e-7)


def test_metrics_by_category_and_subset(world):
    values = world.run(DeepFashion2Evaluator(world.name))["bbox"]
    assert values["AP-shorts"] > 0
    assert math.isnan(values["AP-vest dress"])
    for subset in ("source-user", "source-shop", "scale-small", "scale-modest", "scale-large"):
        assert values[f"AP-{subset}"] <= values[f"AP50-{subset}"]
    assert not any("occlusion" in name for name in values)
    whole_only = DeepFashion2Evaluator(world.name, ("bbox",), by_subset=False)
    assert not any("source" in name for name in world.run(whole_only)["bbox"])


def test_half_a_pixel_is_taken_off_landmarks_and_other_categories_are_zero(world, tmp_path):
    world.run(DeepFashion2Evaluator(world.name, ("keypoints",), output_dir=tmp_path))
    written = json.loads((tmp_path / "keypoints_results.json").read_text())
    for entry in written:
        found = world.instances(entry["image_id"])
        index = int(np.argmin(np.abs(found.scores.numpy() - entry["score"])))
        category = taxonomy.DEEPFASHION2.category(entry["category_id"])
        dense = np.reshape(entry["keypoints"], (294, 3))
        own = found.pred_keypoints[index, : category.num_landmarks].numpy()
        np.testing.assert_allclose(dense[category.slice], own - [0.5, 0.5, 0], atol=0.00501)
        dense[category.slice] = 0
        assert not dense.any()
    assert len(written) == len(world.items)


def test_a_dense_head_gives_the_same(world):
    compact = world.run(DeepFashion2Evaluator(world.name, ("keypoints",)))
    dense = world.run(DeepFashion2Evaluator(world.name, ("keypoints",)), channels=294)
    for task, values in compact.items():
        assert dense[task] == pytest.approx(values, nan_ok=True)


def test_the_best_so_many_of_an_image(world, tmp_path):
    limited = DeepFashion2Evaluator(
        world.name, output_dir=tmp_path, max_detections=25, max_landmark_detections=20
    )
    world.run(limited, repeat=10)  # 30 an image
    for task, number in (("bbox", 25), ("segm", 25), ("keypoints", 20)):
        written = json.loads((tmp_path / f"{task}_results.json").read_text())
        scores = [entry["score"] for entry in written if entry["image_id"] == 1]
        best = np.sort(world.instances(1, repeat=10).scores.numpy())[::-1]
        np.testing.assert_allclose(scores, best[:number], rtol=1e-6)


def test_no_detections(world, tmp_path):
    evaluated = DeepFashion2Evaluator(world.name, output_dir=tmp_path)
    results = world.run(evaluated, repeat=0)
    assert {values["AP"] for values in results.values()} == {0.0}
    assert json.loads((tmp_path / "segm_results.json").read_text()) == []


@pytest.mark.parametrize("json_file", ["without annotations", "none"])
def test_a_test_set_gives_files_only(world, tmp_path, json_file):
    name = f"{world.name}_{json_file}"
    if json_file != "none":
        path = tmp_path / "test.json"
        path.write_text(json.dumps({"images": world.truth["images"]}))
        MetadataCatalog.get(name).json_file = str(path)
    assert world.run(DeepFashion2Evaluator(name, output_dir=tmp_path / "out")) == {}
    tasks = ("bbox", "segm", "keypoints")
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert written == {"data.json", *(f"{task}_results.json" for task in tasks)}


def test_it_is_noted_where_the_data_lies(world, tmp_path):
    MetadataCatalog.get(world.name).image_root = "some/folder"
    world.run(DeepFashion2Evaluator(world.name, ("bbox",), output_dir=tmp_path / "out"))
    noted = json.loads((tmp_path / "out" / "data.json").read_text())
    assert noted["json_file"] == str(world.path)
    assert noted["image_root"].endswith("some/folder")


def test_processes_are_gathered(world, monkeypatch):
    alone = world.run(DeepFashion2Evaluator(world.name, ("bbox",)))
    parts = {}
    for rank, images in ((1, range(5, 9)), (0, range(1, 5))):
        comm = SimpleNamespace(
            synchronize=lambda: None,
            is_main_process=lambda rank=rank: rank == 0,
            gather=lambda data, dst, rank=rank: [data, parts[1]] if rank == 0 else [],
        )
        monkeypatch.setattr(evaluator, "comm", comm)
        process = DeepFashion2Evaluator(world.name, ("bbox",))
        for image_id in images:
            process.process([{"image_id": image_id}], [{"instances": world.instances(image_id)}])
        parts[rank] = process.predictions
        results = process.evaluate()
        assert bool(results) == (rank == 0)
    assert results["bbox"] == pytest.approx(alone["bbox"], nan_ok=True)


def test_reset_forgets(world):
    evaluated = DeepFashion2Evaluator(world.name, ("bbox",))
    first = world.run(evaluated)
    assert world.run(evaluated)["bbox"] == pytest.approx(first["bbox"], nan_ok=True)


def test_errors(world):
    with pytest.raises(ValueError, match="tasks must be of bbox, segm, keypoints; got boxes"):
        DeepFashion2Evaluator(world.name, ("boxes",))
    found = world.instances(1)
    found.remove("pred_masks")
    with pytest.raises(ValueError, match="needs pred_masks"):
        DeepFashion2Evaluator(world.name).process([{"image_id": 1}], [{"instances": found}])
    lost = DeepFashion2Evaluator(world.name, ("bbox",))
    lost.process([{"image_id": 99}], [{"instances": world.instances(1)}])
    with pytest.raises(ValueError, match="image_id 99"):
        lost.evaluate()


def test_masks_and_landmarks_are_scored_for_their_task(world, tmp_path):
    confidence = {"mask_confidence": 2.0, "landmark_confidence": 0.5}
    scorer = DeepFashion2Evaluator(world.name, output_dir=tmp_path, **confidence)
    inner = scorer.process

    def process(inputs, outputs):
        for output in outputs:
            found = output["instances"]
            found.mask_confidence = 0.25 + found.scores / 2
            found.pred_keypoints[..., 2] = found.scores[:, None]
        inner(inputs, outputs)

    scorer.process = process
    results = world.run(scorer)
    written = {
        task: json.loads((tmp_path / f"{task}_results.json").read_text())
        for task in ("bbox", "segm", "keypoints")
    }
    boxes = np.array([entry["score"] for entry in written["bbox"]])
    masks = [entry["score"] for entry in written["segm"]]
    np.testing.assert_allclose(masks, boxes * (0.25 + boxes / 2) ** 2, rtol=1e-5)
    landmarks = [entry["score"] for entry in written["keypoints"]]
    np.testing.assert_allclose(landmarks, boxes**1.5, rtol=1e-5)
    view = evaluate_files("segm", world.path, tmp_path / "segm_results.json").whole
    assert results["segm"]["AP"] == pytest.approx(100 * view.stats["AP"], abs=1e-12)
