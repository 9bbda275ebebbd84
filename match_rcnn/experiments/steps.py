"""Work made of the package's own commands on generated data: the demo, the ablation."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import yaml

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import HOST
from match_rcnn.utils.files import read_json, write_json

#: In a run's folder: all that its result depends on.
MADE_WITH = "made_with.json"


class Steps:
    """Runs commands of the package, each printed before it runs.

    Args:
        name: of the whole, for error messages.
        datasets: the folder for ``deepfashion2``, as ``DETECTRON2_DATASETS`` names it.

    Attributes:
        data: the generated data set.
        seconds: what each command took, by its name.
    """

    FOLDER: ClassVar[str] = "deepfashion2"

    def __init__(self, name: str, datasets: Path) -> None:
        self.name = name
        self.data = datasets.resolve() / self.FOLDER
        self.seconds: dict[str, float] = {}

    def tool(self, name: str, *arguments: str) -> None:
        """Run ``match-rcnn NAME`` on the data. SystemExit if it fails."""
        command = [sys.executable, "-m", "match_rcnn", *name.split(), *arguments]
        print(f"\n$ {shlex.join(['match-rcnn', *name.split(), *arguments])}", flush=True)
        started = time.perf_counter()
        environment = {**os.environ, "DETECTRON2_DATASETS": str(self.data.parent)}
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode:
            failed = f"match-rcnn {name} ended with exit code {done.returncode}"
            raise SystemExit(f"{self.name}: {failed}")
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def generate(self, train: int, validation: int, pixels: int, seed: int) -> None:
        """Make and convert the data, unless they are there already."""
        done = self.data / "demo.json"
        asked = {"train": train, "validation": validation, "size": pixels, "seed": seed}
        if not (done.exists() and read_json(done) == asked):
            flags = [str(x) for key, value in asked.items() for x in (f"--{key}", value)]
            self.tool("generate", "--output", str(self.data), *flags)
            write_json(done, asked)
        for split in ("train", "validation"):
            self.tool(
                "convert df2",
                *("--root", str(self.data), "--split", split, "--compact"),
                *("--output", str(self.data / "annotations" / f"{split}.json")),
            )

    def train(
        self, config: Path, folder: Path, options: Sequence[str], annotations: Sequence[Path] = ()
    ) -> None:
        """Train into ``folder``, or go on with what an interrupted training left there.

        Args:
            options: KEY VALUE overrides of the config.
            annotations: files of further data sets that it learns from.

        Raises:
            ValueError: what is in the folder was made with other settings, weights or data.
        """
        self.claim(config, folder, options, annotations)
        arguments = ("--config-file", str(config), "--resume", "OUTPUT_DIR", str(folder))
        self.tool("train", *arguments, *options)

    def claim(
        self, config: Path, folder: Path, options: Sequence[str], annotations: Sequence[Path] = ()
    ) -> None:
        """That a training's folder is made with these settings; see :func:`claim`."""
        further = {f"data, {file}": digest(file) for file in annotations}
        claim(folder, {**training_settings(config, options), **self.digests, **further})

    @cached_property
    def digests(self) -> dict[str, str]:
        """Of the data: the annotation files' contents, the photos' names and sizes."""
        annotations = sorted((self.data / "annotations").glob("*.json"))
        photos = sorted((str(f), f.stat().st_size) for f in self.data.glob("*/image/*"))
        found = {f"data, {file.name}": digest(file) for file in annotations}
        return {**found, "data, photos": sha256(repr(photos).encode()).hexdigest()}


def training_settings(config: Path, options: Sequence[str]) -> dict[str, str]:
    """Every key of the config with its value, and the host; the weights by their content, since
    a file of the same name may hold others."""
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config))
    cfg.merge_from_list(list(options))
    settings = {"host": HOST, **_flat(yaml.safe_load(cfg.dump()))}
    del settings["OUTPUT_DIR"]
    weights = Path(cfg.MODEL.WEIGHTS)
    if weights.is_file():
        settings["MODEL.WEIGHTS"] = digest(weights)
    return settings


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{path}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)}
    return flat


def digest(file: Path) -> str:
    state = sha256()
    with open(file, "rb") as stream:
        while part := stream.read(1 << 20):
            state.update(part)
    return state.hexdigest()


def claim(folder: Path, settings: dict[str, str]) -> None:
    """Note in ``folder`` what its result is made with; or hold it against what is noted there.

    Raises:
        ValueError: the folder's was made with something else, or nothing says with what.
    """
    note = folder / MADE_WITH
    advice = "choose another output folder or delete this one"
    if note.is_file():
        before = read_json(note)
        different = [
            f"{key} was {before.get(key)!r}, is {settings.get(key)!r}"
            for key in sorted(before.keys() | settings.keys())
            if before.get(key) != settings.get(key)
        ]
        if different:
            rest = f", and {len(different) - 4} more" if len(different) > 4 else ""
            raise ValueError(
                f"{folder} was made with other settings ({'; '.join(different[:4])}{rest}): "
                f"{advice}"
            )
    elif any(folder.glob("*.pth")):
        raise ValueError(f"{folder} holds weights, and no {MADE_WITH} says of what: {advice}")
    else:
        write_json(note, settings)
