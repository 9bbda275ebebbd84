"""Every block of commands, Python and yaml that pages show is run, in a small world that has what
they name; one that cannot be says why, in a comment in front of it: ``<!-- not run: ... -->``.

Commands are read by bash, so that loops and quotes mean what they mean, and run in this process.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from match_rcnn import cli
from match_rcnn.config import get_match_rcnn_cfg
from match_rcnn.d2 import DatasetCatalog, MetadataCatalog, build_model
from match_rcnn.data.taxonomy import DEEPFASHION2
from match_rcnn.engine.checkpoints import EnduringCheckpointer
from match_rcnn.utils import shipped

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("*/*.md"))]
_BLOCK = re.compile(
    r"(?:^ *<!-- not run: ([^>]+) -->\n)?^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL
)
#: What bash does itself; all else is written down.
_SHELL = """
note() { printf '%s\\0' "$@" >> "$NOTES"; printf '\\n\\0' >> "$NOTES"; }
match-rcnn() { note match-rcnn "$@"; }
python() { note "$@"; }
pip() { :; }  # tests/test_packaging.py has what it installs
curl() { :; }  # tests/serving has a service to ask
set -eu
"""


def blocks():
    """(page, kind, text, why it is not run) of every block with something to run."""
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text()):
            reason, indent, kind, text = match.groups()
            text = re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
            commands = re.match(r"(python|tools/|git|match-rcnn|pip) ?", text)
            if kind in ("sh", "bash", "python", "yaml") or commands:
                yield str(page.relative_to(ROOT)), kind or "sh", text, reason


BLOCKS = list(blocks())
#: What a page's yaml is for, where no command of the page says it.
YAML = {"docs/measures.md": "match-rcnn measure photo.jpg --output out --measures measures.yaml"}


def run_command(words):
    if words[0] == "match-rcnn":
        if words[1].startswith("-") or "--help" in words:
            with pytest.raises(SystemExit, match="0"):
                cli.main(words[1:])
            return
        name = " ".join(words[1:3])
        name = name if name in cli.COMMANDS else words[1]
        words = words[1 + len(name.split()) :]
    else:
        name = re.search(r'tool\("(.*)"\)', (ROOT / words[0]).read_text())[1]
        words = words[1:]
    if name == "serve":  # it has no end
        cli.command_parser(name).parse_args(words)
        return
    if "--output" in words:  # the commands of a block are alternatives
        shutil.rmtree(words[words.index("--output") + 1], ignore_errors=True)
    assert cli.run_command(name, words) == 0, (name, words)


def run_sh(text, folder):
    notes = folder / "notes"
    notes.write_text("")
    text = re.sub(r"^tools/", "python tools/", text, flags=re.MULTILINE)
    environment = {**os.environ, "NOTES": str(notes)}
    subprocess.run(["bash", "-c", _SHELL + text], check=True, cwd=folder, env=environment)
    for command in notes.read_text().split("\n\0")[:-1]:
        run_command(command.split("\0")[:-1])


def run_yaml(text, page, folder):
    named = re.match(r"# ([\w-]+\.yaml)", text)
    (folder / (named[1] if named else f"{Path(page).stem}.yaml")).write_text(text)
    run_sh(YAML.get(page, ""), folder)


@pytest.fixture(scope="module")
def small_configs(tmp_path_factory, tiny_overrides):
    """The configs of the package, each of them as a network that takes no time."""
    opts = [
        *(*tiny_overrides, "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
        *("MODEL.ROI_MATCH_HEAD.CONV_DIMS", (8,), "MODEL.ROI_MATCH_HEAD.EMBEDDING_DIM", 8),
        *("MODEL.RPN.POST_NMS_TOPK_TEST", 20, "TEST.DETECTIONS_PER_IMAGE", 5),
        *("MODEL.ROI_HEADS.NMS_THRESH_TEST", 1.0, "TEST.AGNOSTIC_NMS_THRESH", 1.0),
        *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATALOADER.NUM_WORKERS", 0),
        *("SOLVER.EPOCHS", None, "SOLVER.EPOCH_STEPS", (), "SOLVER.MAX_ITER", 2),
        *("SOLVER.STEPS", (), "SOLVER.ACCUMULATION_STEPS", 1, "SOLVER.REFERENCE_WORLD_SIZE", 0),
        *("TEST.EVAL_PERIOD", 0, "TEST.EVAL_EPOCHS", None, "TEST.VISUALIZE_IMAGES", 0),
        *("SOLVER.AMP.ENABLED", False, "SOLVER.WARMUP_EPOCHS", None),
    ]
    folder = tmp_path_factory.mktemp("small") / "configs"
    folder.mkdir()
    quickstart = get_match_rcnn_cfg()
    quickstart.merge_from_file(str(ROOT / "configs/quickstart.yaml"))
    quickstart.merge_from_list(opts)
    for file in ROOT.glob("configs/*.yaml"):
        cfg = get_match_rcnn_cfg()
        cfg.merge_from_file(str(file))
        cfg.merge_from_list(opts)
        if cfg.MODEL.META_ARCHITECTURE == quickstart.MODEL.META_ARCHITECTURE:
            cfg.MODEL = quickstart.MODEL  # one checkpoint is to do for all of them
        (folder / file.name).write_text(cfg.dump())
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory, small_configs, write_photos):
    """A folder with what pages name: photos, a model, generated data of both benchmarks."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("tools", "samples"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "configs").symlink_to(small_configs)
    write_photos(
        folder, {"photo.jpg": (400, 320), "photos/a.jpg": (400, 320), "photos/b/c.png": (380, 300)}
    )
    (folder / "list.txt").write_text("photos/a.jpg\n")
    video = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 64))
    for _ in range(3):
        video.write(np.full((64, 64, 3), 128, np.uint8))
    video.release()
    cfg = get_match_rcnn_cfg()
    cfg.merge_from_file(str(small_configs / "quickstart.yaml"))
    torch.manual_seed(0)
    model = build_model(cfg)
    EnduringCheckpointer(model, str(folder), taxonomy=DEEPFASHION2).save("model_final")
    for place in ("output/model_final.pth", "output/demo/model/model_final.pth"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "model_final.pth", folder / place)
    data = folder / "datasets/deepfashion2"
    cli.run_command(
        "generate",
        [f"--output={data}", "--train=8", "--validation=8", "--seed=4", "--size=96", "--workers=1"],
    )
    for split in ("train", "validation"):
        output = data / f"annotations/{split}.json"
        words = [f"--root={data}", f"--split={split}", f"--output={output}", "--compact"]
        cli.run_command("convert df2", words)
    for split in ("train", "validation"):
        move_into_shop(data, split, folder / "shop")
    return folder


def move_into_shop(data, split, shop):
    """A split as a file of somebody's own, all photos in one folder."""
    record = json.loads((data / f"annotations/{split}.json").read_text())
    (shop / "photos").mkdir(parents=True, exist_ok=True)
    for image in record["images"]:
        name = f"{split}-{Path(image['file_name']).name}"
        shutil.copy(data / split / "image" / Path(image["file_name"]).name, shop / "photos" / name)
        image["file_name"] = name
    (shop / f"{split}.json").write_text(json.dumps(record))


@pytest.fixture
def inside(world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(world / "datasets"))
    monkeypatch.setattr(shipped, "configs_folder", lambda: world / "configs")
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    return world


def evaluated(folder):
    """What an evaluation leaves: a run, and its files where pages have them."""
    if not (folder / "output/my_run").exists():
        opts = ["OUTPUT_DIR", "output/my_run", "MODEL.WEIGHTS", "output/model_final.pth"]
        run_command(["match-rcnn", "train", "--eval-only", "--config", "quickstart", *opts])
        for file in (folder / "output/my_run/inference/deepfashion2_validation").glob("*.json"):
            shutil.copy(file, folder)


@pytest.mark.parametrize("page", sorted({page for page, *_, reason in BLOCKS if not reason}))
def test_blocks_run(page, inside):
    """One after the other, as they are read: Python goes on from what was before."""
    names = {"__name__": "__main__"}
    for other, kind, text, reason in BLOCKS:
        if other != page or reason:
            continue
        if "my_run" in text or " bbox_results.json" in text:
            evaluated(inside)
        if kind == "python":
            text = text.replace("from detectron2.", "from match_rcnn.lite.")
            exec(compile(text, f"a block of {page}", "exec"), names)
        elif kind == "yaml":
            run_yaml(text, page, inside)
        else:
            run_sh(text, inside)
