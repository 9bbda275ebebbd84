"""The items of a gallery as a Lance data set: versions, each written whole or not at all.

::

    GALLERY/items.lance/     items, vectors, states; Lance's own files
    GALLERY/photos.lance/    the photos that were indexed, if a catalogue was
    GALLERY/index-NAME/      an index of one version (index.py)

===================  =================  ========================================================
column               type               holds
===================  =================  ========================================================
``id``               string             unique
``category``         string             the taxonomy's name
``image``            string
``box``              float64[4]         x1, y1, x2, y2
``score``            float64            the detector's
``product``          string
``attributes``       list of string
``fields``           string             the caller's fields as JSON: what comes back
one a field          string, float64,   the same fields, as SQL sees them: those with a plain name
                     bool               and one type of value
``vector``           float32[d]
===================  =================  ========================================================

A change writes files that no version names and then a version that names them, if nobody else has
written one that touches the same: then it looks again and tries again. Readers keep the version
that they opened; its files stay for :data:`KEEP`. Rows have numbers of Lance's that never change
(``_rowid``); a *position* is a row's place in one version.

Shapes: ``N`` items of a version, ``d`` the vector's length.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, lru_cache
from itertools import groupby, islice
from typing import Any

import numpy as np
import orjson

from match_rcnn.data.taxonomy import Category, Taxonomy
from match_rcnn.retrieval.gallery.items import (
    GalleryError,
    GalleryItem,
    checked_vectors,
    encode_fields,
    optional_module,
)
from match_rcnn.utils.arrays import Float32Array, IntArray

logger = logging.getLogger(__name__)

#: How long a reader may keep the version that it opened.
KEEP = timedelta(days=1)
#: Bytes of the ids and names that one SQL expression is made of.
_TOKENS = 4096

_BLOCK = 4096  # items that are encoded, checked and written at once
_ATTEMPTS = 20  # of a change that others come before
_MANY = 16  # fragments of about one size that become one
_TIERS = (2**10, 2**15, 2**20)  # rows
_UNINDEXED = 2**14  # rows that SQL may go through without the columns' indices
_SPARSE = 32  # one of so many rows: fetched one by one, and not in a pass over all
_INDICES = {"id": "BTREE", "category": "BITMAP", "image": "BTREE", "score": "BTREE"} | {
    "product": "BTREE",
    "attributes": "LABEL_LIST",
}
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
#: The columns that an item is made of.
OWN = ("id", "category", "image", "box", "score", "product", "attributes", "fields")


def quoted(texts: Iterable[str]) -> str:
    """Texts as a list in SQL."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


class Snapshot:
    """One version of the items, for reading.

    Args:
        dataset: Lance's, at the version.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.about, self.taxonomy = _read_about(dataset.schema.metadata[b"match_rcnn"])
        self._categories = {c.name: c for c in self.taxonomy.categories}
        #: N.
        self.num_rows: int = dataset.count_rows()

    @property
    def version(self) -> int:
        return int(self.dataset.version)

    @cached_property
    def state(self) -> dict[str, Any]:
        """What was noted with the version."""
        return {k[11:]: orjson.loads(v) for k, v in self.dataset.config().items() if _is_ours(k)}

    @property
    def columns(self) -> dict[str, str]:
        """The caller's fields that have a column -> its type."""
        own = {*OWN, "vector"}
        return {f.name: str(f.type) for f in self.dataset.schema if f.name not in own}

    @cached_property
    def row_ids(self) -> IntArray:
        """(N,) Lance's number of each row."""
        return self._row_ids(None)

    @cached_property
    def _by_row_id(self) -> tuple[IntArray, IntArray]:
        order = np.argsort(self.row_ids, kind="stable")
        return self.row_ids[order], order

    def positions(self, row_ids: IntArray) -> IntArray:
        """(m,) where these rows are; -1 for those that are gone."""
        if np.array_equal(row_ids, self.row_ids):
            return np.arange(self.num_rows)
        known, order = self._by_row_id
        place = np.searchsorted(known, row_ids).clip(max=max(0, len(known) - 1))
        there = known[place] == row_ids if len(known) else np.zeros(len(row_ids), bool)
        return np.where(there, order[place] if len(known) else -1, -1)

    def select(self, sql: str) -> IntArray:
        """Positions, rising, of the rows that an SQL expression lets pass.

        Raises:
            ValueError: it is no expression over the gallery's columns.
        """
        try:
            return np.sort(self.positions(self._row_ids(sql)))
        except (OSError, ValueError, RuntimeError) as error:
            known = ", ".join([*OWN, *self.columns])
            reason = str(error).split(", /")[0]
            raise ValueError(f"no condition over {known}: {sql!r} ({reason})") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """
        Raises:
            GalleryError: a file is not there or not whole.
        """
        try:
            yield
        except (OSError, ValueError) as error:
            reason = str(error).split(", /home")[0]
            raise GalleryError(
                f"version {self.version} of {self.dataset.uri} cannot be read: it is damaged, or "
                f"so old that its files were deleted (then open it again): {reason}"
            ) from error

    def table(self, columns: Sequence[str]) -> Any:
        """These columns of all items."""
        with self._reading():
            return self.dataset.to_table(columns=list(columns))

    def _take(self, rows: IntArray, columns: Sequence[str]) -> Any:
        with self._reading():
            return self.dataset.take(rows, columns=list(columns))

    def _row_ids(self, sql: str | None) -> IntArray:
        table = self.dataset.to_table(columns=[], filter=sql, with_row_id=True)
        rows: IntArray = table["_rowid"].to_numpy().astype(np.int64)
        return rows

    def find(self, ids: Sequence[str]) -> IntArray:
        """(m,) the position of each id, -1 for one that is not there."""
        place: dict[str, int] = {}
        if len(ids) > max(_TOKENS, self.num_rows // 8):
            known = self.table(["id"])["id"]
            inside = optional_module("pyarrow.compute").is_in(known, value_set=_strings(ids))
            rows = np.flatnonzero(inside.to_numpy())
            place = dict(zip(known.take(rows).to_pylist(), rows.tolist(), strict=True))
        else:
            for start in range(0, len(ids) if self.num_rows else 0, _TOKENS):
                sql = f"id IN ({quoted(ids[start : start + _TOKENS])})"
                table = self.dataset.to_table(columns=["id"], filter=sql, with_row_id=True)
                rows = self.positions(table["_rowid"].to_numpy().astype(np.int64))
                place |= zip(table["id"].to_pylist(), rows.tolist(), strict=True)
        return np.array([place.get(i, -1) for i in ids], np.int64)

    def items(self, rows: IntArray) -> list[GalleryItem]:
        """The items at these positions."""
        if not len(rows):
            return []
        return self.decode(self._take(rows, OWN))

    def decode(self, table: Any) -> list[GalleryItem]:
        """The items of a table of the columns."""
        return [_item(row, self._categories) for row in table.to_pylist()]

    def all_items(self) -> Iterator[GalleryItem]:
        for batch in self._batches(OWN):
            yield from self.decode(batch)

    def _batches(self, columns: Sequence[str], size: int = 2**14) -> Iterator[Any]:
        with self._reading():
            yield from self.dataset.to_batches(columns=list(columns), batch_size=size)

    def vectors(self, rows: IntArray) -> Float32Array:
        """(m, d) the vectors at these positions, which rise where they are many."""
        if len(rows) * _SPARSE < self.num_rows or (np.diff(rows) <= 0).any():
            return _rows_of(self._take(rows, ["vector"])["vector"])
        out = np.empty((len(rows), self.about["dim"]), np.float32)
        for part, vectors in self.blocks(rows):
            out[part] = vectors
        return out

    def blocks(self, rows: IntArray, size: int = 2**14) -> Iterator[tuple[slice, Float32Array]]:
        """Parts of these positions, which rise, with their vectors, in one pass over all."""
        start = 0
        for batch in self._batches(["vector"], size):
            first, last = np.searchsorted(rows, [start, start + len(batch)])
            if last > first:
                vectors = _rows_of(batch["vector"])
                whole = last - first == len(batch)
                yield slice(first, last), vectors if whole else vectors[rows[first:last] - start]
            start += len(batch)


class Store:
    """Where versions are made. Args: uri: of the data set, a path or an object store's."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lance = optional_module("lance")
        self._conflict = optional_module("lance.commit").CommitConflictError

    @classmethod
    def create(cls, uri: str, about: dict[str, Any]) -> "Store":
        """An empty one. Args: about: ``dim``, ``taxonomy`` and what else never changes."""
        store, arrow = cls(uri), optional_module("pyarrow")
        noted = {"match_rcnn": orjson.dumps(about)}
        schema = _schema(arrow, about["dim"], {}).with_metadata(noted)
        empty = arrow.RecordBatchReader.from_batches(schema, [])
        store._lance.write_dataset(empty, uri, schema, mode="create", enable_stable_row_ids=True)
        return store

    def exists(self) -> bool:
        try:
            self._lance.dataset(self.uri)
        except (ValueError, OSError):
            return False
        return True

    def newest(self) -> Snapshot:
        return Snapshot(self._lance.dataset(self.uri))

    def add(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """Add items, all or none; returns how many. Raises: ValueError."""
        ids: dict[str, None] = {}
        new = self._write(_noting(items, ids), vectors)

        def operation(snapshot: Snapshot) -> Any:
            _check_absent(snapshot, list(ids), self.uri)
            return self._with(snapshot, new)

        if ids:
            self._commit(operation)
        return len(ids)

    def write_apart(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> list[str]:
        """Write items that no version names yet, for :meth:`adopt` of any process."""
        written = self._write(items, vectors)
        return [orjson.dumps(fragment.to_json()).decode() for fragment in written]

    def adopt(self, ids: Sequence[str], written: Sequence[str]) -> None:
        """Add what was written apart; items of these ids that are there already are replaced."""
        read = self._lance.FragmentMetadata.from_json
        new = [read(fragment) for fragment in written]

        def operation(snapshot: Snapshot) -> Any:
            if (snapshot.find(ids) >= 0).any():
                return self._without(snapshot, ids, True, new)[0]
            return self._with(snapshot, new)

        if new:
            self._commit(operation)

    def _with(self, snapshot: Snapshot, new: list[Any]) -> Any:
        """The operation that adds fragments."""
        fragments = [f.metadata for f in snapshot.dataset.get_fragments()]
        first = max([-1, *(f.id for f in fragments)]) + 1
        for number, fragment in enumerate(new):
            fragment.id = first + number
        # A Merge names all fragments, so that it fails where any other change came before.
        schema = snapshot.dataset.lance_schema
        return self._lance.LanceOperation.Merge([*fragments, *new], schema)

    def replace(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> int:
        """Put new items in the place of those with their ids, all or none. Raises: ValueError."""
        ids: dict[str, None] = {}
        new = self._write(_noting(items, ids), vectors)
        if ids:
            self._commit(lambda snapshot: self._without(snapshot, list(ids), False, new)[0])
        return len(ids)

    def remove(self, ids: Sequence[str], missing_ok: bool) -> int:
        """Remove items, all or none; returns how many. Raises: ValueError."""
        removed = 0

        def operation(snapshot: Snapshot) -> Any:
            nonlocal removed
            change, removed = self._without(snapshot, ids, missing_ok, [])
            return change if removed else None

        if ids:
            self._commit(operation)
        return removed

    def note(self, **state: Any) -> None:
        """Put into :attr:`Snapshot.state`; None takes out."""
        encoded = {
            f"match_rcnn.{k}": None if v is None else orjson.dumps(v).decode()
            for k, v in state.items()
        }
        self._lance.dataset(self.uri).update_config(encoded)

    def tend(self) -> None:
        """Join small fragments and bring the columns' indices up to date, where it is time. What
        another writer's change prevents is left for the next time."""
        dataset = self._lance.dataset(self.uri)
        try:
            for rows in _TIERS:
                small = [f for f in dataset.get_fragments() if f.physical_rows < rows]
                if len(small) >= _MANY:
                    dataset.optimize.compact_files(target_rows_per_fragment=rows)
            self._index_columns(_UNINDEXED)
            if dataset.version % _MANY == 0:
                dataset.cleanup_old_versions(older_than=KEEP)
        except (OSError, RuntimeError, self._conflict) as error:
            logger.debug("%s is left as it is: %s", self.uri, error)

    def compact(self, keep: timedelta) -> None:
        """Write anew what is left of fragments, and delete versions older than ``keep``."""
        for attempt in range(_ATTEMPTS):
            try:
                self._index_columns(0)  # fragments in an index are not joined with others
                dataset = self._lance.dataset(self.uri)
                dataset.optimize.compact_files(materialize_deletions_threshold=0.0)
                break
            except (OSError, RuntimeError, self._conflict):
                if attempt + 1 == _ATTEMPTS:
                    raise
        self._lance.dataset(self.uri).cleanup_old_versions(older_than=keep)

    def _index_columns(self, allowed: int) -> None:
        """Indices of the columns, where more than ``allowed`` rows are in none."""
        dataset = self._lance.dataset(self.uri)
        rows = {f.fragment_id: f.count_rows() for f in dataset.get_fragments()}
        own = {"string": "BTREE", "double": "BTREE", "bool": "BITMAP"}
        wanted = _INDICES | {n: own[t] for n, t in Snapshot(dataset).columns.items()}
        covered: dict[str, set[int]] = {name: set() for name in wanted}
        for index in dataset.describe_indices():
            for segment in index.segments:
                covered[index.field_names[0]] |= set(segment.fragment_ids)
        behind = [n for n in wanted if sum(rows[f] for f in rows.keys() - covered[n]) > allowed]
        for name in behind:
            if covered[name]:
                dataset.optimize.optimize_indices(index_names=[f"{name}_idx"])
            else:
                dataset.create_scalar_index(name, wanted[name], name=f"{name}_idx")

    def _commit(self, operation: Callable[[Snapshot], Any]) -> None:
        """Make a version of the newest one, again where another writer's change comes between.

        Args:
            operation: what to do to a version; None: nothing.

        Raises:
            GalleryError: others were quicker every time.
        """
        for attempt in range(_ATTEMPTS):
            snapshot = self.newest()
            change = operation(snapshot)
            if change is None:
                return
            try:
                self._lance.LanceDataset.commit(
                    snapshot.dataset, change, read_version=snapshot.version, max_retries=0
                )
                return
            except self._conflict:
                time.sleep(random.uniform(0, 0.01 * (attempt + 1)))
        raise GalleryError(
            f"{self.uri}: others changed it {_ATTEMPTS} times meanwhile; try again later"
        )

    def _without(
        self, snapshot: Snapshot, ids: Sequence[str], missing_ok: bool, new: list[Any]
    ) -> tuple[Any, int]:
        """The operation that removes these ids and adds fragments, and how many are removed."""
        rows = snapshot.find(ids)
        if (rows < 0).any() and not missing_ok:
            missing = [i for i, row in zip(ids, rows, strict=True) if row < 0]
            raise ValueError(f"{self.uri} has no item {missing[0]!r} ({len(missing)} such ids)")
        gone, updated, start = [], [], 0
        for fragment in snapshot.dataset.get_fragments():
            end = start + fragment.count_rows()
            mine = [i for i, row in zip(ids, rows.tolist(), strict=True) if start <= row < end]
            if len(mine) == end - start:
                gone.append(fragment.fragment_id)
            elif mine:
                updated.append(fragment.delete(f"id IN ({quoted(mine)})"))
            start = end
        operation = self._lance.LanceOperation.Update(
            removed_fragment_ids=gone, updated_fragments=updated, new_fragments=new
        )
        return operation, int((rows >= 0).sum())

    def _write(self, items: Iterable[GalleryItem], vectors: Iterable[Any]) -> list[Any]:
        """Fragments that no version names yet."""
        columns = self.newest().columns
        return [
            fragment
            for known, blocks in groupby(_blocks(items, vectors, columns), lambda block: block[0])
            for fragment in self._fragments(dict(known), (block[1:] for block in blocks))
        ]

    def _with_columns(self, columns: dict[str, str]) -> Any:
        """The newest data set, which has these columns of fields. No reader sees a difference."""
        arrow = optional_module("pyarrow")
        types = {"string": arrow.string(), "double": arrow.float64(), "bool": arrow.bool_()}
        for attempt in range(_ATTEMPTS):
            dataset = self._lance.dataset(self.uri)
            missing = [n for n in columns if n not in dataset.schema.names]
            if not missing:
                break
            try:
                dataset.add_columns([arrow.field(n, types[columns[n]]) for n in missing])
            except (OSError, RuntimeError, ValueError, self._conflict):  # another adds them too
                if attempt + 1 == _ATTEMPTS:
                    raise
        return dataset

    def _fragments(self, columns: dict[str, str], blocks: Iterable[Any]) -> list[Any]:
        arrow = optional_module("pyarrow")
        dataset = self._with_columns(columns)
        schema = dataset.schema
        failed: list[BaseException] = []

        def batches() -> Iterator[Any]:
            try:
                for block in blocks:
                    yield _batch(arrow, schema, *block)
            except BaseException as error:
                failed.append(error)
                raise

        reader = arrow.RecordBatchReader.from_batches(schema, batches())
        try:
            written = self._lance.fragment.write_fragments(reader, dataset, schema=schema)
        except BaseException:
            # What was passed through Lance is its own kind of error, with ours as a text.
            raise (failed[0] if failed else GalleryError(f"{self.uri} cannot be written")) from None
        return list(written)


@lru_cache(maxsize=16)
def _read_about(noted: bytes) -> tuple[dict[str, Any], Taxonomy]:
    about = orjson.loads(noted)
    return about, Taxonomy.from_dict(about["taxonomy"])


def _is_ours(key: str) -> bool:
    return key.startswith("match_rcnn.")


def _strings(texts: Sequence[str]) -> Any:
    arrow = optional_module("pyarrow")
    return arrow.array(list(texts), arrow.string())


def _schema(arrow: Any, dim: int, columns: dict[str, Any]) -> Any:
    return arrow.schema(
        [
            arrow.field("id", arrow.string(), nullable=False),
            ("category", arrow.string()),
            ("image", arrow.string()),
            ("box", arrow.list_(arrow.float64(), 4)),
            ("score", arrow.float64()),
            ("product", arrow.string()),
            ("attributes", arrow.list_(arrow.string())),
            ("fields", arrow.string()),
            arrow.field("vector", arrow.list_(arrow.float32(), dim), nullable=False),
            *columns.items(),
        ]
    )


def _item(row: dict[str, Any], categories: dict[str, Category]) -> GalleryItem:
    return GalleryItem(
        row["id"],
        categories[row["category"]] if row["category"] is not None else None,
        row["image"],
        tuple(row["box"]) if row["box"] is not None else None,
        row["score"],
        row["product"],
        tuple(row["attributes"] or ()),
        orjson.loads(row["fields"]) if row["fields"] else {},
    )


def _rows_of(vectors: Any) -> Float32Array:
    """(m, d) of a column of vectors."""
    if hasattr(vectors, "combine_chunks"):
        vectors = vectors.combine_chunks()
    flat: Float32Array = vectors.flatten().to_numpy()
    return flat.reshape(len(vectors), -1)


def _blocks(
    items: Iterable[GalleryItem], vectors: Iterable[Any], columns: dict[str, str]
) -> Iterator[tuple[Any, list[GalleryItem], list[Any]]]:
    """(columns so far, items, their vectors), a block at a time."""
    columns, taken = dict(columns), (*OWN, "vector")
    pairs = zip(items, vectors, strict=True)
    while block := list(islice(pairs, _BLOCK)):
        for item, _ in block:
            for name, value in item.fields.items():
                if name not in columns and _PLAIN.fullmatch(name) and name not in taken:
                    kind = _type(value)
                    columns |= {name: kind} if kind else {}
        yield tuple(columns.items()), [item for item, _ in block], [v for _, v in block]


def _type(value: Any) -> str | None:
    """The type of a column that holds such values."""
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "double"
    return "string" if isinstance(value, str) else None


def _batch(arrow: Any, schema: Any, items: list[GalleryItem], vectors: list[Any]) -> Any:
    columns = []
    for column in schema:
        if column.name == "vector":
            rows = checked_vectors(items, vectors, column.type.list_size)
            flat = arrow.array(rows.reshape(-1))
            columns.append(arrow.FixedSizeListArray.from_arrays(flat, rows.shape[1]))
        elif column.name == "fields":
            columns.append(arrow.array([encode_fields(i) for i in items], column.type))
        elif column.name == "category":
            names = [i.category.name if i.category else None for i in items]
            columns.append(arrow.array(names, column.type))
        elif column.name in OWN:
            columns.append(arrow.array([getattr(i, column.name) for i in items], column.type))
        else:
            kind, values = str(column.type), (i.fields.get(column.name) for i in items)
            typed = [v if _type(v) == kind else None for v in values]
            columns.append(arrow.array(typed, column.type))
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _noting(items: Iterable[GalleryItem], ids: dict[str, None]) -> Iterator[GalleryItem]:
    """Pass items on and note their ids."""
    for item in items:
        if item.id in ids:
            raise ValueError(f"the id {item.id!r} comes twice")
        ids[item.id] = None
        yield item


def _check_absent(snapshot: Snapshot, ids: Sequence[str], uri: str) -> None:
    known = [i for i, row in zip(ids, snapshot.find(ids), strict=True) if row >= 0]
    if known:
        raise ValueError(
            f"{uri} has an item {known[0]!r} already ({len(known)} such ids); "
            "replace() puts a new one in its place"
        )
