"""The config node, and constructors that can be called with a config."""

import difflib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as _CfgNode

from ..utils.file_io import PathManager

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
        unknown = _unknown_keys(type(self)(loaded), self)
        if unknown:
            places = [f"{key} in {_origin(type(self), cfg_filename, key)}" for key in unknown]
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
    except (AssertionError, TypeError) as error:
        raise ConfigError(f"{filename}: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{filename}: expected a yaml mapping, got {type(loaded).__name__}")
    return loaded


def _unknown_keys(new: CfgNode, known: CfgNode, prefix: str = "") -> list[str]:
    """Full names of the keys of ``new`` that ``known`` neither has nor lets in."""
    unknown = []
    for key, value in new.items():
        if key not in known:
            if not _lets_in(known, prefix + key):
                unknown.append(prefix + key)
        elif isinstance(value, CfgNode) and isinstance(known[key], CfgNode):
            unknown += _unknown_keys(value, known[key], f"{prefix}{key}.")
    return unknown


def _lets_in(node: CfgNode, name: str) -> bool:
    return node.is_new_allowed() or node.key_is_deprecated(name) or node.key_is_renamed(name)


def _has(cfg: CfgNode, full_key: str) -> bool:
    if cfg.key_is_deprecated(full_key) or cfg.key_is_renamed(full_key):
        return True
    node: Any = cfg
    for part in full_key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            return False
        node = node[part]
    return True


def _origin(cls: type[CfgNode], filename: str, key: str) -> str:
    """Which of a file and its bases has ``key``: the file that the user must mend."""
    with cls._open_cfg(filename) as file:
        node = content = yaml.safe_load(file)
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
        if node is None:
            break
    bases = content.get(BASE_KEY, [])
    if node is not None or not bases:
        return filename
    folder = os.path.dirname(filename)
    base = os.path.expanduser(bases[-1] if isinstance(bases, list) else bases)
    return _origin(cls, os.path.join(folder, base), key)


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


def get_cfg() -> CfgNode:
    """A fresh copy of the default config."""
    from .defaults import _C

    return _C.clone()


def configurable(
    init_func: Callable[..., Any] | None = None,
    *,
    from_config: Callable[..., dict[str, Any]] | None = None,
) -> Callable[..., Any]:
    """Let a constructor or function be called with a config in place of its arguments.

    A class has a classmethod ``from_config(cls, cfg, ...)`` that gives the keyword arguments of
    ``__init__`` as a dict, and ``__init__`` under ``@configurable``. A function stands under
    ``@configurable(from_config=lambda cfg, ...: {...})``. Then both forms work::

        head = Head(input_size=7, classes=13)
        head = Head(cfg, shape, classes=14)

    In the second, which is any call whose first argument (or ``cfg=``) is a config, arguments
    that ``from_config`` names go to it, all others are laid over the dict that it returns.
    """
    if init_func is not None:
        if not inspect.isfunction(init_func) or from_config is not None:
            raise TypeError("expected @configurable on a function, or from_config=... alone")
        if init_func.__name__ != "__init__":
            raise TypeError(
                f"@configurable without from_config= is for __init__, not {init_func.__name__}"
            )
        return _configurable_init(init_func)
    if from_config is None:
        return configurable
    if not inspect.isfunction(from_config):
        raise TypeError(f"expected from_config to be a function, got {from_config!r}")
    return functools.partial(_configurable_function, from_config)


def _configurable_init(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if not _called_with_cfg(args, kwargs):
            init(self, *args, **kwargs)
            return
        name = type(self).__name__
        from_config = getattr(type(self), "from_config", None)
        if from_config is None:
            raise AttributeError(f"{name} is configurable, but has no classmethod from_config")
        if not inspect.ismethod(from_config):
            raise TypeError(f"{name}.from_config must be a classmethod")
        init(self, **_arguments(from_config, args, kwargs))

    return wrapped


def _configurable_function(
    from_config: Callable[..., dict[str, Any]], function: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _called_with_cfg(args, kwargs):
            return function(**_arguments(from_config, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = from_config  # type: ignore[attr-defined]
    return wrapped


def _called_with_cfg(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return isinstance(args[0] if args else kwargs.get("cfg"), _CfgNode)


def _arguments(
    from_config: Callable[..., dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The explicit arguments, from ``from_config`` and from those it does not know."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        name = getattr(from_config, "__qualname__", repr(from_config))
        raise TypeError(f"the first argument of {name} must be 'cfg'")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(p.kind in variadic for p in parameters.values()):
        return from_config(*args, **kwargs)
    extra = {k: v for k, v in kwargs.items() if k not in parameters}
    known = {k: v for k, v in kwargs.items() if k in parameters}
    return {**from_config(*args, **known), **extra}
