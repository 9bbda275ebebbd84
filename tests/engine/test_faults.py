import os
import signal
from pathlib import Path

import pytest

from match_rcnn.data.images import read_image
from match_rcnn.engine.faults import DataFault, Leave, Preempted, PreemptionSignals, explain


@pytest.fixture
def before():
    """A handler that must be there again afterwards, and must not be called within."""
    calls = []
    previous = signal.signal(signal.SIGTERM, lambda *_: calls.append(1))
    yield calls
    signal.signal(signal.SIGTERM, previous)


def test_signals_are_noted_and_training_goes_on(before):
    signals = PreemptionSignals()
    with signals:
        assert signals.received == ""
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == "SIGUSR1"
    assert before == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert before == [1]


def test_work_that_may_be_left_is_left_at_once():
    with PreemptionSignals() as signals:
        with pytest.raises(Leave) as left, signals.leave_at_once():
            os.kill(os.getpid(), signal.SIGTERM)
        assert isinstance(left.value.fault, Preempted)
        begun = []
        with pytest.raises(Leave), signals.leave_at_once():
            begun.append(1)
        assert not begun  # the signal was there before


def test_a_forked_helper_takes_no_notice():
    with PreemptionSignals() as signals:
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1 if signals.received else 0)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("name", ["configs/none.yaml", "none.pth"])
def test_a_missing_file_that_is_no_data_is_not_explained_away(name):
    with pytest.raises(FileNotFoundError) as caught:
        Path(name).read_bytes()
    assert explain(caught.value, "output") is None


def test_missing_data_are_a_data_fault(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read_image(tmp_path / "none.jpg", upright=False)
    fault = explain(caught.value, "output")
    assert isinstance(fault, DataFault)
    assert "none.jpg" in str(fault)
