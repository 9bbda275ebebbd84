"""A gallery as a Parquet file: for vector databases, past one machine.

The vectors are in the augmented inner-product form of :class:`MatchScorer`, (d + 1) numbers: a
database that searches by inner product, largest first, and is asked with
``MatchScorer.augment_queries`` vectors, gives the order of the match scores.

===========  ======================  ==============================================
column       type                    holds
===========  ======================  ==============================================
id           string
vector       float32[d + 1]          [g - c, sum(w (g - c)^2)]
category     string, may be null     the category's name
image        string, may be null
box          float32[4] or null      x1, y1, x2, y2
score        float32, may be null    the detector's
fields       string                  JSON
===========  ======================  ==============================================

The file's own metadata, key ``match_rcnn``, is JSON with ``weight`` (w), ``bias``, ``center`` (c)
and ``fingerprint``: all that a query needs. The center keeps float32 from losing digits.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from match_rcnn.retrieval.gallery.faiss import optional_module
from match_rcnn.retrieval.gallery.items import IntArray
from match_rcnn.retrieval.gallery.storage import Snapshot
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.files import atomic_write

_MEAN_OF = 2**14


def export_parquet(snapshot: Snapshot, scorer: MatchScorer, path: Path, rows_per_group: int) -> int:
    """Write the file, whole or not at all; returns the number of items.

    Raises:
        MissingPackageError: without pyarrow.
    """
    arrow = optional_module("pyarrow", "pyarrow")
    parquet = optional_module("pyarrow.parquet", "pyarrow")
    rows = np.flatnonzero(snapshot.alive)
    center = _center(snapshot, rows)
    schema = _schema(arrow, scorer.dim).with_metadata(
        {"match_rcnn": orjson.dumps(_metadata(snapshot, scorer, center))}
    )
    with atomic_write(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(rows), rows_per_group):
            block = rows[start : start + rows_per_group]
            writer.write_table(_table(arrow, schema, snapshot, scorer, center, block))
    return len(rows)


def parquet_queries(path: Path, queries: Any) -> tuple[Any, Any]:
    """What to ask a database that holds an exported file.

    Args:
        queries: (Q, d) embeddings.

    Returns:
        (Q, d + 1) float32 vectors, and (Q,) float64: inner product + this is the match score.
    """
    parquet = optional_module("pyarrow.parquet", "pyarrow")
    noted = orjson.loads(parquet.read_schema(path).metadata[b"match_rcnn"])
    scorer = MatchScorer(np.array(noted["weight"]), noted["bias"])
    center = torch.tensor(noted["center"], dtype=torch.float64)
    rows = np.asarray(queries, np.float32)
    return scorer.augment_queries(rows, center).numpy(), scorer.query_offsets(rows, center).numpy()


def _center(snapshot: Snapshot, rows: IntArray) -> torch.Tensor:
    if not len(rows):
        return torch.zeros(snapshot.manifest.dim, dtype=torch.float64)
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MEAN_OF)).astype(np.int64)]
    return torch.from_numpy(snapshot.vectors(sample)).double().mean(0)


def _metadata(snapshot: Snapshot, scorer: MatchScorer, center: torch.Tensor) -> dict[str, Any]:
    return {
        "weight": scorer.weight.tolist(),
        "bias": scorer.bias,
        "center": center.tolist(),
        "fingerprint": snapshot.manifest.fingerprint,
    }


def _schema(arrow: Any, dim: int) -> Any:
    return arrow.schema(
        [
            arrow.field("id", arrow.string(), nullable=False),
            arrow.field("vector", arrow.list_(arrow.float32(), dim + 1), nullable=False),
            ("category", arrow.string()),
            ("image", arrow.string()),
            ("box", arrow.list_(arrow.float32())),
            ("score", arrow.float32()),
            arrow.field("fields", arrow.string(), nullable=False),
        ]
    )


def _table(
    arrow: Any,
    schema: Any,
    snapshot: Snapshot,
    scorer: MatchScorer,
    center: torch.Tensor,
    rows: IntArray,
) -> Any:
    items = [snapshot.item(row) for row in rows.tolist()]
    vectors = scorer.augment_gallery(snapshot.vectors(rows), center).numpy()
    flat = arrow.array(vectors.reshape(-1))

    def column(values: Iterable[Any], name: str) -> Any:
        return arrow.array(list(values), schema.field(name).type)

    columns = [
        column((i.id for i in items), "id"),
        arrow.FixedSizeListArray.from_arrays(flat, scorer.dim + 1),
        column((i.category.name if i.category else None for i in items), "category"),
        column((i.image for i in items), "image"),
        column((i.box for i in items), "box"),
        column((i.score for i in items), "score"),
        column((orjson.dumps(i.fields).decode() for i in items), "fields"),
    ]
    return arrow.Table.from_arrays(columns, schema=schema)
