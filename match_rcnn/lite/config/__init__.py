"""Configs: a tree of defaults, yaml files and command line overrides over it."""

from .config import CfgNode, ConfigError
from .configurable import configurable
from .defaults import get_cfg

__all__ = ["CfgNode", "ConfigError", "configurable", "get_cfg"]
