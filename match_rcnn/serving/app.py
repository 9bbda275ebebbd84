"""The service over HTTP: routes, answers, metrics, headers."""

import hmac
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import orjson
import uvicorn
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from match_rcnn import __version__
from match_rcnn.inference.predictor import MatchRCNNPredictor
from match_rcnn.retrieval.gallery.gallery import Gallery
from match_rcnn.serving.batching import cores
from match_rcnn.serving.limits import (
    Limits,
    Refused,
    impatient,
    read_json,
    read_photo,
)
from match_rcnn.serving.service import Service, Wish
from match_rcnn.utils.shipped import samples_folder

#: Whose bearer may change the gallery; see docs/serve.md.
TOKEN = "MATCH_RCNN_TOKEN"
_HERE = Path(__file__).resolve().parent
_HOME = ("localhost", "127.0.0.1", "::1")
_GROUPS = {"product": "product", "photo": "photo", "none": None}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Metrics:
    """What ``/metrics`` says."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        ProcessCollector(registry=own)
        self.requests = Counter("match_rcnn_requests", "answers", ["path", "status"], registry=own)
        self.seconds = Histogram(
            "match_rcnn_seconds", "from a request to the end of its answer", ["path"], registry=own
        )
        self.batches = Histogram(
            "match_rcnn_batch", "photos computed at once", buckets=(1, 2, 4, 8), registry=own
        )
        self.waiting = Gauge("match_rcnn_waiting", "requests with photos", registry=own)


class Answer(Response):
    """JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


class Guard:
    """Around everything: headers, metrics, and an end to answers that nobody takes."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: set[str], seconds: float) -> None:
        self._app, self._metrics, self._paths, self._seconds = app, metrics, paths, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        path = scope["path"] if scope["path"] in self._paths else "other"
        try:
            with anyio.fail_after(self._seconds):
                await self._app(scope, receive, sent)
        finally:
            self._metrics.requests.labels(path, status or "none").inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - start)


class Api:
    """The routes of a service."""

    def __init__(self, service: Service, metrics: Metrics, host: str = "127.0.0.1") -> None:
        self._service, self._metrics, self._host = service, metrics, host
        self._limits = service.limits

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", self._page),
            Route("/openapi.json", self._openapi),
            Route("/about", self._about),
            Route("/health", self._health),
            Route("/metrics", self._metrics_text),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/embed", self._embed, methods=["POST"]),
            Route("/search", self._search, methods=["POST"]),
            Route("/items", self._items, methods=["GET", "POST", "DELETE"]),
            Route("/picture", self._picture),
            Mount("/page", StaticFiles(directory=_HERE / "page")),
            Mount("/samples", StaticFiles(directory=samples_folder())),
        ]

    async def _page(self, request: Request) -> Response:
        return FileResponse(_HERE / "page" / "index.html")

    async def _openapi(self, request: Request) -> Response:
        return Answer(openapi())

    async def _about(self, request: Request) -> Response:
        samples = sorted(file.name for file in samples_folder().glob("*.jpg"))
        changes = self._service.has_gallery and self._may_change(request) is None
        about = await self._service.about()
        return Answer({"version": __version__, **about, "samples": samples, "changes": changes})

    async def _health(self, request: Request) -> Response:
        return Answer({"status": "ok", "waiting": self._service.waiting})

    async def _metrics_text(self, request: Request) -> Response:
        self._metrics.waiting.set(self._service.waiting)
        return Response(
            generate_latest(self._metrics.registry), media_type="text/plain; version=0.0.4"
        )

    async def _predict(self, request: Request) -> Response:
        return await self._with_photo(request, self._service.predict)

    async def _embed(self, request: Request) -> Response:
        asked = request.query_params
        return await self._with_photo(
            request,
            lambda data: self._service.embed(data, asked.getlist("box"), asked.get("category")),
        )

    async def _search(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            wish = _wish(dict(request.query_params))
            return await self._with_photo(
                request, lambda data: self._service.search_photo(data, wish)
            )
        try:
            asked = orjson.loads(await read_json(request, self._limits))
        except orjson.JSONDecodeError as error:
            raise Refused(400, f"the body is no JSON: {error}") from error
        if not isinstance(asked, dict) or ("item" in asked) == ("embedding" in asked):
            raise Refused(400, "expected a JSON object with either an embedding or an item")
        item = asked.get("item")
        if item is not None and not isinstance(item, str):
            raise Refused(400, "expected an item's id, which is text")
        vector = asked.get("embedding")
        if item is None and not isinstance(vector, list):
            raise Refused(400, "expected an embedding as a list of numbers")
        features = asked.get("features") or {}
        if not isinstance(features, dict):
            raise Refused(400, "expected features by name")
        return Answer(await self._service.search(vector, features, item, _wish(asked)))

    async def _items(self, request: Request) -> Response:
        asked = request.query_params
        name = asked.get("id", "")
        if not name:
            raise Refused(400, "say the item by ?id=...")
        if request.method in ("GET", "HEAD"):
            return Answer(await self._service.item(name))
        refusal = self._may_change(request)
        if refusal is not None:
            raise refusal
        if request.method == "DELETE":
            return Answer(await self._service.remove(name))
        boxes, category, product = asked.getlist("box"), asked.get("category"), asked.get("product")
        return await self._with_photo(
            request, lambda data: self._service.add(data, name, boxes, category, product), 201
        )

    async def _picture(self, request: Request) -> Response:
        asked = request.query_params
        picture = await self._service.picture(asked.get("id", ""), asked.get("whole") == "1")
        headers = {"cache-control": "private, max-age=600"}
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def _with_photo(
        self,
        request: Request,
        work: Callable[[bytes], Awaitable[dict[str, Any]]],
        status: int = 200,
    ) -> Response:
        with self._service.entered():
            return Answer(await work(await read_photo(request, self._limits)), status)

    def _may_change(self, request: Request) -> Refused | None:
        """Why this client may not change the gallery; None if it may.

        Without a token only a service of this machine alone takes changes, asked for by its own
        name: a page from elsewhere can make a browser send requests, under the name that it has.
        """
        token = os.environ.get(TOKEN)
        if token:
            given = request.headers.get("authorization", "")
            if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return None
            return Refused(401, "changing the gallery needs the header Authorization: Bearer TOKEN")
        if self._host in _HOME and request.url.hostname in _HOME:
            return None
        return Refused(403, f"the gallery is read-only: the service has no {TOKEN}")


def _wish(asked: dict[str, Any]) -> Wish:
    """The common part of both kinds of search. Raises: Refused: 400."""
    group, category = asked.get("group_by", "product"), asked.get("category")
    if not isinstance(group, str) or group not in _GROUPS:
        raise Refused(400, f"group_by must be one of {', '.join(_GROUPS)}")
    if not (category is None or isinstance(category, str)):
        raise Refused(400, "category must be the name of one")
    try:
        return Wish(int(asked.get("top", 20)), category or None, _GROUPS[group])
    except (TypeError, ValueError) as error:
        raise Refused(400, "top must be a whole number") from error


def openapi() -> dict[str, Any]:
    """The API's description."""
    found = yaml.safe_load((_HERE / "openapi.yaml").read_text(encoding="utf-8"))
    return {**found, "info": {**found["info"], "version": __version__}}


def build_app(service: Service, metrics: Metrics, host: str = "127.0.0.1") -> Starlette:
    """The service as an ASGI application."""

    def answer_refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return _sentence(
            error.status, str(error), {"retry-after": "1"} if error.status == 503 else {}
        )

    def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _sentence(error.status_code, error.detail.lower(), dict(error.headers or {}))

    def answer_fault(request: Request, error: Exception) -> Response:
        return _sentence(500, "something went wrong here; the log says what", {})

    app = Starlette(
        routes=Api(service, metrics, host).routes(),
        exception_handlers={
            Refused: answer_refused,
            HTTPException: answer_http,
            Exception: answer_fault,
        },
    )
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    app.add_middleware(Guard, metrics, paths, 3 * service.limits.timeout)
    return app


def _sentence(status: int, sentence: str, headers: dict[str, str]) -> Response:
    return Answer({"error": sentence}, status, headers)


def find_model(
    gallery: str | Path | None,
    weights: str | None,
    config: str | None,
    opts: list[str],
    min_score: float,
) -> MatchRCNNPredictor:
    """The model that is asked for, else the gallery's, else the one that comes with the package."""
    if gallery is not None and weights is None:
        notes = Gallery.open(gallery).notes
        weights, config = notes.get("weights"), config or notes.get("config_file")
        opts = opts or notes.get("opts") or []
        if not weights:
            raise ValueError(f"{gallery} does not say its model; pass --weights")
    return MatchRCNNPredictor.from_files(config, weights or "street", min_score, opts)


def serve(
    predictor: MatchRCNNPredictor,
    gallery: str | Path | None = None,
    image_root: str | Path | None = None,
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int | None = None,
) -> None:
    """Serve until the process is told to end."""
    workers = cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"--workers must be 1 or more, got {workers}")
    metrics, limits = Metrics(), limits or Limits()
    service = Service(
        predictor,
        gallery,
        image_root=image_root,
        limits=limits,
        workers=workers,
        seen=metrics.batches.observe,
    )
    try:
        server(build_app(service, metrics, host), limits, host, port).run()
    finally:
        service.close()


def server(app: ASGIApp, limits: Limits, host: str, port: int) -> uvicorn.Server:
    """uvicorn with what the limits say of connections; it logs no request."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=impatient(limits.timeout),
        ws="none",
        lifespan="off",
        access_log=False,  # an address can say what somebody looked for
        log_level="info",
        server_header=False,
        limit_concurrency=16 * limits.max_waiting,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
