from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from match_rcnn.retrieval import scoring

Tensor = torch.Tensor


def exact_scores(weight: Tensor, bias: float, queries: Tensor, gallery: Tensor) -> Tensor:
    """(Q, G) as the score is defined, pair by pair in float64."""
    difference = gallery.double()[None] - queries.double()[:, None]
    return (difference.square() * weight.double()).sum(-1) + bias


def exact_top(scores: Tensor, k: int) -> Tensor:
    """Indices of the k largest of each row, equal ones by index."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]


@pytest.fixture(scope="session")
def reference() -> SimpleNamespace:
    return SimpleNamespace(scores=exact_scores, top=exact_top)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Blocks of 8 rows and 64 columns, so that small problems have many."""

    def use(rows: int = 8, columns: int = 64) -> None:
        monkeypatch.setitem(scoring._MAX_ROWS, "cpu", rows)
        monkeypatch.setitem(scoring._MAX_COLUMNS, "cpu", columns)

    return use
