"""The `openai` engine: a model behind a server that speaks OpenAI's chat interface.

Where the server says that it is vLLM, answers are held to the grammar; any other server is given the JSON schema, which
leaves mentions and references free. How many tokens a prompt has is estimated before it is sent: only the server knows.
A server that is away for a while is asked again, ever more seldom; one that stays away fails the documents that are
under way, in such a way that the next run asks about them again.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import os
import queue
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from m3dllm.errors import UserError
from m3dllm.systems.videollm.adapters.probe import PROBES, effect, prove
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import Constraint, Count, Reply, Request
from m3dllm.systems.videollm.engines.local import pad_to_square
from m3dllm.systems.videollm.families import FAMILIES, Family, find_family
from m3dllm.systems.videollm.prompts import Message, Part, Still
from m3dllm.types import Failure

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("m3dllm")

KEY = "OPENAI_API_KEY"
"""The environment variable with the key; nothing is sent where it is not set."""
CONTEXT = 32_768
"""Tokens of prompt and answer, where neither the server nor the user says."""
PIXELS_A_TOKEN = 28 * 28
"""How much of an image a token stands for, where the family does not say."""
LONGEST_WAIT_S = 30.0
"""The longest wait before a server is asked again."""


@dataclass(eq=False)
class _CallError(Exception):
    """What a call came to, in one line: may it be tried again, and does it concern all documents?"""

    message: str
    again: bool = False
    fatal: bool = False
    wait_s: float | None = None


class OpenAIEngine:
    """A server and the model that it serves."""

    def __init__(self, config: Config) -> None:
        """Raises UserError where the server does not answer as expected, or does not serve the model."""
        if not config.base_url:
            raise UserError("--engine openai needs --base-url, such as http://127.0.0.1:8000/v1")
        if urllib.parse.urlsplit(config.base_url).scheme not in ("http", "https"):
            raise UserError(f"--base-url {config.base_url}: expected an address such as http://127.0.0.1:8000/v1")
        if config.video:
            raise UserError("--video: a server is shown frames as images; leave --video out, or take another engine")
        self.config = config
        self.url = config.base_url.rstrip("/")
        self.lanes = max(1, config.batch)
        self.specials: tuple[str, ...] = ()
        self._opener = _opener(self.url)
        self._down = False
        models = self._listed()
        adapter = self._served(models, config.adapter, "--adapter") if config.adapter else {}
        served = self._served(models, config.model or adapter.get("parent"), "--model")
        self.model = str(served["id"])
        self.is_vllm = served.get("owned_by") == "vllm"
        limit = served.get("max_model_len")
        known = limit if isinstance(limit, int) and limit > 0 else None
        self.context = min(config.context or known or CONTEXT, known or config.context or CONTEXT)
        self.family = self._family(served)
        if config.adapter:
            self._check_effect(config.adapter)
            self.model = config.adapter
        self._todo: queue.SimpleQueue[tuple[int, Request] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Reply | BaseException]] = queue.SimpleQueue()
        self._under_way = 0
        for _ in range(self.lanes):  # daemons: an interrupted run waits for no server
            threading.Thread(target=self._work, daemon=True).start()

    @property
    def provenance(self) -> Mapping[str, Any]:
        server = "vllm" if self.is_vllm else "other"
        return {"model": self.model, "family": self.family.name, "server": server, "base_url": self.url}

    def _listed(self) -> dict[str, dict[str, Any]]:
        """What the server says of each of its models, by name. Raises UserError."""
        try:
            answer = self._patiently("models", None)[0]
        except _CallError as trouble:
            raise UserError(f"{trouble.message}: expected an OpenAI-compatible server at --base-url") from trouble
        listed = answer.get("data")
        models = [m for m in listed if isinstance(m, dict) and m.get("id")] if isinstance(listed, list) else []
        if not models:
            raise UserError(f"{self.url}/models lists no model: expected an OpenAI-compatible server at --base-url")
        return {str(model["id"]): model for model in models}

    def _served(self, models: Mapping[str, dict[str, Any]], wanted: str | None, option: str) -> dict[str, Any]:
        """The model that is asked for. Raises UserError where it is not there, or not clear."""
        names = ", ".join(list(models)[:12])
        if wanted is None:
            if len(models) > 1:
                raise UserError(f"{self.url} serves several models: name one by --model ({names})")
            return next(iter(models.values()))
        if wanted not in models:
            raise UserError(f"{self.url} does not serve '{wanted}': expected one of {names} as {option}")
        return models[wanted]

    def _check_effect(self, name: str) -> None:
        """Raises UserError where the adapter `name` answers as its base model does."""
        measured = [[self._first_token(model, text) for text in PROBES] for model in (name, self.model)]
        if not all(all(rows) for rows in measured):
            log.warning("%s gives no log-probabilities: whether '%s' does anything cannot be checked", self.url, name)
            return
        changes = []
        for adapted, plain in zip(*measured, strict=True):
            shared = sorted(adapted.keys() & plain.keys())
            changes.append(([adapted[t] for t in shared] or [0.0], [plain[t] for t in shared] or [-1.0]))
        prove(name, effect([adapted for adapted, _ in changes], [plain for _, plain in changes]))

    def _first_token(self, model: str, text: str) -> dict[str, float]:
        """The log-probabilities of the likeliest first tokens of an answer to `text`; none where it does not say."""
        message = {"role": "user", "content": text}
        body = {"model": model, "messages": [message], "max_tokens": 1, "temperature": 0}
        try:
            answer = self._patiently("chat/completions", body | {"logprobs": True, "top_logprobs": 5})[0]
            rows = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            return {str(row["token"]): float(row["logprob"]) for row in rows}
        except (_CallError, KeyError, IndexError, TypeError, ValueError):
            return {}

    def _family(self, served: Mapping[str, Any]) -> Family:
        if not self.config.frames and self.config.family is None:
            return FAMILIES["generic"]
        try:
            return find_family(self.model, family=self.config.family)
        except UserError:
            if not served.get("root"):  # vLLM also says which model it loaded under this name
                raise
            return find_family(str(served["root"]), family=self.config.family)

    # --- the interface ------------------------------------------------------------------------------------------------

    def prepare(self, image: Image) -> Image:
        """In the size to which the model's processor would bring it, or padded to a square, as the family wants it."""
        if self.family.resize is not None:
            size = self.family.resize(image.size)
            return image if image.size == size else image.resize(size)
        return pad_to_square(image) if self.family.pads else image

    def count(self, messages: Sequence[Message]) -> Count:
        """An estimate: a token for three bytes of text; an image by its area."""
        parts = [part for message in messages for part in message.parts]
        area = self.family.resize.factor**2 if self.family.resize else PIXELS_A_TOKEN
        vision = sum(math.ceil(p.image.width * p.image.height / area) for p in parts if isinstance(p, Still))
        text = sum(math.ceil(len(p.encode("utf-8", "replace")) / 3) for p in parts if isinstance(p, str))
        return Count(text + vision + 16 * len(messages), vision, exact=False)

    def submit(self, key: int, request: Request) -> None:
        self._under_way += 1
        self._todo.put((key, request))

    def poll(self) -> list[tuple[int, Reply]]:
        """Raises UserError where the server refuses all documents alike."""
        if not self._under_way:
            raise ValueError("nothing is under way")
        ready = [self._done.get()]
        while True:
            try:
                ready.append(self._done.get_nowait())
            except queue.Empty:
                break
        self._under_way -= len(ready)
        replies = []
        for key, reply in ready:
            if isinstance(reply, BaseException):
                raise reply
            replies.append((key, reply))
        return replies

    @property
    def memory_mb(self) -> float | None:
        return None

    def release(self, share: str) -> None:
        pass

    def close(self) -> None:
        for _ in range(self.lanes):
            self._todo.put(None)

    # --- a request ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Answer requests, until there are no more."""
        while (item := self._todo.get()) is not None:
            key, request = item
            reply: Reply | BaseException
            try:
                reply = self._answer(request)
            except _CallError as trouble:
                reply = UserError(trouble.message)
            except Exception as error:  # ours: it must reach the main thread
                reply = error
            self._done.put((key, reply))

    def _answer(self, request: Request) -> Reply:
        """The reply to a request. Raises _CallError where it concerns all documents."""
        started = time.perf_counter()
        try:
            answer, retries = self._patiently("chat/completions", self._body(request))
            reply = _reply(answer, self.url)
        except _CallError as trouble:
            if trouble.fatal:
                raise
            failure = Failure(trouble.message, retryable=trouble.again)
            retries = self.config.retries if trouble.again else 0
            return Reply(finish="error", seconds=time.perf_counter() - started, retries=retries, failure=failure)
        vision = self.count(request.messages).vision
        seconds = time.perf_counter() - started
        return replace(reply, tokens_vision=vision, seconds=seconds, retries=retries)

    def _body(self, request: Request) -> dict[str, Any]:
        messages = []
        for message in request.messages:
            texts = [part for part in message.parts if isinstance(part, str)]
            alone = len(texts) == len(message.parts)
            content: Any = "".join(texts) if alone else [self._content(part) for part in message.parts]
            messages.append({"role": message.role, "content": content})
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": request.max_tokens,
            "temperature": self.config.temperature,
            "seed": self.config.seed,
        }
        return body | self._held(request)

    def _held(self, request: Request) -> dict[str, Any]:
        """What holds the answer, as the server wants to be told."""
        constraint = request.constraint or Constraint()
        if request.options and self.is_vllm:
            return {"structured_outputs": {"choice": list(request.options)}}
        if constraint.grammar is not None and self.is_vllm:
            return {"structured_outputs": {"grammar": constraint.grammar}}
        if constraint.schema is None:
            return {}
        schema = {"name": "answer", "schema": constraint.schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _content(self, part: Part) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        if not isinstance(part, Still):
            raise TypeError("a server is shown no videos")
        file = io.BytesIO()
        part.image.convert("RGB").save(file, "JPEG", quality=92)
        encoded = base64.b64encode(file.getvalue()).decode("ascii")
        return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}}

    # --- the wire -----------------------------------------------------------------------------------------------------

    def _patiently(self, path: str, body: Mapping[str, Any] | None) -> tuple[dict[str, Any], int]:
        """(what the server answers, how often it had to be asked again). Raises _CallError.

        Once a server has been found dead, everyone asks only once, until it answers again.
        """
        data = None if body is None else json.dumps(body, ensure_ascii=True).encode("ascii")
        attempt = 0
        while True:
            try:
                answer = self._call(path, data)
            except _CallError as trouble:
                if not trouble.again or attempt >= self.config.retries or self._down:
                    self._down = self._down or trouble.again
                    raise
                wait = min(LONGEST_WAIT_S, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)
                time.sleep(min(LONGEST_WAIT_S, max(wait, trouble.wait_s or 0.0)))
                attempt += 1
            else:
                self._down = False
                return answer, attempt

    def _call(self, path: str, data: bytes | None) -> dict[str, Any]:
        """One call. Raises _CallError."""
        headers = {"Content-Type": "application/json", "User-Agent": "m3dllm"}
        if key := os.environ.get(KEY, "").strip():
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.url}/{path}"
        try:
            call = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310  http or https, see __init__
            with self._opener.open(call, timeout=self.config.timeout) as response:
                said = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(url, error) from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            what = " ".join(str(reason).split())[:120] or type(error).__name__
            raise _CallError(f"{url} does not answer ({what})", again=True) from error
        try:
            answer = json.loads(said)
        except ValueError as error:
            raise _CallError(f"{url} answers with something that is no JSON ({_excerpt(said)})", again=True) from error
        if not isinstance(answer, dict):
            raise _CallError(f"{url} answers with JSON that is no object ({_excerpt(said)})", again=True)
        return answer


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the key is for this server only."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Opens addresses; this machine itself is reached without a proxy."""
    local = urllib.parse.urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({} if local else None))


def _refused(url: str, error: urllib.error.HTTPError) -> _CallError:
    """What an HTTP error means."""
    try:
        said = error.read(20_000)
    except (OSError, HTTPException):
        said = b""
    why = _excerpt(said)
    answer = f"{url} answers {error.code}"
    if error.code in (401, 403):
        return _CallError(f"{answer}: it wants a valid key: set {KEY} in the environment ({why})", fatal=True)
    if error.code == 404:
        return _CallError(
            f"{answer}: no such address or model: see --base-url (it ends in /v1) and --model", fatal=True
        )
    if 300 <= error.code < 400:
        return _CallError(f"{answer}: it sends elsewhere: give the final address as --base-url", fatal=True)
    if error.code in (408, 409, 425, 429) or error.code >= 500:
        return _CallError(f"{answer} ({why})", again=True, wait_s=_seconds(error.headers.get("Retry-After")))
    return _CallError(f"{answer} ({why})")


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text or ""))
    except ValueError:
        return None


def _excerpt(said: bytes) -> str:
    """The message of an error's body, or its beginning, in one line."""
    text = said.decode("utf-8", "replace")
    try:
        value = json.loads(text)
        inner = value.get("error", value)
        text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        pass
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text[:200] or "and says nothing"


def _reply(answer: Mapping[str, Any], url: str) -> Reply:
    """A completion as a reply. Raises _CallError for one that has no answer in it."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict) or not isinstance(text, str | None):
        said = _excerpt(json.dumps(answer).encode())
        raise _CallError(f"{url}/chat/completions answers without a completion ({said})", again=True)
    finish = {"stop": "stop", "length": "length"}.get(str(choice.get("finish_reason")), "error")
    if finish == "error":
        reason = _excerpt(str(choice.get("finish_reason")).encode())
        raise _CallError(f"{url}/chat/completions broke the answer off ({reason})")
    usage = answer.get("usage") if isinstance(answer.get("usage"), dict) else {}
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return Reply(
        text=text or "",
        finish=finish,
        tokens_in=_number(usage, "prompt_tokens"),
        tokens_out=_number(usage, "completion_tokens"),
        tokens_reused=_number(details, "cached_tokens"),
    )


def _number(mapping: Any, name: str) -> int | None:
    value = mapping.get(name) if isinstance(mapping, dict) else None
    return value if isinstance(value, int) else None
