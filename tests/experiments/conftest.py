"""Systems whose training and scoring is noted and not run."""

import json
from pathlib import Path

import pytest

from match_rcnn.experiments import systems


@pytest.fixture
def noted_systems(monkeypatch):
    """``noted_systems(scores, numbers, failing)``: in the place of training and scoring a system
    are ``scores(options, benchmark)``, as its ``scores.json`` has them, of benchmarks ("category",
    ...) for which that is not None; ``numbers`` are its parameters. Folders whose names are in
    ``failing`` end as a command that failed. Returns the list of the options of each run."""

    def note(scores, numbers, failing=()):
        ran = []

        def tool(self, name, *arguments):
            assert name == "train"
            words = list(arguments[arguments.index("OUTPUT_DIR") :])
            options = dict(zip(words[::2], words[1::2], strict=True))
            ran.append(options)
            folder = Path(options["OUTPUT_DIR"])
            if folder.name in failing:
                raise SystemExit("out of memory")
            if "--eval-only" not in arguments:
                (folder / "model_final.pth").write_text(options["SEED"])
            for benchmark in ("category", "inshop", "consumer2shop"):
                found = scores(options, benchmark)
                if found is not None:
                    name = f"deepfashion_{benchmark}_test"
                    file = folder / "inference" / name / "scores.json"
                    file.parent.mkdir(parents=True)
                    file.write_text(json.dumps(found))

        monkeypatch.setattr(systems.RecognitionSteps, "tool", tool)
        monkeypatch.setattr(systems, "parameters", lambda run: numbers)
        return ran

    return note
