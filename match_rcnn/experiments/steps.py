"""Work made of the repository's own commands on generated data: the demo, the ablation."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from match_rcnn.utils.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]


class Steps:
    """Runs commands of ``tools/``, each printed before it runs.

    Args:
        name: of the whole, for error messages.
        datasets: the folder for ``deepfashion2``, as ``DETECTRON2_DATASETS`` names it.

    Attributes:
        data: the generated data set.
        seconds: what each command took, by its name.
    """

    def __init__(self, name: str, datasets: Path) -> None:
        self.name = name
        self.data = datasets.resolve() / "deepfashion2"
        self.seconds: dict[str, float] = {}

    def tool(self, name: str, *arguments: str) -> None:
        """Run ``tools/NAME.py`` on the data. SystemExit if it fails."""
        command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments]
        print(f"\n$ {shlex.join(['python', f'tools/{name}.py', *arguments])}", flush=True)
        started = time.perf_counter()
        environment = {**os.environ, "DETECTRON2_DATASETS": str(self.data.parent)}
        done = subprocess.run(command, env=environment, cwd=ROOT, check=False)
        if done.returncode:
            raise SystemExit(f"{self.name}: tools/{name}.py ended with exit code {done.returncode}")
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def generate(self, train: int, validation: int, pixels: int, seed: int) -> None:
        """Make and convert the data, unless they are there already."""
        done = self.data / "demo.json"
        asked = {"train": train, "validation": validation, "size": pixels, "seed": seed}
        if not (done.exists() and read_json(done) == asked):
            flags = [str(x) for key, value in asked.items() for x in (f"--{key}", value)]
            self.tool("make_synthetic_df2", "--output", str(self.data), *flags)
            write_json(done, asked)
        for split in ("train", "validation"):
            self.tool(
                "convert_df2",
                *("--root", str(self.data), "--split", split, "--compact"),
                *("--output", str(self.data / "annotations" / f"{split}.json")),
            )
