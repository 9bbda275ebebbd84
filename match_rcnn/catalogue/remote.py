"""Files in object stores: addresses that fsspec knows, such as ``s3://shop/photos/1.jpg``, opened
by the host's ``PathManager``, and so by all that reads photos.

``s3://`` needs the package s3fs, ``gs://`` gcsfs, ``az://`` adlfs; where credentials are, is theirs
to find.
"""

import posixpath
from contextlib import suppress
from pathlib import Path
from typing import Any

from iopath.common.file_io import PathHandler

from match_rcnn.d2 import PathManager
from match_rcnn.retrieval.gallery.items import optional_module

_PREFIXES = ("s3://", "gs://", "gcs://", "az://", "abfs://", "hdfs://", "memory://")


class _FsspecHandler(PathHandler):  # type: ignore[misc]
    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def _get_supported_prefixes(self) -> list[str]:
        return [self._prefix]

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return optional_module("fsspec").open(path, mode, **kwargs).open()

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        local: str = optional_module("fsspec").open_local(f"simplecache::{path}")
        return local


for _prefix in _PREFIXES:
    with suppress(KeyError):  # somebody has registered one of their own
        PathManager.register_handler(_FsspecHandler(_prefix), allow_override=False)


def is_address(where: str | Path) -> bool:
    return "://" in str(where)


def joined(folder: str | Path, name: str) -> str | Path:
    """A file below a folder or an address."""
    return posixpath.join(str(folder), name) if is_address(folder) else Path(folder) / name


def files_below(address: str) -> dict[str, str]:
    """Paths below an address -> addresses of all files."""
    files, root = optional_module("fsspec.core").url_to_fs(address)
    return {posixpath.relpath(f, root): str(files.unstrip_protocol(f)) for f in files.find(root)}
