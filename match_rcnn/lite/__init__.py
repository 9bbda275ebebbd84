"""An embedded host: the part of detectron2's public API that the plugin stands on.

Inside are detectron2's own sub-package names (``config``, ``structures``, ``layers``, ``utils``,
``data``, ``modeling``, ``solver``, ``checkpoint``, ``engine``, ``evaluation``), with the same
names in them and the same behaviour: configs, weights and results are interchangeable.
"""

import warnings

with warnings.catch_warnings():  # of what fvcore does while it is imported, which no user can help
    warnings.filterwarnings("ignore", ".*torch.jit.script", category=DeprecationWarning)
    warnings.filterwarnings("ignore", ".*torch.jit.script", category=FutureWarning)
    import fvcore.nn
