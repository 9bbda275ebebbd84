"""The items of a gallery as a Lance data set: versions, each written whole or not at all.

Columns: ``id`` (text, unique), ``category`` (the taxonomy's name), ``image``, ``box`` (x1, y1, x2,
y2), ``score`` (the detector's), ``product``, ``attributes`` (list of text), ``fields`` (JSON of the
caller's: what comes back), ``vector`` (float32[d]); one of each feature that a similarity compares
beside it (float16, under its name); and one of each of the caller's fields that has a plain name
and a text, a number or a truth value in it: the same fields, as SQL sees them.

A change writes files that no version names and then a version that names them, if nobody else has
written one since; else it looks and tries again. Readers keep the version that they opened; its
files stay for :data:`KEEP`. Rows have numbers of Lance's that never change (``_rowid``); a
*position* is a row's place in one version.

Shapes: ``N`` items of a version, ``d`` the vector's length, ``m`` of what is asked for.
"""

import logging
import math
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import orjson

from match_rcnn.data.taxonomy import Taxonomy
from match_rcnn.retrieval.gallery.items import GalleryError, GalleryItem, optional_module
from match_rcnn.utils.arrays import Float32Array, IntArray

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How long a reader may keep the version that it opened.
KEEP = timedelta(days=1)
#: Rows whose vectors are read at once.
BLOCK = 2**16
#: The columns that an item is made of -> their indices; JSON and boxes have none.
OWN = {"id": "BTREE", "category": "BITMAP", "image": "BTREE", "box": "", "score": "BTREE"}
OWN |= {"product": "BTREE", "attributes": "LABEL_LIST", "fields": ""}
_OF_FIELDS = {"string": "BTREE", "double": "BTREE", "bool": "BITMAP"}
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
_WRITTEN = 2**27  # bytes of vectors that are encoded, checked and written at once
_NAMES = 4096  # ids of one SQL expression
_ATTEMPTS = 20  # of a change that others come before
_MANY = 16  # fragments of about one size that become one
_TIERS = (2**10, 2**14, 2**17)  # rows
_UNINDEXED = 2**14  # rows that SQL may go through without the columns' indices


def quoted(texts: Iterable[str]) -> str:
    """Texts as a list in SQL."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


class Snapshot:
    """One version of the items, for reading. Args: dataset: Lance's, at the version."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.about, self.taxonomy = _read_about(dataset.schema.metadata[b"match_rcnn"])
        self.categories = {c.name: c for c in self.taxonomy.categories}
        #: The columns of numbers -> the shape of an item's.
        self.shapes = {n: tuple(shape) for n, shape in self.about.get("features", {}).items()}
        self.shapes["vector"] = (self.about["dim"],)
        self.num_rows: int = dataset.count_rows()
        self.version = int(dataset.version)

    @cached_property
    def state(self) -> dict[str, Any]:
        """What was noted with the version."""
        noted = ((k.partition("match_rcnn."), v) for k, v in self.dataset.config().items())
        return {name: orjson.loads(v) for (_, ours, name), v in noted if ours}

    @cached_property
    def columns(self) -> dict[str, str]:
        """The caller's fields that have a column -> its type."""
        kinds = {f.name: str(f.type) for f in self.dataset.schema}
        return {name: kind for name, kind in kinds.items() if name not in {*OWN, *self.shapes}}

    @cached_property
    def row_ids(self) -> IntArray:
        """(N,) Lance's number of each row."""
        return self._asked([], None)[1]

    @cached_property
    def _by_row_id(self) -> tuple[IntArray, IntArray]:
        order = np.argsort(self.row_ids, kind="stable")
        return self.row_ids[order], order

    def positions(self, row_ids: IntArray) -> IntArray:
        """(m,) where these rows are; -1 for those that are gone."""
        known, order = self._by_row_id
        if not len(known):
            return np.full(len(row_ids), -1)
        place = np.searchsorted(known, row_ids).clip(max=len(known) - 1)
        return np.where(known[place] == row_ids, order[place], -1)

    def select(self, sql: str) -> IntArray:
        """Positions, rising, of the rows that SQL lets pass. Raises: ValueError: wrong SQL."""
        known = ", ".join([*OWN, *self.columns])
        with _said(ValueError, f"no condition over {known}: {sql!r}"):
            return np.sort(self.positions(self._asked([], sql)[1]))

    def find(self, ids: Sequence[str], there: bool | None = None) -> IntArray:
        """(m,) the position of each id, -1 for one that is not there. Raises: ValueError: one is
        not there (``there`` is True), or is there (it is False)."""
        place: dict[str, int] = {}
        if len(ids) > max(_NAMES, self.num_rows // 8):
            place = {name: row for row, name in enumerate(self.table(["id"])["id"].to_pylist())}
        else:
            for start in range(0, len(ids) if self.num_rows else 0, _NAMES):
                sql = f"id IN ({quoted(ids[start : start + _NAMES])})"
                table, row_ids = self._asked(["id"], sql)
                rows = self.positions(row_ids).tolist()
                place |= zip(table["id"].to_pylist(), rows, strict=True)
        wrong = [] if there is None else [i for i in ids if (i in place) != there]
        if wrong:
            item, number = f"item {wrong[0]!r}", f"({len(wrong)} such ids)"
            already = f"has an {item} already {number}; replace() puts a new one in its place"
            reason = f"has no {item} {number}" if there else already
            raise ValueError(f"{self.dataset.uri} {reason}")
        return np.array([place.get(i, -1) for i in ids], np.int64)

    def table(self, columns: Iterable[str]) -> Any:
        """These columns of all items."""
        with self._reading():
            return self.dataset.to_table(columns=list(columns)).combine_chunks()

    def batches(self, columns: Iterable[str], size: int = 2**14) -> Iterator[Any]:
        """As :meth:`table`, so many rows at a time."""
        with self._reading():
            yield from self.dataset.to_batches(columns=list(columns), batch_size=size)

    def take(self, rows: IntArray, columns: Iterable[str]) -> Any:
        """As :meth:`table`, of these positions."""
        with self._reading():
            return self.dataset.take(rows, columns=list(columns)).combine_chunks()

    def blocks(self) -> Iterator[Float32Array]:
        """All vectors, ``BLOCK`` at a time."""
        for start in range(0, self.num_rows, BLOCK):
            yield self.vectors(np.arange(start, min(start + BLOCK, self.num_rows)))

    def vectors(self, rows: IntArray, name: str = "vector") -> Float32Array:
        """(m, d) the vectors at these positions, or (m, *shape) another of :attr:`shapes`."""
        out = np.empty((len(rows), *self.shapes[name]), np.float32)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            column = self.take(rows[part], [name])[name].combine_chunks()
            out[part] = column.flatten().to_numpy().reshape(-1, *out.shape[1:])
        return out

    def decode(self, table: Any) -> list[GalleryItem]:
        """The items of a table of the columns ``OWN``."""
        found = []
        for row in table.to_pylist():
            box, attributes = row["box"], tuple(row["attributes"] or ())
            row |= {"box": box and tuple(box), "attributes": attributes}
            row |= {"category": self.categories.get(row["category"])}
            found.append(GalleryItem(**row | {"fields": orjson.loads(row["fields"] or "{}")}))
        return found

    def _asked(self, columns: list[str], sql: str | None) -> tuple[Any, IntArray]:
        """A table, and Lance's numbers of its rows."""
        table = self.dataset.to_table(columns=columns, filter=sql, with_row_id=True)
        return table, table["_rowid"].to_numpy().astype(np.int64)

    def _reading(self) -> Any:
        what = f"version {self.version} of {self.dataset.uri} cannot be read: it is damaged, or so "
        return _said(GalleryError, what + "old that its files were deleted (then open it again)")


class Store:
    """Where versions are made. Args: uri: a path or an object store's; options: of the latter."""

    def __init__(self, uri: str, options: dict[str, str] | None = None) -> None:
        self.uri, self.options = uri, options
        self._lance = optional_module("lance")
        self._conflict = optional_module("lance.commit").CommitConflictError

    def create(self, about: dict[str, Any]) -> None:
        """Make an empty one. Args: about: ``dim``, ``taxonomy`` and what else never changes."""
        arrow = optional_module("pyarrow")
        text, number = arrow.string(), arrow.float64()
        kinds = dict.fromkeys(OWN, text) | {"box": arrow.list_(number, 4), "score": number}
        kinds["attributes"] = arrow.list_(text)
        kinds["vector"] = arrow.list_(arrow.float32(), about["dim"])
        features = about.get("features", {})
        if taken := features.keys() & kinds.keys():
            raise ValueError(f"no feature can be called {sorted(taken)[0]!r}, as a column is")
        kinds |= {n: arrow.list_(arrow.float16(), math.prod(s)) for n, s in features.items()}
        needed = {"id", "vector", *features}
        fields = [arrow.field(n, k, n not in needed) for n, k in kinds.items()]
        schema = arrow.schema(fields, {"match_rcnn": orjson.dumps(about)})
        self.put(schema.empty_table(), "create", enable_stable_row_ids=True)

    def put(self, table: Any, mode: str, **options: Any) -> None:
        """Create a data set, or append to it."""
        options["storage_options"] = self.options
        self._lance.write_dataset(table, self.uri, mode=mode, **options)

    def dataset(self) -> Any:
        """Lance's, of the newest version. Raises: OSError, ValueError: it is not there."""
        return self._lance.dataset(self.uri, storage_options=self.options)

    def newest(self) -> Snapshot:
        return Snapshot(self.dataset())

    def find(self) -> Snapshot | None:
        """The newest version, if there is any."""
        try:
            dataset = self.dataset()
        except (ValueError, OSError):
            return None
        return Snapshot(dataset)

    def write(
        self, items: Iterable[GalleryItem], vectors: Iterable[Any]
    ) -> tuple[list[str], list[str]]:
        """Write items that no version names yet; returns what :meth:`change` is to be given.
        Raises: ValueError: an id comes twice, or a category, vector or value does not fit."""
        ids: dict[str, None] = {}
        written: list[str] = []
        snapshot = self.newest()
        pairs = zip(items, vectors, strict=True)
        size = 4 * sum(map(math.prod, snapshot.shapes.values()))
        while block := list(islice(pairs, max(1024, _WRITTEN // size))):
            for item, vector in block:
                _check(item, np.shape(vector), snapshot)
                if item.id in ids:
                    raise ValueError(f"the id {item.id!r} comes twice")
                ids[item.id] = None
            rows = [item for item, _ in block]
            dataset = self._with_columns(rows)
            table = _table(dataset.schema, rows, [vector for _, vector in block], snapshot.shapes)
            with _said(GalleryError, f"{self.uri} cannot be written"):
                new = self._lance.fragment.write_fragments(table, dataset, schema=table.schema)
            written += [orjson.dumps(fragment.to_json()).decode() for fragment in new]
        return list(ids), written

    def change(self, ids: Sequence[str], written: Sequence[str], there: bool | None) -> int:
        """Make a version without the items of these ids, which must be there, or must not, or may
        (see :meth:`Snapshot.find`), and with what was written; returns how many were there. Raises:
        ValueError; GalleryError: others were quicker every time."""
        new = [self._lance.FragmentMetadata.from_json(text) for text in written]

        def commit() -> int:
            snapshot = self.newest()
            rows = snapshot.find(ids, there)
            if new or (rows >= 0).any():
                change = snapshot.dataset, self._operation(snapshot, ids, rows, new)
                options = {"read_version": snapshot.version, "storage_options": self.options}
                self._lance.LanceDataset.commit(*change, max_retries=0, **options)
            return int((rows >= 0).sum())

        return self._again(commit, self._conflict)

    def _operation(
        self, snapshot: Snapshot, ids: Sequence[str], rows: IntArray, new: list[Any]
    ) -> Any:
        fragments = snapshot.dataset.get_fragments()
        if (rows < 0).all():
            first = max([-1, *(f.fragment_id for f in fragments)]) + 1
            for number, fragment in enumerate(new):
                fragment.id = first + number
            whole = [*(f.metadata for f in fragments), *new]
            # A Merge names all fragments, so that it fails where any other change came before.
            return self._lance.LanceOperation.Merge(whole, snapshot.dataset.lance_schema)
        removed, updated, start = [], [], 0
        for fragment in fragments:
            end = start + fragment.count_rows()
            mine = [ids[i] for i in np.flatnonzero((rows >= start) & (rows < end))]
            if mine and (left := fragment.delete(f"id IN ({quoted(mine)})")):
                updated.append(left)
            elif mine:
                removed.append(fragment.fragment_id)
            start = end
        return self._lance.LanceOperation.Update(removed, updated, new)

    def note(self, **state: Any) -> None:
        """Put into :attr:`Snapshot.state`; None takes out."""
        noted = {k: None if v is None else orjson.dumps(v).decode() for k, v in state.items()}
        self.dataset().update_config({f"match_rcnn.{k}": v for k, v in noted.items()})

    def tend(self) -> None:
        """Join small fragments and bring the columns' indices up to date, where it is time. What
        another writer's change prevents is left for the next time."""
        dataset = self.dataset()
        try:
            for rows in _TIERS:
                small = [f for f in dataset.get_fragments() if f.physical_rows < rows]
                if len(small) >= _MANY:
                    dataset.optimize.compact_files(target_rows_per_fragment=rows)
            self.index_columns(_UNINDEXED)
            if dataset.version % _MANY == 0:
                dataset.cleanup_old_versions(older_than=KEEP)
        except (OSError, RuntimeError) as error:
            logger.debug("%s is left as it is: %s", self.uri, error)

    def compact(self, keep: timedelta) -> None:
        """Write anew what is left of fragments, and delete versions older than ``keep``."""

        def join() -> None:
            self.index_columns(0)  # fragments in an index are not joined with others
            self.dataset().optimize.compact_files(materialize_deletions_threshold=0.0)

        self._again(join, OSError, RuntimeError)
        self.dataset().cleanup_old_versions(older_than=keep)

    def index_columns(self, allowed: int) -> None:
        """Indices of the columns, where more than ``allowed`` rows are in none."""
        dataset = self.dataset()
        rows = {f.fragment_id: f.count_rows() for f in dataset.get_fragments()}
        kinds = OWN | {n: _OF_FIELDS[t] for n, t in Snapshot(dataset).columns.items()}
        covered: dict[str, set[int]] = {name: set() for name, kind in kinds.items() if kind}
        for index in dataset.describe_indices():
            for segment in index.segments:
                covered[index.field_names[0]] |= set(segment.fragment_ids)
        for name, inside in covered.items():
            late = sum(rows[f] for f in rows.keys() - inside) > allowed
            if late and inside:
                dataset.optimize.optimize_indices(index_names=[f"{name}_idx"])
            elif late:
                dataset.create_scalar_index(name, kinds[name], name=f"{name}_idx")

    def _with_columns(self, items: Iterable[GalleryItem]) -> Any:
        """The newest data set, with columns for these items' fields. No reader sees a difference,
        and the first value of a field decides."""
        arrow = optional_module("pyarrow")
        columns: dict[str, Any] = {}
        for item in items:
            for name, value in item.fields.items():
                if name not in columns and (kind := _type(value)) and _PLAIN.fullmatch(name):
                    columns[name] = arrow.field(name, arrow.type_for_alias(kind))

        def add() -> Any:
            dataset = self.dataset()
            missing = [f for name, f in columns.items() if name not in dataset.schema.names]
            if missing:
                dataset.add_columns(missing)
            return dataset

        return self._again(add, OSError, RuntimeError, ValueError)  # another may add them too

    def _again(self, action: Callable[[], T], *errors: type[Exception]) -> T:
        """Do what other writers may come before, until they do not."""
        for attempt in range(_ATTEMPTS):
            try:
                return action()
            except errors as error:
                reason = error
                time.sleep(random.uniform(0, 0.01 * (attempt + 1)))
        raise GalleryError(
            f"{self.uri}: others changed it {_ATTEMPTS} times meanwhile; try again later ({reason})"
        )


@contextmanager
def _said(kind: type[Exception], what: str) -> Iterator[None]:
    """Errors of Lance's in our words."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise kind(f"{what} ({str(error).split(', /home')[0]})") from error


@lru_cache(maxsize=16)
def _read_about(noted: bytes) -> tuple[dict[str, Any], Taxonomy]:
    about = orjson.loads(noted)
    return about, Taxonomy.from_dict(about["taxonomy"])


def _type(value: Any) -> str | None:
    """The type of a column that holds such values."""
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "double"
    return "string" if isinstance(value, str) else None


def _table(
    schema: Any,
    items: Sequence[GalleryItem],
    vectors: Sequence[Any],
    shapes: dict[str, tuple[int, ...]],
) -> Any:
    """Items as a table. Raises: ValueError: something of an item does not fit."""
    arrow = optional_module("pyarrow")
    columns: dict[str, Any] = {name: [getattr(i, name) for i in items] for name in OWN}
    for name, shape in shapes.items():
        rows = np.empty((len(items), *shape), np.float32 if name == "vector" else np.float16)
        given = vectors if name == "vector" else [item.features[name] for item in items]
        with np.errstate(over="ignore"):  # is not finite then
            for row, values in zip(rows, given, strict=True):
                row[:] = values
        rows = rows.reshape(len(items), -1)
        finite = np.isfinite(rows).all(1)
        if not finite.all():
            raise ValueError(f"item {items[int(finite.argmin())].id!r}: its {name} is not finite")
        columns[name] = arrow.FixedSizeListArray.from_arrays(rows.reshape(-1), rows.shape[1])
    columns["fields"] = []
    for item in items:
        try:
            encoded = orjson.dumps(item.fields, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            raise ValueError(f"item {item.id!r} does not fit into JSON: {error}") from error
        columns["fields"].append(encoded.decode())
    columns["category"] = [i.category.name if i.category else None for i in items]
    for name in schema.names:
        if name not in columns:
            kind, values = str(schema.field(name).type), [i.fields.get(name) for i in items]
            columns[name] = [v if _type(v) == kind else None for v in values]
    return arrow.table({name: columns[name] for name in schema.names}, schema=schema)


def _check(item: GalleryItem, shape: tuple[int, ...], snapshot: Snapshot) -> None:
    kind, dim, reason = item.category, snapshot.about["dim"], ""
    features = {"vector": shape, **{name: np.shape(v) for name, v in item.features.items()}}
    if not isinstance(item.id, str) or not item.id:
        raise ValueError(f"expected an id that is a text and not empty, got {item.id!r}")
    if kind is not None and kind != snapshot.categories.get(kind.name):
        taxonomy = snapshot.taxonomy.name
        reason = f"{kind.name!r} is no category of the gallery's taxonomy {taxonomy!r}"
    if item.box is not None and len(item.box) != 4:
        reason = f"expected a box x1, y1, x2, y2, got {item.box}"
    if shape != (dim,):
        reason = f"expected a vector of {dim} numbers, got shape {shape}"
    elif features != snapshot.shapes:
        reason = f"the gallery keeps {snapshot.shapes} of an item, got {features}"
    if reason:
        raise ValueError(f"item {item.id!r}: {reason}")
