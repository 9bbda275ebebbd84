"""A gallery for vector databases: as a Parquet file, or straight into one.

The match score w . (q - g)^2 + b is written in one of two forms:

- ``euclidean``: vectors whose squared distance is the negative score, up to a constant of the query
  (:class:`match_rcnn.retrieval.gallery.faiss.EuclideanForm`). Where no weight is positive (a metric
  loss, mostly the pair loss) they are sqrt(-w) (g - c); else they have one coordinate more.
- ``inner product``: vectors [g - c, sum(w (g - c)^2)], searched by inner product, largest first. As
  exact, but approximate indices find little in it: see ``docs/gallery.md``.

:class:`ExportForm` makes the queries, and the score of what a database answers. The center c, near
the mean, keeps float32 from losing digits.

===============  ======================  ==============================================
column           type                    holds
===============  ======================  ==============================================
``id``           string
``vector``       float32[]               the form's
``category``     string, may be null     the category's name
``image``        string, may be null
``box``          float[4] or null        x1, y1, x2, y2
``score``        float, may be null      the detector's
``product``      string, may be null
``attributes``   list of string
``fields``       string                  JSON
===============  ======================  ==============================================

A Parquet file's own metadata, key ``match_rcnn``, is JSON with the form.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import torch

from match_rcnn.retrieval.gallery.faiss import EuclideanForm
from match_rcnn.retrieval.gallery.items import optional_module
from match_rcnn.retrieval.gallery.store import OWN, Snapshot
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import Float32Array
from match_rcnn.utils.files import atomic_write

METRICS = ("euclidean", "inner product")

_MEAN_OF = 2**14
#: Names of one are taken as they are into SQL.
_TABLE = "match_rcnn_items"


@dataclass(frozen=True)
class ExportForm:
    """How scores become what a database computes.

    Attributes:
        metric: "euclidean" or "inner product".
        weight, bias: of the score.
        center: c.
        height: of :class:`EuclideanForm`.
        squared: whether the database answers with the squares of distances.
    """

    metric: str
    weight: tuple[float, ...]
    bias: float
    center: tuple[float, ...]
    height: float = 0.0
    squared: bool = False

    @classmethod
    def of(cls, snapshot: Snapshot, scorer: MatchScorer, metric: str = "euclidean") -> "ExportForm":
        """The form of a gallery.

        Raises:
            ValueError: an unknown metric.
        """
        if metric not in METRICS:
            raise ValueError(f"expected a metric of {', '.join(METRICS)}; got {metric!r}")
        number = snapshot.num_rows
        rows = np.linspace(0, max(0, number - 1), min(number, _MEAN_OF)).astype(np.int64)
        mean = snapshot.vectors(np.unique(rows)).mean(0, dtype=np.float64) if number else None
        center = np.zeros(scorer.dim) if mean is None else mean
        weight = scorer.weight.numpy()
        form = cls(metric, tuple(weight.tolist()), scorer.bias, tuple(center.tolist()))
        if metric != "euclidean" or (weight <= 0).all():
            return form
        blocks = (vectors for _, vectors in snapshot.blocks(np.arange(number)))
        heights = (float(form._euclidean.heights(vectors).max()) for vectors in blocks)
        return replace(form, height=max(heights, default=0.0))

    def items(self, vectors: Any) -> Float32Array:
        """(m, D) what the database holds of (m, d) embeddings."""
        if self.metric == "euclidean":
            return self._euclidean.items(np.asarray(vectors, np.float32))
        return self._scorer.augment_gallery(np.asarray(vectors), self._at).numpy()

    def queries(self, vectors: Any) -> Float32Array:
        """(Q, D) what it is asked with."""
        rows = np.asarray(vectors, np.float32)
        if self.metric == "euclidean":
            return self._euclidean.queries(rows)
        return self._scorer.augment_queries(rows, self._at).numpy()

    def scores(self, queries: Any, answers: Any) -> npt.NDArray[np.float64]:
        """(Q, k) match scores of what was answered: distances, or inner products."""
        found, rows = np.asarray(answers, np.float64), np.asarray(queries, np.float32)
        if self.metric != "euclidean":
            return found + self._scorer.query_offsets(rows, self._at).numpy()[:, None]
        constant = self.bias + self.height + self._euclidean.heights(rows)[:, None]
        return constant - (found if self.squared else np.square(found))

    @property
    def size(self) -> int:
        """D."""
        return self._euclidean.dim if self.metric == "euclidean" else len(self.weight) + 1

    @property
    def _euclidean(self) -> EuclideanForm:
        return EuclideanForm(np.array(self.weight), np.array(self.center), self.height)

    @property
    def _scorer(self) -> MatchScorer:
        return MatchScorer(np.array(self.weight), self.bias)

    @property
    def _at(self) -> torch.Tensor:
        return torch.tensor(self.center, dtype=torch.float64)


def parquet_form(path: Path) -> ExportForm:
    """The form of an exported file."""
    noted = optional_module("pyarrow.parquet").read_schema(path).metadata[b"match_rcnn"]
    return ExportForm(**{k: v for k, v in orjson.loads(noted).items() if k != "fingerprint"})


def _parts(snapshot: Snapshot, form: ExportForm, size: int) -> Iterator[tuple[Any, Float32Array]]:
    """Tables of the items' columns, each with its vectors."""
    scanner = snapshot.dataset.to_batches(columns=[*OWN, "vector"], batch_size=size)
    for batch in scanner:
        flat = batch["vector"].flatten().to_numpy()
        yield batch.drop_columns(["vector"]), form.items(flat.reshape(len(batch), -1))


def _to_parquet(
    snapshot: Snapshot,
    scorer: MatchScorer,
    where: Any,
    rows_per_group: int = 2**14,
    metric: str = METRICS[0],
) -> ExportForm:
    arrow, parquet = optional_module("pyarrow"), optional_module("pyarrow.parquet")
    form = ExportForm.of(snapshot, scorer, metric)
    noted = {**asdict(form), "fingerprint": snapshot.about["fingerprint"]}
    vector = arrow.field("vector", arrow.list_(arrow.float32(), form.size), nullable=False)
    own = arrow.schema([snapshot.dataset.schema.field(name) for name in OWN])
    # A missing list of a fixed size is not read back by every reader.
    own = own.set(OWN.index("box"), arrow.field("box", arrow.list_(arrow.float64())))
    schema = own.append(vector).with_metadata({"match_rcnn": orjson.dumps(noted)})
    with atomic_write(where) as file, parquet.ParquetWriter(file, schema) as writer:
        for batch, vectors in _parts(snapshot, form, rows_per_group):
            flat = arrow.array(vectors.reshape(-1))
            column = arrow.FixedSizeListArray.from_arrays(flat, form.size)
            columns = [c.cast(f.type) for c, f in zip(batch.columns, own, strict=True)]
            writer.write_table(arrow.Table.from_arrays([*columns, column], schema=schema))
    return form


def _to_qdrant(
    snapshot: Snapshot,
    scorer: MatchScorer,
    where: Any,
    collection: str = _TABLE,
    metric: str = METRICS[0],
) -> ExportForm:
    """Args: where: a ``QdrantClient``."""
    models = optional_module("qdrant_client.models")
    form = ExportForm.of(snapshot, scorer, metric)
    kind = models.Distance.EUCLID if form.metric == "euclidean" else models.Distance.DOT
    where.create_collection(collection, models.VectorParams(size=form.size, distance=kind))
    start = 0
    for batch, vectors in _parts(snapshot, form, 512):
        numbers = list(range(start, start + len(vectors)))
        points = models.Batch(ids=numbers, vectors=vectors.tolist(), payloads=batch.to_pylist())
        where.upsert(collection, points)
        start += len(vectors)
    return form


def _to_milvus(
    snapshot: Snapshot,
    scorer: MatchScorer,
    where: Any,
    collection: str = _TABLE,
    metric: str = METRICS[0],
) -> ExportForm:
    """Args: where: a ``MilvusClient``."""
    form = replace(ExportForm.of(snapshot, scorer, metric), squared=True)
    metric = "L2" if form.metric == "euclidean" else "IP"
    where.create_collection(collection, dimension=form.size, metric_type=metric, auto_id=False)
    start = 0
    for batch, vectors in _parts(snapshot, form, 512):
        rows = [
            # A row's own "id" is Milvus' number; ours is a field beside it.
            {**{k: v for k, v in row.items() if v is not None and k != "id"}, "item": row["id"]}
            | {"id": start + n, "vector": vectors[n].tolist()}
            for n, row in enumerate(batch.to_pylist())
        ]
        where.insert(collection, rows)
        start += len(rows)
    where.flush(collection)
    return form


def _to_pgvector(
    snapshot: Snapshot,
    scorer: MatchScorer,
    where: Any,
    table: str = _TABLE,
    metric: str = METRICS[0],
) -> ExportForm:
    """Args: where: a ``psycopg`` connection."""
    form = ExportForm.of(snapshot, scorer, metric)
    if not table.isidentifier():
        raise ValueError(f"expected a plain name for the table, got {table!r}")
    columns = ("id text PRIMARY KEY", "category text", "image text", "box float8[]")
    more = ("score float8", "product text", "attributes text[]", "fields jsonb")
    with where.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        stated = ", ".join((*columns, *more, f"vector vector({form.size})"))
        cursor.execute(f"CREATE TABLE {table} ({stated})")
        with cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for batch, vectors in _parts(snapshot, form, 2**12):
                for row, vector in zip(batch.to_pylist(), vectors.tolist(), strict=True):
                    copy.write_row((*row.values(), str(vector)))
    where.commit()
    return form


#: Each writes a snapshot somewhere and returns the form.
EXPORTS: dict[str, Callable[..., ExportForm]] = {
    "parquet": _to_parquet,
    "qdrant": _to_qdrant,
    "milvus": _to_milvus,
    "pgvector": _to_pgvector,
}
