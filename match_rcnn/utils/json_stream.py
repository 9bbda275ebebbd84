"""Large JSON files in little memory: the arrays of a file, a batch of elements at a time.

Two forms are read: a file that is one array (``[{...}, ...]``, a result file) and a file that is
one object with arrays in it (``{"images": [...], "annotations": [...]}``, COCO ground truth).
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from match_rcnn.utils.arrays import FloatArray, IntArray

# Alternatives with a literal at their head: the search then skips numbers three times as fast.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("|\\?\Z)|\[|\]|\{|\}', re.DOTALL)
_QUOTE, _BRACKET, _BRACE = b'"[{'
_CLOSING_BRACKET = ord("]")


def stream_arrays(
    path: str | Path, chunk_bytes: int = 1024 * 1024
) -> Iterator[tuple[str | None, list[Any]]]:
    """Yield ``(key, elements)`` batches of every top-level array of ``path``, in file order.

    ``key`` is ``None`` for a file that is one array. Every array gives at least one batch, an
    empty one if it is empty. Values of a top-level object that are not arrays are passed over.
    Memory: about ``chunk_bytes`` of text and the Python objects of one batch.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, cut off, or no array in it; the message names file and place.
    """
    splitter = _Splitter(Path(path))
    with open(path, "rb") as file:
        while chunk := file.read(chunk_bytes):
            yield from splitter.feed(chunk)
    splitter.finish()


class _Splitter:
    """Finds the ends of array elements by brackets and strings alone; orjson reads the text in
    between, so that whatever is wrong inside an array is found there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = b""
        self.offset = 0  # of text[0] in the file
        self.resume = 0  # where in text the next token is looked for
        self.depth = 0
        self.root: int | None = None
        self.key: str | None = None
        self.start: int | None = None  # in text: the first byte of the array not yet given out
        self.end = 0  # in text: behind the last whole element
        self.first = True  # nothing of this array was given out yet

    def feed(self, chunk: bytes) -> Iterator[tuple[str | None, list[Any]]]:
        self.text += chunk
        position = len(self.text)
        for match in _TOKEN.finditer(self.text, self.resume):
            if self.text[match.start()] == _QUOTE:
                if match.group(1) != b'"':  # the chunk ends within a string
                    position = match.start()
                    break
                if self.start is None and self.depth == 1:
                    self.key = orjson.loads(match.group())
            elif self.text[match.start()] in (_BRACKET, _BRACE):
                self._open(match)
            else:
                yield from self._close(match)
        if self.start is not None and self.end > self.start:
            yield self.key, self._parse(self.end)
        self._drop(position)

    def finish(self) -> None:
        if self.root is None:
            raise self._error("it holds neither an array nor an object")
        if self.depth != 0 or self.start is not None or self.resume < len(self.text):
            raise self._error("it ends in the middle; is it cut off?")

    def _open(self, match: re.Match[bytes]) -> None:
        token = self.text[match.start()]
        if self.depth == 0:
            if self.root is not None:
                raise self._error("there is more than one value", match.start())
            self.root = token
        self.depth += 1
        wanted = 1 if self.root == _BRACKET else 2
        if token == _BRACKET and self.depth == wanted and self.start is None:
            self.start, self.end, self.first = match.end(), 0, True

    def _close(self, match: re.Match[bytes]) -> Iterator[tuple[str | None, list[Any]]]:
        self.depth -= 1
        inside = 1 if self.root == _BRACKET else 2
        if self.depth < 0:
            raise self._error("a bracket closes that was never opened", match.start())
        if self.start is None:
            return
        if self.depth == inside:
            self.end = match.end()
        elif self.depth < inside:
            if self.text[match.start()] != _CLOSING_BRACKET:
                raise self._error("an array is not closed by ']'", match.start())
            first = self.first
            elements = self._parse(match.start())
            self.start = None
            if elements or first:
                yield self.key, elements

    def _parse(self, end: int) -> list[Any]:
        """The elements up to ``end``, which become given out."""
        assert self.start is not None
        begin, self.start = self.start, end
        # A stand-in for what was given out before, so that the commas are checked as well.
        before = b"[" if self.first else b"[0"
        try:
            elements = _loads(before + self.text[begin:end] + b"]")
        except ValueError as error:
            raise self._error(str(error), begin) from error
        given_out = 0 if self.first else 1
        self.first = False
        return elements[given_out:]

    def _drop(self, position: int) -> None:
        """Forget what is not needed any more; go on scanning at ``position``."""
        keep = position if self.start is None else self.start
        self.text = self.text[keep:]
        self.offset += keep
        self.resume = position - keep
        if self.start is not None:
            self.start, self.end = 0, 0

    def _error(self, reason: str, position: int | None = None) -> ValueError:
        place = self.offset + (len(self.text) if position is None else position)
        return ValueError(f"{self.path} is not valid JSON near byte {place}: {reason}")


def _loads(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if b"NaN" in text or b"Infinity" in text:
            # Python's json module writes them; whoever reads the element can say what is wrong.
            return json.loads(text)
        raise


class Entries:
    """A batch of objects of a file.

    Args:
        items: the objects.
        start: how many came before in the file.
        place: what messages name, such as ``"results.json, entry"``.
    """

    def __init__(self, items: Sequence[Any], start: int, place: str) -> None:
        self.items = items
        self.start = start
        self.place = place

    def error(self, index: int, reason: str) -> ValueError:
        """What is wrong with the ``index``-th of the batch."""
        return ValueError(f"{self.place} {self.start + index} (from 0): {reason}")

    def column(self, key: str) -> list[Any]:
        """Every entry's ``key``; an error where it is missing."""
        try:
            return [item[key] for item in self.items]
        except (KeyError, TypeError):
            index, item = next(
                (i, x) for i, x in enumerate(self.items) if not isinstance(x, dict) or key not in x
            )
            if not isinstance(item, dict):
                raise self.error(index, f"expected an object, got {item!r:.60}") from None
            has = ", ".join(map(repr, item))
            raise self.error(index, f"missing key {key!r}; it has {has}") from None

    def numbers(self, key: str, width: int | None = None) -> FloatArray:
        """(N,) or (N, width) finite numbers; an error where they are not."""
        shape = (len(self.items),) if width is None else (len(self.items), width)
        values = self.column(key)
        array = as_numbers(values)
        if array is not None and array.shape == shape:
            return array
        if not values:
            return np.zeros(shape)
        wanted = "a finite number" if width is None else f"{width} finite numbers"
        for index, value in enumerate(values):
            one = as_numbers([value])
            if one is None or one.shape[1:] != shape[1:]:
                raise self.error(index, f"{key} must be {wanted}, got {value!r:.60}")
        raise AssertionError("a bad column without a bad entry")

    def integers(self, key: str) -> IntArray:
        """(N,) whole numbers; an error where they are not."""
        array = self.numbers(key)
        whole = array.astype(np.int64)
        for index in np.flatnonzero(whole != array):
            raise self.error(int(index), f"{key} must be a whole number, got {array[index]}")
        return whole


def stream_list(path: str | Path) -> Iterator[list[Any]]:
    """Batches of the entries of a file that is one list.

    Raises:
        FileNotFoundError, ValueError: it is not there, or something else; the message names it.
    """
    seen = False
    for key, items in stream_arrays(path):
        if key is not None:
            raise ValueError(f"{path}: expected a list of entries, got an object with {key!r}")
        seen = True
        yield items
    if not seen:
        raise ValueError(f"{path}: expected a list of entries, got an object without a list")


def as_numbers(values: list[Any]) -> FloatArray | None:
    """The array of a (nested) list, ``None`` if it is ragged or not of finite numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return None
    return array.astype(np.float64)
