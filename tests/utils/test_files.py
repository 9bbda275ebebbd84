import os
import stat

import numpy as np
import pytest

from match_rcnn.utils.files import atomic_write, read_json, write_json


def test_json_round_trip_with_numpy(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": np.float32(0.5), "b": np.arange(3), 1: None})
    assert read_json(path) == {"a": 0.5, "b": [0, 1, 2], "1": None}


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"new", "not bytes"])
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_written_files_have_the_usual_permissions(tmp_path):
    previous = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


@pytest.mark.parametrize("text", ['{"a": 1', "", "NaN"])
def test_broken_json_names_the_file(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.json is not valid JSON"):
        read_json(path)
