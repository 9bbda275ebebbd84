import json
import logging
import re
import sys

import pytest
import torch

from match_rcnn.lite.utils import events
from match_rcnn.lite.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)


class TestStack:
    def test_innermost(self):
        with EventStorage() as outer:
            with EventStorage(5) as inner:
                assert get_event_storage() is inner
                assert inner.iter == inner.iteration == 5
            assert get_event_storage() is outer
        with pytest.raises(RuntimeError, match="with EventStorage"):
            get_event_storage()

    def test_left_after_an_error(self):
        with pytest.raises(KeyError), EventStorage():
            raise KeyError
        with pytest.raises(RuntimeError):
            get_event_storage()


class TestScalars:
    def test_history_and_latest(self):
        storage = EventStorage(10)
        storage.put_scalar("a", torch.tensor(1.5))
        storage.step()
        storage.put_scalar("a", 2.5)
        storage.put_scalar("b", 7)
        storage.put_scalar("late", 1, cur_iter=3)
        assert storage.latest() == {"a": (2.5, 11), "b": (7.0, 11), "late": (1.0, 3)}
        assert storage.history("a").values() == [(1.5, 10), (2.5, 11)]
        assert set(storage.histories()) == {"a", "b", "late"}
        with pytest.raises(KeyError, match="nothing"):
            storage.history("nothing")

    def test_smoothing(self):
        storage = EventStorage()
        for value in (1.0, 50.0, 2.0, 3.0):
            storage.put_scalar("loss", value)
            storage.put_scalar("lr", value, smoothing_hint=False)
            storage.step()
        # medians of all, of the last 3
        assert storage.latest_with_smoothing_hint(20) == {"loss": (2.5, 3), "lr": (3.0, 3)}
        assert storage.latest_with_smoothing_hint(3)["loss"] == (3.0, 3)

    def test_a_rare_scalar_is_smoothed_over_iterations_not_values(self):
        storage = EventStorage()
        for iteration in (0, 10, 18, 20):
            storage.put_scalar("rare", float(iteration), cur_iter=iteration)
        assert storage.count_samples("rare", 5) == 2
        assert storage.latest_with_smoothing_hint(5)["rare"] == (19.0, 20)

    def test_several_values_an_iteration_are_all_smoothed(self):
        """As with accumulation, where each part of a batch puts its own."""
        storage = EventStorage()
        for iteration in range(6):
            for part in range(4):
                storage.put_scalar("loss", 10.0 * iteration + part, cur_iter=iteration)
        # Of iterations 3, 4 and 5; as detectron2 02b5c4e2, whose answers these are.
        assert storage.count_samples("loss", 3) == 12
        assert storage.latest_with_smoothing_hint(3)["loss"] == (41.5, 5)

    def test_the_hint_stays(self):
        storage = EventStorage()
        storage.put_scalar("a", 1, smoothing_hint=False)
        with pytest.raises(ValueError, match=r"'a'.*False"):
            storage.put_scalar("a", 1)

    def test_name_scope(self):
        storage = EventStorage()
        with storage.name_scope("rpn/"):
            storage.put_scalar("a", 1)
            with storage.name_scope("inner"):
                storage.put_scalar("b", 1)
            storage.put_image("c", torch.zeros(3, 2, 2))
        storage.put_scalar("d", 1)
        assert list(storage.latest()) == ["rpn/a", "inner/b", "d"]
        assert storage._vis_data[0][0] == "rpn/c"

    def test_iter_can_be_set(self):
        storage = EventStorage()
        storage.iter = 7
        storage.put_scalar("a", 1)
        assert storage.latest()["a"] == (1.0, 7)


class TestJSONWriter:
    def read(self, path):
        return [json.loads(line) for line in path.read_text().splitlines()]

    def test_each_value_once(self, tmp_path):
        path = tmp_path / "metrics.json"
        with EventStorage() as storage:
            writer = JSONWriter(path, window_size=2)
            for i in range(3):
                storage.put_scalar("loss", float(i))
                if i == 1:
                    storage.put_scalar("rare", 9.0)
                storage.step()
                writer.write()
                writer.write()  # nothing new
            writer.close()
        assert self.read(path) == [
            {"iteration": 0, "loss": 0.0},
            {"iteration": 1, "loss": 0.5, "rare": 9.0},
            {"iteration": 2, "loss": 1.5},
        ]

    def test_continues_a_file(self, tmp_path):
        path = tmp_path / "metrics.json"
        for start in (0, 5):
            with EventStorage(start) as storage:
                writer = JSONWriter(str(path))
                storage.put_scalar("a", 1.0)
                writer.write()
                writer.close()
        assert [row["iteration"] for row in self.read(path)] == [0, 5]

    def test_values_of_several_iterations_in_one_write(self, tmp_path):
        path = tmp_path / "metrics.json"
        with EventStorage() as storage:
            writer = JSONWriter(path)
            storage.put_scalar("ap", 1.0, cur_iter=4)
            storage.put_scalar("loss", 2.0, cur_iter=6)
            writer.write()
            writer.close()
        assert self.read(path) == [{"ap": 1.0, "iteration": 4}, {"iteration": 6, "loss": 2.0}]


class TestTensorboardXWriter:
    def test_writes_and_clears(self, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        with EventStorage() as storage:
            writer = TensorboardXWriter(str(tmp_path))
            storage.put_scalar("loss", 3.0)
            storage.put_image("picture", torch.zeros(3, 4, 4, dtype=torch.uint8))
            writer.write()
            assert storage._vis_data == []
            writer.write()
            writer.close()
        events = EventAccumulator(str(tmp_path)).Reload()
        assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 3.0)]
        assert len(events.Images("picture")) == 1

    def test_no_file_without_a_write(self, tmp_path):
        TensorboardXWriter(str(tmp_path / "logs")).close()
        assert not (tmp_path / "logs").exists()


def test_memory_is_that_of_the_process_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    held = torch.ones(64 * 2**20 // 4)  # 64 MiB
    found = re.fullmatch(r"max_mem: (\d+)M", events._peak_memory())
    assert int(found[1]) >= held.nbytes / 2**20


def test_memory_is_left_out_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert events._peak_memory() == ""


class TestCommonMetricPrinter:
    @pytest.fixture(autouse=True)
    def _memory(self, monkeypatch):
        monkeypatch.setattr(events, "_peak_memory", lambda: "max_mem: 812M")

    def line(self, caplog, printer):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            printer.write()
        return caplog.messages

    def test_a_line(self, caplog):
        with EventStorage(5) as storage:
            for i in range(3):
                storage.put_scalar("total_loss", i * 1.5)
                storage.put_scalar("loss_cls", 0.5)
                storage.put_scalar("[metric]x", i)
                storage.put_scalar("unmentioned", i)
                storage.put_scalar("lr", 1e-3 / (i + 1), smoothing_hint=False)
                storage.put_scalar("time", 0.2 + 0.01 * i)
                storage.put_scalar("data_time", 0.01)
                storage.step()
            (line,) = self.line(caplog, CommonMetricPrinter(60))
        # As detectron2 02b5c4e2's but for the white space and the memory, which it states for GPUs
        # alone: 60 - 8 - 1 iterations of 0.21 s.
        assert line == (
            "eta: 0:00:10  iter: 8  total_loss: 1.5  loss_cls: 0.5  [metric]x: 1"
            "  time: 0.2100  last_time: 0.2200  data_time: 0.0100  last_data_time: 0.0100"
            "  lr: 0.00033333  max_mem: 812M"
        )
        assert storage.latest()["eta_seconds"][0] == pytest.approx(51 * 0.21)

    def test_no_time_is_left_before_one_was_taken(self, caplog):
        with EventStorage(0):
            assert self.line(caplog, CommonMetricPrinter(100)) == [
                "iter: 0  lr: N/A  max_mem: 812M"
            ]

    def test_without_an_end_no_time_is_left(self, caplog):
        with EventStorage(3) as storage:
            storage.put_scalar("time", 1.0)
            (line,) = self.line(caplog, CommonMetricPrinter())
        assert line == "iter: 3  time: 1.0000  last_time: 1.0000  lr: N/A  max_mem: 812M"

    def test_silent_after_the_end(self, caplog):
        with EventStorage(60):
            assert self.line(caplog, CommonMetricPrinter(60)) == []


def test_a_writer_must_write():
    with pytest.raises(NotImplementedError):
        EventWriter().write()
    EventWriter().close()
