import argparse
from importlib.util import find_spec

import pytest

from match_rcnn.experiments.benchmarks import serve

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("starlette", "uvicorn", "prometheus_client"))), reason="no [serve]"
)


def test_a_service_under_load(model_file):
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    flags = ["--weights", str(model_file), "--requests", "30", "--clients", "3", "--size", "64"]
    result = serve.run(parser.parse_args(flags))
    assert result.checks.pop("memory is flat") in (True, False)  # it has not settled
    assert result.correct
    (row,) = result.rows
    assert row["requests"] == 30
    assert row["requests/s"] > 0
    assert 0 < row["median ms"] <= row["99 % ms"]


def test_what_goes_wrong_is_seen():
    good, refused = serve.Asked(False, 200, 0.1), serve.Asked(True, 413, 0.1)
    wrong = {
        "photos are answered": [good, refused, serve.Asked(False, 503, 0.1)],
        "hostile ones are refused": [good, refused, serve.Asked(True, 200, 0.1)],
    }
    args = argparse.Namespace(size=64, clients=2)
    flat, rising = [100.0] * 10, [100.0 + 10 * n for n in range(10)]
    for check, parts in wrong.items():
        found = serve._result(args, "/predict", parts, flat, 1.0, True).checks
        assert [name for name, right in found.items() if not right] == [check]
    found = serve._result(args, "/predict", [good, refused], rising, 1.0, False).checks
    assert [name for name, right in found.items() if not right] == ["memory is flat", "it lives"]


def test_a_service_that_does_not_start_says_why():
    with (
        pytest.raises(ValueError, match="no-such-weights"),
        serve.started(["--weights", "no-such-weights"]),
    ):
        pass
