"""A worker that dies, a full disk, unreadable images, a loss that is not finite: one message, an
exit code, the last checkpoint as it was, and a run that can be resumed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATA, NOT_FINITE, WORKER, WRITE = 65, 70, 71, 74


def test_a_loss_that_is_nan_is_named_with_its_images(run, load, tmp_path):
    ended = run(tmp_path / "run", faults="nan_loss=5")
    assert ended.code == NOT_FINITE
    assert "loss_size = nan at iteration 5" in ended.message
    assert "loss_class = 0." in ended.message
    assert ended.message.count(".jpg") == 4
    assert "iterations lost: 1." in ended.message
    assert "model_0000003.pth" in ended.message
    assert load(tmp_path / "run", "model_0000003")["iteration"] == 3


def test_with_accumulation_the_part_with_the_nan_is_named(run, tmp_path):
    ended = run(tmp_path / "run", "SOLVER.ACCUMULATION_STEPS", 2, faults="nan_loss=5")
    assert ended.code == NOT_FINITE
    assert ended.message.count(".jpg") == 2


def test_weights_that_are_not_finite_never_reach_a_checkpoint(run, tmp_path):
    """The loss of the step before was fine; its images are not to blame, so none is named."""
    ended = run(tmp_path / "run", faults="nan_weights_after=5")
    assert ended.code == NOT_FINITE
    assert "model_0000005.pth is not written" in ended.message
    assert "head.weight" in ended.message
    assert "iterations lost: 2." in ended.message
    names = sorted(path.name for path in (tmp_path / "run").glob("*.pth"))
    assert names == ["model_0000001.pth", "model_0000003.pth"]


def test_a_worker_that_dies(run, load, tmp_path):
    folder = tmp_path / "run"
    ended = run(folder, "DATALOADER.NUM_WORKERS", 1, faults="kill_worker=5")
    assert ended.code == WORKER
    # How it died is not always told: its connection may be missed before its end is seen.
    assert "a process that loads data died" in ended.message
    assert "DATALOADER.NUM_WORKERS" in ended.message
    assert "iterations lost: 1." in ended.message
    assert run(folder, resume=True).code == 0
    assert load(folder)["iteration"] == 9


@pytest.mark.parametrize(
    ("broken", "file", "lost"),
    [
        ("model_0000005:1", "model_0000005.pth", 2),
        ("last_checkpoint:3", "last_checkpoint", 2),
        ("model_final:1", "model_final.pth", 0),
    ],
)
def test_a_disk_that_is_full_when_a_checkpoint_is_written(
    run, load, assert_equal, tmp_path, broken, file, lost
):
    folder = tmp_path / "run"
    ended = run(folder, faults=f"break=full:{broken}")
    assert ended.code == WRITE
    assert f"{file}: No space left on device" in ended.message
    assert f"iterations lost: {lost}." in ended.message
    last = (folder / "last_checkpoint").read_text().removesuffix(".pth")
    load(folder, last)
    assert not list(folder.glob(".*"))
    assert run(folder, resume=True).code == 0
    assert run(tmp_path / "whole").code == 0
    assert_equal(load(folder), load(tmp_path / "whole"))


def test_a_disk_that_is_full_when_metrics_are_written(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").symlink_to("/dev/full")
    ended = run(folder)
    assert ended.code == WRITE
    assert "No space left on device" in ended.message
    assert str(folder) in ended.message


def test_a_disk_that_is_full(tiny_datasets, load, tmp_path):
    """A real one, of two megabytes, in a namespace of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    arguments = {"output": str(folder / "run"), "opts": ["SOLVER.MAX_ITER", 1000]}
    inside = (
        f"mount -t tmpfs -o size=500k tmpfs {folder} || exit 99; "
        f'"$@"; code=$?; cp -r {folder}/run {tmp_path}/left; exit $code'
    )
    program = [sys.executable, str(Path(__file__).with_name("tiny_run.py")), json.dumps(arguments)]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh", *program],
        env={**os.environ, "DETECTRON2_DATASETS": str(tiny_datasets)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (1, 99):
        pytest.skip(f"no disk can be mounted here: {done.stderr}")
    log = done.stdout + done.stderr
    assert done.returncode == WRITE, log
    assert "Traceback" not in log
    (message,) = [line for line in log.splitlines() if "(exit code " in line]
    assert "No space left on device" in message
    last = (tmp_path / "left" / "last_checkpoint").read_text().removesuffix(".pth")
    load(tmp_path / "left", last)


@pytest.fixture
def damaged_datasets(tiny_datasets, tmp_path):
    """The data, with three training images that cannot be read."""
    copy = tmp_path / "data"
    shutil.copytree(tiny_datasets, copy)
    images = copy / "deepfashion2" / "train" / "image"
    (images / "000003.jpg").write_bytes(b"")
    whole = (images / "000007.jpg").read_bytes()
    (images / "000007.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "000012.jpg").unlink()
    return copy


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_replaced_and_listed(
    run, load, assert_equal, damaged_datasets, tmp_path, workers
):
    opts = ("DATALOADER.MAX_UNREADABLE_SHARE", 0.15, "DATALOADER.NUM_WORKERS", workers)
    whole = run(tmp_path / "whole", *opts, datasets=damaged_datasets)
    assert whole.code == 0
    found = json.loads((tmp_path / "whole" / "unreadable_images.json").read_text())
    names = [Path(image["file_name"]).name for image in found["images"]]
    assert names == ["000003.jpg", "000007.jpg", "000012.jpg"]
    assert found["share"] == 0.15
    assert all(image["times"] >= 2 for image in found["images"])  # twice through 20 images

    folder = tmp_path / "run"
    run(folder, *opts, faults="kill=7", datasets=damaged_datasets)
    run(folder, *opts, resume=True, datasets=damaged_datasets)
    assert json.loads((folder / "unreadable_images.json").read_text()) == found
    assert_equal(load(folder), load(tmp_path / "whole"))


def test_too_many_unreadable_images_end_the_run(run, damaged_datasets, tmp_path):
    opts = ("DATALOADER.MAX_UNREADABLE_SHARE", 0.1)
    ended = run(tmp_path / "run", *opts, datasets=damaged_datasets)
    assert ended.code == DATA
    assert "3 of 20 training images (15.00%) cannot be read" in ended.message
    assert "unreadable_images.json" in ended.message


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_of_images_that_is_gone(run, tiny_datasets, tmp_path, workers):
    copy = tmp_path / "data"
    shutil.copytree(tiny_datasets, copy)
    shutil.rmtree(copy / "deepfashion2" / "train" / "image")
    ended = run(tmp_path / "run", "DATALOADER.NUM_WORKERS", workers, datasets=copy)
    assert ended.code == DATA
    assert "10 images drawn in a row cannot be read" in ended.message


def test_pairs_stay_pairs(run, damaged_datasets, tmp_path):
    opts = ("DATALOADER.SAMPLER_TRAIN", "PairSampler", "DATALOADER.MAX_UNREADABLE_SHARE", 0.2)
    ended = run(tmp_path / "run", *opts, faults="check_pairs=1", datasets=damaged_datasets)
    assert ended.code == 0, ended.log
