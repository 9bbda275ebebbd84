"""Large JSON files in little memory: the arrays of a file, a batch of elements at a time.

Two forms are read: a file that is one array (``[{...}, ...]``, a result file) and a file that is
one object with arrays in it (``{"images": [...], "annotations": [...]}``, COCO ground truth).

Two readers: a fast one, which guesses where elements end and has orjson check the guess; and, from
the first thing on that it cannot make out, a careful one, which follows every bracket and says
what is wrong where. Both give the same elements.
"""

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

Batch = tuple[str | None, list[Any]]
#: By array, keys of its elements: the depth of their values, and whether anybody wants these.
Lift = Mapping[str | None, Mapping[str, tuple[int, bool]]]

_CHUNK = 4 * 1024 * 1024


def stream_arrays(
    path: str | Path,
    chunk_bytes: int = _CHUNK,
    lift: Lift | None = None,
) -> Iterator[Batch]:
    """Yield ``(key, elements)`` batches of every top-level array of ``path``, in file order.

    ``key`` is ``None`` for a file that is one array. Every array gives at least one batch, an
    empty one if it is empty. Values of a top-level object that are not arrays are passed over.
    Memory: about ``chunk_bytes`` of text and the Python objects of one batch.

    Args:
        lift: by array, keys of its elements with the depth of their values: 1 for a list of
            numbers, 2 for a list of such lists. These values *may* come as bytes, their text
            without the opening and closing brackets, not parsed and not checked: for who needs
            few of the numbers, or has a faster way to them. They may as well come as lists, and
            as anything where nobody wants them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, cut off, or no array in it; the message names file and place.
    """
    given: Counter[str | None] = Counter()
    with open(path, "rb") as file:
        try:
            for key, elements in _Blocks(file, chunk_bytes, lift or {}).arrays():
                yield key, elements
                given[key] += len(elements)
        except _UnsureError:
            file.seek(0)
            for key, elements in _with_care(Path(path), file, chunk_bytes):
                known = min(given[key], len(elements))
                given[key] -= known
                yield key, elements[known:]


class _UnsureError(Exception):
    """The fast reader cannot make something out."""


_START = re.compile(rb"\s*([\[{])")
_KEY = re.compile(rb'\s*(,?)\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:\s*(?=\S)', re.DOTALL)
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_END_OF_OBJECT = re.compile(rb"\s*\}\s*\Z")


class _Blocks:
    """The fast reader: a block of text at a time is cut where it looks as if one element ended and
    another one began. A wrong guess is no valid JSON."""

    def __init__(self, file: BinaryIO, size: int, lift: Lift) -> None:
        self.file = file
        self.size = size
        self.lift = lift
        self.text = b""  # what was read of the file and not yet given out

    def arrays(self) -> Iterator[Batch]:
        self._more()
        start = _START.match(self.text)
        if start is None:
            raise _UnsureError
        self.text = self.text[start.end() :]
        if start.group(1) == b"[":
            yield from self._elements(None)
        else:
            yield from self._members()
        while self._more():
            pass
        if self.text.strip():
            raise _UnsureError

    def _more(self) -> bool:
        block = self.file.read(self.size)
        self.text += block
        return bool(block)

    def _members(self) -> Iterator[Batch]:
        first = True
        while (match := _KEY.match(self.text)) or self._more():
            if match is None:
                continue
            if first == bool(match.group(1)):
                raise _UnsureError
            first = False
            self.text = self.text[match.end() :]
            if self.text[:1] == b"[":
                self.text = self.text[1:]
                yield from self._elements(orjson.loads(match.group(2)))
            else:
                self._pass_over()
        if not _END_OF_OBJECT.match(self.text):
            raise _UnsureError
        self.text = b""

    def _pass_over(self) -> None:
        while (end := _end_of_value(self.text)) is None:
            if not self._more():
                raise _UnsureError
        self.text = self.text[end:]

    def _elements(self, key: str | None) -> Iterator[Batch]:
        """Batches of the array whose opening bracket was just read."""
        first, ended = True, False
        while not ended:
            if len(self.text) < self.size:
                self._more()
            elements, ended = self._batch(self.lift.get(key, {}))
            if elements or first:
                yield key, elements
            first = False

    def _batch(self, lift: Mapping[str, tuple[int, bool]]) -> tuple[list[Any], bool]:
        """The next elements, and whether the array ends with them."""
        text, steps = self.text, []
        for name, (depth, wanted) in lift.items():
            text, step = _lift_out(text, name, depth, wanted)
            steps.append(step)
        cut = _last_between(text)
        document = b"[" + (text if cut is None else text[: cut.start() + 1] + b"]")
        try:
            elements: list[Any] = orjson.loads(document)
            end, ended = (len(text), True) if cut is None else (cut.end(), False)
        except orjson.JSONDecodeError as error:
            stop = _stop(document, error)
            if stop is None and cut is None and len(text) < 4 * self.size and self._more():
                return self._batch(lift)
            if stop is None:
                raise _UnsureError from None
            elements, end, ended = orjson.loads(document[:stop]), stop - 1, True
        for step in reversed(steps):
            end = step.put_back(elements, end)
        self.text = self.text[end:]
        return elements, ended


def _last_between(text: bytes) -> "re.Match[bytes] | None":
    """The last place between two objects."""
    place = text.rfind(b"}")
    while place >= 0:
        if match := _BETWEEN.match(text, place):
            return match
        place = text.rfind(b"}", 0, place)
    return None


def _stop(text: bytes, error: orjson.JSONDecodeError) -> int | None:
    """Where the parser stopped, if a whole value ends there."""
    stop = len(error.doc[: error.pos].encode())
    try:
        orjson.loads(text[:stop])
    except orjson.JSONDecodeError:
        return None
    return stop


def _end_of_value(text: bytes) -> int | None:
    """Where the value at the head of ``text`` ends, if it does and something follows."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _stop(text, error)
    return None


#: The first number that stands for a value; a number of the file itself is hardly one of these.
_STANDS = 7_000_000_000_000


class _Lifted:
    """Values that were taken out of a text; their numbers, from :data:`_STANDS`, stand in their
    places.

    Attributes:
        places: of these numbers in the new text.
        removed: how much shorter the new text is, up to and with each of them.
    """

    def __init__(self, name: str, wanted: bool) -> None:
        self.name = name
        self.wanted = wanted
        self.texts: list[bytes] = []
        self.places: list[int] = []
        self.removed: list[int] = []

    def put_back(self, elements: list[Any], end: int) -> int:
        """Give the elements of the new text up to ``end`` their values; returns where the old
        text has this end."""
        count = bisect_left(self.places, end)
        found = 0
        for element in elements if count and self.wanted else ():
            if type(element) is dict and type(element.get(self.name)) is int:
                if element[self.name] != _STANDS + found or found == count:
                    raise _UnsureError
                element[self.name] = self.texts[found]
                found += 1
        if found != count and self.wanted:
            raise _UnsureError
        return end + (self.removed[count - 1] if count else 0)


def _lift_out(text: bytes, name: str, depth: int, wanted: bool) -> tuple[bytes, _Lifted]:
    """Take the values of a key out of a text, as long as they are lists of this depth without
    strings and in the white space of the first one."""
    lifted = _Lifted(name, wanted)
    brackets = rb"\[(?!\s*\[)" if depth == 1 else rb"\[\s*\["
    form = re.search(rb'("%b"\s*:\s*)%b' % (re.escape(name.encode()), brackets), text)
    if form is None:
        return text, lifted
    opening, key, closing = form.group(), len(form.group(1)), b"]" * depth
    parts: list[bytes] = []
    behind = length = 0
    while (start := text.find(opening, behind)) >= 0:
        begin = start + len(opening)
        end = text.find(closing, begin)
        if end < 0 or text.find(b'"', begin, end) >= 0:
            break
        number = b"%d" % (_STANDS + len(lifted.texts)) if wanted else b"0"
        parts += (text[behind : start + key], number)
        length += start + key - behind
        behind = end + depth
        lifted.places.append(length)
        length += len(number)
        lifted.removed.append(behind - length)
        if wanted:
            lifted.texts.append(text[begin:end])
    parts.append(text[behind:])
    return b"".join(parts), lifted


def _with_care(path: Path, file: BinaryIO, chunk_bytes: int) -> Iterator[Batch]:
    """The careful reader."""
    splitter = _Splitter(path)
    while chunk := file.read(chunk_bytes):
        yield from splitter.feed(chunk)
    splitter.finish()


# Alternatives with a literal at their head: the search then skips numbers three times as fast.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("|\\?\Z)|\[|\]|\{|\}', re.DOTALL)
_QUOTE, _BRACKET, _BRACE = b'"[{'
_CLOSING_BRACKET = ord("]")


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
