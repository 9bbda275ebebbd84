"""Classes and functions by name."""

from typing import Any

from fvcore.common.registry import Registry as _Registry

__all__ = ["Registry"]


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
