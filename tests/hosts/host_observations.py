"""What a host computes from :mod:`host_inputs`, as values that JSON can hold.

Each function returns ``{"exact": {name: value}, "close": {name: numbers}}``. Run as a program, it
writes them all, computed in the given precision: ``host_observations.py OUTPUT float32``.
"""

import contextlib
import hashlib
import io
import json
import logging
import pickle
import sys
import tempfile
from pathlib import Path

import host_inputs as inputs
import numpy as np
import torch
from pycocotools import mask as mask_utils

from match_rcnn.d2 import (
    HOST,
    HOST_VERSION,
    Boxes,
    DatasetCatalog,
    DetectionCheckpointer,
    EventStorage,
    Instances,
    build_detection_test_loader,
    build_model,
    get_cfg,
    inference_on_dataset,
)
from match_rcnn.data.loader import build_train_loader_from_cfg
from match_rcnn.data.mapper import GarmentMapper
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.engine import MatchRCNNTrainer
from match_rcnn.evaluation import DeepFashion2Evaluator

# Losses in the order of a step; the gradients of these parameters are given value by value.
GRADIENTS = (
    "backbone.bottom_up.stem.conv1.weight",
    "proposal_generator.rpn_head.anchor_deltas.weight",
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.keypoint_head.score_lowres.weight",
    "roi_heads.mask_head.predictor.weight",
)


#: Of the largest value of a list: single elements may be differences of large ones.
RELATIVE = 1e-5
#: Of the largest gradient of a module: where the true one is 0 (a bias in front of batch norm or
#: softmax), what is there is what single precision rounds away, another number on every processor.
ROUNDING = 1e-7
_NORM = "gradient norm "


def assert_close(found, expected, subject):
    """``close`` numbers of a subject held against another host's."""
    assert found.keys() == expected.keys(), subject
    found, expected = ({k: _array(v) for k, v in one.items()} for one in (found, expected))
    largest = _largest_gradients(expected)
    for name, b in expected.items():
        a = found[name]
        assert a.shape == b.shape, (subject, name)
        scale = np.abs(b).max(initial=0, where=~np.isnan(b))
        allowed = RELATIVE * scale + ROUNDING * largest.get(_module(name), 0)
        np.testing.assert_allclose(a, b, rtol=RELATIVE, atol=allowed, err_msg=f"{subject}: {name}")


def _array(values):
    return np.array(values, dtype=float)


def _module(name):
    """``roi_heads.match_head`` of one of its parameters' gradient norms; else nothing."""
    return ".".join(name.removeprefix(_NORM).split(".")[:2]) if name.startswith(_NORM) else None


def _largest_gradients(norms):
    largest = {}
    for name, values in norms.items():
        if name.startswith(_NORM):
            largest[_module(name)] = max(largest.get(_module(name), 0), values.max())
    return largest


def digest(array):
    array = np.ascontiguousarray(array)
    return f"{array.dtype} {list(array.shape)} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


def numbers(tensor):
    return tensor.detach().double().flatten().tolist()


def config_defaults(dtype):
    """Every default of the host, as text."""
    del dtype
    found = {}

    def walk(node, path):
        for key, value in node.items():
            if hasattr(value, "items"):
                walk(value, f"{path}{key}.")
            else:
                found[path + key] = repr(value)

    walk(get_cfg(), "")
    return {"exact": found, "close": {}}


def state_dicts(dtype):
    """Names, shapes and order of weights; and which of them the optimizer holds by which index."""
    del dtype
    exact = {}
    frozen = {**inputs.TINY, "MODEL.BACKBONE.FREEZE_AT": 2}
    for name, settings in (("tiny", inputs.TINY), ("frozen", frozen), ("full", inputs.FULL)):
        cfg = inputs.config(settings)
        model = build_model(cfg)
        exact[name] = [f"{k} {list(v.shape)}" for k, v in model.state_dict().items()]
        names = {id(parameter): key for key, parameter in model.named_parameters()}
        groups = MatchRCNNTrainer.build_optimizer(cfg, model).param_groups
        for i, group in enumerate(groups):
            exact[f"{name}, optimizer group {i}"] = [names[id(p)] for p in group["params"]]
            exact[f"{name}, optimizer group {i} decay"] = group["weight_decay"]
    return {"exact": exact, "close": {}}


def training_step(dtype):
    """Losses, what is logged, and gradients of one batch."""
    model = inputs.fill(build_model(inputs.config(inputs.TINY)), dtype).train()
    found = _step(model, GRADIENTS)
    buffers = {k: v for k, v in model.named_buffers() if k.endswith("stem.conv1.norm.running_var")}
    found["close"] |= {k: numbers(v) for k, v in buffers.items()}
    return found


def _step(model, gradients):
    """Losses, what is logged, and gradients of a model; those of ``gradients`` value by value."""
    batch = inputs.model_inputs(with_targets=True)
    torch.manual_seed(3)
    with EventStorage() as storage:
        losses = model(batch)
        sum(losses.values()).backward()
        logged = {key: value for key, (value, _) in storage.latest().items()}
    close = {name: numbers(value) for name, value in losses.items()}
    close |= {f"logged {k}": [float(v)] for k, v in logged.items() if not k.startswith("time")}
    norms = {k: p.grad.norm().item() for k, p in model.named_parameters() if p.grad is not None}
    for name in gradients:
        close[f"gradient {name}"] = numbers(model.get_parameter(name).grad)[:64]
    close |= {f"{_NORM}{name}": [norm] for name, norm in norms.items()}
    exact = {"losses": sorted(losses), "parameters with gradient": sorted(norms)}
    # The generator's next number (a small one: versions of torch differ in how they make large
    # ones): sampling drew as many numbers as the other host's.
    return {"exact": {**exact, "next random": int(torch.randint(2**16, ()))}, "close": close}


def cascade(dtype):
    """A step and the detections of Cascade box heads."""
    return _boxes(inputs.config(inputs.CASCADE), dtype)


def bare_default(dtype):
    """The same of the model that a config names which says nothing about it."""
    return _boxes(inputs.config(inputs.C4, base=get_cfg), dtype)


def _boxes(cfg, dtype):
    model = inputs.fill(build_model(cfg), dtype)
    names = [f"{k} {list(v.shape)}" for k, v in model.state_dict().items()]
    last = [k for k, _ in model.named_parameters() if k.endswith("bbox_pred.weight")]
    found = _step(model.train(), last)
    found["exact"]["weights"] = names
    torch.manual_seed(3)
    with torch.no_grad():
        outputs = model.eval()(inputs.model_inputs(with_targets=False))
    for i, output in enumerate(outputs):
        instances = output["instances"]
        found["exact"][f"image {i} classes"] = instances.pred_classes.tolist()
        found["close"][f"image {i} boxes"] = numbers(instances.pred_boxes.tensor)
        found["close"][f"image {i} scores"] = numbers(instances.scores)
    return found


def inference(dtype):
    """Detections of four images."""
    torch.manual_seed(3)
    model = inputs.fill(build_model(inputs.config(inputs.TINY)), dtype).eval()
    with torch.no_grad():
        outputs = model(inputs.model_inputs(with_targets=False))
    exact, close = {}, {}
    for i, output in enumerate(outputs):
        found = output["instances"]
        masks = np.asfortranarray(found.pred_masks.numpy().astype(np.uint8).transpose(1, 2, 0))
        exact[f"image {i} fields"] = sorted(found.get_fields())
        exact[f"image {i} classes"] = found.pred_classes.tolist()
        exact[f"image {i} masks"] = [
            [int(mask_utils.area(rle)), rle["counts"].decode()] for rle in mask_utils.encode(masks)
        ]
        close[f"image {i} boxes"] = numbers(found.pred_boxes.tensor)
        close[f"image {i} scores"] = numbers(found.scores)
        close[f"image {i} landmarks"] = numbers(found.pred_keypoints[..., :2])
        close[f"image {i} landmark scores"] = numbers(found.pred_keypoints[..., 2])
        close[f"image {i} embeddings"] = numbers(found.embedding)
    return {"exact": exact, "close": close}


def data_loading(dtype):
    """The tensors of three training batches of a seed, and of the test loader."""
    del dtype
    exact, close = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        inputs.write_dataset(folder)
        cfg = inputs.config(inputs.TINY)
        loader = iter(build_train_loader_from_cfg(cfg))
        for number in range(3):
            for place, sample in enumerate(next(loader)):
                _take_sample(f"batch {number} image {place}", sample, exact, close)
        test = build_detection_test_loader(
            cfg, inputs.DATASET, mapper=GarmentMapper(cfg, is_train=False)
        )
        for batch in test:
            for sample in batch:
                exact[f"test {sample['image_id']}"] = digest(sample["image"].numpy())
    return {"exact": exact, "close": close}


def _take_sample(name, sample, exact, close):
    instances = sample["instances"]
    exact[name] = [sample["image_id"], digest(sample["image"].numpy())]
    for field in ("gt_classes", "gt_pair_ids", "gt_sources", "gt_styles", "gt_has_partner"):
        exact[f"{name} {field}"] = instances.get(field).tolist()
    exact[f"{name} visibility"] = digest(instances.gt_keypoints.tensor[..., 2].numpy())
    close[f"{name} boxes"] = numbers(instances.gt_boxes.tensor)
    points = instances.gt_keypoints.tensor
    close[f"{name} landmarks"] = numbers(points[..., :2].sum(1))
    polygons = [p for item in instances.gt_masks.polygons for p in item]
    close[f"{name} polygons"] = np.concatenate([np.zeros(0), *polygons]).tolist()


class _Detector(torch.nn.Module):
    """Finds the annotated items, some of them badly."""

    def __init__(self, items):
        super().__init__()
        self.items = {image["image_id"]: image["annotations"] for image in items}

    def forward(self, batch):
        return [{"instances": self._detections(image)} for image in batch]

    def _detections(self, image):
        found = Instances((image["height"], image["width"]))
        items = self.items[image["image_id"]]
        boxes = torch.tensor([a["bbox"] for a in items]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        worse = torch.tensor([2.5 * (a["id"] % 4) for a in items])
        found.pred_boxes = Boxes(boxes + worse[:, None])
        found.scores = torch.tensor([0.9 - 0.05 * a["id"] for a in items])
        classes = [a["category_id"] if a["id"] % 5 else 4 for a in items]
        found.pred_classes = torch.tensor(classes, dtype=torch.int64)
        found.pred_keypoints = torch.zeros(len(items), DEEPFASHION2.max_landmarks, 3)
        masks = torch.zeros(len(items), *found.image_size, dtype=torch.bool)
        for row, (item, mask) in enumerate(zip(items, masks, strict=True)):
            count = DEEPFASHION2.categories[classes[row]].num_landmarks
            own = torch.from_numpy(item["keypoints"])[:count]
            found.pred_keypoints[row, : len(own)] = own
            found.pred_keypoints[row, :, :2] += worse[row] / 2
            x1, y1, x2, y2 = (boxes[row] + worse[row]).int().tolist()
            mask[y1:y2, x1:x2] = True
        found.pred_masks = masks
        return found


def evaluation(dtype):
    """The metrics of made detections, through the host's loop over a data set."""
    del dtype
    with tempfile.TemporaryDirectory() as folder:
        inputs.write_dataset(folder)
        cfg = inputs.config({**inputs.TINY, "OUTPUT_DIR": folder})
        loader = build_detection_test_loader(
            cfg, inputs.DATASET, mapper=GarmentMapper(cfg, is_train=False)
        )
        model = _Detector(DatasetCatalog.get(inputs.DATASET))
        evaluator = DeepFashion2Evaluator.from_config(cfg, inputs.DATASET)
        with contextlib.redirect_stdout(io.StringIO()):
            results = inference_on_dataset(model, loader, evaluator)
        files = sorted(Path(folder).glob(f"inference/{inputs.DATASET}/*_results.json"))
        exact = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}
    close = {
        f"{task} {name}": [None if np.isnan(value) else float(value)]
        for task, metrics in results.items()
        for name, value in metrics.items()
    }
    exact["metrics"] = list(close)
    return {"exact": exact, "close": close}


def weight_files(dtype):
    """What ``.pkl`` files of the model zoo's two layouts give: digests of what was loaded."""
    del dtype
    cfg = inputs.config(inputs.TINY)
    source = inputs.fill(build_model(cfg), torch.float32).state_dict()
    zoo = {k: v.numpy() + 1 for k, v in source.items() if v.is_floating_point()}
    zoo["roi_heads.box_predictor.cls_score.weight"] = np.zeros((81, 32), np.float32)
    files = {
        "zoo": {"model": zoo, "__author__": "Detectron2 Model Zoo"},
        "heuristics": {
            "model": {k.removeprefix("backbone.bottom_up."): v for k, v in zoo.items()},
            "__author__": "torchvision",
            "matching_heuristics": True,
        },
        "caffe2": {"blobs": _caffe2(zoo)},
    }
    return {"exact": {k: _loaded(v, cfg) for k, v in files.items()}, "close": {}}


def _caffe2(zoo):
    """The backbone as Detectron names it, in the layout of MSRA's files."""
    names = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    blobs = {}
    for key, value in zoo.items():
        path = key.removeprefix("backbone.bottom_up.").split(".")
        if path[0] == "stem" and path[2] == "weight":
            blobs["conv1_w"] = value
        elif path[0] == "stem" and path[3] in ("weight", "bias"):
            blobs["res_conv1_bn_" + {"weight": "s", "bias": "b"}[path[3]]] = value
        elif path[0].startswith("res"):
            stem = f"{path[0]}_{path[1]}_{names[path[2]]}"
            ending = (
                {"weight": "_bn_s", "bias": "_bn_b"}.get(path[4]) if path[3] == "norm" else "_w"
            )
            if ending:
                blobs[stem + ending] = value
    blobs["res2_0_branch2a_w_momentum"] = np.zeros(3, np.float32)
    return blobs


def _loaded(content, cfg):
    model = inputs.fill(build_model(cfg), torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pkl"
        path.write_bytes(pickle.dumps(content))
        level, log = logging.root.manager.disable, logging.disable
        log(logging.WARNING)
        DetectionCheckpointer(model).load(str(path))
        log(level)
    return {k: digest(v.numpy())[-8:] for k, v in model.state_dict().items()}


SUBJECTS = {
    function.__name__: function
    for function in (
        config_defaults,
        state_dicts,
        training_step,
        inference,
        data_loading,
        evaluation,
        weight_files,
        cascade,
        bare_default,
    )
}


def observe(dtype, names=tuple(SUBJECTS)):
    return {name: SUBJECTS[name](dtype) for name in names}


def main():
    torch.set_num_threads(1)
    output, precision = sys.argv[1:]
    found = {"host": f"{HOST} {HOST_VERSION}", **observe(getattr(torch, precision))}
    Path(output).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
