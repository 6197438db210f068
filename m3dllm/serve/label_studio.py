"""Predictions for Label Studio: tasks with a text become documents, predictions become results of its interface.

Protocol: https://labelstud.io/guide/ml_create ; a request holds the tasks and the labelling interface, an answer one
prediction per task. Images are not fetched, so regions are not predicted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from m3dllm.confidence import confidences
from m3dllm.corpora.bilingual import language
from m3dllm.corpora.markup import parse_xml
from m3dllm.errors import UserError
from m3dllm.export import Item
from m3dllm.exporters.label_studio import results
from m3dllm.labels import LabelSet
from m3dllm.normalize import normalize
from m3dllm.system import System
from m3dllm.types import Document, Prediction


@dataclass(frozen=True, slots=True)
class Interface:
    """The relevant parts of a labelling interface: the control that marks spans of a text, its labels and relations."""

    control: str
    text: str
    key: str
    """The key of the text in a task's data."""
    labels: frozenset[str]
    relations: bool

    @classmethod
    def of(cls, config: str) -> Interface:
        """Parse an interface. Raises UserError if it is not XML, or marks no spans of a text."""
        root = parse_xml(config.encode("utf-8"), "label_config", "View")
        texts = {
            node.get("name", ""): node.get("value", "") for node in root.iter() if node.tag in ("Text", "HyperText")
        }
        for node in root.iter("Labels"):
            name = node.get("toName", "")
            if texts.get(name, "").startswith("$"):
                labels = frozenset(label.get("value", "") for label in node.iter("Label"))
                relations = any(True for _ in root.iter("Relations"))
                return cls(node.get("name", ""), name, texts[name][1:], labels, relations)
        raise UserError('the labelling interface has no <Labels> for a <Text value="$…">: nothing can be marked')


class Predictor:
    """A system that stays loaded, and answers one request at a time."""

    def __init__(self, load: Callable[[], System], labels: LabelSet, name: str) -> None:
        """`load` makes the system on the first task; `name` is the model version reported to Label Studio."""
        self._load, self.labels, self.name = load, labels, name
        self._lock = threading.Lock()
        self._system: System | None = None

    def predict(self, tasks: Sequence[Any], config: str) -> list[dict[str, Any]]:
        """One prediction per task. Raises UserError for an invalid interface or task, and if the system fails."""
        interface = Interface.of(config)
        documents = [document_of(task, interface, i) for i, task in enumerate(tasks)]
        with self._lock:
            if self._system is None:
                self._system = self._load()
            raws = list(self._system.predict(documents))
        if failure := next((raw.failure for raw in raws if raw.failure), None):
            raise UserError(f"the system failed: {failure.message}")
        return [
            self._prediction(normalize(document, raw, self.labels), document, interface)
            for document, raw in zip(documents, raws, strict=True)
        ]

    def _prediction(self, prediction: Prediction, document: Document, interface: Interface) -> dict[str, Any]:
        found: dict[str, Any] = {"model_version": self.name, "result": list(_results(prediction, document, interface))}
        if sure := list(confidences(prediction.annotation)):
            found["score"] = math.fsum(sure) / len(sure)
        return found


def document_of(task: Any, interface: Interface, number: int) -> Document:
    """The document of a task. Raises UserError if it has no text."""
    data = task.get("data") if isinstance(task, dict) else None
    text = data.get(interface.key) if isinstance(data, dict) else None
    if not isinstance(text, str):
        raise UserError(f"tasks[{number}].data.{interface.key}: expected the text")
    return Document(f"task-{number}", language(text) or "en", text)


def _results(prediction: Prediction, document: Document, interface: Interface) -> Iterator[dict[str, Any]]:
    """The parts that the interface has labels for; relations only between marked mentions, if it allows relations."""
    marked = set()
    for result in results(Item("", document, prediction.annotation), control=interface.control, text=interface.text):
        if result["type"] == "labels" and set(result["value"]["labels"]) <= interface.labels:
            marked.add(result["id"])
            yield result
        elif result["type"] == "relation" and interface.relations and {result["from_id"], result["to_id"]} <= marked:
            yield result
