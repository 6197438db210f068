"""GLiNER2: from texts and glosses to spans and relations."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from m3dllm.confidence import rounded
from m3dllm.devices import find_device
from m3dllm.errors import UserError
from m3dllm.files import read_bytes, sha256_file
from m3dllm.heuristics import ChainRule, chain_by
from m3dllm.labels import LabelSet, RelationLabel
from m3dllm.progress import progress
from m3dllm.system import System, versions_of
from m3dllm.systems.gliner import Config
from m3dllm.tokens import tokens_of
from m3dllm.types import Chain, Document, Example, Failure, Issue, Lang, Mention, RawOutput

FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt")
"""The files of a hub model that are downloaded: weights, configurations, tokenizer; no code."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
END = " ."
"""The end of a window: the library would add its own mark, which may become part of a mention."""
Span = tuple[int, int]
Answer = Mapping[str, Any]
"""The model's output for a window: `entities`, spans by type; `relation_extraction`, pairs of spans by type."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A relation between two spans of the text."""

    label: RelationLabel
    head: Span
    tail: Span
    confidence: float


@dataclass(frozen=True, slots=True)
class Found:
    """The model's predictions for a document, over all windows."""

    mentions: list[Mention] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)


class Gliner(System):
    """Mentions and relations of the corpus' types. Raises UserError if the model is missing or would run code."""

    def __init__(
        self, config: Config, *, labels: LabelSet, examples: Sequence[Example] = (), checkpoint: Path | None = None
    ) -> None:
        super().__init__(config, labels=labels, examples=examples, checkpoint=checkpoint)
        if not labels.mentions:
            raise UserError("the label set has no types of mentions: there is nothing to ask for")
        self._folder = _folder_of(config)
        self._model = _load(self._folder, config)
        self._schemas: dict[Lang, Any] = {}

    @property
    def provenance(self) -> dict[str, str]:
        """The model, the hash of its weights, and the version of the library."""
        weights = next(path for name in WEIGHTS if (path := self._folder / name).is_file())
        return {"model": self.config.model, "sha256": sha256_file(weights), **versions_of("gliner2")}

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer per document, in order; empty for a document without text."""
        waiting = iter(documents)
        while batch := list(islice(waiting, self.config.batch)):
            yield from self._answers(batch)

    def _answers(self, batch: Sequence[Document]) -> list[RawOutput]:
        """The answers to a batch; where the model fails on it, each document is tried alone."""
        started = time.perf_counter()
        try:
            found = self._found(batch)
        except (RuntimeError, IndexError) as error:  # more subwords than fit into the model or memory
            if len(batch) > 1:
                return [raw for document in batch for raw in self._answers([document])]
            why = " ".join(str(error).split())[:160]
            failure = Failure(f"the model failed ({why}): lower --window or --batch, or take fewer types")
            return [RawOutput(batch[0].id, error=failure)]
        seconds = (time.perf_counter() - started) / len(batch)
        answers = [answer_of(one, of, self.config.chain_rule) for one, of in zip(batch, found, strict=True)]
        return [
            RawOutput(one.id, payload=payload, issues=issues, seconds=seconds)
            for one, (payload, issues) in zip(batch, answers, strict=True)
        ]

    def _found(self, documents: Sequence[Document]) -> list[Found]:
        """The predictions for each document."""
        from gliner2.inference.chunking import split_text_into_chunks

        sizes = {"chunk_size": self.config.window, "chunk_overlap": self.config.overlap}
        found = [Found() for _ in documents]
        windows = [
            (one, document.lang, chunk)
            for one, document in zip(found, documents, strict=True)
            if document.text.strip()
            for chunk in split_text_into_chunks(document.text, word_splitter=split, **sizes)
        ]
        answers = self._model.batch_extract(
            [chunk.text + END for _, _, chunk in windows],
            [self._schema(lang) for _, lang, _ in windows],
            batch_size=self.config.batch,
            include_confidence=True,
            include_spans=True,
            max_len=self.config.window + 1,  # with the end; a model's own limit may be lower
        )
        for (one, _, chunk), answer in zip(windows, answers, strict=True):
            read(answer, chunk.text, chunk.start_char, self.labels, one)
        return found

    def _schema(self, lang: Lang) -> Any:
        """The types in that language, each with its gloss."""
        if lang not in self._schemas:
            schema = self._model.create_schema()
            mentions = {label.name: label.gloss(lang) for label in self.labels.mentions}
            relations = {label.name: label.gloss(lang) for label in self.labels.relations}
            schema.entities(mentions, threshold=self.config.threshold)
            if relations:
                schema.relations(relations, threshold=self.config.relation_threshold)
            self._schemas[lang] = schema
        return self._schemas[lang]


def read(answer: Answer, text: str, start: int, labels: LabelSet, found: Found) -> None:
    """Add the predictions of a window to `found`; its text begins at offset `start` of the document.

    Relations are listed under the name of their type, or under name and gloss.
    """

    def place(span: Answer) -> Span:
        return start + span["start"], start + min(span["end"], len(text))

    for kind, spans in answer.get("entities", {}).items():
        places = [(place(span), rounded(span["confidence"])) for span in spans]
        found.mentions.extend(Mention(a, b, kind, sure) for (a, b), sure in places if a < b)
    for key, pairs in answer.get("relation_extraction", {}).items():
        label = next(one for one in labels.relations if key == one.name or key.startswith(f"{one.name}: "))
        for pair in pairs:
            head, tail = place(pair["head"]), place(pair["tail"])
            sure = rounded(min(pair[side]["confidence"] for side in ("head", "tail")))
            found.pairs.append(Pair(label, head, tail, sure))


def answer_of(document: Document, found: Found, rule: ChainRule) -> tuple[dict[str, Any], tuple[Issue, ...]]:
    """(the answer, Issues): the most confident of overlapping mentions, and each relation once."""
    chains = chain_by(document, _apart(found.mentions), rule)
    relations: dict[tuple[str, str, str], float] = {}
    issues = []
    for pair in found.pairs:
        sides = _sides(chains, pair)
        if sides is None:
            texts = " and ".join(repr(document.text[a:b][:40]) for a, b in (pair.head, pair.tail))
            issues.append(Issue("dangling", pair.label.name, f"{texts} are not two mentions of types that it joins"))
            continue
        key = sides[0].id, sides[1].id, pair.label.name
        relations[key] = max(pair.confidence, relations.get(key, 0.0))
    written = [
        {"head": head, "tail": tail, "type": kind, "confidence": sure} for (head, tail, kind), sure in relations.items()
    ]
    return {"chains": [_written(chain) for chain in chains], "relations": written, "regions": []}, tuple(issues)


def _apart(mentions: Sequence[Mention]) -> list[Mention]:
    """Mentions without overlaps: the most confident are kept, then the longest."""
    kept: list[Mention] = []
    for mention in sorted(mentions, key=lambda m: (-(m.confidence or 0.0), m.start - m.end, m.start, m.type)):
        if all(mention.end <= other.start or other.end <= mention.start for other in kept):
            kept.append(mention)
    return kept


def _written(chain: Chain) -> dict[str, Any]:
    mentions = [{"start": m.start, "end": m.end, "type": m.type, "confidence": m.confidence} for m in chain.mentions]
    return {"id": chain.id, "type": chain.type, "mentions": mentions}


def _sides(chains: Sequence[Chain], pair: Pair) -> tuple[Chain, Chain] | None:
    """The two chains of a relation: of allowed types, with the mentions that overlap its spans the most."""
    fitting = [
        (covered + also, head, tail)
        for covered, head in _near(chains, pair.head)
        for also, tail in _near(chains, pair.tail)
        if head is not tail and pair.label.joins(head.type, tail.type)
    ]
    best = max(fitting, key=lambda one: one[0], default=None)
    return None if best is None else best[1:]


def _near(chains: Sequence[Chain], span: Span) -> list[tuple[float, Chain]]:
    """The chains with a mention that overlaps the span, each with the IoU of the two."""
    shares = ((max(_shared(mention.span, span) for mention in chain.mentions), chain) for chain in chains)
    return [(share, chain) for share, chain in shares if share > 0]


def _shared(one: Span, other: Span) -> float:
    both = min(one[1], other[1]) - max(one[0], other[0])
    return max(0, both) / (max(one[1], other[1]) - min(one[0], other[0]))


# --- loading ----------------------------------------------------------------------------------------------------------


def _folder_of(config: Config) -> Path:
    """The folder of the model, downloaded if it is on the hub. Raises UserError if it is not available."""
    from huggingface_hub import snapshot_download

    folder = Path(config.model)
    if not folder.exists():
        try:
            folder = Path(snapshot_download(config.model, revision=config.revision, allow_patterns=list(FILES)))
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())[:160]
            raise UserError(f"--model {config.model}: expected a GLiNER2 model's folder or hub id ({why})") from error
    for name in ("config.json", "encoder_config/config.json", "tokenizer_config.json"):
        if not (file := folder / name).is_file():
            raise UserError.at(folder, f"is not a GLiNER2 model: it has no {name}")
        try:
            runs_code = "auto_map" in json.loads(read_bytes(file))
        except (ValueError, TypeError) as error:
            raise UserError.at(file, f"is not a JSON object ({error})") from error
        if runs_code:
            raise UserError.at(file, "refers to code of its own, which is never run: use another model")
    return folder


def _load(folder: Path, config: Config) -> Any:
    """The model on its device. Raises UserError if it cannot be loaded."""
    import torch
    from gliner2 import AutoExtractor
    from transformers.utils import logging

    logging.set_verbosity_error()
    device = find_device(config.device, metal=True)
    try:
        with progress(f"loading model '{config.model}'"):
            model = AutoExtractor.from_pretrained(str(folder), map_location=str(device), word_splitter=split)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"--model {config.model} does not fit into the memory of {device}: take a smaller one"
        ) from error
    except Exception as error:  # broken weights raise any kind of error
        why = " ".join(str(error).split())[:200]
        raise UserError(f"--model {config.model}: cannot be loaded as a GLiNER2 model ({why})") from error
    return model.eval()


def split(text: str, lower: bool = True) -> Iterator[tuple[str, int, int]]:
    """The words of a text with their offsets, in the library's format: our tokens, for both languages."""
    for start, end in tokens_of(text):
        yield (text[start:end].lower() if lower else text[start:end]), start, end
