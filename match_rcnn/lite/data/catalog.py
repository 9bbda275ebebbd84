"""Data sets and what is known about them, by name, for the whole process."""

from collections import UserDict
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["CatalogError", "DatasetCatalog", "Metadata", "MetadataCatalog"]

Value = TypeVar("Value")


class CatalogError(ValueError, AssertionError):
    """Two different things under one name.

    detectron2 raises AssertionError here and scripts written for it catch that; by our own rule a
    user's mistake is a ValueError. This is both.
    """


class _Catalog(UserDict[str, Value]):
    def list(self) -> list[str]:
        """All names, oldest first."""
        return [*self.data]

    def remove(self, name: str) -> None:
        """Forget ``name`` (KeyError when it is unknown)."""
        del self.data[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({', '.join(self.data)})"


class _DatasetCatalog(_Catalog[Callable[[], Any]]):
    """Data set name -> function that loads the data set.

    The function takes nothing and returns the dataset dicts (one per image), the same ones in the
    same order at each call.
    """

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """Make ``func`` the loader of data set ``name``.

        Raises:
            CatalogError: ``func`` cannot be called, or the name is taken.
        """
        if not callable(func):
            raise CatalogError(
                f"data set {name!r} needs a function that loads it, got {type(func).__name__}"
            )
        if name in self:
            raise CatalogError(f"there is a data set {name!r} already: remove it first")
        self[name] = func

    def get(self, name: str) -> Any:  # type: ignore[override]
        """Load data set ``name`` and return its dataset dicts.

        Raises:
            KeyError: no such data set; the message lists those that there are.
        """
        if name not in self:
            known = ", ".join(self.list()) or "none"
            raise KeyError(f"no data set {name!r} is registered here, only: {known}")
        return self[name]()


class Metadata:
    """Facts about one data set, as attributes: ``metadata.thing_classes = ["trousers", "skirt"]``.

    An attribute that is set stays: setting it again to an equal value of the same type does
    nothing, to another one raises, so that two parts of a program cannot disagree unnoticed.
    """

    name: str = "N/A"

    def __init__(self, **values: Any) -> None:
        self.set(**values)

    def __getattr__(self, key: str) -> Any:
        # Reached only when ordinary lookup found nothing.
        known = ", ".join(self.__dict__)
        raise AttributeError(f"data set {self.name!r} states no {key!r}, only: {known}")

    def __setattr__(self, key: str, value: Any) -> None:
        if key not in self.__dict__:
            super().__setattr__(key, value)
            return
        old = self.__dict__[key]
        if type(old) is not type(value) or old != value:
            raise CatalogError(
                f"{key!r} of data set {self.name!r} is set and stays: it is {old!r}, the new "
                f"value would be {value!r}"
            )

    def set(self, **values: Any) -> "Metadata":
        """Set several attributes at once; returns itself."""
        for key in values:
            setattr(self, key, values[key])
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute, or ``default`` when it is not set."""
        return self.__dict__.get(key, default)

    def __repr__(self) -> str:
        return f"Metadata({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class _MetadataCatalog(_Catalog[Metadata]):
    """Data set name -> its Metadata, made at the first question."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """The Metadata of data set ``name``; empty but for its name when it is new."""
        if not name:
            raise CatalogError(f"a data set's name must not be empty, got {name!r}")
        return self.setdefault(name, Metadata(name=name))


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
