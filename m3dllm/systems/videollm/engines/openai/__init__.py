"""The `openai` engine: a model on a server with OpenAI's chat interface, by the official client.

Decoding is grammar-constrained if the kind of server supports it and a probe shows that it does; other servers get the
JSON schema, which leaves mentions and references free, or less if they refuse that. The tokens of a prompt are
estimated before it is sent: only the server knows them.

`address`: the server's address and secrets; `client`: one call; `refusals`: the meaning of errors; `pace`: rate limits;
`dialect`: the supported part of the interface; `kinds`: kinds of servers; `completion`: parsing of responses.
"""

from __future__ import annotations

import base64
import io
import logging
import math
import queue
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from m3dllm.errors import UserError
from m3dllm.systems.videollm.adapters.probe import PROBES, effect, prove
from m3dllm.systems.videollm.address import Address, read_key, read_pairs
from m3dllm.systems.videollm.engines.base import Constraint, ContextBudget, Count, Engine, Reply, Request
from m3dllm.systems.videollm.engines.openai.batch import BatchClient
from m3dllm.systems.videollm.engines.openai.completion import read_completion
from m3dllm.systems.videollm.engines.openai.dialect import Dialect
from m3dllm.systems.videollm.engines.openai.kinds import PROBE, kind_of
from m3dllm.systems.videollm.engines.openai.pace import Pace
from m3dllm.systems.videollm.engines.openai.refusals import RefusalError
from m3dllm.systems.videollm.families import TEXT_ONLY, UNKNOWN, Family, find_family
from m3dllm.systems.videollm.frames import pad_to_square
from m3dllm.systems.videollm.messages import Message, Part, Still
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.reading import has_shape
from m3dllm.types import Failure, Issue
from m3dllm.wire import read_json

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("m3dllm")

KEY = "OPENAI_API_KEY"
"""The default environment variable with the key; if it is not set, no key is sent."""
REQUESTS = 16
"""The default number of concurrent requests (--batch)."""
CONTEXT = 32_768
"""The default context length in tokens, if neither the server nor the user gives one."""
PIXELS_A_TOKEN = 28 * 28
"""The default number of pixels per image token, if the family has none."""
LONGEST_WAIT_S = 30.0
"""The longest wait before a retry with a server that is down."""
FIRST = {"request": 3, "down": 6, "busy": 6}
"""The run ends if this many first requests all fail for one reason, by kind of failure."""
_OF_IMAGES = re.compile(r"image|vision|visual|multi-?modal|modalit|media|content", re.IGNORECASE)
"""Words in a refusal that concern images."""
CUT, LEAST_COUNT = 0.4, 400
"""A prompt of at least LEAST_COUNT estimated tokens was truncated if the server counts less than this share of them."""


class OpenAIEngine(Engine):
    """A server and its model."""

    name: ClassVar = "openai"
    extra: ClassVar = "server"
    needs: ClassVar = ("openai",)
    supports = frozenset({"schema", "chunks", "images", "lora"})

    def __init__(self, config: Options, budget: ContextBudget | None = None) -> None:
        """Raises UserError if the server does not answer as expected, or the model is ambiguous."""
        from m3dllm.systems.videollm.engines.openai.client import Client

        self.config = self.options = config
        self.extra_body = extra_body(config)
        self.client: Client | BatchClient
        if config.batch_file:
            if not config.model:
                raise UserError("--batch-file needs --model: there is no server to list its models")
            self.client = BatchClient(Path(config.batch_file), [Path(path) for path in config.batch_answers])
        elif config.base_url:
            self.client = Client(
                Address.parse(config.base_url),
                key=read_key(config.api_key_env),
                key_name=config.api_key_env,
                headers=read_pairs(config.header, option="--header", mark=":"),
                query=read_pairs(config.query, option="--query", mark="="),
                timeout=config.timeout,
            )
        else:
            raise UserError("--engine openai needs --base-url, such as http://127.0.0.1:8000/v1")
        self.url = self.client.url
        self.max_concurrency = config.batch or REQUESTS
        self._pace = Pace(rpm=config.rpm, tpm=config.tpm)
        self._lock = threading.Lock()
        self._dialect = Dialect(omitted=frozenset(config.omit))
        self._down = False
        self._answered = False
        self._first_failures: Counter[str] = Counter()
        self._seen: dict[str, dict[str, None]] = {"response_models": {}, "fingerprints": {}}
        self._loose = 0
        """The number of complete answers that violated the constraint."""
        self._thinks = False
        """Whether the model thinks before answers that are limited to a few tokens, unasked."""
        self._way: int | None = None
        """The index of the way in which the server takes grammars; None: in none."""
        models = self._listed()
        adapter = self._served(models, config.adapter, "--adapter") if config.adapter else {}
        self.served = self._served(models, config.model or adapter.get("parent"), "--model")
        self.model = str(self.served["id"])
        self.kind = kind_of(self.served)
        if self.kind.logprobs:
            self.supports = self.supports | {"logprobs"}
        known = self.kind.context(self.served)
        self.thinking = config.thinking or 0
        self.context = min(config.context or known or CONTEXT, known or config.context or CONTEXT)
        self.family = self._family()
        if not self._sees():
            self.family, self.supports = TEXT_ONLY, self.supports - {"images"}
        if config.adapter:
            self._check_effect(config.adapter)
            self.model = config.adapter
        if not (config.unconstrained or config.schema_only):
            self._way = self._proven_way()
        if self._way is not None:
            self.supports = self.supports | {"grammar"}
        self._todo: queue.SimpleQueue[tuple[int, Request] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Reply | BaseException]] = queue.SimpleQueue()
        self._under_way = 0
        for _ in range(self.max_concurrency):  # daemons: an interrupted run does not wait for the server
            threading.Thread(target=self._work, daemon=True).start()

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The model and the adaptations of requests. Another `model`, `root` or `response_models` is another run."""
        found: dict[str, Any] = {
            "model": self.model,
            "family": self.family.name,
            "server": self.kind.name,
            "base_url": self.url,
        }
        root = self.served.get("root")
        found |= {"root": str(root)} if root and root != self.model else {}
        found |= {name: list(values) for name, values in self._seen.items() if values}
        if self._dialect.adapted:
            found["dialect"] = list(self._dialect.adapted)
        return found | {"constraint": self.constraint}

    @property
    def constraint(self) -> str:
        """The constraint in effect: "grammar", "schema", "json" or "none"."""
        if self.config.unconstrained:
            return "none"
        if self._way is not None:
            return "grammar"
        held = "none" if "response_format" in self._dialect.omitted else self._dialect.held
        return "none" if self._loose else held

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the server for readers of scores."""
        notes = []
        if self._dialect.adapted:
            notes.append(f"the server was used with {', '.join(self._dialect.adapted)}")
        if self._loose and self._way is None and not self.config.unconstrained:
            notes.append("the server accepted a schema but did not enforce it")
        if len(self._seen["response_models"]) > 1:
            notes.append(f"the answers are of several models: {', '.join(self._seen['response_models'])}")
        return tuple(notes)

    def _list(self) -> Any:
        self._pace.wait(0)
        return self.client.get("models")

    def _listed(self) -> dict[str, dict[str, Any]]:
        """name -> what the server lists about each of its models; {} if it has no list.

        Raises UserError if there is no server, the key is wrong, or there is neither a list nor --model.
        """
        wanted = self.config.model or self.config.adapter
        try:
            answer = self._patiently(self._list)[0]
        except RefusalError as trouble:
            if not wanted or trouble.status in (401, 403) or trouble.status is None:
                hint = "" if wanted else ", or give the model by --model"
                expected = f": expected an OpenAI-compatible server at --base-url{hint}"
                raise UserError(trouble.message + ("" if trouble.kind == "fatal" else expected)) from trouble
            log.warning("%s: '%s' is used without a check", trouble.message, wanted)
            return {}
        rows = answer
        if isinstance(answer, dict):
            rows = next((answer[name] for name in ("data", "models") if isinstance(answer.get(name), list)), [])
        found = {}
        for row in rows if isinstance(rows, list) else []:
            row = {"id": row} if isinstance(row, str) else row
            if isinstance(row, dict) and isinstance(name := row.get("id") or row.get("name"), str):
                found[name] = row | {"id": name}
        if not found and not wanted:
            raise UserError(f"{self.url}/models lists no model: expected an OpenAI-compatible server at --base-url")
        return found

    def _served(self, models: Mapping[str, dict[str, Any]], wanted: str | None, option: str) -> dict[str, Any]:
        """The list's entry for the requested model. Raises UserError if it is ambiguous or missing."""
        names = ", ".join(list(models)[:12])
        if wanted is None:
            if len(models) > 1:
                raise UserError(f"{self.url} serves several models: choose one by --model ({names})")
            return next(iter(models.values()))
        for row in models.values():
            aliases = row.get("aliases")
            known = {str(row["id"]), str(row["id"]).rpartition("models/")[2]}
            if wanted in known or (isinstance(aliases, list) and wanted in aliases):
                return row | {"id": wanted}
        first = next(iter(models.values()), {})
        if models and option == "--adapter":  # an unlisted model may be an alias; an unlisted adapter was not loaded
            raise UserError(f"{self.url} does not serve '{wanted}': expected one of {names} as {option}")
        if models:
            log.warning("%s does not list '%s' (%s): used anyway", self.url, wanted, names)
        return {"id": wanted} | ({"owned_by": first["owned_by"]} if "owned_by" in first else {})

    def _family(self) -> Family:
        found = find_family(self.model, family=self.config.family)
        if found is UNKNOWN and self.served.get("root"):  # vLLM also reports which model it loaded under this name
            return find_family(str(self.served["root"]))
        return found

    def _sees(self) -> bool:
        """Whether the model reads images: by the list, by its family, or by its answer to one.

        Not checked if there are no frames to send. Raises UserError if it remains unknown.
        """
        if (listed := self.kind.sees(self.served)) is not None:
            return listed
        if self.family is not UNKNOWN or not self.config.frames or self.config.batch_file:
            return True
        from PIL import Image as Images

        grey = self._content(Still(0, Images.new("RGB", (64, 64), "grey")))
        content = [grey, {"type": "text", "text": "Say hello."}]
        body = {"model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": 16}
        try:
            self._patiently(lambda: self._ask(body, 16))
        except RefusalError as trouble:
            if trouble.kind not in ("request", "document") or not _OF_IMAGES.search(trouble.reason):
                remedy = "give its family by --family, or use text only by --frames 0"
                message = f"{trouble.message}: whether '{self.model}' reads images is not known: {remedy}"
                raise UserError(message) from trouble
            log.warning("%s: the model is given only the text", trouble.message)
            return False
        return True

    # --- probes -------------------------------------------------------------------------------------------------------

    def _proven_way(self) -> int | None:
        """The first way of sending a grammar that this server obeys; None if it obeys none."""
        for i, way in enumerate(self.kind.probes()):
            question = {"role": "user", "content": "Say hello."}
            body = {"model": self.model, "messages": [question], "temperature": 0, **self._thoughts(), **way}
            try:
                text = self._patiently(lambda body=body: self._said(body, 64))[0].text  # type: ignore[misc]
            except RefusalError as trouble:
                if trouble.kind == "fatal" or trouble.status is None:
                    raise UserError(trouble.message) from trouble
                text = ""
            if text.strip() == PROBE:
                return i
        if self.kind.probes():
            log.warning("%s does not enforce a grammar: using the JSON schema", self.url)
        return None

    def _check_effect(self, name: str) -> None:
        """Raises UserError if the adapter `name` answers like its base model."""
        measured = [[self._first_token(model, text) for text in PROBES] for model in (name, self.model)]
        if not all(all(rows) for rows in measured):
            log.warning("%s gives no log-probabilities: whether '%s' has an effect cannot be checked", self.url, name)
            return
        changes = []
        for adapted, plain in zip(*measured, strict=True):
            shared = sorted(adapted.keys() & plain.keys())
            changes.append(([adapted[t] for t in shared] or [0.0], [plain[t] for t in shared] or [-1.0]))
        prove(name, effect([adapted for adapted, _ in changes], [plain for _, plain in changes]))

    def _first_token(self, model: str, text: str) -> dict[str, float]:
        """The log-probabilities of the most probable first tokens of an answer to `text`; {} if not available."""
        message = {"role": "user", "content": text}
        body = {"model": model, "messages": [message], "max_tokens": 1, "temperature": 0}
        body |= {"logprobs": True, "top_logprobs": 5}
        try:
            answer = self._patiently(lambda: self._ask(body, 1))[0]
            rows = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            return {str(row["token"]): float(row["logprob"]) for row in rows}
        except (RefusalError, KeyError, IndexError, TypeError, ValueError):
            return {}

    # --- the interface ------------------------------------------------------------------------------------------------

    def prepare(self, image: Image) -> Image:
        """The image in the size of the model's processor, or padded to a square, depending on the family."""
        if self.family.resize is not None:
            size = self.family.resize(image.size)
            return image if image.size == size else image.resize(size)
        return pad_to_square(image) if self.family.pads else image

    def count(self, messages: Sequence[Message]) -> Count:
        """An estimate: one token for three bytes of text; for an image by its area."""
        parts = [part for message in messages for part in message.parts]
        area = self.family.resize.factor**2 if self.family.resize else PIXELS_A_TOKEN
        vision = sum(math.ceil(p.image.width * p.image.height / area) for p in parts if isinstance(p, Still))
        text = sum(math.ceil(len(p.encode("utf-8", "replace")) / 3) for p in parts if isinstance(p, str))
        return Count(text + vision + 16 * len(messages), vision, exact=False)

    def submit(self, key: int, request: Request) -> None:
        self._under_way += 1
        self._todo.put((key, request))

    def poll(self) -> list[tuple[int, Reply]]:
        """At least one reply. Raises UserError if the server refuses all documents for one reason."""
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

    def close(self) -> None:
        for _ in range(self.max_concurrency):
            self._todo.put(None)

    # --- a request ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Process requests, until there are no more."""
        while (item := self._todo.get()) is not None:
            key, request = item
            reply: Reply | BaseException
            try:
                reply = self._answer(request)
            except RefusalError as trouble:
                reply = UserError(trouble.message)
            except Exception as error:  # ours: it must reach the main thread
                reply = error
            self._done.put((key, reply))

    def _answer(self, request: Request) -> Reply:
        """The reply to a request. Raises RefusalError, or UserError if the failure concerns all documents."""
        started = time.perf_counter()
        count = self.count(request.messages)

        def ask() -> Reply:
            return self._said(self._body(request), request.max_tokens, request, count)

        try:
            reply, retries = self._patiently(ask)
        except RefusalError as trouble:
            if trouble.kind == "fatal":
                raise
            self._note_failure(trouble)
            failure = Failure(trouble.message, retryable=trouble.retryable)
            retries = self.config.retries if trouble.kind in ("down", "busy") else 0
            return Reply(finish="error", seconds=time.perf_counter() - started, retries=retries, failure=failure)
        if reply.failure is None:
            self._answered = True
        return replace(reply, tokens_vision=count.vision, seconds=time.perf_counter() - started, retries=retries)

    def _said(
        self, body: dict[str, Any], most: int, request: Request | None = None, count: Count | None = None
    ) -> Reply:
        """The reply to `body`, of at most `most` tokens besides the thoughts that were asked for.

        A model that thinks unasked until these are spent is asked again, with --max-tokens. Raises RefusalError.
        """
        longest = max(most, self.config.max_tokens) if self._thinks else most
        tokens = self.thinking + longest
        answer = self._ask(body | {"max_tokens": tokens}, tokens + (count.tokens if count else 0))
        reply = read_completion(answer, self.url, key=self.config.api_key_env)
        if reply.finish == "length" and reply.failure is not None and longest < self.config.max_tokens:
            if not self._thinks:
                log.warning("%s: the model thinks before short answers: they may take --max-tokens, too", self.url)
            self._thinks = True
            return self._said(body, most, request, count)
        return self._noted(reply, answer, request, count) if request and count else reply

    def _noted(self, reply: Reply, answer: Mapping[str, Any], request: Request, count: Count) -> Reply:
        """The reply, with an Issue if the prompt was truncated; also records what it tells about the server."""
        with self._lock:
            for name, key in (("response_models", "model"), ("fingerprints", "system_fingerprint")):
                if isinstance(value := answer.get(key), str) and value:
                    self._seen[name][value] = None
            schema = request.constraint.schema if request.constraint else None
            if schema and self._way is None and reply.finish == "stop" and reply.failure is None:
                self._loose += not has_shape(reply.text, schema)
        counted, own = reply.tokens_in, count.tokens - count.vision
        if counted is None or own < LEAST_COUNT or counted >= CUT * own:
            return reply
        detail = f"the server counts {counted} tokens of a prompt of about {own} and its images: it cut it"
        return replace(reply, issues=(Issue("prompt_cut", "prompt", detail),))

    def _note_failure(self, trouble: RefusalError) -> None:
        """Raises UserError if the first requests have all failed for one reason."""
        if self._answered or trouble.kind in ("document", "later"):
            return
        alike = re.sub(r"\w*\d\w*", "#", trouble.message)  # without the numbers and names of a request
        with self._lock:
            self._first_failures[alike] += 1
            if (n := self._first_failures[alike]) >= FIRST[trouble.kind]:
                raise UserError(f"the first {n} requests all failed for the same reason: {trouble.message}")

    # --- what is sent -------------------------------------------------------------------------------------------------

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
            "temperature": self.config.temperature,
            "seed": self.config.seed,
        }
        if self.kind.logprobs and not request.options:
            body["logprobs"] = True
        return {**body, **self._thoughts(), **self._held(request)}

    def _thoughts(self) -> Mapping[str, Any]:
        """How long to think, in the server's own parameters."""
        effort = {"reasoning_effort": self.config.reasoning_effort} if self.config.reasoning_effort else {}
        return {**effort, **(self.kind.thinking(self.config.thinking) if self.config.thinking is not None else {})}

    def _held(self, request: Request) -> Mapping[str, Any]:
        """The constraint of the answer, in the server's own parameters."""
        constraint = request.constraint or Constraint()
        if self._way is not None:
            if request.options and (way := self.kind.options(request.options)):
                return way
            if way := self.kind.grammar_ways(constraint)[self._way]:
                return way
        if constraint.schema is None:
            return {}
        schema = {"name": "answer", "schema": constraint.schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _content(self, part: Part) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        if not isinstance(part, Still):
            raise TypeError("servers are not given videos")
        file = io.BytesIO()
        part.image.convert("RGB").save(file, "JPEG", quality=92)
        encoded = base64.b64encode(file.getvalue()).decode("ascii")
        return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}}

    def _ask(self, body: Mapping[str, Any], tokens: int) -> dict[str, Any]:
        """The server's answer to a request in its dialect; retried if a refusal changes the dialect.

        Raises RefusalError.
        """
        while True:
            dialect = self._dialect
            sent = dialect.write(body) | self.extra_body
            self._pace.wait(tokens)
            try:
                return self.client.post("chat/completions", sent)
            except RefusalError as trouble:
                if trouble.kind != "request" or not self._learn(dialect, sent, trouble):
                    raise

    def _learn(self, spoken: Dialect, sent: Mapping[str, Any], trouble: RefusalError) -> bool:
        """Whether the refusal of a request in the dialect `spoken` changes it, or it has changed since."""
        with self._lock:
            if self._dialect != spoken:
                return True
            learned = spoken.learn({n: v for n, v in sent.items() if n not in self.extra_body}, trouble.reason)
            if learned is None:
                return False
            self._dialect = learned
        log.warning("%s: using %s from here on", trouble.message, learned.adapted[-1])
        return True

    def _patiently(self, call: Any) -> tuple[Any, int]:
        """(the result of the call, the number of retries). Raises RefusalError.

        If the server gives a retry time, all requests pause until then, within the user's limit; at a rate limit
        without one, each request waits longer after each try, within the same limit. Once the server has been found
        down, requests are tried only once, until it answers again.
        """
        tries = pauses = 0
        waited = 0.0
        while True:
            try:
                found = call()
            except RefusalError as trouble:
                if trouble.kind == "busy" and trouble.wait_s is not None:
                    pause = max(trouble.wait_s, min(LONGEST_WAIT_S, 0.1 * 2 ** min(pauses, 9)))
                    if (waited := waited + pause) > self.config.max_wait:
                        raise
                    self._pace.pause(pause)
                    pauses += 1
                    continue
                pause = min(LONGEST_WAIT_S, 0.5 * 2 ** min(tries, 6)) * random.uniform(0.5, 1.0)
                if trouble.kind == "busy":
                    waited += pause
                is_over = waited > self.config.max_wait if trouble.kind == "busy" else tries >= self.config.retries
                if trouble.kind not in ("down", "busy") or is_over or self._down:
                    self._down = self._down or trouble.kind == "down"
                    raise
                time.sleep(pause)
                tries += 1
            else:
                self._down = False
                return found, tries + pauses


def extra_body(config: Options) -> dict[str, Any]:
    """What the user adds to every request. Raises UserError if it is not a valid JSON object."""
    if not config.extra_body:
        return {}
    try:
        found = read_json(config.extra_body)
    except ValueError as error:
        raise UserError(
            f"--extra-body: is not valid JSON ({error}); expected an object such as '{{\"top_k\": 1}}'"
        ) from error
    if not isinstance(found, dict):
        raise UserError("--extra-body: expected a JSON object such as '{\"top_k\": 1}'")
    return found
