"""What docs/training.md tells people to type."""

import re
import shlex
from pathlib import Path

import pytest

from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import default_argument_parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "training.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
SHELL = [block.replace("\\\n", " ") for kind, block in BLOCKS if kind == "sh"]
COMMANDS = [line for block in SHELL for line in block.splitlines()]


def test_the_slurm_script_is_the_one_in_tools():
    (shown,) = [block for kind, block in BLOCKS if kind == "bash"]
    assert shown == (ROOT / "tools" / "train.sbatch").read_text()


@pytest.mark.parametrize("command", [c for c in COMMANDS if "train_net.py" in c])
def test_training_commands_are_understood(command):
    words = shlex.split(command)
    arguments = words[words.index("tools/train_net.py") + 1 :]
    args = default_argument_parser().parse_args(arguments)
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(ROOT / args.config_file))
    cfg.merge_from_list(args.opts)


def test_files_and_keys_that_are_named_are_there():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
    for tool in re.findall(r"tools/\w+\.\w+", TEXT):
        assert (ROOT / tool).is_file(), tool
    cfg = get_match_rcnn_cfg()
    for key in set(re.findall(r"`((?:[A-Z][A-Z_]+\.)+[A-Z_]+)[ `:]", TEXT)):
        node = cfg
        for part in key.split("."):
            assert part in node, key
            node = node[part]
