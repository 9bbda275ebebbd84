#!/usr/bin/env python
"""Write expected/*.json from upstream detectron2:

    MATCH_RCNN_HOST=detectron2 python tests/hosts/make_expected.py --revision <of detectron2>

Made in double precision (see test_hosts.py). Needed after a change to host_inputs.py,
host_observations.py, or to what the plugin computes.
"""

import argparse
import json
import sys
from pathlib import Path

import host_observations as observations
import numpy as np
import torch
import torchvision

from match_rcnn.d2 import HOST, HOST_VERSION

FOLDER = Path(__file__).parent / "expected"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revision", required=True, help="commit of detectron2")
    parser.add_argument("--only", nargs="+", default=list(observations.SUBJECTS))
    args = parser.parse_args()
    if HOST != "detectron2":
        print(f"expected numbers come from upstream detectron2 only; this is {HOST}")
        return 1
    torch.set_num_threads(1)
    made_by = {
        "detectron2": f"{HOST_VERSION}, revision {args.revision}",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "command": "tests/hosts/make_expected.py",
    }
    FOLDER.mkdir(exist_ok=True)
    for name, found in observations.observe(torch.float64, args.only).items():
        text = json.dumps({"made_by": made_by, **_rounded(found)}, separators=(",", ":"))
        # One line a value keeps a change readable.
        text = text.replace('],"', '],\n"').replace('{"', '{\n"', 3)
        (FOLDER / f"{name}.json").write_text(text + "\n")
        print(f"{name}: {len(text)} bytes")
    return 0


def _rounded(found):
    """Nine digits tell any two float32 apart."""
    close = {
        name: [None if value is None else float(f"{value:.9g}") for value in values]
        for name, values in found["close"].items()
    }
    return {**found, "close": close}


if __name__ == "__main__":
    sys.exit(main())
