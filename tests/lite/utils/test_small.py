"""env, registry, memory, file_io, collect_env."""

import random
from collections import OrderedDict

import numpy as np
import pytest
import torch

from match_rcnn.lite.utils import memory
from match_rcnn.lite.utils.collect_env import collect_env_info
from match_rcnn.lite.utils.env import seed_all_rng
from match_rcnn.lite.utils.file_io import PathManager
from match_rcnn.lite.utils.memory import retry_if_cuda_oom
from match_rcnn.lite.utils.registry import Registry


class TestSeed:
    @pytest.fixture(autouse=True)
    def _hash_seed(self, monkeypatch):
        monkeypatch.setenv("PYTHONHASHSEED", "0")

    def draw(self):
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    def test_all_generators(self):
        seed_all_rng(5)
        first = self.draw()
        seed_all_rng(5)
        assert self.draw() == first
        seed_all_rng(6)
        assert all(a != b for a, b in zip(self.draw(), first, strict=True))

    def test_a_seed_of_its_own(self):
        seed_all_rng()
        first = self.draw()
        seed_all_rng(None)
        assert self.draw() != first


class TestRegistry:
    def test_both_ways_to_register(self):
        registry = Registry("THING")

        @registry.register()
        def one():
            pass

        class Two:
            pass

        registry.register(Two)
        assert registry.get("one") is one
        assert registry.get("Two") is Two
        assert "Two" in registry

    def test_a_wrong_name_lists_the_right_ones(self):
        registry = Registry("PART")
        with pytest.raises(KeyError, match="there are: nothing"):
            registry.get("Wheel")
        registry.register(OrderedDict)
        with pytest.raises(KeyError, match="'Weel' is not in the registry PART; there are: Order"):
            registry.get("Weel")


class TestOutOfMemory:
    @pytest.fixture(autouse=True)
    def _cache(self, monkeypatch):
        self.emptied = 0

        def empty():
            self.emptied += 1

        monkeypatch.setattr(memory.torch.cuda, "empty_cache", empty)

    def failing(self, times):
        calls = []

        def function(x, y=None):
            calls.append(x)
            if len(calls) <= times:
                raise torch.cuda.OutOfMemoryError
            return x + 1

        return function, calls

    @pytest.mark.parametrize(("failures", "emptied"), [(0, 0), (1, 1), (2, 1)])
    def test_chances(self, failures, emptied):
        function, calls = self.failing(failures)
        assert retry_if_cuda_oom(function)(torch.tensor(1), y="text").item() == 2
        assert len(calls) == failures + 1
        assert self.emptied == emptied

    def test_the_third_failure_is_the_caller_s(self):
        function, _ = self.failing(3)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            retry_if_cuda_oom(function)(torch.tensor(1))

    def test_other_errors_pass(self):
        def function():
            raise KeyError("other")

        with pytest.raises(KeyError):
            retry_if_cuda_oom(function)()

    def test_tensors_go_to_the_cpu(self):
        class OnGpu:
            device = torch.device("cuda")

            def to(self, device):
                assert device == "cpu"
                return torch.tensor(1)

        function, calls = self.failing(2)
        assert retry_if_cuda_oom(function)(OnGpu()).item() == 2
        assert isinstance(calls[-1], torch.Tensor)


class TestPathManager:
    def test_local_files(self, tmp_path):
        path = str(tmp_path / "a.txt")
        with PathManager.open(path, "w") as file:
            file.write("text")
        assert PathManager.isfile(path)
        assert PathManager.get_local_path(path) == path

    def test_the_model_zoo_is_an_address(self, monkeypatch):
        seen = []
        handler = next(h for p, h in PathManager._path_handlers.items() if p == "detectron2://")
        monkeypatch.setattr(
            PathManager, "get_local_path", lambda path, **kwargs: seen.append(path) or "here"
        )
        assert handler._get_local_path("detectron2://a/b.pkl") == "here"
        assert seen == ["https://dl.fbaipublicfiles.com/detectron2/a/b.pkl"]


def test_collect_env_info():
    text = collect_env_info()
    assert torch.__version__ in text
    assert np.__version__ in text
