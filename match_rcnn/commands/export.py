"""Write a model as ONNX, in parts, to run it without torch (docs/export.md).

match-rcnn export --weights model.safetensors --output exported
match-rcnn export --config quickstart_match --weights model_final.pth --output exported
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.inference.weights import model_config
from match_rcnn.onnx.export import export


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--weights", required=True, help="as for match-rcnn predict")
    parser.add_argument(
        "--config-file",
        "--config",
        type=Path,
        help="default: the model file's own, or the config.yaml beside a checkpoint",
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    cfg = model_config(args.weights, args.config_file, args.opts)
    views, cfg.TEST.AUG.ENABLED = cfg.TEST.AUG.ENABLED, False
    written = export(cfg, args.output)
    files, opset = written["files"], written["opset"]
    text = f"{args.output}: {len(files)} ONNX files, opset {opset}"
    if views:
        text += "\nit sees each photo once, where the model in torch sees it mirrored as well"
    return Answer(text, {"output": str(args.output), "opset": opset, "files": files})
