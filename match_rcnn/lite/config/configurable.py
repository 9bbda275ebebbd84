"""Constructors and functions that can be called with a config."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode as _CfgNode


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
        name = type(self).__name__
        from_config = getattr(type(self), "from_config", None)
        if from_config is None:
            raise AttributeError(f"{name} is configurable, but has no classmethod from_config")
        if not inspect.ismethod(from_config):
            raise TypeError(f"{name}.from_config must be a classmethod")
        if _called_with_cfg(args, kwargs):
            init(self, **_arguments(from_config, args, kwargs))
        else:
            init(self, *args, **kwargs)

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
