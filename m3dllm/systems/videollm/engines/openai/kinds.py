"""Kinds of servers: how each takes constraints, and what it reports of itself.

A new kind is a class of a few lines with its differences, and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from m3dllm.systems.videollm.engines.base import Constraint
from m3dllm.systems.videollm.engines.openai import gbnf

Way = Mapping[str, Any]
"""The parameters that constrain the answer of a request."""

PROBE = "zqx-7-kfl"
"""A text that no model would write by itself: a server that does obeys grammars."""


class Server:
    """A server of unknown kind: it gets the JSON schema."""

    name: ClassVar[str] = "other"
    logprobs: ClassVar[bool] = False
    """Whether it returns log-probabilities of an answer's tokens on request."""

    @classmethod
    def is_it(cls, model: Mapping[str, Any]) -> bool:
        """Whether a server that lists this model is of this kind."""
        return True

    def grammar_ways(self, constraint: Constraint) -> Sequence[Way]:
        """The ways of sending the grammar of `constraint`, the best first; {} for a way that cannot express it."""
        return ()

    def probes(self) -> Sequence[Way]:
        """The same ways, in the same order, for a grammar in which only PROBE can be written."""
        return ()

    def options(self, options: Sequence[str]) -> Way | None:
        """The parameter that limits the answer to these texts; None if only a schema can."""
        return None

    def thinking(self, tokens: int) -> Way:
        """The parameters for at most this many thinking tokens before the answer; 0: none."""
        return {}

    def sees(self, model: Mapping[str, Any]) -> bool | None:
        """Whether the model reads images; None if the list does not tell; those of llama.cpp and OpenRouter do."""
        architecture = model.get("architecture")
        inputs = architecture.get("input_modalities") if isinstance(architecture, dict) else None
        return "image" in inputs if isinstance(inputs, list) else None

    def context(self, model: Mapping[str, Any]) -> int | None:
        """The context length in tokens, if listed."""
        for name in ("max_model_len", "context_length", "max_context_length", "context_window"):
            if isinstance(value := model.get(name), int) and value > 0:
                return value
        return None


class Vllm(Server):
    """vLLM takes llguidance's grammars: `structured_outputs`, before 0.11 `guided_grammar`."""

    name = "vllm"
    logprobs = True

    def thinking(self, tokens: int) -> Way:
        """A budget works only if the server was started with --reasoning-parser; others refuse it by name."""
        return _switch(tokens) | ({"thinking_token_budget": tokens} if tokens else {})

    @classmethod
    def is_it(cls, model: Mapping[str, Any]) -> bool:
        return model.get("owned_by") == "vllm"

    def grammar_ways(self, constraint: Constraint) -> Sequence[Way]:
        text = constraint.grammar
        return ({}, {}) if text is None else ({"structured_outputs": {"grammar": text}}, {"guided_grammar": text})

    def probes(self) -> Sequence[Way]:
        return self.grammar_ways(Constraint(grammar=f'start: "{PROBE}"\n'))

    def options(self, options: Sequence[str]) -> Way | None:
        return {"structured_outputs": {"choice": list(options)}}


class LlamaCpp(Server):
    """llama.cpp takes llguidance's grammars if built with it; else GBNF, which expresses less (see `gbnf`)."""

    name = "llama.cpp"
    logprobs = True

    def thinking(self, tokens: int) -> Way:
        return _switch(tokens)

    @classmethod
    def is_it(cls, model: Mapping[str, Any]) -> bool:
        return model.get("owned_by") == "llamacpp"

    def grammar_ways(self, constraint: Constraint) -> Sequence[Way]:
        own = gbnf.write(constraint.schema, constraint.chunks) if constraint.schema else None
        return tuple({"grammar": text} if text else {} for text in (constraint.grammar, own))

    def probes(self) -> Sequence[Way]:
        return {"grammar": f'%llguidance {{}}\nstart: "{PROBE}"\n'}, {"grammar": f'root ::= "{PROBE}"\n'}

    def options(self, options: Sequence[str]) -> Way | None:
        return {"grammar": gbnf.one_of(options)}

    def context(self, model: Mapping[str, Any]) -> int | None:
        meta = model.get("meta")
        own = meta.get("n_ctx") if isinstance(meta, dict) else None
        return own if isinstance(own, int) and own > 0 else super().context(model)


class Sglang(Server):
    """SGLang takes GBNF as `ebnf`."""

    name = "sglang"
    logprobs = True

    def thinking(self, tokens: int) -> Way:
        return _switch(tokens)

    @classmethod
    def is_it(cls, model: Mapping[str, Any]) -> bool:
        return model.get("owned_by") == "sglang"

    def grammar_ways(self, constraint: Constraint) -> Sequence[Way]:
        text = gbnf.write(constraint.schema, constraint.chunks) if constraint.schema else None
        return ({"ebnf": text} if text else {},)

    def probes(self) -> Sequence[Way]:
        return ({"ebnf": f'root ::= "{PROBE}"\n'},)


def _switch(tokens: int) -> dict[str, Any]:
    """The arguments of chat templates."""
    return {"chat_template_kwargs": {"enable_thinking": tokens > 0, "thinking": tokens > 0}}


KINDS: tuple[type[Server], ...] = (Vllm, LlamaCpp, Sglang, Server)


def kind_of(model: Mapping[str, Any]) -> Server:
    """The kind of the server that lists this model."""
    return next(kind for kind in KINDS if kind.is_it(model))()
