"""What a run left behind: its config, its metrics, and its result files scored anew.

A run is a folder ``OUTPUT_DIR`` with ``metrics.json``, ``config.yaml`` and
``inference/<data set>/{bbox,segm,keypoints,retrieval}_results.json``; each of these may be missing.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from match_rcnn.d2 import DatasetCatalog, MetadataCatalog
from match_rcnn.data.datasets import register_deepfashion2
from match_rcnn.data.taxonomy import DEEPFASHION2, Taxonomy
from match_rcnn.evaluation.coco.arrays import Detections, GroundTruth
from match_rcnn.evaluation.coco.evaluator import DATA_FILE_NAME
from match_rcnn.evaluation.coco.files import read_detections, read_ground_truth
from match_rcnn.evaluation.coco.predictions import FILE_NAMES
from match_rcnn.evaluation.coco.scoring import TASKS
from match_rcnn.evaluation.coco.subsets import View, score_views, truths
from match_rcnn.evaluation.retrieval.files import FILE_NAMES as RETRIEVAL_FILES
from match_rcnn.reporting.numbers.dataset import file_taxonomy, is_generated
from match_rcnn.reporting.numbers.retrieval import RetrievalPart, read_retrieval
from match_rcnn.utils.files import read_json

logger = logging.getLogger(__name__)

MEASURED, GENERATED = "measured", "measured on generated data"
UNKNOWN = "measured on data not at hand"
#: A line of a metrics file, or a name in quotes, with an evaluation's metric.
_METRIC = re.compile(
    r'/AP|"retrieval|["/_](attributes(_found)?|category|landmarks|inshop|consumer2shop)/'
)


@dataclass
class Run:
    """One run on one data set.

    Attributes:
        name: short, for tables and file names.
        measured: how its figures are to be called, such as ``"measured on generated data"``.
        metrics: flat and in percent: the newest of ``metrics.json``, and over them those computed
            anew from the result files.
        truth: with everything that its tasks need; ``None`` without annotations.
        taxonomy: of its data.
        image_root: the folder of the photos, ``None`` if it is not known.
        found: detections by task; views: scores by view; retrieval: by the boxes used.
    """

    name: str
    folder: Path
    dataset: str
    measured: str
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    truth: GroundTruth | None = None
    taxonomy: Taxonomy = DEEPFASHION2
    image_root: Path | None = None
    found: dict[str, Detections] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    retrieval: dict[str, RetrievalPart] = field(default_factory=dict)

    @property
    def features(self) -> str:
        """The match network's features, if there is one."""
        head = self.config.get("MODEL", {})
        return str(head["ROI_MATCH_HEAD"]["FEATURES"]) if head.get("MATCH_ON") else ""

    @property
    def facts(self) -> dict[str, str]:
        """What a reader wants to know of it, in words."""
        model, solver = self.config.get("MODEL", {}), self.config.get("SOLVER", {})
        facts = {"data set": self.dataset, "figures": self.measured}
        if self.truth is not None:
            facts["images"] = f"{len(self.truth.image_ids):,}"
            facts["annotated items"] = f"{len(self.truth.ids):,}"
        if "bbox" in self.found:
            facts["detections"] = f"{len(self.found['bbox'].scores):,}"
        if "NAME" in model.get("BACKBONE", {}):
            facts["backbone"] = backbone_name(model)
        if solver.get("EPOCHS"):  # an evaluation alone does not know the iterations
            facts["epochs"] = f"{solver['EPOCHS']:g}"
        elif "MAX_ITER" in solver:
            facts["iterations"] = f"{solver['MAX_ITER']:,} of {solver['IMS_PER_BATCH']} images"
        if self.features:
            facts["match features"] = self.features
        return facts


def backbone_name(model: Mapping[str, Any]) -> str:
    """Of a config's ``MODEL``, in words: ``ResNet-50-FPN``, ``convnext_tiny-FPN``; the builder's
    name where that is all that is known. ``RESNETS`` stays in every config and says nothing."""
    name = str(model["BACKBONE"]["NAME"])
    parts = re.fullmatch(r"build_(\w+?)(_fpn)?_backbone", name)
    kind = parts[1].upper() if parts else ""
    known = {"RESNET": f"ResNet-{model.get('RESNETS', {}).get('DEPTH')}"}
    network = known.get(kind) or model.get(kind, {}).get("NAME")
    return f"{network}{'-FPN' * bool(parts and parts[2])}" if network else name


@dataclass(frozen=True)
class Where:
    """What a data set's name does not tell, or other than it tells.

    Attributes:
        ground_truth: COCO form; images: the folder of the photos.
        measured: how figures are to be called.
    """

    ground_truth: Path | None = None
    images: Path | None = None
    measured: str | None = None


def read_runs(
    folders: Sequence[Path], where: Where = Where(), dataset: str | None = None
) -> list[Run]:
    """Read and score all; equal names get a number.

    Args:
        dataset: which of ``inference/*`` to take where there are several.

    Raises:
        FileNotFoundError, ValueError: what is wrong with which file.
    """
    runs: list[Run] = []
    truths_read: dict[Path, GroundTruth | None] = {}
    for folder in folders:
        run = _open(Path(folder), where, dataset)
        same = sum(other.folder.resolve().name == run.name for other in runs)
        run.name = f"{run.name} ({same + 1})" if same else run.name
        _score(run, where, truths_read)
        runs.append(run)
    return runs


def _open(folder: Path, where: Where, dataset: str | None) -> Run:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; expected the OUTPUT_DIR of a run")
    known = sorted(p.name for p in (folder / "inference").glob("*") if p.is_dir())
    if dataset is None and len(known) > 1:
        raise ValueError(f"{folder} has results on {', '.join(known)}; choose one with --dataset")
    if dataset is not None and known and dataset not in known:
        raise ValueError(f"{folder} has results on {', '.join(known)}, not on {dataset!r}")
    metrics_file = folder / "metrics.json"
    if not known and not metrics_file.is_file():
        raise FileNotFoundError(
            f"{folder} has neither inference/<data set>/*_results.json nor metrics.json; "
            "make them with tools/train_net.py (--eval-only for a trained model)"
        )
    config_file = folder / "config.yaml"
    config = _read_config(config_file) if config_file.is_file() else {}
    name = dataset or (known[0] if known else "") or _test_set(config)
    run = Run(folder.resolve().name, folder, name, where.measured or MEASURED, config)
    if metrics_file.is_file():
        run.metrics = newest_metrics(metrics_file)
    return run


def _read_config(config_file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(config_file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{config_file} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{config_file}: expected a config's keys, got {config!r:.60}")
    return config


def _test_set(config: dict[str, Any]) -> str:
    tests = config.get("DATASETS", {}).get("TEST") or [""]
    return str(tests[0])


def newest_metrics(metrics_file: Path) -> dict[str, float]:
    """The last value of every evaluation metric, in percent. Lines that are cut off, as a killed
    run leaves them, are passed over with a warning."""
    metrics: dict[str, float] = {}
    for number, text in enumerate(metrics_file.read_text("utf-8").splitlines(), 1):
        if _METRIC.search(text):
            try:
                record = json.loads(text)
            except ValueError as error:
                logger.warning("%s, line %d left out: %s", metrics_file, number, error)
                continue
            found = {k: v for k, v in record.items() if _METRIC.search(f'"{k}"')}
            metrics |= {k: float("nan") if v is None else float(v) for k, v in found.items()}
    return metrics


def _score(run: Run, where: Where, truths_read: dict[Path, GroundTruth | None]) -> None:
    json_file, run.image_root = _locate(run, where)
    if where.measured is None and is_generated(json_file, run.image_root):
        run.measured = GENERATED
    folder = run.folder / "inference" / run.dataset
    files = {task: folder / name for task, name in FILE_NAMES.items()}
    tasks = [task for task, file in files.items() if file.is_file()]
    if json_file is None or not json_file.is_file():
        run.measured = where.measured or UNKNOWN
        logger.warning(
            "%s: no ground truth (%s); metrics.json is all there is", run.name, json_file
        )
        return
    if json_file not in truths_read:
        # All tasks, since the runs share it.
        taxonomy = file_taxonomy(json_file)
        truths_read[json_file] = read_ground_truth(json_file, list(TASKS), taxonomy)
    run.truth = truths_read[json_file]
    if run.truth is None:
        return
    run.taxonomy = run.truth.taxonomy
    for task in tasks:
        first = next(iter(truths(task, run.truth).values()))
        run.found[task] = read_detections(files[task], task, first, TASKS[task].limits[-1])
        run.views |= score_views(task, run.truth, run.found[task])
    for view, scored in run.views.items():
        run.metrics |= _flat(view, scored, run.taxonomy)
    for task, name in RETRIEVAL_FILES.items():
        part = read_retrieval(folder / name, json_file)
        if part is not None:
            run.retrieval[task] = part
            run.metrics |= {f"{task}/{k}": v for k, v in part.metrics().items()}


def _locate(run: Run, where: Where) -> tuple[Path | None, Path | None]:
    """Ground truth and photos: as given, as the evaluator noted, or as the name says."""
    if where.ground_truth is not None and not where.ground_truth.is_file():
        raise FileNotFoundError(f"{where.ground_truth} is no file; expected one in COCO form")
    noted = run.folder / "inference" / run.dataset / DATA_FILE_NAME
    known = read_json(noted) if noted.is_file() else {}
    known = {key: path for key, path in known.items() if Path(path).exists()}
    register_deepfashion2()
    if run.dataset in DatasetCatalog.list():
        metadata = MetadataCatalog.get(run.dataset)
        named = {key: metadata.get(key) for key in ("json_file", "image_root")}
        known = {**named, **known}
    json_file = where.ground_truth or known.get("json_file")
    images = where.images or known.get("image_root")
    return Path(json_file) if json_file else None, Path(images) if images else None


def _flat(view: str, scored: View, taxonomy: Taxonomy) -> dict[str, float]:
    """Metrics of a view, as the evaluator names them."""
    flat = {f"{view}/{k}": v for k, v in scored.whole.stats.items() if k.startswith("AP")}
    for category, values in scored.whole.per_category().items():
        flat[f"{view}/AP-{taxonomy.named(category).name}"] = values["AP"]
    for subset, scores in scored.subsets.items():
        flat |= {f"{view}/{k}-{subset}": v for k, v in scores.stats.items()}
    return {k: 100 * v if v >= 0 else float("nan") for k, v in flat.items()}
