"""Answers about one small document, and what is asked of their predictions."""

from __future__ import annotations

from m3dllm.normalize import normalize
from m3dllm.types import Document, Frame, Prediction, RawOutput

EN = "Susan met George Bush in New York . George likes Susan ."
ZH = "苏珊和乔治去了北京大学。乔治喜欢北京。"
STILLS = (Frame(24, "24.jpg", 64, 48), Frame(345, "345.jpg", 64, 48))


def read(payload: object, text: str = EN, *, labels=None, document: Document | None = None, **raw) -> Prediction:
    """The prediction for an answer about a text with two frames."""
    document = document or Document("d", "en", text, frames=STILLS)
    return normalize(document, RawOutput(document.id, payload=payload, **raw), labels)


def one_chain(*mentions: object) -> dict[str, object]:
    return {"chains": [{"id": "c0", "type": "PER", "mentions": list(mentions)}]}


def spans(prediction: Prediction) -> list[tuple[int, int]]:
    return [mention.span for mention in prediction.annotation.mentions]


def issues(prediction: Prediction) -> list[tuple[str, str]]:
    return [(issue.code, issue.where) for issue in prediction.issues]


def codes(prediction: Prediction) -> list[str]:
    return [issue.code for issue in prediction.issues]
