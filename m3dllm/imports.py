"""Gold and predictions in the formats of other tools, scored: both sides are imported first."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.importers import find_importer
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.plugins import options
from m3dllm.score import Settings
from m3dllm.score.corpus import Golds, score_golds
from m3dllm.score.scores import Scores
from m3dllm.stream import Lazy, Spool
from m3dllm.types import Example, Prediction
from m3dllm.wire import decode_prediction, encode_prediction, read_labels


def score_imported(
    gold: Path, pred: Path, form: str, *, labels: Path | None = None, settings: Settings | None = None
) -> tuple[Scores, list[str]]:
    """(the scores of `pred` against `gold`, both in the format `form`; a line for everything skipped on import).

    Documents are matched by id; if ids differ, as they may if they come from file names, by equal texts, in order. If
    both sides are the same Label Studio file, its pre-annotations are scored against its annotations. Without `labels`
    every type is allowed. Raises UserError if an import does, or if a predicted document is not in the gold.
    """
    importer = find_importer(form)
    if not importer.takes_path:
        raise UserError(f"--format {form} reads no files: it cannot be scored")
    known = {parameter.name for parameter in options(importer.read)}
    words = {"predictions": True} if "predictions" in known and gold.resolve() == pred.resolve() else {}
    golds, preds = importer.read(gold), importer.read(pred, **words)
    label_set = read_labels(labels) if labels is not None else None
    examples, predicted = _examples(golds, gold, label_set), _examples(preds, pred, label_set)
    predictions = Spool(encode_prediction, decode_prediction, _matched(examples, predicted, pred))
    scores = score_golds(Golds(examples), predictions, labels=label_set, settings=settings or Settings())
    return scores, [f"{path}: {line}" for path, side in ((gold, golds), (pred, preds)) for line in _lines(side)]


def _examples(imported: Imported, path: Path, labels: LabelSet | None) -> Sequence[Example]:
    """All imported documents. Raises UserError if one has a type that is not in the labels."""
    sources = list(imported.splits.values())
    if labels is not None:
        for example in itertools.chain.from_iterable(sources):
            for place, problem in labels.unknown(example.gold):
                raise UserError.at(path, problem, place=f"{example.document.id}: {place}")
    return Lazy([(source, i) for source in sources for i in range(len(source))], lambda at: at[0][at[1]])


def _matched(golds: Iterable[Example], preds: Sequence[Example], path: Path) -> Iterator[Prediction]:
    """The predictions, with the ids of their gold documents."""
    texts = {example.document.id: _hash(example) for example in golds}
    taken = {example.document.id for example in preds} & texts.keys()
    waiting: dict[bytes, deque[str]] = defaultdict(deque)
    for name, text in texts.items():
        if name not in taken:
            waiting[text].append(name)
    for example in preds:
        name, text = example.document.id, _hash(example)
        if name not in texts:
            if not example.document.text or not waiting[text]:
                raise UserError.at(path, f"document '{name}' is not in the gold: neither its id nor its text matches")
            name = waiting[text].popleft()
        elif text != texts[name]:
            raise UserError.at(
                path, f"document '{name}' has a different text than in the gold: offsets would not match"
            )
        yield Prediction(name, example.gold)


def _hash(example: Example) -> bytes:
    """A hash, kept in place of the text."""
    return hashlib.sha256(example.document.text.encode()).digest()


def _lines(imported: Imported) -> list[str]:
    return [line for line in imported.summary_lines() if line.startswith(("skipped", "changed"))]
