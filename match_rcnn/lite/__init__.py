"""An embedded host: the part of detectron2's public API that the plugin stands on.

Inside are detectron2's own sub-package names (``config``, ``structures``, ``layers``, ``utils``,
``data``, ``modeling``, ``solver``, ``checkpoint``, ``engine``, ``evaluation``), with the same
names in them and the same behaviour: configs, weights and results are interchangeable.
"""
