"""The `vllm` engine: a model in vLLM, in this process, with continuous batching.

Prompts and images are prepared as for the transformers engine. A document's frames and subtitles come first in each of
its prompts, so that vLLM's prefix cache encodes them once.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, ClassVar

from m3dllm.errors import UserError
from m3dllm.progress import progress
from m3dllm.systems.videollm.adapters.card import Adapter, find_adapter
from m3dllm.systems.videollm.adapters.probe import PROBES, effect, prove
from m3dllm.systems.videollm.engines.base import ContextBudget, Reply, Request
from m3dllm.systems.videollm.engines.local.engine import LocalEngine
from m3dllm.systems.videollm.engines.local.model import NEEDS, LocalModel, clip_metadata
from m3dllm.systems.videollm.engines.local.thinking import with_thoughts
from m3dllm.systems.videollm.messages import Clip, Still
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.repetition import LONGEST, REPETITION, is_going_round
from m3dllm.types import Failure

CONTEXT = 32_768
"""The default context length in tokens, if the model supports more."""

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM supports."""
LAST = 8
"""The last characters of an answer that its last token may have written."""
LIKELIEST = 20
"""The number of next tokens whose log-probabilities are compared to test an adapter; vLLM's limit."""


MOST, MOST_ON_CPU = 256, 16
"""The default maximum number of concurrent documents."""
GIVEN_OTHERWISE = {
    "model": "--model",
    "revision": "--revision",
    "trust_remote_code": "--trust-remote-code",
    "dtype": "--dtype",
    "max_model_len": "--context",
    "max_num_seqs": "--batch",
    "seed": "--seed",
    "tensor_parallel_size": "--tensor-parallel",
}
"""Arguments of vLLM's engine that our options set; the other keywords of `LLM` below cannot be set."""
FIXED = frozenset({"structured_outputs_config", "disable_log_stats", "enable_lora", "max_loras", "max_lora_rank"})


class VllmEngine(LocalEngine):
    """A model in vLLM."""

    name: ClassVar = "vllm"
    extra: ClassVar = "vllm"
    needs: ClassVar = (*NEEDS, "vllm")
    supports = frozenset(
        {
            *("grammar", "schema", "option_scores", "logprobs", "begun", "images", "video", "lora", "local"),
            *("tensor_parallel", "budget"),
        }
    )

    def __init__(self, options: Options, budget: ContextBudget | None = None) -> None:
        """Raises UserError if vLLM or the model is missing, or the model does not fit."""
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # read when vLLM is imported, as is the next
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # for messages before it reads that
        try:
            from vllm import LLM
            from vllm.platforms import current_platform
        except ImportError as error:
            why = " ".join(str(error).split())[:160]
            raise UserError(f"--engine vllm needs 'vllm': pip install 'm3dllm[vllm]' ({why})") from error
        self.options = options
        self._take(LocalModel(options))
        if self.local.gguf is not None:
            raise UserError(
                f"--engine vllm does not support GGUF files ({self.local.gguf}): give a folder or a hub id as --model"
            )
        self.adapter = find_adapter(options.adapter) if options.adapter else None
        self.context = min(options.context or CONTEXT, self.local.context)
        if budget is not None:
            self.context = min(self.context, budget.tokens)
        on_cpu = current_platform.is_cpu()
        most = options.batch or (MOST_ON_CPU if on_cpu else MOST)
        images = options.frames + options.shots * options.shot_frames
        if budget is not None:
            images = min(images, budget.images)
        limits: dict[str, Any] = {"image": 0 if options.video else images}
        if options.video:
            limits["video"] = 1 + (options.shots if options.shot_frames else 0)
        more: dict[str, Any] = {}
        if self.local.sees:
            more["limit_mm_per_prompt"] = limits
        if self.local.sees and options.video:
            more["mm_device_do_normalize"] = False  # vLLM's encoder applies the normalization of images to videos too
        if on_cpu:
            more |= {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 29}
        if self.adapter is not None:
            more |= _room_for(self.adapter, self.local)
        more |= engine_arguments(options.engine_args)
        try:
            with progress(f"loading model '{self.local.name}'"):
                self.llm = LLM(
                    model=self.local.source,
                    revision=options.revision,
                    trust_remote_code=options.trust_remote_code,
                    dtype=options.dtype,  # type: ignore[arg-type]  # vLLM itself checks the name
                    max_model_len=self.context,
                    max_num_seqs=most,
                    seed=options.seed,
                    tensor_parallel_size=options.tensor_parallel,
                    enable_prefix_caching=True,
                    disable_log_stats=False,  # they include the time of the first token
                    structured_outputs_config={"backend": "guidance", "disable_any_whitespace": True},
                    **more,
                )
        except Exception as error:  # weights, memory, device: vLLM raises many kinds of errors
            raise UserError(f"model '{self.local.name}' cannot be loaded by vLLM: {_brief(error)}") from error
        self.engine = self.llm.llm_engine
        self.max_concurrency = options.batch or under_way(
            self.engine.vllm_config.cache_config.kv_cache_size_tokens, self.context, most
        )
        _raise_limits(self.engine)
        self._keys: dict[str, int] = {}
        """vLLM's request id -> our key. An answer that was ended early may come again: it has no key."""
        self._added = 0
        self._started: dict[int, float] = {}
        self._options: dict[int, tuple[str, ...]] = {}
        self._thoughts: dict[int, tuple[Request, Reply | None, str]] = {}
        """key -> (request, reply, thoughts) of requests with thinking; the last two once it is done."""
        self._refused: list[tuple[int, Reply]] = []
        self._lora: Any = None
        if self.adapter is not None:
            self._lora = self._load(self.adapter)

    def _load(self, adapter: Adapter) -> Any:
        """The request by which vLLM uses the adapter. Raises UserError if it cannot be loaded, or has no effect.

        It compares the tokens after the probes, not those of the probes: on a CPU vLLM cannot score a prompt with an
        adapter for some architectures (Qwen3-VL).
        """
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        request = LoRARequest(adapter.name, 1, str(adapter.folder.resolve()))
        texts = [self.local.tokenizer.encode(text, add_special_tokens=False) for text in PROBES]
        measured: list[list[dict[int, float]]] = []
        for lora in (request, None):
            try:
                outputs = self.llm.generate(
                    [{"prompt_token_ids": ids} for ids in texts],
                    SamplingParams(temperature=0, max_tokens=1, logprobs=LIKELIEST),
                    lora_request=lora,
                    use_tqdm=False,
                )
            except Exception as error:  # the adapter's layers may not fit the model
                raise UserError.at(
                    adapter.folder, f"adapter '{adapter.name}' is refused by vLLM: {_brief(error)}"
                ) from error
            measured.append(
                [{token: found.logprob for token, found in one.outputs[0].logprobs[0].items()} for one in outputs]
            )
        prove(adapter.name, effect(*_comparable(*measured)))
        return request

    @property
    def provenance(self) -> Mapping[str, Any]:
        dtype = str(self.engine.model_config.dtype).removeprefix("torch.")
        return {
            "model": self.local.name,
            **self.local.identity,
            "family": self.family.name,
            "dtype": dtype,
            "device": "vllm",
        } | (self.adapter.provenance if self.adapter else {})

    # --- the interface ------------------------------------------------------------------------------------------------

    def submit(self, key: int, request: Request) -> None:
        """Submit a request; one that vLLM refuses, for example as too long, gets a failure."""
        if self.local.most_thoughts:
            self._thoughts[key] = request, None, ""
            request = replace(request, constraint=None, options=(), max_tokens=self.local.most_thoughts)
        self._add(key, request)

    def _add(self, key: int, request: Request, thoughts: str = "") -> None:
        """Pass a request to vLLM, with `thoughts` after the prompt."""
        self._started[key] = time.perf_counter()
        self._options[key] = request.options
        thinks = key in self._thoughts and not thoughts
        try:
            prompt, params = self._prompt(request, thoughts + request.begun), self._params(request, thinks=thinks)
            name, self._added = f"{key}-{self._added}", self._added + 1
            self.engine.add_request(name, prompt, params, lora_request=self._lora)
            self._keys[name] = key
        except (ValueError, RuntimeError, TypeError) as error:
            self._refused.append((key, Reply(finish="error", failure=Failure(_brief(error)))))
            del self._started[key], self._options[key]
            self._thoughts.pop(key, None)

    def poll(self) -> list[tuple[int, Reply]]:
        """Run vLLM until there is a reply."""
        while True:
            if self._refused:
                refused, self._refused = self._refused, []
                return refused
            if not self._started:
                raise ValueError("nothing is under way")
            outputs = [output for output in self.engine.step() if output.request_id in self._keys]
            finished = [output for output in outputs if output.finished or self._ends(output)]
            done = []
            for output in finished:
                key = self._keys.pop(output.request_id)
                if (reply := self._go_on(key, self._reply(key, output))) is not None:
                    done.append((key, reply))
            if done:
                return done

    def _go_on(self, key: int, reply: Reply) -> Reply | None:
        """The reply with its thoughts; None if it is only the thoughts, and the answer is started now."""
        marks = self.local.marks
        if key not in self._thoughts or marks is None:
            return reply
        request, thinking, thoughts = self._thoughts.pop(key)
        if thinking is not None:
            return with_thoughts(reply, thinking, thoughts)
        if reply.failure is not None:
            return reply
        thoughts = marks.thoughts(reply.text)
        self._thoughts[key] = request, reply, thoughts
        self._add(key, request, marks.end(thoughts))
        return None

    def _ends(self, output: Any) -> bool:
        """Whether an answer repeats itself; checked when its last token may have ended an element."""
        text, state = output.outputs[0].text, self._thoughts.get(self._keys[output.request_id])
        is_thought = state is not None and state[1] is None
        if is_thought or "," not in text[-LAST:] or not is_going_round(text[-4 * LONGEST :]):
            return False
        self.engine.abort_request([output.request_id])
        output.outputs[0].finish_reason = REPETITION
        return True

    def close(self) -> None:
        del self.engine, self.llm

    # --- a request ----------------------------------------------------------------------------------------------------

    def _prompt(self, request: Request, begun: str = "") -> dict[str, Any]:
        """The prompt in the model's chat format, followed by `begun`, with its images."""
        text = self.local.chat(request.messages) + begun
        parts = [part for message in request.messages for part in message.parts]
        images = [part for part in parts if isinstance(part, Still)]
        clips = [part for part in parts if isinstance(part, Clip)]
        data: dict[str, Any] = {}
        names: dict[str, Any] = {}  # keys for vLLM's cache, so that it does not hash pixels again
        if images:
            data["image"] = [still.image for still in images]
            names["image"] = [_name(still) for still in images]
        if clips:
            import numpy as np

            names["video"] = [None] * len(clips)
            data["video"] = [
                (np.stack([np.asarray(still.image) for still in clip.stills]), clip_metadata(clip)) for clip in clips
            ]
        ids = self.local.tokenizer.encode(text, add_special_tokens=not self.local.starts_itself(text))
        seen = {"multi_modal_data": data, "multi_modal_uuids": names} if data and self.local.sees else {}
        return {"prompt_token_ids": ids} | seen

    def _params(self, request: Request, *, thinks: bool) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        if request.options:  # compare only their first tokens
            firsts = self.local.first_tokens(request.options)
            return SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=firsts)
        constrained = None
        constraint = request.constraint
        if constraint is not None and constraint.grammar is not None:
            constrained = StructuredOutputsParams(grammar=constraint.grammar)
        elif constraint is not None and constraint.schema is not None:
            constrained = StructuredOutputsParams(json=constraint.schema)
        return SamplingParams(
            temperature=self.options.temperature,
            max_tokens=request.max_tokens,
            seed=self.options.seed,
            structured_outputs=constrained,
            logprobs=None if thinks else 0,  # only of the chosen token
            stop_token_ids=list(self.local.stops),
            **(
                {"stop": [self.local.marks.closes], "skip_special_tokens": False} if thinks and self.local.marks else {}
            ),
        )

    def _reply(self, key: int, output: Any) -> Reply:
        completion = output.outputs[0]
        options = self._options.pop(key)
        ids = output.prompt_token_ids or []
        finish = completion.finish_reason if completion.finish_reason in ("stop", "length", REPETITION) else "error"
        failure = Failure(f"vLLM aborted the answer ({completion.finish_reason})") if finish == "error" else None
        scores = self._scores(options, completion.logprobs) if options and failure is None else None
        return Reply(
            text=options[max(range(len(scores)), key=scores.__getitem__)] if scores else completion.text,
            finish="stop" if scores else finish,
            scores=scores,
            logprobs=None if scores else self._logprobs(completion),
            tokens_in=len(ids),
            tokens_vision=sum(token in self.local.placeholders for token in ids),
            tokens_reused=output.num_cached_tokens,
            tokens_out=len(completion.token_ids),
            seconds=time.perf_counter() - self._started.pop(key),
            first_token_s=getattr(output.metrics, "first_token_latency", None) or None,
            failure=failure,
        )

    def _logprobs(self, completion: Any) -> tuple[tuple[int, float], ...] | None:
        """(end offset, log-probability) of each token of an answer; None if not requested."""
        if not completion.logprobs:
            return None
        tokens = [token for token in completion.token_ids if token not in self.local.stops]
        logprobs = [
            float(row[token].logprob) for row, token in zip(completion.logprobs, completion.token_ids, strict=False)
        ]
        return self.local.aligned(completion.text, tokens, logprobs)

    def _scores(self, options: tuple[str, ...], logprobs: Any) -> tuple[float, ...]:
        """The log-probability of each option by its first token, relative to one another."""
        found = [float(logprobs[0][token].logprob) for token in self.local.first_tokens(options)]
        whole = math.log(math.fsum(math.exp(x - max(found)) for x in found)) + max(found)
        return tuple(x - whole for x in found)


def under_way(cache: int | None, longest: int, most: int) -> int:
    """The number of concurrent documents for a cache of this many tokens (None: unknown), if the longest prompt with
    its answer has `longest` tokens; typical ones have less than half."""
    return most if cache is None else max(1, min(most, 2 * cache // longest))


def engine_arguments(words: Sequence[str]) -> dict[str, Any]:
    """`name=value` as keywords of vLLM's engine; a value is read as JSON where it is JSON, else it is a text.

    Raises UserError for arguments unknown to vLLM, or set by our options.
    """
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in fields(EngineArgs)}
    found: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not mark:
            raise UserError(f"--engine-args: expected name=value, such as gpu_memory_utilization=0.8, not '{word}'")
        if name in GIVEN_OTHERWISE:
            raise UserError(f"--engine-args: {name} is given by {GIVEN_OTHERWISE[name]}")
        if name in FIXED or name not in known:
            near = get_close_matches(name, known - FIXED - GIVEN_OTHERWISE.keys(), n=1)
            hint = f"; did you mean {near[0]}?" if near and name not in FIXED else ""
            what = "is set by this program" if name in FIXED else "is not an argument of this vLLM"
            raise UserError(f"--engine-args: '{name}' {what}{hint}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value.strip()
    return found


def _room_for(adapter: Adapter, local: LocalModel) -> dict[str, Any]:
    """The options of vLLM that an adapter needs. Raises UserError for one that vLLM cannot serve."""
    adapter.check_base(local.name, local.weights_sha256)
    adapter.check_files()
    shape = adapter.card.shape
    if shape.train_fully:
        what = f"trained all weights of {', '.join(shape.train_fully)}, which vLLM does not support in an adapter"
        remedy = f"merge it first: m3dllm adapters merge {adapter.folder} --out MODEL"
        raise UserError.at(adapter.folder, f"adapter '{adapter.name}' {what}: {remedy}")
    if shape.rank > RANKS[-1]:
        raise UserError.at(
            adapter.folder, f"adapter '{adapter.name}' has rank {shape.rank}; vLLM supports at most {RANKS[-1]}"
        )
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next(r for r in RANKS if r >= shape.rank)}


def _raise_limits(engine: Any) -> None:
    """Raise vLLM's limits of grammars to those of the transformers engine, from llguidance's defaults.

    Does nothing if the user runs vLLM's scheduler in a separate process.
    """
    from vllm.v1.structured_output.backend_guidance import (
        GuidanceBackend,
        GuidanceGrammar,
        serialize_guidance_grammar,
    )

    from m3dllm.systems.videollm.engines.local.masks import compile_grammar

    class Roomy(GuidanceBackend):
        def compile_grammar(self, request_type: Any, grammar_spec: str, stop_token_ids: Any = None) -> Any:
            how = self.disable_any_whitespace, self.disable_additional_properties
            source = serialize_guidance_grammar(request_type, grammar_spec, *how)
            return GuidanceGrammar(compile_grammar(source, self.ll_tokenizer), self.ll_tokenizer, self.vocab_size)

    core = getattr(engine.engine_core, "engine_core", None)
    if core is not None:
        manager = core.structured_output_manager
        size = engine.model_config.get_vocab_size()
        manager.backend = Roomy(manager.vllm_config, tokenizer=manager.tokenizer, vocab_size=size)


def _name(still: Still) -> str | None:
    """The identity of a frame as sent; None if its file is unknown."""
    width, height = still.image.size
    return f"{still.sha256}-{width}x{height}" if still.sha256 else None


def _comparable(
    adapted: Sequence[Mapping[int, float]], plain: Sequence[Mapping[int, float]]
) -> tuple[list[list[float]], list[list[float]]]:
    """The log-probabilities of tokens that are probable both times; if there are none, everything differs."""
    shared = [[token for token in a if token in b] for a, b in zip(adapted, plain, strict=True)]
    return (
        [[a[t] for t in tokens] or [math.inf] for a, tokens in zip(adapted, shared, strict=True)],
        [[b[t] for t in tokens] or [0.0] for b, tokens in zip(plain, shared, strict=True)],
    )


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
