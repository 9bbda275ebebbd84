import sys
from pathlib import Path

import pytest
import torch

from match_rcnn.d2 import HOST, HOST_VERSION

# make_expected.py and the other host's process use the same two modules as programs do.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_report_header():
    return f"host: {HOST} {HOST_VERSION}, torch {torch.__version__}"


@pytest.fixture(scope="session")
def inputs():
    import host_inputs

    return host_inputs


@pytest.fixture(scope="session")
def observations():
    import host_observations

    return host_observations
