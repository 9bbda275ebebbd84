"""Files that are there whole or not at all, also when the process is killed while it writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes its place at ``path`` when the block ends without an error.

    Until then the bytes are in a hidden file beside it; an error removes that and leaves ``path``
    as it was. One process may write a path at a time.
    """
    path = Path(path)
    # The same name each time: what a killed process left is overwritten by the next one.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
