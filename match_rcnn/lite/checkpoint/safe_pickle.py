"""Reading pickled numpy weights without running code from the file.

``pickle`` calls whatever the file names. Here a file may name only the constructors of arrays and
plain containers, and for arrays it gets stand-ins that take a plain dtype and bytes, and check
both, before numpy sees them.
"""

import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np


def load_arrays(file: BinaryIO) -> Any:
    """Read a pickle of dicts, lists, tuples, sets, numbers, strings and numpy arrays.

    Python 2 pickles are taken too (their strings as latin-1).

    Raises:
        pickle.UnpicklingError: the file names anything else, or is damaged.
    """
    try:
        return _plain(_Unpickler(file, encoding="latin1").load())
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged files fail in any of the parts that read them
        raise pickle.UnpicklingError(f"damaged pickle: {error!r}") from error


class _Dtype:
    """Stands for ``numpy.dtype`` while a pickle is read."""

    def __init__(self, spec: str, *_: Any):
        self.value = np.dtype(str(spec))
        # Objects would be pointers, and structures could hide them.
        if self.value.kind not in "?biufcSU":
            raise pickle.UnpicklingError(f"arrays of {self.value} are not allowed")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        byteorder = state[1]
        if byteorder in ("<", ">"):
            self.value = self.value.newbyteorder(byteorder)


class _Array:
    """Stands for a ``numpy.ndarray`` while a pickle is read."""

    value: np.ndarray[Any, Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = _from_buffer(data, dtype, shape, "F" if is_fortran else "C")


def _from_buffer(
    data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str = "C"
) -> np.ndarray[Any, Any]:
    raw = data.encode("latin1") if isinstance(data, str) else data
    # The copy is in this machine's byte order, which torch wants, and can be written to.
    flat = np.frombuffer(raw, dtype.value).astype(dtype.value.newbyteorder("="))
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, data: Any) -> Any:
    return _from_buffer(data, dtype, ())[()]


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocols that have none."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
    return text.encode("latin1")


_BUILTINS = {"bytes": bytes, "bytearray": bytearray, "set": set, "frozenset": frozenset}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}
# Old and new names of the same modules.
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {(_module, name): kind for name, kind in _BUILTINS.items()}
for _module in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_module}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_module}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_module}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"the file asks for {module}.{name}; only numpy arrays and plain containers are "
                "read, since anything else could run code"
            )
        return _ALLOWED[module, name]


def _plain(value: Any) -> Any:
    """``value`` with arrays in the place of their stand-ins."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return type(value)((_plain(k), _plain(v)) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_plain(v) for v in value)
    return value
