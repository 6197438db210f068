"""The web application: the form and its jobs, and the ML backend for Label Studio.

Without a token it serves only this machine: only requests with this machine as their host are answered, so that no web
page can reach it by another name. Requests that change something must come from its own pages.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from m3dllm.errors import UserError
from m3dllm.files import file_name, inside
from m3dllm.serve.address import LOCAL
from m3dllm.serve.jobs import Job, Jobs
from m3dllm.serve.label_studio import Predictor

PART = 2**20
TASKS_LIMIT = 64 * 2**20
"""The most bytes of a request for predictions."""


def make_app(jobs: Jobs, predictor: Predictor, *, token: str = "", upload_limit: int = 4 * 2**30) -> Starlette:
    """The application. With `token`, each request must have it: as a bearer token, or as the password of basic auth.

    `upload_limit`: the most bytes that a form may send.
    """
    form = files("m3dllm.serve").joinpath("form.html").read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": _policy(form)}

    async def page(_: Request) -> Response:
        return HTMLResponse(form, headers=headers)

    async def extract(request: Request) -> Response:
        if int(request.headers.get("content-length") or upload_limit + 1) > upload_limit:
            raise HTTPException(413, f"more than {upload_limit:,} bytes, or of unknown length")
        async with request.form(max_files=100, max_fields=20) as fields:
            job = jobs.new()
            sources = [await _keep(job, file) for file in fields.getlist("files") if _is_file(file)]
            text = str(fields.get("text") or "").strip()
            if text:
                sources.append(_free(job.given / "text.txt"))
                sources[-1].write_text(text, encoding="utf-8")
            lang = str(fields.get("lang") or "")
        if not sources:
            raise HTTPException(400, "neither a text nor a file was sent")
        if lang not in ("", "en", "zh"):
            raise HTTPException(400, "the language must be en or zh")
        jobs.start(job, [job.given], ["--lang", lang] if lang else [])
        return RedirectResponse(f"/#{job.id}", status_code=303)

    def job_of(request: Request) -> Job:
        job = jobs.jobs.get(request.path_params["job"])
        if job is None:
            raise HTTPException(404, "no such job")
        return job

    async def state(request: Request) -> Response:
        job = job_of(request)
        found = {"status": job.status, "message": job.message(), "printed": job.printed}
        if job.status == "done":
            found["page"] = f"/jobs/{job.id}/page/index.html"
        return JSONResponse(found)

    async def result(request: Request) -> Response:
        try:
            path = inside(job_of(request).result / "page", request.path_params["path"])
        except ValueError as error:
            raise HTTPException(404, "no such file") from error
        if not path.is_file():
            raise HTTPException(404, "no such file")
        return FileResponse(path)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": predictor.name})

    async def setup(_: Request) -> Response:
        return JSONResponse({"model_version": predictor.name})

    async def predict(request: Request) -> Response:
        asked = await _json(request)
        tasks, config = asked.get("tasks"), asked.get("label_config")
        if not isinstance(tasks, list) or not isinstance(config, str):
            raise HTTPException(400, "expected 'tasks', a list, and 'label_config', the labelling interface")
        try:
            return JSONResponse({"results": await run_in_threadpool(predictor.predict, tasks, config)})
        except UserError as error:
            raise HTTPException(400, str(error)) from error

    async def webhook(_: Request) -> Response:
        return JSONResponse({}, status_code=201)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        jobs.stop()

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/extract", extract, methods=["POST"]),
            Route("/jobs/{job}", state),
            Route("/jobs/{job}/page/{path:path}", result),
            Route("/health", health),
            Route("/setup", setup, methods=["POST"]),
            Route("/predict", predict, methods=["POST"]),
            Route("/webhook", webhook, methods=["POST"]),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_guard(token))],
        exception_handlers={HTTPException: refused},
        lifespan=lifespan,
    )


def _policy(page: str) -> str:
    """A content security policy: only the page's own script and style, and requests only to this service."""
    inner = {name: re.search(f"<{name}>(.*?)</{name}>", page, re.DOTALL) for name in ("script", "style")}
    rules = [
        f"{name}-src 'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"
        for name, found in inner.items()
        if found
    ]
    return "; ".join(["default-src 'none'", *rules, "connect-src 'self'", "form-action 'self'"])


def _guard(token: str) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Accept requests with the token or, without one, for this machine; never another site's form."""

    async def check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        origin = request.headers.get("origin")
        if token and not secrets.compare_digest(_token_of(request).encode(), token.encode()):
            asks = {"WWW-Authenticate": 'Basic realm="m3dllm: the token is the password"'}
            return JSONResponse({"error": "the token is missing or wrong"}, status_code=401, headers=asks)
        if not token and host not in LOCAL:
            return JSONResponse({"error": f"this service does not answer as {host!r}"}, status_code=403)
        if (
            request.method == "POST"
            and origin not in (None, "null")
            and urlsplit(origin).netloc != request.headers.get("host")
        ):
            return JSONResponse({"error": "another site's pages may not ask for this"}, status_code=403)
        return await go_on(request)

    return check


def _token_of(request: Request) -> str:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return value if kind.lower() in ("bearer", "token") else ""


def _is_file(value: Any) -> bool:
    return isinstance(value, UploadFile) and bool(value.filename)


async def _keep(job: Job, file: Any) -> Path:
    """Save the file in the job's folder, under a safe name."""
    stem, dot, suffix = Path(str(file.filename)).name.rpartition(".")
    path = _free(job.given / (f"{file_name(stem)}.{file_name(suffix)}" if dot and stem else file_name(suffix)))
    with path.open("wb") as out:
        while part := await file.read(PART):
            out.write(part)
    return path


def _free(path: Path) -> Path:
    """`path`, or beside it the first of its name with a number that is not taken."""
    others = (path.with_stem(f"{path.stem}-{n}") for n in count(2))
    return path if not path.exists() else next(other for other in others if not other.exists())


async def _json(request: Request) -> dict[str, Any]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > TASKS_LIMIT:
            raise HTTPException(413, f"more than {TASKS_LIMIT:,} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise HTTPException(400, "expected a JSON object")
    return found
