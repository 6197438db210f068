"""Batched generation with a model of the transformers library.

Each prompt is encoded separately, without padding, and a batch is decoded together, so that answers do not depend on
the batch. The common prefix of a prompt and the previous one of the same document (frames and subtitles, if they come
first) is not encoded again: its keys and values are kept until the document is done. A model with layers that keep a
state instead (linear attention, convolutions: Qwen3.5, LFM2) encodes each prompt whole.
"""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin

from m3dllm.files import sha256
from m3dllm.systems.videollm.engines.base import Reply, Request
from m3dllm.systems.videollm.engines.local.masks import GrammarMasks, compile_grammar, schema_masks
from m3dllm.systems.videollm.engines.local.model import LocalModel
from m3dllm.systems.videollm.engines.local.thinking import with_thoughts
from m3dllm.systems.videollm.messages import Clip, Message, prompt_sha256
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.repetition import REPETITION, is_going_round
from m3dllm.types import Failure

TAIL = 512
"""The number of last tokens that are checked for repetition."""
HALF = "\N{REPLACEMENT CHARACTER}"
"""The decoded text of an incomplete character."""


@dataclass(slots=True)
class _Prefix:
    """The cache of a document's last prompt: its tokens, images, keys and values."""

    ids: Tensor
    images: tuple[Any, ...]
    layers: list[tuple[Tensor, Tensor]]
    """Keys and values of each layer, (1, heads, tokens, width)."""


@dataclass(slots=True)
class _Row:
    """The state of one request in generation."""

    key: int
    request: Request
    logits: Tensor
    """(vocabulary,): the logits of the first token."""
    cache: Any
    """The cache of the prompt."""
    length: int
    """The number of tokens of the prompt."""
    position: int
    """The position of the first token, as the model counts."""
    reply: Reply
    started: float
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """The log-probability of each token, among the allowed ones."""
    finish: str = ""
    until: str = ""
    """A stop text, besides the model's stop tokens."""
    generator: torch.Generator | None = None
    matcher: Any = None
    compile_s: float = 0.0

    @property
    def schema(self) -> dict[str, Any] | None:
        """The schema that constrains the row, if it has no grammar."""
        constraint = self.request.constraint
        return constraint.schema if constraint is not None and constraint.grammar is None else None


class Generator:
    """A model on one device, with the prompt caches of current documents."""

    def __init__(self, options: Options, local: LocalModel, model: Any, device: torch.device) -> None:
        self.options, self.local, self.model, self.device = options, local, model, device
        self.context = min(options.context or local.context, local.context)
        self.accepted = set(inspect.signature(model.forward).parameters)
        self._prefixes: dict[str, _Prefix] = {}
        self._encoded: dict[str, Any] = {}
        self.kept = 8
        """The number of cached prompts."""
        self._outlines: Any = None

    def forget(self, share: str | None = None) -> None:
        """Free the cache of a document; None: of all."""
        if share is not None:
            self._prefixes.pop(share, None)
            return
        self._prefixes.clear()
        self._encoded.clear()

    # --- a batch ------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def answer(self, batch: Sequence[tuple[int, Request]]) -> list[tuple[int, Reply]]:
        """The replies to all requests. If the model thinks, it first does so for all of them in one batch."""
        marks = self.local.marks if self.local.most_thoughts else None
        if marks is None:
            return self._answers(batch)
        freely = [
            (key, replace(request, constraint=None, options=(), max_tokens=self.local.most_thoughts))
            for key, request in batch
        ]
        thinking = dict(self._answers(freely, until=marks.closes))
        failed = [(key, reply) for key, reply in thinking.items() if reply.failure is not None]
        thoughts = {key: marks.thoughts(reply.text) for key, reply in thinking.items()}
        answered = self._answers(
            [(key, request) for key, request in batch if thinking[key].failure is None],
            thoughts={key: marks.end(text) for key, text in thoughts.items()},
        )
        return [*failed, *((key, with_thoughts(reply, thinking[key], thoughts[key])) for key, reply in answered)]

    def _answers(
        self, batch: Sequence[tuple[int, Request]], *, thoughts: Mapping[int, str] | None = None, until: str = ""
    ) -> list[tuple[int, Reply]]:
        """The replies to prompts followed by `thoughts`; `until`: a stop text, which is part of the reply."""
        rows, done = [], []
        for key, request in batch:
            row = self._prefill(key, request, (thoughts or {}).get(key, "") + request.begun, until)
            if isinstance(row, Reply):
                done.append((key, row))
            elif request.options:
                done.append((key, self._choose(row)))
            else:
                rows.append(row)
        for group in _by_constraint(rows):
            try:
                self._decode(group)
            except ValueError as error:  # an invalid schema
                group = [replace(row, reply=Reply(finish="error", failure=Failure(str(error)))) for row in group]
            done += [(row.key, row.reply) for row in group]
        return done

    def _prefill(self, key: int, request: Request, behind: str, until: str) -> _Row | Reply:
        """Encode a prompt followed by a text, reusing the common prefix with the document's last prompt."""
        started = time.perf_counter()
        inputs = self.encode(request.messages, behind)
        ids = inputs["input_ids"]
        length = ids.shape[1]
        if length + request.max_tokens > self.context:
            message = (
                f"the prompt has {length} tokens; the model takes {self.context} with an answer of {request.max_tokens}"
            )
            return Reply(finish="error", tokens_in=length, failure=Failure(message))
        matcher, compile_s = None, 0.0
        grammar = request.constraint.grammar if request.constraint is not None else None
        if grammar is not None and not request.options:
            begun = time.perf_counter()
            try:
                matcher = compile_grammar(grammar, self.local.grammar_tokenizer)
            except ValueError as error:
                return Reply(finish="error", tokens_in=length, failure=Failure(str(error)))
            compile_s = time.perf_counter() - begun
        vision = self.local.vision_tokens(inputs)
        positions = self.positions(inputs)
        cache = empty_cache(self.local.config)
        keeps_states = any(map(_keeps_states, cache.layers))
        reused = 0 if keeps_states else self._reuse(request, ids, cache)
        feed = {"input_ids": ids[:, reused:].to(self.device), "position_ids": positions[..., reused:].to(self.device)}
        feed["attention_mask"] = torch.ones_like(ids).to(self.device)
        if not reused:
            rest = {name: value for name, value in inputs.items() if name not in feed and name in self.accepted}
            feed |= {
                name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in rest.items()
            }
        output = self.model(**feed, past_key_values=cache, use_cache=True, logits_to_keep=1)
        if request.share and not keeps_states:
            layers = [(layer.keys, layer.values) for layer in cache.layers]
            self._prefixes[request.share] = _Prefix(ids, _images(request.messages), layers)
        reply = Reply(tokens_in=length, tokens_vision=vision, tokens_reused=reused, tokens_out=0)
        generator = None
        if self.options.temperature > 0:
            seed = int(sha256(f"{self.options.seed}:{prompt_sha256(request.messages)}".encode())[:12], 16)
            generator = torch.Generator().manual_seed(seed)
        return _Row(
            key=key,
            request=request,
            logits=output.logits[0, -1],
            cache=cache,
            length=length,
            position=int(positions.max()) + 1,
            reply=reply,
            started=started,
            until=until,
            generator=generator,
            matcher=matcher,
            compile_s=compile_s,
        )

    def _reuse(self, request: Request, ids: Tensor, cache: Any) -> int:
        """Fill `cache` with the cached prefix of a prompt; returns its number of tokens.

        All images must be in the prefix, and be the same: their pixels are encoded together or not at all.
        """
        known = self._prefixes.get(request.share) if request.share else None
        if known is None or known.images != _images(request.messages):
            return 0
        common = min(known.ids.shape[1], ids.shape[1] - 1)
        same = (known.ids[0, :common] == ids[0, :common]).long().cumprod(0)
        common = int(same.sum())
        if self.local.vision_tokens({"input_ids": ids[:, common:]}) or not common:
            return 0
        for i, (keys, values) in enumerate(known.layers):
            cache.update(keys[..., :common, :], values[..., :common, :], i)
        return common

    def _choose(self, row: _Row) -> Reply:
        """The score of each option as the beginning of the answer, by its first token."""
        scores = row.logits.float()[self.local.first_tokens(row.request.options)].log_softmax(-1).tolist()
        best = max(range(len(scores)), key=scores.__getitem__)
        seconds = time.perf_counter() - row.started
        return replace(
            row.reply,
            text=row.request.options[best],
            scores=tuple(scores),
            tokens_out=1,
            seconds=seconds,
            first_token_s=seconds,
        )

    # --- decoding -----------------------------------------------------------------------------------------------------

    def _decode(self, rows: list[_Row]) -> None:
        """Decode all rows, one token each per step; finished rows leave the batch."""
        masks = self._masks(rows)
        active = list(rows)
        cache, mask = _merge(active, empty_cache(self.local.config), self.device)
        logits = torch.stack([row.logits for row in active])
        while True:
            history = torch.tensor([row.tokens[-1:] or [0] for row in active], device=self.device)
            scores = masks(history, logits.float())
            tokens = self._sample(scores, active)
            at = torch.arange(len(tokens), device=scores.device), torch.tensor(tokens, device=scores.device)
            logprobs = (scores[at] - scores.logsumexp(-1)).tolist()
            for row, token, logprob in zip(active, tokens, logprobs, strict=True):
                self._take(row, token, logprob)
            if isinstance(masks, GrammarMasks):
                for place, message in masks.errors.items():
                    rows[place].finish = "error"
                    rows[place].reply = replace(rows[place].reply, failure=Failure(message))
            going = [i for i, row in enumerate(active) if not row.finish]
            if not going:
                break
            if len(going) < len(active) and isinstance(masks, GrammarMasks):
                masks.keep(going)
                tokens, active = [tokens[i] for i in going], [active[i] for i in going]
                cache.reorder_cache(torch.tensor(going, device=self.device))
                mask = mask[going]
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            logits = self._step(tokens, active, cache, mask)
        for place, row in enumerate(rows):
            spent = masks.seconds[place] if isinstance(masks, GrammarMasks) else None
            kept = row.tokens[:-1] if row.tokens[-1] in self.local.stops else row.tokens
            text = self._decoded(kept, specials=bool(row.until))
            row.reply = replace(
                row.reply,
                text=text.rstrip(HALF) if row.finish != "stop" else text,
                logprobs=None if row.until else self.local.aligned(text, kept, row.logprobs),
                finish=row.finish,
                tokens_out=len(row.tokens),
                seconds=time.perf_counter() - row.started,
                grammar_s=spent,
            )

    def _masks(self, rows: Sequence[_Row]) -> Callable[[Tensor, Tensor], Tensor]:
        """The constraint of the rows: outlines for a shared schema, or one matcher per grammar."""
        if (schema := rows[0].schema) is not None:
            if self._outlines is None:
                import outlines

                self._outlines = outlines.from_transformers(self.model, self.local.processor)
            return schema_masks(schema, self._outlines)
        return GrammarMasks([row.matcher for row in rows], seconds=[row.compile_s for row in rows])

    def _take(self, row: _Row, token: int, logprob: float) -> None:
        """Add a token to a row, and check whether it ends."""
        if row.finish:
            return
        if row.reply.first_token_s is None:
            row.reply = replace(row.reply, first_token_s=time.perf_counter() - row.started)
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if token in self.local.stops or (row.until and self._has_come(row)):
            row.finish = "stop"
        elif len(row.tokens) >= row.request.max_tokens:
            row.finish = "length"
        elif not row.until and "," in self._decoded([token]) and is_going_round(self._decoded(row.tokens[-TAIL:])):
            row.finish = REPETITION

    def _decoded(self, tokens: Sequence[int], *, specials: bool = False) -> str:
        """The text of the tokens, with or without the special ones."""
        decode = self.local.tokenizer.decode
        text: str = decode(tokens, skip_special_tokens=not specials, clean_up_tokenization_spaces=False)
        return text

    def _has_come(self, row: _Row) -> bool:
        """Whether the row has reached its stop text, which has at most one token per byte."""
        last = row.tokens[-len(row.until.encode()) :]
        return row.until in self._decoded(last, specials=True)

    def _sample(self, scores: Tensor, rows: Sequence[_Row]) -> list[int]:
        if self.options.temperature <= 0:
            return [int(token) for token in scores.argmax(-1)]
        shares = (scores / self.options.temperature).softmax(-1).cpu()
        return [
            int(torch.multinomial(share, 1, generator=row.generator)) for share, row in zip(shares, rows, strict=True)
        ]

    def _step(self, tokens: Sequence[int], rows: Sequence[_Row], cache: Any, mask: Tensor) -> Tensor:
        """The logits of the next token of each row, (rows, vocabulary), after `tokens`."""
        where = torch.tensor([[row.position + len(row.tokens) - 1] for row in rows], device=self.device)
        if self._mrope:
            where = where.unsqueeze(0).expand(3, -1, -1)
        output = self.model(
            input_ids=torch.tensor([[token] for token in tokens], device=self.device),
            position_ids=where,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        result: Tensor = output.logits[:, -1]
        return result

    # --- inputs -------------------------------------------------------------------------------------------------------

    def encode(self, messages: Sequence[Message], thoughts: str = "") -> Any:
        """The prompt as model inputs; the last few are cached, because a prompt is counted before it is sent."""
        name = prompt_sha256(messages) + thoughts
        if name not in self._encoded:
            for old in list(itertools.islice(self._encoded, max(0, len(self._encoded) - self.kept))):
                del self._encoded[old]
            self._encoded[name] = self.local.encode(messages, thoughts)
        return self._encoded[name]

    @property
    def _mrope(self) -> bool:
        """Whether positions have three parts (time, height, width), as in the Qwen-VL families."""
        return hasattr(getattr(self.model, "model", None), "get_rope_index")

    def positions(self, inputs: Any) -> Tensor:
        """The position of each token, (1, tokens) or (3, 1, tokens)."""
        ids = inputs["input_ids"]
        if not self._mrope:
            return torch.arange(ids.shape[1]).unsqueeze(0)
        index = self.model.model.get_rope_index
        names = set(inspect.signature(index).parameters)
        positions: Tensor = index(**{name: value for name, value in inputs.items() if name in names})[0]
        return positions


def _by_constraint(rows: Sequence[_Row]) -> list[list[_Row]]:
    """The rows that are decoded together: those with the same schema, and those with a grammar or none."""
    groups: list[list[_Row]] = []
    for row in rows:
        group = next((group for group in groups if group[0].schema == row.schema), None)
        if group is None:
            groups.append(group := [])
        group.append(row)
    return groups


def _images(messages: Sequence[Message]) -> tuple[Any, ...]:
    """The identities of the images of a prompt, in order."""
    parts = [part for message in messages for part in message.parts if not isinstance(part, str)]
    stills = [still for part in parts for still in (part.stills if isinstance(part, Clip) else (part,))]
    return tuple((still.sha256 or id(still.image), still.image.size) for still in stills)


def empty_cache(config: Any) -> Any:
    """A cache for a model of this configuration, whose layers keep every token, or a state instead."""
    cache = DynamicCache(config=config)
    if not any(map(_keeps_states, cache.layers)):
        return DynamicCache()
    cache.layers = [DynamicLayer() if type(one) is DynamicSlidingWindowLayer else one for one in cache.layers]
    return cache


def _keeps_states(layer: Any) -> bool:
    return isinstance(layer, LinearAttentionCacheLayerMixin)


def _merge(rows: Sequence[_Row], cache: Any, device: torch.device) -> tuple[Any, Tensor]:
    """(the empty `cache` filled with all rows, left-padded; its mask)."""
    longest = max(row.length for row in rows)
    mask = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        mask[i, longest - row.length :] = 1
    for i, layers in enumerate(zip(*(row.cache.layers for row in rows), strict=True)):
        if _keeps_states(layers[0]):
            for name, update in (("conv", cache.update_conv_state), ("recurrent", cache.update_recurrent_state)):
                states = [getattr(layer, f"{name}_states") for layer in layers]
                for j in (j for j, state in states[0].items() if state is not None):
                    update(torch.cat([state[j] for state in states]), i, j)
        if getattr(layers[0], "keys", None) is not None:
            pads = [(0, 0, longest - row.length, 0) for row in rows]
            sides = [
                torch.cat([torch.nn.functional.pad(side, pad) for side, pad in zip(of_all, pads, strict=True)])
                for of_all in ([layer.keys for layer in layers], [layer.values for layer in layers])
            ]
            cache.update(*sides, i)
    return cache, mask
