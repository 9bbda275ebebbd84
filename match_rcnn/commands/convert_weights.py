"""Make weights of other origin a start for Match R-CNN, on either host.

Takes ImageNet backbones (torchvision's .pth, MSRA's .pkl) and Mask or Keypoint R-CNN of
detectron2's model zoo (.pkl). What does not fit DeepFashion2's 13 categories and 294 landmarks is
left out and listed. The output is for MODEL.WEIGHTS.

With --output FILE.safetensors a trained checkpoint becomes a model file, which holds its config and
taxonomy: for predict --weights FILE.safetensors.
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.engine.weights import KINDS, TORCHVISION_SETTINGS, convert_weights
from match_rcnn.inference.model_file import SUFFIX
from match_rcnn.inference.weights import pack_model


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--input", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help=".pkl, .safetensors"
    )
    parser.add_argument("--kind", choices=KINDS, default="auto", help="default: by the names")
    parser.add_argument(
        "--config", metavar="C", help="of a model file; default: the config.yaml beside --input"
    )
    return parser


def run(args: argparse.Namespace) -> Answer:
    if args.output.suffix == SUFFIX:
        count = pack_model(args.input, args.output, args.config)
        return Answer(
            f"{args.output}: {count} weights", {"output": str(args.output), "weights": count}
        )
    result = convert_weights(args.input, args.output, args.kind)
    lines = [f"{args.output}: {len(result.weights)} weights ({result.kind})"]
    lines += [f"left out: {left_out}" for left_out in result.left_out]
    if result.kind == "torchvision":
        settings = (f'{key} "{value}"' for key, value in TORCHVISION_SETTINGS.items())
        lines.append(" ".join(("train with:", *settings)))
    values = {
        "output": str(args.output),
        "kind": result.kind,
        "weights": len(result.weights),
        "left_out": [str(left_out) for left_out in result.left_out],
    }
    return Answer("\n".join(lines), values)
