"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.request import url2pathname

import orjson


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears at ``path`` only when the block ends without an error.

    The bytes go to a temporary file in the same folder (made if missing), are flushed to the
    disk and renamed. On an error the temporary file is removed and ``path`` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def located(where: str | Path) -> str | Path:
    """What a user names: a path (of ``file://`` too), or an address such as ``s3://shop/photos``,
    which stays as it is but for a slash at its end."""
    text = str(where)
    if text.startswith("file://"):
        return Path(url2pathname(text.removeprefix("file://")))
    return text.rstrip("/") if "://" in text else Path(where)


def write_json(path: str | Path, value: Any, indent: bool = True) -> None:
    """Write ``value`` (numpy scalars and arrays allowed) as JSON, whole or not at all.

    NaN becomes ``null``: JSON has no number for it.
    """
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    if indent:
        option |= orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    with atomic_write(path) as file:
        file.write(orjson.dumps(value, option=option))


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON; the message names it and the place.
    """
    try:
        return orjson.loads(Path(path).read_bytes())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
