import pytest

from match_rcnn.d2 import comm
from match_rcnn.engine.launch import check_processes, launch


def test_several_processes_on_the_cpu_are_for_lite(monkeypatch):
    check_processes("cpu", "detectron2")
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    check_processes("cuda", "detectron2")
    check_processes("cpu", "lite")
    with pytest.raises(ValueError, match="in 2 processes on GPUs only"):
        check_processes("cpu", "detectron2")


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_a_process_alone_is_this_one(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = []
    launch(found.append, 1, dist_url="auto", args=(7,))
    assert found == [7]
