"""Make one file of a trained model: weights in half precision, its config and its categories.

With --calibrate the scores are fitted to a data set's photos, so that they say how often a
detection is right, and the least score that is shown becomes the one with the best F1 there.
MatchRCNNPredictor.pretrained(FILE) needs nothing but the file.
"""

import argparse
from importlib import resources
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.data.datasets import register_data_sets
from match_rcnn.experiments.packing import Packed, pack
from match_rcnn.reporting.charts.plots import calibration_chart
from match_rcnn.reporting.charts.svg import standalone
from match_rcnn.utils.files import atomic_write, write_json
from match_rcnn.utils.shipped import config_file

_STYLE = resources.files("match_rcnn.reporting") / "templates" / "style.css"


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument(*("--config-file", "--config"), type=Path, required=True, metavar="FILE")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--calibrate", metavar="DATA_SET", help="photos with annotations")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="the scores' reliability")
    parser.add_argument("--summary", type=Path, metavar="FILE.json", help="the figures as a file")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the config")
    return parser


def run(args: argparse.Namespace) -> Answer:
    register_data_sets([args.calibrate] if args.calibrate else [])
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(config_file(args.config_file)))
    cfg.merge_from_list([*args.opts, "MODEL.WEIGHTS", args.weights])
    packed = pack(cfg, args.output, args.calibrate)
    lines = [f"{packed.file}: {packed.size / 1e6:.1f} MB, sha256 {packed.checksum}"]
    found = packed.reliability
    if found is not None:
        lines += [
            f"calibrated on {args.calibrate}: expected calibration error "
            f"{found.before.error:.3f} before, {found.after.error:.3f} after; "
            f"shown from a score of {found.shown_from:.2f} on"
        ]
        if args.plot is not None:
            after = found.after
            chart = calibration_chart(after.scores, after.shares, after.counts.tolist())
            with atomic_write(args.plot) as file:
                file.write(standalone(chart, _STYLE.read_text(encoding="utf-8")).encode())
    values = _values(packed)
    if args.summary is not None:
        write_json(args.summary, values)
    return Answer("\n".join(lines), values)


def _values(packed: Packed) -> dict[str, object]:
    found = packed.reliability
    values: dict[str, object] = {
        "output": str(packed.file),
        "bytes": packed.size,
        "sha256": packed.checksum,
    }
    if found is not None:
        values["calibration"] = [found.calibration.slope, found.calibration.offset]
        values["shown_from"] = found.shown_from
        values["calibration_error"] = [found.before.error, found.after.error]
    return values
