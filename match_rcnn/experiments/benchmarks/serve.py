"""A service under load: clients that ask as fast as they are answered, hostile photos among them.

The service is a process of its own, as ``match-rcnn serve`` starts it; its memory is what it says
itself (``/metrics``). Every tenth request is one that must be refused: a photo that is cut off, and
one of 100 megapixels in 12 KB.
"""

import argparse
import http.client
import io
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PILImage

from match_rcnn.data.synthetic import generate
from match_rcnn.experiments.benchmarks.harness import MIB, Result

_HEADERS = {"content-type": "image/jpeg"}
_HOSTILE_EVERY = 10
_PARTS = 20  # of the requests; memory is read after each
#: What of the memory after the first fifth may come in the other four.
_FLAT = 1.1


class Asked(NamedTuple):
    """One request. Attributes: hostile: must be refused; status: 0 if nothing came back."""

    hostile: bool
    status: int
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default="street", metavar="W")
    parser.add_argument("--gallery", metavar="DIR", help="for /search instead of /predict")
    parser.add_argument("--requests", type=int, default=2000, metavar="N")
    parser.add_argument("--clients", type=int, default=8, metavar="N")
    parser.add_argument("--size", type=int, default=640, help="of a photo, longer side")
    parser.add_argument("--workers", type=int, metavar="N", help="as serve has it")


def run(args: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory(prefix="benchmark-serve-") as name:
        generate(Path(name), 1, 16, 3, args.size, 1)
        files = sorted((Path(name) / "validation/image").iterdir())
        photos = [file.read_bytes() for file in files]
    words = [] if args.gallery is None else ["--gallery", args.gallery]
    words += [] if args.gallery else ["--weights", args.weights]
    words += [] if args.workers is None else ["--workers", str(args.workers)]
    with started(words) as port:
        path = "/search" if args.gallery else "/predict"
        ask(port, path, photos[0], hostile=False)  # loads what is loaded late
        parts, memory = [], [resident(port)]
        start = time.perf_counter()
        for part in np.array_split(np.arange(args.requests), min(_PARTS, args.requests)):
            parts += load(port, path, photos, part.tolist(), args.clients)
            memory.append(resident(port))
        seconds = time.perf_counter() - start
        alive = ask(port, path, photos[0], hostile=False).status == 200
    return _result(args, path, parts, memory, seconds, alive)


def _result(
    args: argparse.Namespace,
    path: str,
    parts: Sequence[Asked],
    memory: Sequence[float],
    seconds: float,
    alive: bool,
) -> Result:
    good = [one.seconds for one in parts if not one.hostile]
    settled = memory[len(memory) // 5]
    row: dict[str, Any] = {
        "path": path,
        "photo": args.size,
        "clients": args.clients,
        "requests": len(parts),
        "requests/s": len(parts) / seconds,
        "median ms": 1000 * float(np.median(good)),
        "99 % ms": 1000 * float(np.percentile(good, 99)),
        "MiB, start": memory[0],
        "MiB, a fifth": settled,
        "MiB, most": max(memory),
        "MiB, end": memory[-1],
    }
    return Result(
        "serve",
        [row],
        checks={
            "photos are answered": all(one.status == 200 for one in parts if not one.hostile),
            "hostile ones are refused": all(
                400 <= one.status < 500 for one in parts if one.hostile
            ),
            "memory is flat": memory[-1] <= _FLAT * settled,
            "it lives": alive,
        },
        notes=[f"times are of the {len(good)} good ones; 1 in {_HOSTILE_EVERY} is hostile"],
    )


@contextmanager
def started(words: Sequence[str]) -> Iterator[int]:
    """``match-rcnn serve`` with these arguments, in a process; gives its port."""
    command = [sys.executable, "-m", "match_rcnn", "serve", "--port", "0", *words]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stderr=said)
        try:
            yield _port(process, said)
        finally:
            process.terminate()
            process.wait(30)


def _port(process: "subprocess.Popen[bytes]", said: Any) -> int:
    """That the service says on standard error when it listens. Raises: ValueError: it does not."""
    while True:
        ended = process.poll() is not None
        said.seek(0)
        text = said.read()
        if match := re.search(r"http://[\d.]+:(\d+)", text):
            return int(match[1])
        if ended:
            raise ValueError(f"the service ended: {text}")
        time.sleep(0.1)


def load(
    port: int, path: str, photos: Sequence[bytes], numbers: Sequence[int], clients: int
) -> list[Asked]:
    """These requests, by so many clients, each of which waits for its answer."""
    hostile = [photos[0][: len(photos[0]) // 2], _bomb()]
    left = iter(numbers)

    def client() -> list[Asked]:
        done = []
        for number in left:
            if number % _HOSTILE_EVERY == _HOSTILE_EVERY - 1:
                data = hostile[number // _HOSTILE_EVERY % len(hostile)]
                done.append(ask(port, path, data, hostile=True))
            else:
                done.append(ask(port, path, photos[number % len(photos)], hostile=False))
        return done

    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(client) for _ in range(clients)]
        return [one for job in jobs for one in job.result()]


def ask(port: int, path: str, data: bytes, hostile: bool) -> Asked:
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, data, _HEADERS)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except OSError:
        status = 0
    finally:
        connection.close()
    return Asked(hostile, status, time.perf_counter() - start)


def resident(port: int) -> float:
    """The service's memory in MiB; 0 where it does not say."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return float(found[1]) / MIB if found else 0.0


def _bomb() -> bytes:
    """A PNG of 100 megapixels."""
    file = io.BytesIO()
    PILImage.new("1", (10000, 10000)).save(file, "PNG", optimize=True)
    return file.getvalue()
