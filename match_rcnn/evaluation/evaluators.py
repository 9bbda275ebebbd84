"""Which evaluators there are, and those that apply to a config, a data set and a model.

An evaluator is a class in a file of its own that registers itself::

    @EVALUATOR_REGISTRY.register()
    class MyEvaluator(DatasetEvaluator):
        @classmethod
        def from_config(cls, cfg, dataset_name, model):
            return cls(...) if cfg.MODEL.MY_STREAM_ON else None

        @classmethod
        def tables(cls, cfg, labels):
            return ["mine"] if cfg.MODEL.MY_STREAM_ON and "my_label" in labels else []

Files inside this package are found; a file elsewhere has to be imported.
"""

import importlib
import pkgutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import torch

import match_rcnn.evaluation
from match_rcnn.d2 import CfgNode, DatasetEvaluator, DatasetEvaluators, Registry

#: Evaluators by name, in the order in which their files were imported.
EVALUATOR_REGISTRY: Any = Registry("EVALUATOR")


class Evaluator(Protocol):
    """What a registered class has beside the host's ``DatasetEvaluator``."""

    @classmethod
    def from_config(
        cls, cfg: CfgNode, dataset_name: str, model: torch.nn.Module | None
    ) -> DatasetEvaluator | None:
        """None where it does not apply. Args: model: that is evaluated, if there is one yet."""

    @classmethod
    def tables(cls, cfg: CfgNode, labels: Collection[str]) -> list[str]:
        """The names under which it will give numbers for a data set with these labels, of
        ``boxes``, ``masks``, ``landmarks``, ``pairs`` and whatever else its items carry."""


def build_evaluator(
    cfg: CfgNode, dataset_name: str, model: torch.nn.Module | None = None
) -> DatasetEvaluator:
    """All registered evaluators that apply.

    Args:
        model: None: without what asks the model, such as retrieval.

    Raises:
        ValueError: none applies.
    """
    built = [kind.from_config(cfg, dataset_name, model) for kind in registered()]
    parts = [part for part in built if part is not None]
    if not parts:
        known = ", ".join(kind.__name__ for kind in registered())
        raise ValueError(f"{dataset_name}: none of the evaluators applies; there are {known}")
    return DatasetEvaluators(parts) if len(parts) > 1 else parts[0]


def tables(cfg: CfgNode, labels: Collection[str]) -> list[str]:
    """What a run with this config will be scored by, on a data set with these labels."""
    return [name for kind in registered() for name in kind.tables(cfg, labels)]


def registered() -> Iterator[Any]:
    """The evaluators' classes."""
    package = match_rcnn.evaluation
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    yield from (cast(Any, kind) for _, kind in EVALUATOR_REGISTRY)


def inference_folder(cfg: CfgNode, dataset_name: str) -> Path:
    """Where an evaluator's files go."""
    return Path(cfg.OUTPUT_DIR) / "inference" / dataset_name
