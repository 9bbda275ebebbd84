import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

TOOL = Path(__file__).parents[2] / "tools" / "convert_df2.py"

ITEM = {
    "category_id": 9,
    "category_name": "skirt",
    "style": 1,
    "bounding_box": [10, 20, 50, 80],
    "landmarks": [11, 21, 2] * 8,
    "segmentation": [[10, 20, 50, 20, 50, 80]],
    "scale": 2,
    "occlusion": 1,
    "zoom_in": 1,
    "viewpoint": 2,
}


@pytest.fixture
def root(tmp_path):
    """200 images; the second item of image 120 has too few landmarks."""
    pixels = io.BytesIO()
    Image.new("RGB", (64, 96)).save(pixels, "JPEG")
    for folder in ("image", "annos"):
        (tmp_path / "validation" / folder).mkdir(parents=True)
    for number in range(1, 201):
        annotation = {"source": "shop", "pair_id": number, "item1": ITEM}
        if number == 120:
            annotation["item2"] = {**ITEM, "landmarks": [0] * 21}
        name = tmp_path / "validation" / "annos" / f"{number:06d}.json"
        name.write_text(json.dumps(annotation))
        image = tmp_path / "validation" / "image" / f"{number:06d}.jpg"
        image.write_bytes(pixels.getvalue())
    return tmp_path


def flags(root, *more):
    output = root / "out" / "validation.json"
    return "--root", root, "--split", "validation", "--output", output, *more


def test_report(run_tool, root):
    done = run_tool("convert_df2", *flags(root))
    output = root / "out" / "validation.json"
    value = json.loads(output.read_bytes())
    assert (len(value["images"]), len(value["annotations"])) == (200, 200)
    assert value["annotations"][0]["area"] == 2400
    assert len(value["annotations"][0]["keypoints"]) == 882
    assert "200 images with 200 items" in done.stdout
    assert "left out, wrong landmark list length: 1" in done.stdout
    assert "validation.json.problems.json" in done.stdout
    assert "200/200" in done.stderr
    listed = json.loads((root / "out" / "validation.json.problems.json").read_bytes())
    (problem,) = listed["problems"]
    assert problem["file"] == "validation/annos/000120.json"
    assert problem["item"] == "item2"
    assert problem["reason"] == "wrong landmark list length"


def test_compact_with_workers(run_tool, root):
    run_tool("convert_df2", *flags(root, "--compact", "--workers", 2))
    value = json.loads((root / "out" / "validation.json").read_bytes())
    assert value["annotations"][199]["keypoints"] == [11, 21, 2] * 8


@pytest.mark.parametrize("workers", [1, 2])
def test_fail(run_tool, root, workers):
    more = ("--on-error", "fail", "--workers", workers)
    done = run_tool("convert_df2", *flags(root, *more), check=False)
    assert done.returncode == 1
    assert (
        "error: expected 24 numbers (3 * 8 landmarks) for 'skirt', got 21 in "
        "validation/annos/000120.json (item2)" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert list((root / "out").iterdir()) == []


def test_the_converter_loads_no_framework():
    """Its processes are many and short."""
    code = "import sys, match_rcnn.data.conversion\n"
    code += "print(*sorted({'torch', 'detectron2', 'cv2', 'scipy', 'lance'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_no_such_folder(run_tool, tmp_path):
    done = run_tool("convert_df2", *flags(tmp_path), check=False)
    assert done.returncode == 1
    assert "error: expected the folder" in done.stderr
    assert "Traceback" not in done.stderr


def heed_signals():
    """In a child before it runs: what `nohup` and CI systems ignore, it would ignore as well."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_interruption_leaves_no_output(root, workers, number, code):
    # A pipe that nobody writes to: the conversion stops there until it is interrupted.
    pipe = root / "validation" / "annos" / "000150.json"
    pipe.unlink()
    os.mkfifo(pipe)
    command = [sys.executable, TOOL, *flags(root, "--workers", workers)]
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_signals,
    )
    try:
        deadline = time.monotonic() + 60  # on a busy machine
        while not any((root / "out").glob(".*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=30) == code
    finally:
        # The worker that waits at the pipe would outlive a killed parent until it can send.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert not (root / "out" / "validation.json").exists()
    if number != signal.SIGKILL:
        assert list((root / "out").iterdir()) == []
