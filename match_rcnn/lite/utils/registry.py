"""Names for classes and functions."""

import importlib
import pydoc
from typing import Any

from fvcore.common.registry import Registry as _Registry

__all__ = ["Registry", "locate"]


class Registry(_Registry):
    """A registry whose error for an unknown name says which names there are."""

    def get(self, name: str) -> Any:
        """The object registered as ``name``.

        Raises:
            KeyError: nothing is; the message lists what is.
        """
        if name not in self:
            known = ", ".join(sorted(key for key, _ in self)) or "nothing"
            raise KeyError(f"{name!r} is not in the registry {self._name}; there are: {known}")
        return super().get(name)


def locate(name: str) -> Any:
    """The object of a dotted name such as ``"torch.nn.Conv2d"``.

    Raises:
        ImportError: there is none.
    """
    found = pydoc.locate(name)
    if found is not None:
        return found
    # A module that a name in its package hides, as torch.optim.sgd is at times.
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (AttributeError, ImportError, ValueError) as error:
        raise ImportError(f"cannot find {name!r}") from error
