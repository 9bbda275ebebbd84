"""Write a model as ONNX, in parts, to run it without torch (docs/export.md).

match-rcnn export --weights model.safetensors --output exported
match-rcnn export --config quickstart_match --weights model_final.pth --output exported
"""

import argparse
from pathlib import Path

from match_rcnn.commands import Answer, new_parser
from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.inference.model_file import find_model, read_config
from match_rcnn.onnx.export import export
from match_rcnn.utils import shipped


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = new_parser(__doc__, prog)
    parser.add_argument("--weights", required=True, help="a checkpoint, model file or its name")
    parser.add_argument(
        "--config-file",
        "--config",
        type=Path,
        help="a checkpoint needs it; model files hold theirs",
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")
    return parser


def run(args: argparse.Namespace) -> Answer:
    if args.config_file is None:
        weights = str(find_model(args.weights))
        cfg = read_config(Path(weights))
    else:
        weights, cfg = args.weights, get_match_rcnn_cfg()
        cfg.merge_from_file(str(shipped.config_file(args.config_file)))
    cfg.merge_from_list([*args.opts, "MODEL.WEIGHTS", weights])
    written = export(cfg, args.output)
    files, opset = written["files"], written["opset"]
    text = f"{args.output}: {len(files)} ONNX files, opset {opset}"
    return Answer(text, {"output": str(args.output), "opset": opset, "files": files})
