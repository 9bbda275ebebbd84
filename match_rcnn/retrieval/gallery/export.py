"""The match score for other engines, FAISS and vector databases: as a distance, or a product.

With c a point near the items' mean (so that float32 loses little), N the positions of w that are
negative and P those that are positive, the **Euclidean form** is

    -score = |Q - G|^2 - h(g) + a constant of the query,    h(g) = 2 sum_P(w (g - c)^2),
    Q = sqrt|w| ((q - c)_N, -(q - c)_P),    G = sqrt|w| (g - c),

and where P is not empty one more coordinate, 0 for queries and sqrt(H - h(g)) for items with H the
largest h, takes h in. (A metric loss has no positive weights: then this is a plain, scaled
Euclidean space.) The **inner product** of [-2 w (q - c), 1] and [g - c, sum(w (g - c)^2)] is as
exact, but clusters and graphs built on it find little (``docs/gallery.md``).

Shapes: ``m`` vectors, ``d`` their length, ``D`` that of the form's.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from match_rcnn.retrieval.gallery.items import optional_module
from match_rcnn.retrieval.gallery.store import OWN, Snapshot
from match_rcnn.retrieval.scoring import MatchScorer
from match_rcnn.utils.arrays import Float32Array, FloatArray
from match_rcnn.utils.files import atomic_write

METRICS = ("euclidean", "inner product")
_LANES = 16  # other lengths take FAISS several times as long
_MEAN_OF = 2**14
_TABLE = "match_rcnn_items"


@dataclass(eq=False)
class ScoreForm:
    """How scores, of a weight and a bias, become what a database computes: ``center`` is c,
    ``height`` is H, and where ``squared`` it answers with the squares of distances."""

    metric: str
    weight: FloatArray
    bias: float
    center: FloatArray
    height: float = 0.0
    squared: bool = False

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"expected a metric of {', '.join(METRICS)}; got {self.metric!r}")
        self.weight, self.center = np.asarray(self.weight), np.asarray(self.center)
        self._far = self.metric == METRICS[0]  # whether distances are compared
        self._raised = self._far and bool((self.weight > 0).any())
        #: D: for distances, with zeros up to what FAISS is quick for.
        self.size = len(self.weight) + (self._raised or not self._far)
        self.size += -self.size % _LANES if self._far else 0

    @classmethod
    def of(
        cls, scorer: MatchScorer, sample: Float32Array, blocks: Iterable[Float32Array], metric: str
    ) -> "ScoreForm":
        """Args: sample: some vectors; blocks: all of them. Raises: ValueError: unknown metric."""
        center = sample.mean(0, dtype=np.float64) if len(sample) else np.zeros(scorer.dim)
        form = cls(metric, scorer.weight.numpy(), scorer.bias, center)
        heights = (float(form._heights(block).max()) for block in blocks if form._raised)
        return replace(form, height=max(heights, default=0.0))

    def items(self, vectors: Any) -> Float32Array:
        """(m, D) what is searched."""
        moved = self._moved(vectors)
        if not self._far:
            return self._filled(moved, np.square(moved) @ self.weight)
        raised = np.sqrt((self.height - self._heights(vectors)).clip(0))
        return self._filled(moved * np.sqrt(np.abs(self.weight)), raised)

    def queries(self, vectors: Any) -> Float32Array:
        """(m, D) what it is searched by."""
        moved = self._moved(vectors)
        if not self._far:
            return self._filled(-2 * self.weight * moved, 1)
        scale = np.sqrt(np.abs(self.weight))
        return self._filled(np.where(self.weight > 0, -scale, scale) * moved, 0)

    def scores(self, queries: Any, answers: Any) -> FloatArray:
        """(m, k) match scores of what was answered: distances, or inner products."""
        found: FloatArray = np.asarray(answers, np.float64)
        if not self._far:
            constant = np.square(self._moved(queries)) @ self.weight + self.bias
            return found + constant[:, None]
        constant = self.bias + self.height + self._heights(queries)
        return -(found if self.squared else np.square(found)) + constant[:, None]

    def _filled(self, vectors: FloatArray, last: Any) -> Float32Array:
        out = np.zeros((len(vectors), self.size), np.float32)
        out[:, : len(self.weight)] = vectors
        if self._raised or not self._far:
            out[:, len(self.weight)] = last
        return out

    def _moved(self, vectors: Any) -> FloatArray:
        return np.asarray(vectors, np.float32) - self.center

    def _heights(self, vectors: Any) -> FloatArray:
        """(m,) h."""
        heights: FloatArray = 2 * np.square(self._moved(vectors)) @ self.weight.clip(0)
        return heights


def export(
    snapshot: Snapshot,
    scorer: MatchScorer,
    where: Any,
    to: str,
    metric: str = METRICS[0],
    **options: str,
) -> ScoreForm:
    """See :meth:`match_rcnn.retrieval.gallery.gallery.Gallery.export`. Beside the vectors lie the
    columns of ``store.py``; a Parquet file's own metadata, ``match_rcnn``, is JSON with the form.
    """
    if to not in EXPORTS:
        raise ValueError(f"expected an export to {', '.join(EXPORTS)}; got {to!r}")
    every = np.arange(snapshot.num_rows)
    sample = snapshot.vectors(every[:: max(1, len(every) // _MEAN_OF)])
    form = ScoreForm.of(scorer, sample, snapshot.blocks(), metric)
    form = replace(form, squared=to == "milvus")
    EXPORTS[to](snapshot, form, where, **options)
    return form


def parquet_form(path: Path) -> ScoreForm:
    """The form of an exported file."""
    noted = optional_module("pyarrow.parquet").read_schema(path).metadata[b"match_rcnn"]
    return ScoreForm(**{k: v for k, v in orjson.loads(noted).items() if k != "fingerprint"})


def _parts(snapshot: Snapshot, form: ScoreForm, size: int) -> Iterator[tuple[Any, Float32Array]]:
    """Tables of the items' columns, each with its vectors."""
    for batch in snapshot.batches([*OWN, "vector"], size):
        flat = batch["vector"].flatten().to_numpy()
        yield batch.drop_columns(["vector"]), form.items(flat.reshape(len(batch), -1))


def _rows(snapshot: Snapshot, form: ScoreForm, size: int) -> Iterator[list[tuple[Any, ...]]]:
    """Numbers, items' columns and vectors."""
    numbers = count()
    for batch, vectors in _parts(snapshot, form, size):
        rows = zip(batch.to_pylist(), vectors.tolist(), strict=True)
        yield [(next(numbers), item, vector) for item, vector in rows]


def _to_parquet(snapshot: Snapshot, form: ScoreForm, where: Any) -> None:
    arrow, parquet = optional_module("pyarrow"), optional_module("pyarrow.parquet")
    noted = {**asdict(form), "fingerprint": snapshot.about["fingerprint"]}
    own = arrow.schema([snapshot.dataset.schema.field(name) for name in OWN])
    # A missing list of a fixed size is not read back by every reader.
    own = own.set(list(OWN).index("box"), arrow.field("box", arrow.list_(arrow.float64())))
    vector = arrow.field("vector", arrow.list_(arrow.float32(), form.size), nullable=False)
    schema = own.append(vector).with_metadata(
        {"match_rcnn": orjson.dumps(noted, option=orjson.OPT_SERIALIZE_NUMPY)}
    )
    with atomic_write(where) as file, parquet.ParquetWriter(file, schema) as writer:
        for batch, vectors in _parts(snapshot, form, 2**14):
            column = arrow.FixedSizeListArray.from_arrays(vectors.reshape(-1), form.size)
            columns = [c.cast(f.type) for c, f in zip(batch.columns, own, strict=True)]
            writer.write_table(arrow.Table.from_arrays([*columns, column], schema=schema))


def _to_qdrant(snapshot: Snapshot, form: ScoreForm, where: Any, collection: str = _TABLE) -> None:
    models = optional_module("qdrant_client.models")
    kind = models.Distance.EUCLID if form.metric == "euclidean" else models.Distance.DOT
    where.create_collection(collection, models.VectorParams(size=form.size, distance=kind))
    for rows in _rows(snapshot, form, 512):
        ids, items, vectors = (list(column) for column in zip(*rows, strict=True))
        where.upsert(collection, models.Batch(ids=ids, vectors=vectors, payloads=items))


def _to_milvus(snapshot: Snapshot, form: ScoreForm, where: Any, collection: str = _TABLE) -> None:
    kind = "L2" if form.metric == "euclidean" else "IP"
    where.create_collection(collection, dimension=form.size, metric_type=kind, auto_id=False)
    for rows in _rows(snapshot, form, 512):
        found = []
        for number, item, vector in rows:
            known = {k: v for k, v in item.items() if v is not None}
            # A row's own "id" is Milvus' number; ours is a field beside it.
            found.append({**known, "item": item["id"], "id": number, "vector": vector})
        where.insert(collection, found)
    where.flush(collection)


def _to_pgvector(snapshot: Snapshot, form: ScoreForm, where: Any, table: str = _TABLE) -> None:
    if not table.isidentifier():  # it is taken into SQL as it is
        raise ValueError(f"expected a plain name for the table, got {table!r}")
    columns = "id text PRIMARY KEY, category text, image text, box float8[], score float8"
    more = f"product text, attributes text[], fields jsonb, vector vector({form.size})"
    with where.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        cursor.execute(f"CREATE TABLE {table} ({columns}, {more})")
        with cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for rows in _rows(snapshot, form, 2**12):
                for _, item, vector in rows:
                    copy.write_row((*item.values(), str(vector)))
    where.commit()


#: Each writes a snapshot to a file, a ``QdrantClient``, a ``MilvusClient``, a psycopg connection.
EXPORTS: dict[str, Callable[..., None]] = {
    "parquet": _to_parquet,
    "qdrant": _to_qdrant,
    "milvus": _to_milvus,
    "pgvector": _to_pgvector,
}
