"""Names for classes and functions."""

import pydoc
from typing import Any

from fvcore.common.registry import Registry

__all__ = ["Registry", "locate"]


def locate(name: str) -> Any:
    """The object of a dotted name such as ``"torch.nn.Conv2d"``.

    Raises:
        ImportError: there is none.
    """
    found = pydoc.locate(name)
    if found is None:
        raise ImportError(f"cannot find {name!r}")
    return found
