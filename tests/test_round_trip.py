"""What is exported and imported again is what the format holds: no more, no less, in every format that has both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.importers import find_importer
from m3dllm.corpora.native import write_corpus
from m3dllm.export import EXPORTERS, Item, Notes, export, held_by, read_source
from m3dllm.exporters._tokens import tokens_of
from m3dllm.tokens import joined
from m3dllm.types import Annotation, Document, Example, Mention
from tests.small import png, small_corpus
from tests.strategies import LABELS, examples

Held = tuple[Any, ...]


def comparable(document: Document, found: Annotation, *, frames: bool = True) -> Held:
    """A document and its annotation without the names of chains, orders, and digits that pixels and percents lose."""
    names = {chain.id: tuple(sorted(chain.mentions)) for chain in found.chains}
    boxes = [(r.frame, tuple(round(x, 9) for x in r.box), r.type, names.get(r.chain or "")) for r in found.regions]
    sides = names | {r.id: box for r, box in zip(found.regions, boxes, strict=True) if r.id is not None}
    return (
        document.id,
        document.text,
        document.group,
        tuple(sorted(names.values())),
        frozenset((sides[r.head], r.type, sides[r.tail]) for r in found.relations),
        frozenset(boxes),
        tuple((f.index, f.width_px, f.height_px, f.annotated) for f in document.frames) if frames else (),
    )


def respaced(item: Item) -> Item:
    """The item with its text as tokens alone make it."""
    text, old = item.document.text, tokens_of(item)
    new_text, new = joined([text[start:end] for start, end in old])
    starts = {a: b for (a, _), (b, _) in zip(old, new, strict=True)}
    ends = {a: b for (_, a), (_, b) in zip(old, new, strict=True)}
    chains = tuple(
        replace(c, mentions=tuple(Mention(starts[m.start], ends[m.end], m.type) for m in c.mentions))
        for c in item.annotation.chains
    )
    return replace(
        item,
        document=replace(item.document, text=new_text, tokens=(), segments=()),
        annotation=replace(item.annotation, chains=chains),
    )


def read(name: str, folder: Path, **options: Any) -> dict[str, Example]:
    imported = find_importer(name).read(folder, **options)
    return {example.document.id: example for part in imported.splits.values() for example in part}


def read_brat(folder: Path) -> dict[str, Example]:
    frames = folder / "frames"
    return read("brat", folder, frames=frames if frames.is_dir() else None, chain_names=None)


def drawn_is_annotated(item: Item) -> Item:
    """The item as a format has it in which a frame is annotated that has a file of boxes."""
    drawn = {region.frame for region in item.annotation.regions}
    frames = (replace(f, annotated=f.annotated or f.index in drawn) for f in item.document.frames)
    return replace(item, document=replace(item.document, frames=tuple(frames)))


def uncrossed(item: Item) -> Item | None:
    """The item without mentions that cross another one of their entity; None where there is no token."""
    chains = []
    for chain in item.annotation.chains:
        own: list[Mention] = []
        for mention in sorted(chain.mentions):
            if not any(m.start < mention.start < m.end < mention.end for m in own):
                own.append(mention)
        chains.append(replace(chain, mentions=tuple(own)))
    return replace(item, annotation=replace(item.annotation, chains=tuple(chains))) if tokens_of(item) else None


FORMATS: dict[str, tuple[Callable[[Path], dict[str, Example]], Callable[[Item], Item | None]]] = {
    "brat": (read_brat, drawn_is_annotated),
    "coco": (lambda folder: read("coco", folder), lambda item: item if item.document.frames else None),
    "conll": (lambda folder: read("conll", folder), respaced),
    "corefud": (lambda folder: read("corefud", folder), uncrossed),
    "parquet": (lambda folder: read("parquet", folder), lambda item: item),
    "label-studio": (lambda folder: read("label-studio", folder), lambda item: item),
}


def written(folder: Path, made: list[Example]) -> Path:
    """A native corpus of the examples, with an image for each frame."""
    own = [_with_own_images(example) for example in made]
    images = {frame.path: png(frame.width_px, frame.height_px) for e in own for frame in e.document.frames}
    write_corpus(folder, Imported(LABELS, {"train": own}, images))
    return folder


def _with_own_images(example: Example) -> Example:
    frames = (replace(f, path=f"frames/{example.document.id}/{f.index}.png") for f in example.document.frames)
    return replace(example, document=replace(example.document, frames=tuple(frames)))


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=20)
@given(found=st.data())
def test_import_after_export_gives_what_the_format_holds(name, found, tmp_path_factory):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    made = [found.draw(examples(name=f"d{i}")) for i in range(found.draw(st.integers(1, 3)))]
    folder = tmp_path_factory.mktemp("trip")
    corpus = written(folder / "corpus", made)
    export(name, corpus, folder / "out")
    read_again, kept = FORMATS[name]
    held = map(kept, held_by(EXPORTERS.find(name).HOLDS, read_source(corpus), Notes()).items)
    wanted = {item.document.id: item for item in held if item}
    if not any(item.document.text or item.document.frames for item in wanted.values()):
        return  # an import without a document is an error
    again = read_again(folder / "out")
    assert {name: comparable(e.document, e.gold) for name, e in again.items()} == {
        name: comparable(item.document, item.annotation) for name, item in wanted.items()
    }


def test_a_format_that_holds_everything_gives_the_same_labels_and_documents_of_a_corpus_of_both_languages(tmp_path):
    corpus = small_corpus(tmp_path / "corpus", train=8, dev=0, test=0)
    export("label-studio", corpus, tmp_path / "out")
    wanted = {item.document.id: item for item in read_source(corpus).items}
    again = read("label-studio", tmp_path / "out")
    assert {name: (e.document.lang, e.document.text, e.unannotated) for name, e in again.items()} == {
        name: (item.document.lang, item.document.text, item.unannotated) for name, item in wanted.items()
    }
