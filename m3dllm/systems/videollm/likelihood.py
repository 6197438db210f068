"""Confidences of the parts of an answer from the log-probabilities of its tokens.

The confidence of a part is the probability of its tokens, given all before: the product over its values, each with the
mark that ends it. These are text and type of a mention, head, tail and type of a relation, frame, type and chain of a
region; not the numbers of a box, none of which is probable by itself. With a grammar, local engines give probabilities
among the allowed tokens; a server may give those without the constraint.

Without log-probabilities, or where an answer is not one JSON object, or repeats a key, there are no confidences.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from m3dllm.confidence import rounded
from m3dllm.systems.videollm.engines.base import Reply

RELATION, REGION = ("head", "tail", "type"), ("frame", "type", "chain")
"""The keys whose values count for a relation, and for a region."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(slots=True)
class Place:
    """The place of a value in a text, with the places of its own values: by key in an object, in order in a list."""

    start: int
    end: int
    named: dict[str, Place] = field(default_factory=dict)
    listed: list[Place] = field(default_factory=list)


def place_of(text: str) -> Place | None:
    """The place of the JSON object that the whole text is, with all values in it; None if it is not one, or repeats a
    key."""
    try:
        if not isinstance(json.loads(text), dict):
            return None
        return _read(_TOKEN.finditer(text))
    except (ValueError, RecursionError):
        return None


def _read(tokens: Iterator[re.Match[str]], first: re.Match[str] | None = None) -> Place:
    """The value that begins with `first`, or with the next token, of a text that is JSON."""
    mark = first or next(tokens)
    place = Place(*mark.span())
    if mark[0] == "{":
        for token in tokens:
            if token[0] == "}":
                place.end = token.end()
                break
            if token[0] != ",":
                next(tokens)  # the colon
                name, value = json.loads(token[0]), _read(tokens)
                if place.named.setdefault(name, value) is not value:
                    raise ValueError(f"{name!r} appears twice")
    elif mark[0] == "[":
        for token in tokens:
            if token[0] == "]":
                place.end = token.end()
                break
            if token[0] != ",":
                place.listed.append(_read(tokens, token))
    elif mark[0].startswith('"'):
        place.start += 1  # the opening quote is not the model's choice; the closing one is
    return place


class Likelihood:
    """The probabilities of the parts of one answer."""

    def __init__(self, text: str, root: Place, logprobs: Sequence[tuple[int, float]]) -> None:
        self.text, self.root = text, root
        self._ends = [end for end, _ in logprobs]
        self._sums = [0.0, *accumulate(logprob for _, logprob in logprobs)]

    @classmethod
    def of(cls, reply: Reply) -> Likelihood | None:
        """None if the engine gives no log-probabilities, or the answer is not one JSON object."""
        root = place_of(reply.text) if reply.logprobs is not None else None
        return None if root is None or reply.logprobs is None else cls(reply.text, root, reply.logprobs)

    def probability(self, *places: Place) -> float:
        """The product over the tokens that the places touch, each place separately."""
        total = 0.0
        for place in places:
            first = bisect_right(self._ends, place.start)
            last = min(bisect_left(self._ends, place.end), len(self._ends) - 1)
            total += self._sums[max(last + 1, first)] - self._sums[first]
        return rounded(math.exp(min(total, 0.0)))

    def texts(self, place: Place) -> Iterator[tuple[str, float]]:
        """Each text of a list, and its probability; of a repeated text the first comes last."""
        for at in reversed(place.listed):
            if self.text[at.end - 1] == '"':
                yield json.loads(self.text[at.start - 1 : at.end]), self.probability(at)

    def rows(self, name: str, keys: Sequence[str]) -> list[float]:
        """The probability of each object in the list `name`, by the values under these keys."""
        found = self.root.named.get(name)
        return (
            [self.probability(*(row.named[key] for key in keys if key in row.named)) for row in found.listed]
            if found
            else []
        )


def with_confidences(rows: Sequence[Any], reply: Reply, name: str, keys: Sequence[str]) -> list[Any]:
    """The objects that an answer lists under `name`, each with its confidence if the engine has it."""
    found = Likelihood.of(reply)
    sure = found.rows(name, keys) if found else []
    if len(sure) != len(rows):
        return list(rows)
    return [
        row | {"confidence": p} if isinstance(row, dict) and "confidence" not in row else row
        for row, p in zip(rows, sure, strict=True)
    ]


def joint_answer(reply: Reply) -> Any:
    """An answer in the answer form with the confidences of its parts; the unchanged text if there are none."""
    found = Likelihood.of(reply)
    if found is None:
        return reply.text
    answer = json.loads(reply.text)
    for name, keys in (("relations", RELATION), ("regions", REGION)):
        if isinstance(answer.get(name), list):
            answer[name] = with_confidences(answer[name], reply, name, keys)
    chains, places = answer.get("chains"), found.root.named.get("chains")
    for chain, place in zip(chains, places.listed, strict=True) if isinstance(chains, list) and places else ():
        mentions = place.named.get("mentions")
        if isinstance(chain, dict) and isinstance(chain.get("mentions"), list) and mentions is not None:
            kind = [place.named["type"]] if "type" in place.named else []
            chain["mentions"] = [
                _mention(mention, found.probability(*kind, at), found.probability(at))
                for mention, at in zip(chain["mentions"], mentions.listed, strict=True)
            ]
    return answer


def _mention(mention: Any, confidence: float, link: float) -> Any:
    """A mention as an object with its confidences; a malformed one unchanged."""
    sure = {"confidence": confidence, "link": link}
    if isinstance(mention, str):
        return {"text": mention} | sure
    if isinstance(mention, list) and mention and isinstance(mention[0], str):
        return {"text": mention[0], "occurrences": mention[1:]} | sure
    return mention | sure if isinstance(mention, dict) and not sure.keys() & mention.keys() else mention
