"""Data sources: on-disk forms of data sets, each one file of this folder that registers itself.

A source turns an entry of a data sets file (a yaml, see ``docs/your_data.md``) into a
:class:`DataSet`. One from elsewhere registers itself just so, before the yaml is read.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from match_rcnn.data.taxonomy import Taxonomy


@dataclass(frozen=True)
class DataSet:
    """What is registered with the host.

    Attributes:
        load: gives the dataset dicts (:mod:`match_rcnn.data.datasets`); called when they are
            needed, so that a missing file is no error before.
        taxonomy: of the dataset dicts.
        metadata: further entries of the host's metadata, such as ``json_file`` and ``image_root``.
    """

    load: Callable[[], list[dict[str, Any]]]
    taxonomy: Taxonomy
    metadata: Mapping[str, Any] = field(default_factory=dict)


#: From a data set's name, its entry in the yaml, and the folder that relative paths start from.
Source = Callable[[str, Mapping[str, Any], Path], DataSet]

_SOURCES: dict[str, Source] = {}


def data_source(name: str) -> Callable[[Source], Source]:
    """Register a function as the data source that entries ask for with ``source: name``."""

    def register(source: Source) -> Source:
        _SOURCES[name] = source
        return source

    return register


def source_named(name: str) -> Source:
    """The data source of this name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    if name not in _SOURCES:
        known = ", ".join(sorted(_SOURCES))
        raise ValueError(f"expected a source of {known}; got {name!r}")
    return _SOURCES[name]


def check_keys(entry: Mapping[str, Any], known: set[str], needed: set[str]) -> None:
    """
    Raises:
        ValueError: an entry has other keys than ``known``, or lacks one of ``needed``.
    """
    for key in entry:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; there are {', '.join(sorted(known))}")
    for key in sorted(needed - entry.keys()):
        raise ValueError(f"expected the key {key!r}")
