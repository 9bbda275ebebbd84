"""Reading pickled numpy weights without running code from the file.

``pickle`` calls whatever the file names. Here a file may name only the constructors of arrays and
plain containers, and for arrays it gets stand-ins that take a plain dtype and bytes, and check
both, before numpy sees them. What a file costs, in time and in memory, is bounded by its size:
what it refers to many times is converted once and stays shared, and keys are plain values, since
the hash of tuples within tuples visits all that they share again and again.
"""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np

#: Bytes that may be made of each byte of a file: its text as bytes, and their copy in this
#: machine's byte order.
_BYTES_PER_BYTE = 4
_MOST_ARGUMENTS = 4
# Commands for classes by number and persistent names, which come from outside of the file; for
# instances in the ways that arrays do not need; and for sets, which hash what is in them.
_REFUSED = {
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID),
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
}


def load_arrays(file: BinaryIO) -> Any:
    """Read a pickle of dicts, lists, tuples, numbers, strings and numpy arrays.

    Python 2 pickles are taken too (their strings as latin-1).

    Raises:
        pickle.UnpicklingError: the file names anything else, or is damaged.
    """
    try:
        return _plain(_Reader(file).load(), {})
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged files fail in any of the parts that read them
        kind = type(error).__name__
        raise pickle.UnpicklingError(f"damaged pickle ({kind} while it was read)") from error


class _Dtype:
    """Stands for ``numpy.dtype`` while a pickle is read."""

    def __init__(self, spec: str):
        self.value = np.dtype(spec)
        # Objects would be pointers, and structures could hide them.
        if self.value.kind not in "?biufcSU":
            raise pickle.UnpicklingError(f"arrays of {self.value} are not allowed")

    def build(self, state: tuple[Any, ...], _: "_Reader") -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands for a ``numpy.ndarray`` while a pickle is read."""

    value: np.ndarray[Any, Any]

    def __init__(self, *_: Any):
        pass

    def build(self, state: tuple[Any, ...], reader: "_Reader") -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = reader.array(data, dtype, shape, "F" if is_fortran else "C")


class _Reader(pickle._Unpickler):
    """Python's own reader (the one in C cannot be told what may be a key), with fewer commands."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin1")
        start = file.tell()
        self._budget = (file.seek(0, os.SEEK_END) - start) * _BYTES_PER_BYTE
        file.seek(start)
        self._allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): self.ordered_dict,
            ("_codecs", "encode"): self.encode,
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): self.dtype,
        }
        for module in ("builtins", "__builtin__"):
            self._allowed |= {(module, "bytes"): _bytes, (module, "bytearray"): _bytes}
        for module in ("numpy.core", "numpy._core"):  # old and new names of the same modules
            self._allowed[f"{module}.multiarray", "_reconstruct"] = _Array
            self._allowed[f"{module}.multiarray", "scalar"] = self.scalar
            self._allowed[f"{module}.numeric", "_frombuffer"] = self.array

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(
                f"the file asks for {module}.{name}; only numpy arrays and plain containers are "
                "read, since anything else could run code"
            )
        return self._allowed[module, name]

    def array(
        self, data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str = "C"
    ) -> np.ndarray[Any, Any]:
        raw = self.encode(data, "latin1") if isinstance(data, str) else data
        self._spend(len(raw))
        # The copy is in this machine's byte order, which torch wants, and can be written to.
        flat = np.frombuffer(raw, dtype.value).astype(dtype.value.newbyteorder("="))
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def dtype(self, spec: str, *_: Any) -> _Dtype:
        self._spend(len(_text(spec)))
        return _Dtype(spec)

    def ordered_dict(self, pairs: Sequence[Any] = ()) -> OrderedDict[Any, Any]:
        self._spend(len(pairs))
        return OrderedDict(_items(pairs))

    def scalar(self, dtype: _Dtype, data: Any) -> Any:
        return self.array(data, dtype, ())[()]

    def encode(self, text: str, encoding: str) -> bytes:
        """How Python 3 writes bytes in protocols that have none."""
        if encoding != "latin1":
            raise pickle.UnpicklingError("text is encoded other than as latin1")
        self._spend(len(_text(text)))
        return text.encode("latin1")

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise pickle.UnpicklingError("the file makes more bytes than it has")

    # What the commands of a pickle do; ``stack`` is that of the base class.
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("the file makes other things than arrays and containers")

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        if len(arguments) > _MOST_ARGUMENTS:
            raise pickle.UnpicklingError("nothing in an array takes so many arguments")
        self.stack[-1] = self.stack[-1](*arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise pickle.UnpicklingError("only arrays have a state")
        self.stack[-1].build(state, self)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update(_items([(key, value)]))

    def _set_items(self) -> None:
        flat = self.pop_mark()
        self.stack[-1].update(_items(zip(flat[::2], flat[1::2], strict=True)))

    def _dict(self) -> None:
        flat = self.pop_mark()
        self.stack.append(dict(_items(zip(flat[::2], flat[1::2], strict=True))))

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((command[0] for command in _REFUSED), _refuse),
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
    }


def _items(pairs: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Keys and values, the keys such that they may be hashed."""
    items = [(key, value) for key, value in pairs]
    for key, _ in items:
        if not isinstance(key, str | bytes | int | float | None):
            raise pickle.UnpicklingError(f"a dict has a key of type {type(key).__name__}")
    return items


def _bytes(data: bytes = b"", *_: Any) -> bytes:
    """Not ``bytes`` itself, which makes as many zeros as it is told."""
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("bytes are made of something else")
    return data


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise pickle.UnpicklingError(f"expected text, got {type(text).__name__}")
    return text


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """``value`` with arrays in the place of their stand-ins; ``done`` has what was met before."""
    if isinstance(value, _Array):
        return value.value
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        items = done[id(value)] = type(value)()
        items.update((key, _plain(part, done)) for key, part in value.items())
    elif isinstance(value, list):
        parts: list[Any] = []
        done[id(value)] = parts
        parts.extend(_plain(part, done) for part in value)
    else:
        done[id(value)] = tuple(_plain(part, done) for part in value)
    return done[id(value)]
