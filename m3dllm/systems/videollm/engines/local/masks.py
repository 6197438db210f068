"""Constrained decoding: for each row of a batch, which tokens may come next.

`GrammarMasks` holds one matcher per row, because each document has its own grammar. `schema_masks`, by outlines, is for
a batch with one JSON schema. Both are logits processors: called with the tokens so far and the next logits, they mask
what the constraint does not allow.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from typing import Any

import llguidance
import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

LIMITS = llguidance.LLParserLimits(initial_lexer_fuel=10_000_000, step_lexer_fuel=5_000_000)
"""Enough for a mention that may begin at any of thousands of characters: with a vocabulary of 131,072 tokens the
library's own limits end between 1,000 and 1,500 Chinese characters."""


def compile_grammar(constraint: str | dict[str, Any], tokenizer: Any) -> Any:
    """A matcher for a grammar, or for a JSON schema. Raises ValueError if it cannot be compiled."""
    if isinstance(constraint, str):
        source = constraint
    else:
        rigid = constraint | {"x-guidance": {"whitespace_flexible": False}}
        source = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(rigid, ensure_ascii=False))
    matcher = llguidance.LLMatcher(tokenizer, source, log_level=0, limits=LIMITS)
    if matcher.is_error():
        raise ValueError(f"the grammar cannot be compiled: {matcher.get_error().splitlines()[0]}")
    return matcher


class GrammarMasks(LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """One matcher per row; None for an unconstrained row.

    `seconds` is the time spent in matchers, and `errors` the error of each row: a matcher gives up on a grammar that
    became too complex, and its row must end.
    """

    def __init__(self, matchers: Sequence[Any | None], *, seconds: Sequence[float] = ()) -> None:
        """`seconds`: the time of compiling the grammars."""
        self.matchers = list(matchers)
        self.seconds = list(seconds) or [0.0] * len(self.matchers)
        self.errors: dict[int, str] = {}
        self._rows = list(range(len(self.matchers)))
        self._begun = False

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, by their index in the current batch."""
        self._rows = [self._rows[i] for i in rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` (rows, tokens so far), `scores` (rows, vocabulary): the latter with -inf where not allowed."""
        allowed = np.ones((len(self._rows), scores.shape[1]), dtype=bool)
        for i, row in enumerate(self._rows):
            matcher = self.matchers[row]
            if matcher is None or row in self.errors:
                continue
            started = time.perf_counter()
            if self._begun:
                matcher.consume_token(int(input_ids[i, -1]))
            if not matcher.is_error():
                bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
                mask = np.unpackbits(bits, bitorder="little")[: scores.shape[1]]
                allowed[i, : len(mask)] = mask
                allowed[i, len(mask) :] = False
            if matcher.is_error():
                self.errors[row] = matcher.get_error().splitlines()[0]
                allowed[i] = True
            self.seconds[row] += time.perf_counter() - started
        self._begun = True
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)


def schema_masks(schema: dict[str, Any], outlines_model: Any) -> Any:
    """A logits processor of outlines, over its llguidance backend, for a batch whose rows share a schema."""
    from outlines.backends import get_json_schema_logits_processor

    rigid = json.dumps(schema | {"x-guidance": {"whitespace_flexible": False}}, ensure_ascii=False)
    masks = get_json_schema_logits_processor("llguidance", outlines_model, rigid)

    def masked(input_ids: Tensor, scores: Tensor) -> Tensor:
        with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns about every finished row
            result: Tensor = masks(input_ids, scores)
        return result

    return masked
