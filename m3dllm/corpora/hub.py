"""A corpus to and from Hugging Face `datasets`: the same documents as rows, one dataset per split.

A row has the fields of a line of `<split>.jsonl`; frames stay files, named by path. The label set is kept as JSON
in the description of each split's dataset, or given by the caller.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3dllm.corpora.imported import Imported, id_problem, split_name
from m3dllm.corpora.jsonfiles import note_unread
from m3dllm.corpora.native import Corpus
from m3dllm.corpora.parquet import ROW
from m3dllm.errors import UserError
from m3dllm.files import file_name
from m3dllm.labels import LabelSet
from m3dllm.types import Document, Example
from m3dllm.wire import WireError, decode, decode_example, decode_labels, encode, encode_example, encode_labels

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


_LISTS = frozenset(("segments", "frames", "chains", "mentions", "relations", "regions"))
"""The fields that are lists of objects."""


def to_datasets(corpus: Corpus) -> DatasetDict:
    """The corpus as a DatasetDict, one Dataset per split, frames by absolute path.

    Raises UserError where `datasets` is not installed.
    """
    datasets = load_datasets()
    golds = (example.gold for examples in corpus.splits.values() for example in examples)
    ids = any(region.id is not None for gold in golds for region in gold.regions)
    features, description = _features(datasets, ids=ids), encode_labels(corpus.labels)
    splits = {}
    for name, examples in corpus.splits.items():
        rows = [_row(example, ids=ids) for example in examples]
        info = datasets.DatasetInfo(description=description, features=features)
        splits[name] = datasets.Dataset.from_list(rows, features=features, info=info)
    return datasets.DatasetDict(splits)


def from_datasets(found: DatasetDict | Dataset, *, labels: LabelSet | None = None) -> Imported:
    """The result of `to_datasets`, or rows with the same fields, as an import that `write_corpus` writes.

    A single Dataset is the split train. Default of `labels`: those of the description or, if it has none,
    every type found. Raises UserError, with split, row and place, for a row that is no document.
    """
    splits: dict[str, Any] = dict(found) if isinstance(found, dict) else {"train": found}
    imported = Imported(LabelSet())
    seen: dict[str, str] = {}
    for name, rows in splits.items():
        examples = imported.split(split_name(name))
        for i, row in enumerate(rows):
            where = f"{name}[{i}]"
            try:
                row = _as_written(row, rows.features)
                note_unread(row, ROW, where, imported)
                example = decode_example(encode({key: row[key] for key in ROW if row.get(key) is not None}))
                if problem := id_problem(example.document.id):
                    raise WireError(problem, "$.id")
                if example.document.id in seen:
                    raise WireError(f"the id {example.document.id!r} is already in {seen[example.document.id]}", "$.id")
            except WireError as error:
                raise error.at(where) from error
            seen[example.document.id] = where
            examples.append(_with_images(example, imported))
    imported.labels = labels or _described(splits) or imported.types()
    for name, part in imported.splits.items():
        for i, example in enumerate(part):
            for place, problem in imported.labels.unknown(example.gold):
                raise UserError.at(f"{name}[{i}]", problem, place=f"$.gold.{place}")
    return imported.require_documents(Path("the datasets"))


def _as_written(value: Any, feature: Any, name: str = "") -> Any:
    """A value of a row as in a JSON line: the name of a class for its number, objects for columns of a `Sequence`."""
    if name in _LISTS and isinstance(value, dict) and all(isinstance(column, list) for column in value.values()):
        columns = {key: [_as_written(one, _item(feature, key), key) for one in column] for key, column in value.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if isinstance(value, dict):
        return {key: _as_written(one, _part(feature, key), key) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_written(one, _item(feature)) for one in value]
    names = getattr(feature, "names", None)
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def _part(feature: Any, key: str) -> Any:
    return feature.get(key) if isinstance(feature, dict) else None


def _item(feature: Any, key: str = "") -> Any:
    """The feature of a list's items, or of one of their columns."""
    if key and isinstance(feature, dict):
        return _item(feature.get(key))
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    return _part(inner, key) if key else inner


def load_datasets() -> Any:
    """The package. Raises UserError where it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise UserError("Hugging Face datasets are not installed: pip install 'm3dllm[datasets]'") from error
    return datasets


def _row(example: Example, *, ids: bool) -> dict[str, Any]:
    row = decode(encode_example(example), dict[str, Any])
    row.pop("video", None)  # a file of the corpus, which the dataset does not hold
    for frame in row["frames"]:
        frame.setdefault("sha256", "")
        frame.setdefault("time_s", None)
    row["gold"] |= {"unannotated": sorted(example.unannotated)}
    if ids:
        for region in row["gold"].get("regions", ()):
            region.setdefault("id", None)
    return row


def _features(datasets: Any, *, ids: bool) -> Any:
    """The columns; those of regions with their ids, where any has one."""
    text, number, real = datasets.Value("string"), datasets.Value("int64"), datasets.Value("float64")
    mention = {"start": number, "end": number, "type": text}
    size = {"width_px": number, "height_px": number}
    frame = {"index": number, "path": text, **size, "sha256": text, "time_s": real}
    gold = {
        "chains": [{"id": text, "mentions": [mention]}],
        "relations": [{"head": text, "tail": text, "type": text}],
        "regions": [{"frame": number, "box": [real], "type": text, "chain": text} | ({"id": text} if ids else {})],
        "unannotated": [text],
    }
    columns = {
        **dict.fromkeys(("id", "lang", "text", "title", "group"), text),
        "tokens": [[number]],
        "segments": [{"start": number, "end": number, "start_s": real, "end_s": real}],
        "frames": [frame | {"annotated": datasets.Value("bool")}],
        "gold": gold,
    }
    return datasets.Features(columns)


def _with_images(example: Example, imported: Imported) -> Example:
    """`example` with its frames' paths inside the new corpus, and the files noted as its images."""
    document: Document = example.document
    if not document.frames:
        return example
    frames = []
    for frame in document.frames:
        path = f"frames/{file_name(document.id)}/{frame.index}{Path(frame.path).suffix.lower()}"
        imported.images[path] = Path(frame.path)
        frames.append(replace(frame, path=path))
    return replace(example, document=replace(document, frames=tuple(frames)))


def _described(splits: dict[str, Any]) -> LabelSet | None:
    """The label set in the description of a split, or None."""
    for rows in splits.values():
        try:
            return decode_labels(rows.info.description or "")
        except (AttributeError, WireError):  # another description, or none
            continue
    return None
