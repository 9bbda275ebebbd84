"""Photos that wait are computed together, in several threads, as one by one."""

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from match_rcnn.inference.bulk import Ready
from match_rcnn.serving.batching import Batcher, cores


@pytest.fixture
def ready(predictor):
    """Six photos of two sizes, as the network takes them."""
    rng = np.random.default_rng(0)
    sizes = [(60, 80) if n % 3 else (80, 60) for n in range(6)]
    photos = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    return [Ready(np.ascontiguousarray(predictor.resized(p)), p.shape[:2]) for p in photos]


def values(garments):
    return [(g.category.name, g.score, g.box.tolist(), g.embedding.tolist()) for g in garments]


@pytest.mark.parametrize("workers", [1, 3])
def test_each_photo_gets_its_own_garments(predictor, ready, workers):
    alone = Batcher(predictor, batch=1)
    expected = [alone.garments(one, values).result() for one in ready]
    assert len({str(one) for one in expected}) == 6
    seen, gate = [], threading.Event()
    batcher = Batcher(predictor, workers, batch=3, seen=seen.append)
    held = [batcher.run(gate.wait) for _ in range(workers)]
    results = [batcher.garments(one, values) for one in ready]
    gate.set()
    for result, own in zip(results, expected, strict=True):
        for found, one in zip(result.result(), own, strict=True):
            assert found[0] == one[0]
            for a, b in zip(found[1:], one[1:], strict=True):
                assert np.allclose(a, b, atol=1e-4)
    assert all(one.result() for one in held)
    assert sum(seen) == 6
    if workers == 1:
        assert seen == [2, 3, 1]  # the first's size; then what waits longest, three at most
    batcher.close()
    alone.close()


def test_photos_that_nobody_waits_for_are_passed_over(predictor, ready):
    seen, gate = [], threading.Event()
    batcher = Batcher(predictor, seen=seen.append)
    batcher.run(gate.wait)
    first, second = (batcher.garments(one, values) for one in ready[:2])
    assert first.cancel()
    gate.set()
    assert len(second.result()) == 5
    with pytest.raises(CancelledError):
        first.result()
    assert seen == [1]
    batcher.close()


def test_a_fault_is_its_own_photos_answer(predictor, ready):
    batcher = Batcher(predictor)

    def fail(garments):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        batcher.garments(ready[0], fail).result()
    assert len(batcher.garments(ready[0], values).result()) == 5
    batcher.close()


def test_there_are_cores():
    assert cores() >= 1
