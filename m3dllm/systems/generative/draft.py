"""An answer being read: the replies, the parts read from them, and Issues."""

from __future__ import annotations

from typing import Any

from m3dllm.labels import LabelSet
from m3dllm.systems.generative.model import Answer, Reply
from m3dllm.types import Document, Issue, Mention, Turn


class Draft:
    """The answer about one document. What cannot be used becomes an Issue with the query and the record."""

    def __init__(self, document: Document, labels: LabelSet) -> None:
        self.document, self.labels = document, labels
        self._turns: list[Turn] = []
        self._issues: list[Issue] = []

    def turn(self, reply: Reply) -> str:
        """Keep a reply; returns its place in the answer."""
        self._turns.append(reply.turn)
        return f"turns[{len(self._turns) - 1}]"

    def note(self, code: str, where: str, detail: str) -> None:
        self._issues.append(Issue(code, where, detail[:160]))

    def answered(self, chains: list[Any], relations: list[Any], regions: list[Any]) -> Answer:
        """The answer, with these parts in the answer form."""
        payload = {"chains": chains, "relations": relations, "regions": regions}
        return Answer(payload, tuple(self._turns), tuple(self._issues))


def offsets(mention: Mention) -> dict[str, object]:
    """A mention in the answer form."""
    return {"start": mention.start, "end": mention.end, "type": mention.type}
