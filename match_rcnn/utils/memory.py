"""Long work on the CPU in the memory that it needs.

What a process holds grows in two ways that are no leaks. glibc keeps freed memory below any block
that is still in use, and images of many sizes leave such gaps everywhere. oneDNN keeps the
compiled form of the last 1,024 operations, and every new number of regions makes new ones.
"""

import ctypes
import functools
import os
from collections.abc import Callable

#: Several image sizes' worth of a network's layers; compiling one again takes a millisecond.
_PRIMITIVES = "256"


def bound_primitives() -> None:
    """Let oneDNN keep fewer compiled operations. It asks once, at the process's first of them; what
    the user has set stays."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _PRIMITIVES)


def give_back() -> None:
    """Memory that was freed to the system, where the C library can (glibc)."""
    if trim := _malloc_trim():
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return None
    return found
