"""Data sets and what is known about them, by name, for the whole process."""

import logging
from collections import UserDict
from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["CatalogError", "DatasetCatalog", "Metadata", "MetadataCatalog"]

logger = logging.getLogger(__name__)


class CatalogError(ValueError, AssertionError):
    """Two different things under one name.

    detectron2 raises AssertionError here and scripts written for it catch that; by our own rule a
    user's mistake is a ValueError. This is both.
    """


class _DatasetCatalog(UserDict[str, Callable[[], Any]]):
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
                f"Data set '{name}' needs a function that loads it, got {type(func).__name__}."
            )
        if name in self:
            raise CatalogError(f"Dataset '{name}' is already registered! Remove it first.")
        self[name] = func

    def get(self, name: str) -> Any:  # type: ignore[override]
        """Load data set ``name`` and return its dataset dicts.

        Raises:
            KeyError: no such data set; the message lists those that there are.
        """
        if name not in self:
            known = ", ".join(self) or "none"
            raise KeyError(f"Dataset '{name}' is not registered! Available datasets are: {known}")
        return self[name]()

    def list(self) -> list[str]:
        """All registered names, oldest first."""
        return [*self]

    def remove(self, name: str) -> None:
        """Forget data set ``name`` (KeyError when it is unknown)."""
        self.pop(name)

    def __str__(self) -> str:
        return f"DatasetCatalog(registered datasets: {', '.join(self)})"

    __repr__ = __str__


class Metadata:
    """Facts about one data set, as attributes: ``metadata.thing_classes = ["trousers", "skirt"]``.

    An attribute that is set stays: setting it again to an equal value of the same type does
    nothing, to another one raises, so that two parts of a program cannot disagree unnoticed.
    """

    name: str = "N/A"

    _RENAMED: ClassVar[dict[str, str]] = {
        "class_names": "thing_classes",
        "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
        "stuff_class_names": "stuff_classes",
    }

    def __init__(self, **values: Any) -> None:
        for key, value in values.items():
            setattr(self, key, value)

    def __getattr__(self, key: str) -> Any:
        # Reached only when ordinary lookup found nothing.
        current = self._current_name(key)
        if current != key:
            return getattr(self, current)
        prefix = f"Attribute '{key}' does not exist in the metadata of dataset '{self.name}'"
        if len(self.__dict__) <= 1:
            raise AttributeError(f"{prefix}: metadata is empty.")
        raise AttributeError(f"{prefix}. Available keys are {list(self.__dict__)}.")

    def __setattr__(self, key: str, value: Any) -> None:
        key = self._current_name(key)
        if key in self.__dict__:
            old = self.__dict__[key]
            if type(old) is not type(value) or old != value:
                raise CatalogError(
                    f"Attribute '{key}' in the metadata of '{self.name}' cannot be set to a "
                    f"different value!\n{old!r} != {value!r}"
                )
            return
        super().__setattr__(key, value)

    @classmethod
    def _current_name(cls, key: str) -> str:
        """The name in use today for one of detectron2's older attribute names."""
        if key not in cls._RENAMED:
            return key
        logger.warning("Metadata '%s' was renamed to '%s'!", key, cls._RENAMED[key])
        return cls._RENAMED[key]

    def as_dict(self) -> dict[str, Any]:
        """A copy of all that is set; changing it changes nothing here."""
        return dict(self.__dict__)

    def set(self, **values: Any) -> "Metadata":
        """Set several attributes at once; returns itself."""
        for key, value in values.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute, or ``default`` when it is not set."""
        return getattr(self, key) if key in self.__dict__ else default

    def __repr__(self) -> str:
        return f"Metadata({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


class _MetadataCatalog(UserDict[str, Metadata]):
    """Data set name -> its Metadata, made at the first question."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """The Metadata of data set ``name``; empty but for its name when it is new."""
        if not name:
            raise CatalogError(f"A data set's name must not be empty, got {name!r}.")
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]

    def list(self) -> list[str]:
        """All names with metadata, oldest first."""
        return [*self]

    def remove(self, name: str) -> None:
        """Forget what is known of ``name`` (KeyError when it is unknown)."""
        self.pop(name)

    def __str__(self) -> str:
        return f"MetadataCatalog(registered metadata: {', '.join(self)})"

    __repr__ = __str__


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
