"""What a service takes from strangers: how large, how many and how slow.

A photo is looked at by its header before anything is decoded. It is held in memory, never written
to a file, and no word of a client gets into a log.
"""

import asyncio
import io
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image as PILImage
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from match_rcnn.data.images import decode_image
from match_rcnn.utils.arrays import Image

T = TypeVar("T")

#: Pillow's names; a camera's JPEG with a preview behind it (MPO) passes as a JPEG.
FORMATS = ("JPEG", "PNG", "WEBP")
_JSON_BYTES = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        max_bytes: of a photo's file.
        max_pixels: of a photo, by its header.
        timeout: seconds to send a request, and once more to answer it.
        max_waiting: requests at once.
    """

    max_bytes: int = 16 << 20
    max_pixels: int = 25_000_000
    timeout: float = 30.0
    max_waiting: int = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")


class Refused(Exception):
    """A request that is not done, with the status and the one sentence of its answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@contextmanager
def refused(status: int = 400) -> Iterator[None]:
    """What is wrong with a client's values in here is answered with this status."""
    try:
        yield
    except ValueError as error:
        raise Refused(status, str(error)) from error


async def in_time(work: Awaitable[T], seconds: float, status: int, sentence: str) -> T:
    """Raises: Refused: it took longer."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError as error:
        raise Refused(status, sentence) from error


async def read_photo(request: Request, limits: Limits) -> bytes:
    """The file that a request's body is; nothing is known of it but its size.

    Raises:
        Refused: 415: not said to be a photo; 413: too large; 408: too slow; 400: empty.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == "application/octet-stream"):
        raise Refused(
            415, "send the photo's file itself as the body, with a Content-Type such as image/jpeg"
        )
    data = await _read_body(request, limits.max_bytes, limits.timeout, "a photo")
    if not data:
        raise Refused(400, "the body is empty where a photo is expected")
    return data


async def read_json(request: Request, limits: Limits) -> bytes:
    """A body of JSON. Raises: Refused: 413 or 408."""
    return await _read_body(request, _JSON_BYTES, limits.timeout, "JSON")


async def _read_body(request: Request, most: int, seconds: float, what: str) -> bytes:
    too_large = Refused(413, f"the body is larger than the {most:,} bytes that {what} may have")
    if int(request.headers.get("content-length") or 0) > most:  # h11 takes none that is no number
        raise too_large

    async def read() -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise too_large
        return bytes(body)

    return await in_time(read(), seconds, 408, f"the body took longer than {seconds:g} seconds")


def decode_photo(data: bytes, limits: Limits) -> Image:
    """(H, W, 3) in BGR, upright.

    Raises:
        Refused: 415: no still JPEG, PNG or WebP; 413: too many pixels; 400: damaged.
    """
    _check_size(_webp_size(data), limits)  # Pillow makes room for a WebP's pixels on opening it
    try:
        image = PILImage.open(io.BytesIO(data), formats=FORMATS)
    except PILImage.DecompressionBombError:
        _check_size((limits.max_pixels + 1, 1), limits)
        raise
    except Exception as error:
        raise Refused(415, "this is no JPEG, PNG or WebP picture that can be read") from error
    with image:
        _check_size(image.size, limits)
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise Refused(415, "this picture is animated; send one that stands still")
    with refused():
        return decode_image(data, "the photo", upright=True)


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    if size[0] * size[1] > limits.max_pixels:
        raise Refused(413, f"the photo has more than {limits.max_pixels:,} pixels; make it smaller")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP by its first chunk; 0, 0 of all else."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return 0, 0
    kind = data[12:16]
    if kind == b"VP8X":
        return _number(data[24:27]) + 1, _number(data[27:30]) + 1
    if kind == b"VP8L":
        bits = _number(data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _number(data[26:28]) & 0x3FFF, _number(data[28:30]) & 0x3FFF


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def impatient(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP, which drops connections that stay so long without a whole request: uvicorn
    alone lets a client be as slow with its headers, or with taking an answer, as it likes."""

    class Impatient(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            self.access_log = False  # whatever the loggers of this process are set to
            super().connection_made(transport)
            self._wind_up()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete and self._timer:
                self._timer.cancel()  # the request's own limits hold from here

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wind_up()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._timer:
                self._timer.cancel()

        def _wind_up(self) -> None:
            if self._timer:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    return Impatient
