"""Files that may be local paths or addresses."""

from typing import Any

from iopath.common.file_io import HTTPURLHandler, PathHandler
from iopath.common.file_io import PathManager as PathManagerBase

__all__ = ["PathHandler", "PathManager"]


class _ModelZooHandler(PathHandler):
    """``detectron2://...`` stands for the files of detectron2's model zoo."""

    PREFIX = "detectron2://"
    ADDRESS = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _address(self, path: str) -> str:
        return self.ADDRESS + path[len(self.PREFIX) :]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return PathManager.get_local_path(self._address(path), force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return PathManager.open(self._address(path), mode, buffering, **kwargs)


#: ``open``, ``get_local_path``, ``exists``, ... for local paths, http(s) and ``detectron2://``.
PathManager: Any = PathManagerBase()
PathManager.register_handler(HTTPURLHandler())
PathManager.register_handler(_ModelZooHandler())
