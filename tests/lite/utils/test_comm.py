import multiprocessing

import numpy as np
import pytest
from torch import distributed as dist

from match_rcnn.lite.utils import comm


def _worker(rank, world, folder, task, results):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world
    )
    results.put((rank, task(rank)))
    comm.synchronize()
    dist.destroy_process_group()


@pytest.fixture
def in_processes(tmp_path):
    """Run a function of the rank in several processes; its results by rank."""

    def run(task, world=2):
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        processes = [
            context.Process(target=_worker, args=(rank, world, tmp_path, task, results))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        found = dict(results.get(timeout=60) for _ in processes)
        for process in processes:
            process.join()
        assert all(process.exitcode == 0 for process in processes)
        return [found[rank] for rank in range(world)]

    return run


class TestAlone:
    def test_ranks(self):
        assert comm.get_world_size() == 1
        assert comm.get_rank() == comm.get_local_rank() == 0
        assert comm.is_main_process()

    def test_exchange(self):
        data = {"a": 1}
        assert comm.gather(data) == [data]
        assert comm.all_gather(data) == [data]
        comm.synchronize()

    def test_shared_seed_follows_numpy(self):
        np.random.seed(3)  # noqa: NPY002
        first = comm.shared_random_seed()
        np.random.seed(3)  # noqa: NPY002
        assert comm.shared_random_seed() == first
        assert comm.shared_random_seed() != first

    def test_groups(self):
        with pytest.raises(ValueError, match="1 processes cannot be 2"):
            comm.create_local_process_group(2)


def _exchange(rank):
    np.random.seed(rank)  # noqa: NPY002
    return {
        "rank": (comm.get_rank(), comm.get_world_size(), comm.is_main_process()),
        "gather": comm.gather({"from": rank}),
        "gather to 1": comm.gather(rank, dst=1),
        "all": comm.all_gather("x" * (rank + 1)),  # of different sizes
        "seed": comm.shared_random_seed(),
    }


def test_objects_between_processes(in_processes):
    first, second = in_processes(_exchange)
    assert first["rank"] == (0, 2, True)
    assert second["rank"] == (1, 2, False)
    assert first["gather"] == [{"from": 0}, {"from": 1}]
    assert second["gather"] == []
    assert (first["gather to 1"], second["gather to 1"]) == ([], [0, 1])
    assert first["all"] == second["all"] == ["x", "xx"]
    assert first["seed"] == second["seed"]


def _local(rank):
    comm.create_local_process_group(2)
    return comm.get_local_rank()


def test_two_machines_of_two(in_processes):
    assert in_processes(_local, world=4) == [0, 1, 0, 1]


def test_under_torchrun(in_processes, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert in_processes(lambda rank: comm.get_local_rank(), world=1) == [5]


def _unknown(rank):
    with pytest.raises(RuntimeError, match="launch"):
        comm.get_local_rank()


def test_neither_launched_nor_under_torchrun(in_processes, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    in_processes(_unknown, world=1)
