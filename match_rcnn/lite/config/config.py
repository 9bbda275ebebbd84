"""The config node: a tree of keys, and the errors that its users should understand."""

import difflib
import os
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as _CfgNode

from ..utils.file_io import PathManager

__all__ = ["VERSION", "CfgNode", "ConfigError"]

#: The version of the keys, in ``cfg.VERSION`` and in files that state one.
VERSION = 2


class ConfigError(KeyError, ValueError):
    """A config file or override that does not fit the keys."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0])


class CfgNode(_CfgNode):
    """A tree of keys that accepts no unknown key and no value of another type.

    On top of fvcore's node (``_BASE_`` in files, ``COMPUTED_`` keys, ``freeze``, ``clone``,
    ``dump``), errors name the file or override that they come from.
    """

    @classmethod
    def _open_cfg(cls, filename: str) -> Any:
        return PathManager.open(filename, "r")

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        """Take over the values of a yaml file, and of its ``_BASE_`` files before.

        Args:
            cfg_filename: path; a relative ``_BASE_`` starts at the folder of the file.
            allow_unsafe: obey yaml tags that run code. Off by default, other than upstream.

        Raises:
            FileNotFoundError: there is no such file, or no such ``_BASE_``.
            ConfigError: not a yaml mapping, an unknown key, a wrong type or version. The config
                is then as it was.
        """
        cfg_filename = os.fspath(cfg_filename)
        loaded = _load(type(self), cfg_filename, allow_unsafe)
        version = loaded.get("VERSION", VERSION)
        if "VERSION" in self and version != VERSION:
            raise ConfigError(f"{cfg_filename}: expected config VERSION {VERSION}, got {version}")
        unknown = _unknown_keys(type(self)(loaded), self, cfg_filename)
        if unknown:
            files = [_origin(type(self), cfg_filename, key) or cfg_filename for key in unknown]
            places = [f"{key} in {file}" for key, file in zip(unknown, files, strict=True)]
            raise ConfigError(_unknown_message(places, unknown, self))
        self._merge(cfg_filename, lambda cfg: cfg.merge_from_other_cfg(type(self)(loaded)))

    def merge_from_list(self, cfg_list: list[Any]) -> None:
        """Take over overrides, such as those of a command line.

        Args:
            cfg_list: ``[key, value, key, value, ...]``; a string value is read as a Python
                literal where it is one.

        Raises:
            ConfigError: a key without a value, an unknown key, or a wrong type. The config is
                then as it was.
        """
        if len(cfg_list) % 2:
            raise ConfigError(f"expected overrides KEY VALUE KEY VALUE ..., got {list(cfg_list)}")
        unknown = [k for k in cfg_list[0::2] if not _has(self, k)]
        if unknown:
            places = [f"{key} among the overrides" for key in unknown]
            raise ConfigError(_unknown_message(places, unknown, self))
        self._merge("overrides", lambda cfg: _CfgNode.merge_from_list(cfg, list(cfg_list)))

    def _merge(self, source: str, merge: Callable[[Any], Any]) -> None:
        """All of a merge or nothing."""
        trial = self.clone()
        try:
            merge(trial)
        except (KeyError, ValueError, AssertionError) as error:
            raise ConfigError(f"{source}: {error.args[0] if error.args else error}") from error
        merge(self)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The config as yaml text (``merge_from_file`` reads it), keys in alphabetical order."""
        # fvcore's would refer to equal tuples by yaml anchors, which nobody wants to read.
        kwargs.setdefault("Dumper", _PlainDumper)
        return yaml.dump(_plain(self), *args, **kwargs)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    return [_plain(child) for child in value] if isinstance(value, (list, tuple)) else value


def _load(cls: type[CfgNode], filename: str, allow_unsafe: bool) -> dict[str, Any]:
    if not PathManager.isfile(filename):
        raise FileNotFoundError(f"there is no config file {filename}")
    try:
        loaded = cls.load_yaml_with_base(filename, allow_unsafe=allow_unsafe)
    except yaml.YAMLError as error:
        raise ConfigError(f"{filename} cannot be read as yaml: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{filename}: no {BASE_KEY} file: {error}") from error
    except AssertionError as error:
        raise ConfigError(f"{filename}: {error}") from error
    except TypeError:
        loaded = None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{filename}: expected a yaml mapping of keys, it is empty or no mapping")
    return loaded


def _unknown_keys(new: CfgNode, known: CfgNode, source: str, prefix: str = "") -> list[str]:
    """Full names of the keys of ``new`` that ``known`` neither has nor lets in."""
    unknown = []
    for key, value in new.items():
        if key not in known:
            if not _lets_in(known, prefix + key):
                unknown.append(prefix + key)
        elif isinstance(value, CfgNode) and isinstance(known[key], CfgNode):
            unknown += _unknown_keys(value, known[key], source, f"{prefix}{key}.")
        elif isinstance(value, CfgNode) or isinstance(known[key], CfgNode):
            kinds = ["a value", "a section of keys"]
            expected, got = kinds if isinstance(value, CfgNode) else kinds[::-1]
            raise ConfigError(f"{source}: expected {prefix}{key} to be {expected}, it is {got}")
    return unknown


def _lets_in(node: CfgNode, name: str) -> bool:
    return node.is_new_allowed() or node.key_is_deprecated(name) or node.key_is_renamed(name)


def _has(cfg: CfgNode, full_key: str) -> bool:
    known = full_key in _names(cfg)
    return known or cfg.key_is_deprecated(full_key) or cfg.key_is_renamed(full_key)


def _origin(cls: type[CfgNode], filename: str, key: str) -> str | None:
    """Which of a file and its bases has ``key``: the file that its user must mend."""
    with cls._open_cfg(filename) as file:
        # The keys alone are of interest, not what values their tags make.
        content = node = yaml.load(file, Loader=yaml.BaseLoader)
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if node is not None:
        return filename
    bases = content.get(BASE_KEY, []) if isinstance(content, dict) else []
    for base in [bases] if isinstance(bases, str) else bases:
        path = os.path.join(os.path.dirname(filename), os.path.expanduser(base))
        if found := _origin(cls, path, key):
            return found
    return None


def _unknown_message(places: list[str], keys: list[str], cfg: CfgNode) -> str:
    known = list(_names(cfg))
    close = {m: None for key in keys for m in difflib.get_close_matches(key, known, n=2)}
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"no such config key: {', '.join(places)}{hint}"


def _names(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in cfg.items():
        yield prefix + key
        if isinstance(value, CfgNode):
            yield from _names(value, f"{prefix}{key}.")
