"""Streams over RoIs: what each file here registers can be listed in ``MODEL.ROI_STREAMS``."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
