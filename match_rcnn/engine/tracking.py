"""Weights & Biases, for those who want their runs there: the ``[wandb]`` extra, off by default."""

import importlib
import secrets
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from match_rcnn.d2 import CfgNode, EventWriter, get_event_storage
from match_rcnn.utils.files import read_json, write_json

#: In OUTPUT_DIR: which run on the server this is, so that a resumed training goes on with it.
RUN_FILE_NAME = "wandb_run.json"


class WandbWriter(EventWriter):
    """Sends scalars and pictures of the event storage to a run of Weights & Biases.

    Scalars go by the key ``iteration`` and not by wandb's own step, which only grows: evaluations
    and resumed trainings write iterations again. Register it before the TensorBoard writer, which
    takes the pictures away.

    Args:
        project, name: of the run.
        output_dir: keeps the run's id and wandb's files.
        config: what the run's page shows as its config.
        resumed: whether this training goes on from a checkpoint; asked at the first write.
        window_size: of the median for scalars that ask for smoothing.

    Raises:
        ImportError: wandb is not installed; the message says how to get it.
    """

    def __init__(
        self,
        project: str,
        name: str,
        output_dir: str | Path,
        *,
        config: dict[str, Any],
        resumed: Callable[[], bool],
        window_size: int = 20,
    ) -> None:
        self._wandb = _import_wandb()
        self._arguments = {"project": project, "name": name, "config": config}
        self._output_dir = Path(output_dir)
        self._resumed = resumed
        self._window_size = window_size
        self._last_write = -1
        self._run: Any = None

    def write(self) -> None:
        storage = get_event_storage()
        if self._run is None:
            self._run = self._start()
        rows: dict[int, dict[str, Any]] = defaultdict(dict)
        scalars = storage.latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in scalars.items():
            if iteration > self._last_write:
                rows[iteration][name] = float(value)
        self._last_write = max([self._last_write, *rows])
        for name, image, iteration in storage._vis_data:
            rows[iteration][name] = self._wandb.Image(np.asarray(image).transpose(1, 2, 0))
        for iteration in sorted(rows):
            self._run.log({**rows[iteration], "iteration": iteration})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()

    def _start(self) -> Any:
        run = self._wandb.init(
            **self._arguments, id=self._run_id(), resume="allow", dir=str(self._output_dir)
        )
        run.define_metric("iteration")
        run.define_metric("*", step_metric="iteration")
        return run

    def _run_id(self) -> str:
        """The one of the training that is resumed, or a new one."""
        file = self._output_dir / RUN_FILE_NAME
        if self._resumed() and file.is_file():
            return str(read_json(file)["id"])
        new = secrets.token_hex(4)
        write_json(file, {"id": new, "project": self._arguments["project"]})
        return new


def build_wandb_writer(cfg: CfgNode, resumed: Callable[[], bool]) -> WandbWriter:
    """The writer of ``cfg.WANDB``; ``NAME`` "" is the name of OUTPUT_DIR's folder."""
    folder = Path(cfg.OUTPUT_DIR)
    return WandbWriter(
        cfg.WANDB.PROJECT,
        cfg.WANDB.NAME or folder.resolve().name,
        folder,
        config=yaml.safe_load(cfg.dump()),
        resumed=resumed,
    )


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError(
            "WANDB.ENABLED is True, but wandb cannot be imported. Install it with "
            "pip install 'match_rcnn[wandb]', or set WANDB.ENABLED False"
        ) from error
