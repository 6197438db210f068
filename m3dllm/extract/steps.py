"""From videos or texts to a corpus without gold, a run on it, its document page, and the graph.

`extract` takes all steps; each writes files, and the same command resumes an interrupted one:

    sources.json    what was read, how, and with which decoder; warnings about it
    corpus/         the native corpus, one split "test", without gold
    run/            the run
    joins.jsonl     chains that are one entity across the documents of a film, by which rule; and those not joined
    graph/          the graph of each film, in JSON-LD
    page/           the document page
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from m3dllm import pipeline
from m3dllm.columns import counted
from m3dllm.corpora.imported import Imported, unused_id
from m3dllm.corpora.m3d import M3D_GUIDELINES, m3d_labels
from m3dllm.corpora.native import with_root, write_corpus
from m3dllm.errors import UserError
from m3dllm.experiment import CHECKPOINTS, Executor, Experiment, find_checkpoint, fitting_checkpoint, read_done
from m3dllm.export import EXPORTERS, Item, Notes, held_by, name_of
from m3dllm.export import Source as Exported
from m3dllm.extract.joining import Found, Join, by_film, join, names, whole_film
from m3dllm.extract.reading import Read, Reading, read_source
from m3dllm.extract.sources import Source, find_sources
from m3dllm.files import check_free, file_name, inside, new_folder, read_bytes, sha256_file, write_atomic
from m3dllm.guidelines import guideline_files
from m3dllm.labels import LabelSet
from m3dllm.media import decoder_versions
from m3dllm.options import resolve_config
from m3dllm.registry import find_system
from m3dllm.runs import Run
from m3dllm.system import versions_of
from m3dllm.types import TASKS, Annotation, Document, Example
from m3dllm.videos import Put
from m3dllm.viewer import write_pages
from m3dllm.wire import WireError, decode, encode, labels_sha256, lines, pretty, read_labels, read_lines

log = logging.getLogger("m3dllm")

SPLIT = "test"
"""The only split of the corpus: the one that 'm3dllm run' predicts by default."""
TRIPLES = 8
"""The number of triples that are printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """The arguments of 'm3dllm extract'."""

    sources: Sequence[Path]
    out: Path
    system: str = "video-llm"
    subtitles: Sequence[Path] = ()
    reading: Reading = field(default_factory=Reading)
    labels: Path | None = None
    """A labels.json: the types to look for; None: those of the checkpoint, else those of M3D."""
    checkpoint: Path | None = None
    preset: str | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    """The system's own options."""
    command: tuple[str, ...] = ()
    executor: Executor = "local"
    address: str | None = None
    workers: int | None = None
    """Where the system runs, as in `Experiment`."""
    videos: Put = "link"
    """How the films are put into corpus and page, to be played there."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The results: the run, the page, the folder of graphs, and a few triples in words."""

    run: Run
    page: Path
    graphs: Path
    triples: tuple[str, ...]
    complete: bool


def extract(wanted: Extraction) -> Extracted:
    """Read the sources, run the system on them, join chains across documents, and write graph and page.

    Raises UserError for what the user can fix, if possible before the work begins.
    """
    spec = find_system(wanted.system)
    config = resolve_config(spec, wanted.options, preset=wanted.preset, seed=wanted.seed)
    spec = spec.declared(config)
    spec.require(config)
    sources = find_sources(wanted.sources, wanted.subtitles)
    if spec.trainable and spec.fits_first and wanted.checkpoint is None:
        shown = (
            ", or --checkpoint demo to see how it works" if (CHECKPOINTS / spec.fitted_name / "demo").is_dir() else ""
        )
        fit = f"m3dllm fit --system {spec.fitted_name} --corpus … --out runs/mine"
        what = f"system '{spec.fitted_name}' must be fitted: '{fit}'"
        raise UserError(f"{what}, then --checkpoint runs/mine{shown}")
    labels, guidelines = labels_for(wanted.labels, wanted.checkpoint, wanted.options, spec.fitted_name)
    if wanted.checkpoint is not None:
        fitting_checkpoint(wanted.checkpoint, spec, labels)
    corpus = _corpus(wanted, sources, labels, guidelines)
    experiment = Experiment(
        system=wanted.system,
        corpus=corpus,
        split=SPLIT,
        preset=wanted.preset,
        checkpoint=wanted.checkpoint,
        seed=wanted.seed,
        options=wanted.options,
        out=wanted.out / "run",
        command=wanted.command,
        executor=wanted.executor,
        address=wanted.address,
        workers=wanted.workers,
    )
    run = pipeline.run(experiment)
    _note_decoder(run, wanted.out)
    films, joins = _films(run)
    write_atomic(wanted.out / "joins.jsonl", lines(map(encode, joins)))
    graphs = _graphs(run, films, wanted.out / "graph")
    several = {film for film, n in Counter(e.document.group for e in run.examples()).items() if n > 1}
    wholes = [(document, annotation) for document, annotation in films if document.id in several]
    page = write_pages([run], wanted.out / "page", gold=False, wholes=wholes, videos=wanted.videos)
    triples = [triple for document, annotation in films for triple in _triples(document, annotation)]
    return Extracted(run, page, graphs, tuple(triples[:TRIPLES]), run.record().status == "done")


# --- corpus -----------------------------------------------------------------------------------------------------------


def _corpus(wanted: Extraction, sources: Sequence[Source], labels: LabelSet, guidelines: Path) -> Path:
    """The corpus of the sources, made or already there. Raises UserError if there is another one."""
    out, sources_file = wanted.out, wanted.out / "sources.json"
    made_of: dict[str, Any] = {
        "reading": decode(encode(asdict(wanted.reading)), dict[str, Any]),
        "labels_sha256": labels_sha256(labels),
        "sources": [[{"name": file.name, "sha256": sha256_file(file)} for file in s.files] for s in sources],
    }
    shown = {file.name: file for file in guideline_files(guidelines).values()}
    if shown and guidelines != M3D_GUIDELINES:
        made_of["guidelines"] = {name: sha256_file(file) for name, file in shown.items()}
    if not sources_file.exists():
        check_free(out)
    elif (out / "corpus").exists():
        _check_same(sources_file, made_of)
        return out / "corpus"
    record = {"made_of": made_of, "versions": _versions(sources)}
    write_atomic(sources_file, pretty(record))
    try:
        empty = Imported(labels, {SPLIT: []}, {**shown})
        imported, read_as = _read_all(wanted, sources, made_of, empty, out / "parts")
    except UserError:
        if not any((out / "parts").glob("[!.]*")):  # nothing was read: leave no folder
            sources_file.unlink()
            for folder in (out / "parts", out):
                with suppress(OSError):
                    folder.rmdir()
        raise
    write_corpus(out / "corpus", imported, link=True, videos=wanted.videos)
    write_atomic(sources_file, pretty(record | {"read": read_as}))
    shutil.rmtree(out / "parts", ignore_errors=True)
    return out / "corpus"


def _read_all(
    wanted: Extraction, sources: Sequence[Source], made_of: Mapping[str, Any], imported: Imported, parts: Path
) -> tuple[Imported, list[dict[str, Any]]]:
    """(the corpus to write, facts of each source); each source is read once, into its own folder in `parts`."""
    read_as: list[dict[str, Any]] = []
    for name, source, its in _named(sources, made_of["sources"]):
        folder = parts / name
        of = encode({"reading": made_of["reading"], "files": its})
        if not (folder / "read.json").exists() or read_bytes(folder / "made_of.json") != of:
            shutil.rmtree(folder, ignore_errors=True)
            with new_folder(folder) as new:
                read = read_source(source, name, wanted.reading, new)
                (new / "documents.jsonl").write_bytes(lines(encode(document) for document in read.documents))
                (new / "read.json").write_text(
                    pretty({"facts": read.facts, "problems": read.problems}), encoding="utf-8"
                )
                (new / "made_of.json").write_bytes(of)
        read = _read_before(folder)
        for document in read.documents:
            imported.add(SPLIT, Example(document, Annotation(), frozenset(TASKS)))
            imported.images |= {frame.path: folder / frame.path for frame in document.frames}
            if document.video is not None and source.path is not None:
                imported.videos[document.video.path] = source.path
        read_as.append({"name": name, "files": [file.name for file in source.files], **read.facts})
        for problem in read.problems:
            log.warning("%s: %s", source.files[0], problem, extra={"kind": problem})
        if read.problems:
            read_as[-1]["problems"] = read.problems
        log.info("%s: %s", source.files[0], _in_words(read))
    return imported, read_as


def _in_words(read: Read) -> str:
    facts = read.facts
    source = f"subtitles: {facts['subtitles']}" if "subtitles" in facts else f"a {facts['kind']}"
    frames = sum(len(document.frames) for document in read.documents)
    return f"{source}, {facts['language']}; {counted(len(read.documents), 'document')}, {counted(frames, 'frame')}"


def _named(sources: Sequence[Source], files: list[Any]) -> Iterator[tuple[str, Source, Any]]:
    """(unique name, source, its files) of each source."""
    used: set[str] = set()
    for source, its in zip(sources, files, strict=True):
        stem = f"{source.folder}-{source.name}" if source.folder else source.name
        name = unused_id(file_name(stem), used, instead=())
        used.add(name)
        yield name, source, its


def _read_before(folder: Path) -> Read:
    """The content of the folder of a source that was read."""
    try:
        kept = decode(read_bytes(folder / "read.json"), dict[str, Any])
    except WireError as error:
        raise error.at(folder / "read.json") from error
    documents = list(read_lines(folder / "documents.jsonl", lambda line: decode(line, Document)))
    return Read(documents, kept["facts"], kept["problems"])


def _check_same(sources_file: Path, made_of: Mapping[str, Any]) -> None:
    try:
        before = decode(read_bytes(sources_file), dict[str, Any]).get("made_of", {})
    except WireError as error:
        raise error.at(sources_file) from error
    what = {
        "reading": "how the sources are read",
        "labels_sha256": "the labels",
        "guidelines": "the guidelines",
        "sources": "the sources",
    }
    changed = [name for name in what if before.get(name) != made_of.get(name)]
    if changed:
        named = " and ".join(what[name] for name in changed)
        raise UserError.at(
            sources_file.parent, f"was made from something else ({named}): choose another --out, or delete it"
        )


def labels_for(
    labels: Path | None, checkpoint: Path | None, options: Mapping[str, Any], system: str
) -> tuple[LabelSet, Path]:
    """(the types to extract, the folder that may have guidelines for them).

    The types are those given, those that the checkpoint or adapter was trained on, else those of M3D.
    """
    found, folder = _labels_for(labels, checkpoint, options, system)
    return found, M3D_GUIDELINES if found == m3d_labels() and not guideline_files(folder) else folder


def _labels_for(
    labels: Path | None, checkpoint: Path | None, options: Mapping[str, Any], system: str
) -> tuple[LabelSet, Path]:
    if labels is not None:
        return read_labels(labels), labels.parent
    fitted = [Path(p) for p in (checkpoint, options.get("adapter")) if p]
    for folder in (f for path in fitted for f in (path, path.parent)):
        if (folder / "run.json").is_file():
            record = Run(folder).record()
            return record.labels, Path(record.corpus.root)
    if checkpoint is not None:
        folder = find_checkpoint(checkpoint, system)
        if read_done(folder).get("labels_sha256") != labels_sha256(m3d_labels()):
            raise UserError.at(folder, "is not inside a run, which would give its label set: pass --labels")
    log.info("no --labels: the types are those of M3D (people, places, organizations and times)")
    return m3d_labels(), M3D_GUIDELINES


def _versions(sources: Sequence[Source]) -> dict[str, str]:
    films = any(source.kind == "film" and source.path is not None for source in sources)
    return (decoder_versions() if films else {}) | versions_of("m3dllm", "pysubs2", "pillow")


# --- run --------------------------------------------------------------------------------------------------------------


def _note_decoder(run: Run, out: Path) -> None:
    """Record the versions of the decoders that read the sources in the run, too."""
    versions = decode(read_bytes(out / "sources.json"), dict[str, Any]).get("versions", {})
    with run.locked():
        record = run.record()
        if not versions.items() <= record.versions.items():
            run.write_record(replace(record, versions=versions | record.versions))


# --- films ------------------------------------------------------------------------------------------------------------


def _films(run: Run) -> tuple[list[tuple[Document, Annotation]], list[Join]]:
    """Each film as one document with its annotation, chains joined; and the joins."""
    root = Path(run.record().corpus.root)
    predicted = {p.document: p.annotation for p in run.predictions() if p.given is None}
    found = (Found(with_root(e.document, root), predicted.get(e.document.id, Annotation())) for e in run.examples())
    films, joins = [], []
    for film, documents in by_film(found):
        firsts, its = join(film, documents)
        films.append(whole_film(film, documents, firsts))
        joins += its
    return films, joins


def _graphs(run: Run, films: Sequence[tuple[Document, Annotation]], out: Path) -> Path:
    """Write the graph of each film in JSON-LD, one file per film; old files are replaced."""
    record = run.record()
    exporter, notes = EXPORTERS.find("jsonld"), Notes()
    words = {"what": "predictions", "corpus": record.corpus.name, "system": record.system, "run": run.path.name}
    shutil.rmtree(out, ignore_errors=True)
    for document, annotation in films:
        item = Item(file_name(document.id), document, annotation)
        source = held_by(exporter.HOLDS | {"glosses"}, Exported(document.id, record.labels, (item,), words), notes)
        for relative, content in exporter.export(source, notes):
            write_atomic(inside(out, relative), content if isinstance(content, (str, bytes)) else "".join(content))
    for line in notes.lines():
        if not line.startswith("nothing"):
            log.warning("%s: %s", "graph", line)
    return out


def _triples(document: Document, annotation: Annotation) -> Iterator[str]:
    """The relations of a film in words: head, type, tail, and when the first side that is a chain is first named."""
    chains = {chain.id: chain for chain in annotation.chains}
    called = {
        chain.id: max(names(document, chain), key=len, default=name_of(document, chain)) for chain in chains.values()
    }
    called |= {r.id: f"{r.type} in frame {r.frame}" for r in annotation.regions if r.id is not None}
    for relation in annotation.relations:
        named = chains.get(relation.head) or chains.get(relation.tail)
        mentions = named.mentions if named else ()
        starts = [s.start_s for s in document.segments for m in mentions if s.start <= m.start < s.end]
        at = f", {int(starts[0]) // 60}:{int(starts[0]) % 60:02}" if starts else ""
        yield f"{called[relation.head]} —{relation.type}→ {called[relation.tail]}  ({document.id}{at})"
