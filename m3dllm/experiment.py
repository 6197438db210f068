"""An experiment as the user describes it, checked before anything slow is loaded.

An `Experiment` holds the values that the user gave; `plan` turns them into a `Plan`: the system's spec and resolved
options, the documents as the system will get them, and the record for `run.json`.
"""

from __future__ import annotations

import glob
import hashlib
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from m3dllm.config import FIT, INCIDENTAL, Options, flag, named
from m3dllm.corpora.missing import KINDS, Manifest, manifest_of, read_kind, read_manifest, show
from m3dllm.corpora.native import Corpus, load_corpus
from m3dllm.corpora.split import hold_out
from m3dllm.errors import UserError
from m3dllm.files import file_name, is_within, read_bytes, sha256_file, shipped
from m3dllm.labels import LabelSet
from m3dllm.options import default_values, public, public_command, resolve_config
from m3dllm.registry import find_system
from m3dllm.runs import CorpusRecord, Run, RunRecord
from m3dllm.stream import heads, pick
from m3dllm.system import SystemSpec, versions_of
from m3dllm.types import TASKS, Annotation, Example, GivenKind, Lang, Task
from m3dllm.wire import WireError, check_labels, convert, decode, encode

Pairs = Literal["end-to-end", "gold", "both"]
Executor = Literal["local", "ray"]
CHECKPOINTS = shipped("checkpoints")
"""The checkpoints that come with the package, in <system>/<name>."""
PASSES: dict[Pairs, tuple[GivenKind | None, ...]] = {
    "end-to-end": (None,),
    "gold": (None, "mentions", "chains"),
    "both": (None, "mentions", "chains"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One run: a system, its options, and a split of a corpus. `m3dllm.run` takes it.

    m3dllm.run(m3dllm.Experiment(system="majority", corpus="corpora/mine", pairs="both", limit=8))
    """

    system: str
    """The system; 'm3dllm systems' lists them."""
    corpus: Path | str | None = None
    """A native corpus; None: the embedded demo corpus."""
    train: str = "train"
    """The split to train on, and to take few-shot examples from."""
    dev: str = "dev"
    """The split for model selection; if there is none, a part of train."""
    split: str = "test"
    """The split to predict."""
    lang: Lang | None = None
    """Only the documents of this language."""
    pairs: Pairs = "end-to-end"
    """Chains and relations over predicted mentions and chains, over gold ones (given), or both."""
    tasks: tuple[Task, ...] | None = None
    """The tasks to score; None: all tasks of the system."""
    missing: str | None = None
    """ "text", "video", "thirds", a share of the documents such as "0.4", or the file of a manifest."""
    preset: str | None = None
    """A named set of the system's options."""
    checkpoint: Path | str | None = None
    """A trained run, the checkpoint in it, or the name of one that comes with the package, such as "demo"."""
    seed: int = 0
    """Random seed."""
    limit: int | None = None
    """Only the first N documents of the split, in each language."""
    limit_train: int | None = None
    """Only the first N documents of the train split, in each language."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The system's own options, by field name; strings are parsed as the field's type."""
    shard: str | None = None
    """ "2/8": only the second of eight parts of the documents, as a separate run; see `shards`."""
    out: Path | str | None = None
    """The run directory; None: runs/<system>-<corpus>-<split>-<hash>. That of a shard is <run>-2-of-8."""
    linked_frames: bool = False
    """Whether frames may be links to files outside the corpus."""
    executor: Executor = "local"
    """Where the system runs: in this process, or in Ray workers on this machine or on a cluster."""
    address: str | None = None
    """With Ray, the address of the cluster; None: this machine."""
    workers: int | None = None
    """With Ray, the number of parallel workers, each with its own model; None: as many as there is room for."""
    command: tuple[str, ...] = ()
    """The command line, kept with the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked experiment. `test` holds the full documents; `shown` those parts that the system gets."""

    experiment: Experiment
    spec: SystemSpec
    config: Any
    corpus: Corpus
    train: Sequence[Example]
    """As the system gets them: a document without a modality has no gold of that modality."""
    dev: Sequence[Example]
    test: Sequence[Example]
    passes: tuple[GivenKind | None, ...]
    checkpoint: Path | None
    record: RunRecord
    path: Path
    notes: tuple[str, ...]
    """Messages for the user before the run begins."""
    defaults: Mapping[str, Any]
    """The defaults of the system's options, in the form of the record."""
    fits: bool
    """Whether the system is trained on `train` before it predicts."""


def plan(experiment: Experiment, *, only_fit: bool = False) -> Plan:
    """Check the experiment and find everything that it names. `only_fit`: train only, as `m3dllm fit` does.

    Raises UserError for an unknown system or option, a language, task or protocol that the system does not declare, a
    missing corpus or split, or a checkpoint of another system or label set.
    """
    spec = find_system(experiment.system)
    others = {f.name for f in fields(Experiment)} - {"options", "command"}
    config = resolve_config(
        spec, experiment.options, preset=experiment.preset, seed=experiment.seed, besides=sorted(others)
    )
    spec = spec.declared(config)
    tasks = _tasks(experiment, spec)
    if experiment.pairs != "end-to-end" and not spec.takes_given:
        raise UserError(f"system '{spec.name}' does not take given mentions and chains: only --pairs end-to-end")
    if experiment.pairs not in PASSES:
        raise UserError(f"--pairs {experiment.pairs}: expected {', '.join(PASSES)}")
    for name in ("limit", "limit_train"):
        if (most := getattr(experiment, name)) is not None and most < 1:
            raise UserError(f"{flag(name)} {most} leaves no document: expected 1 or more")
    _check_executor(experiment)
    spec.require(config)
    notes = [] if experiment.corpus else ["no --corpus given: the embedded demo corpus is used"]
    corpus = corpus_of(experiment)
    if what := lacking(spec, corpus[experiment.split]):
        raise UserError(f"system '{spec.name}' needs {what}, and no document of split '{experiment.split}' has any")
    notes += _shared_groups(corpus)
    fits = spec.trainable and (spec.fits_first or only_fit) and experiment.checkpoint is None
    parts = _parts(experiment, spec, corpus, fits=fits)
    for name, part, split in (("limit", parts.test, experiment.split), ("limit_train", parts.train, parts.train_name)):
        if split and (most := getattr(experiment, name)) is not None:
            languages = {head.lang for head in heads(part)}
            of = sum(head.lang in languages for head in heads(corpus[split]))
            notes.append(f"{flag(name)} {most}: {len(part)} of {of} documents of '{split}', the first of each language")
    if parts.dev and parts.dev_name is None:
        notes.append(f"no dev split: {len(parts.dev)} of the train documents are held out for model selection")
    checkpoint, checkpoint_hash, warning = _checkpoint(experiment, spec, corpus)
    if isinstance(config, Options):
        config = config.settled(corpus.root, checkpoint)
    if not fits and (idle := [flag(name) for name in named(spec.config_class(), FIT) if name in experiment.options]):
        notes.append(f"{', '.join(idle)}: only has an effect in training, and nothing is trained here")
    manifest = None
    if experiment.missing is not None:
        manifest = _manifest(experiment, corpus, parts)
        parts = parts.seen(manifest)
    read = ("labels", experiment.split, parts.train_name, parts.dev_name)
    record = RunRecord(
        system=spec.name,
        config=public(config),
        preset=experiment.preset,
        seed=experiment.seed,
        pairs=experiment.pairs,
        tasks=tasks,
        missing=None if manifest is None else decode(encode(manifest), dict[str, Any]),
        checkpoint=checkpoint_hash,
        sources=dict(config.sources()) if isinstance(config, Options) else {},
        corpus=CorpusRecord(
            name=corpus.name,
            root=str(corpus.root.resolve()),
            split=experiment.split,
            train=parts.train_name,
            dev=parts.dev_name,
            lang=experiment.lang,
            limit=experiment.limit,
            limit_train=experiment.limit_train,
            sha256={name: value for name, value in sorted(corpus.hashes.items()) if Path(name).stem in read},
        ),
        labels=corpus.labels,
        summary=spec.summary,
        trains=spec.trainable and (fits or checkpoint is not None),
        incidental=named(type(config), INCIDENTAL, *([] if fits else [FIT])) if config is not None else (),
        notes=warning,
        command=public_command(experiment.command, config),
        versions={"python": platform.python_version()} | versions_of(*PACKAGES),
        git=_git_revision(),
        device=_device(),
        started=now(),
    )
    defaults = default_values(spec.config_class())
    path = Path(experiment.out or _run_path(record, defaults, alone=fits and not spec.fits_first))
    test = parts.test
    if experiment.shard is not None:
        i, n = read_shard(experiment.shard)
        if fits:
            fit = f"fit it once with 'm3dllm fit --system {spec.name}', and give --checkpoint"
            raise UserError(f"--shard: system '{spec.name}' would be fitted again in each shard: {fit}")
        if i > len(test):
            raise UserError(f"--shard {i}/{n} is empty: there are {len(test)} documents. Use fewer shards")
        test = pick(test, range(i - 1, len(test), n))
        notes.append(f"--shard {i}/{n}: {len(test)} of {len(parts.test)} documents")
        record = replace(record, corpus=replace(record.corpus, shard=f"{i}/{n}"))
        path = path.with_name(f"{path.name}-{i}-of-{n}")
    return Plan(
        experiment=experiment,
        spec=spec,
        config=config,
        corpus=corpus,
        train=parts.train,
        dev=parts.dev,
        test=test,
        passes=PASSES[experiment.pairs],
        checkpoint=checkpoint,
        record=record,
        path=path,
        defaults=defaults,
        notes=(*notes, *warning),
        fits=fits,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """The documents of a run. A part without a name is not a split of the corpus."""

    test: Sequence[Example]
    train: Sequence[Example] = ()
    train_name: str | None = None
    dev: Sequence[Example] = ()
    dev_name: str | None = None

    def seen(self, manifest: Manifest) -> _Parts:
        """The parts to train on, as the system gets them."""
        train, dev = (tuple(without_unseen(e, manifest) for e in part) for part in (self.train, self.dev))
        return replace(self, train=train, dev=dev)


def _parts(experiment: Experiment, spec: SystemSpec, corpus: Corpus, *, fits: bool) -> _Parts:
    test = _first(_readable(corpus, experiment.split, experiment.lang, spec), experiment.limit)
    there = experiment.train in corpus.splits and experiment.train != experiment.split
    if not fits:  # train only provides few-shot examples
        if experiment.train != "train":
            corpus[experiment.train]  # raises UserError if it is not there
        examples = corpus[experiment.train] if there else ()
        wanted = (experiment.lang,) if experiment.lang else spec.languages
        train = pick(examples, [i for i, head in enumerate(heads(examples)) if head.lang in wanted])
        return _Parts(test, _first(train, experiment.limit_train), experiment.train if there else None)
    if not there:
        why = "is the split to predict" if experiment.train == experiment.split else "is not there"
        message = f"has no train split: '{experiment.train}' {why}; it has {', '.join(corpus.splits)}"
        remedy = "Give one by --train, make one with 'm3dllm split', or pass --checkpoint"
        raise UserError.at(corpus.root, f"{message}. {remedy}")
    train = _first(_readable(corpus, experiment.train, experiment.lang, spec), experiment.limit_train)
    if experiment.dev != "dev":
        corpus[experiment.dev]  # raises UserError if it is not there
        if experiment.dev in (experiment.split, experiment.train):
            what = "predict" if experiment.dev == experiment.split else "train on"
            raise UserError(f"--dev {experiment.dev}: is the split to {what}: choose another, or omit it")
    if experiment.dev in corpus.splits and experiment.dev not in (experiment.split, experiment.train):
        dev = _readable(corpus, experiment.dev, experiment.lang, spec)
        return _Parts(test, train, experiment.train, dev, experiment.dev)
    train, dev = hold_out(train, seed=experiment.seed)
    return _Parts(test, train, experiment.train, dev)


def read_shard(words: str) -> tuple[int, int]:
    """(index, number of shards), the index from 1. Raises UserError if `words` is not like "2/8"."""
    found = re.fullmatch(r"(\d+)/(\d+)", words.strip())
    i, n = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= i <= n:
        raise UserError(f"--shard {words}: expected I/N, such as 2/8 for the second of eight, counted from 1")
    return i, n


def _first(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """The first `limit` documents of each language."""
    if limit is None:
        return examples
    seen: Counter[str] = Counter()
    kept = []
    for i, head in enumerate(heads(examples)):
        seen[head.lang] += 1
        if seen[head.lang] <= limit:
            kept.append(i)
    return pick(examples, kept)


def without_unseen(example: Example, manifest: Manifest) -> Example:
    """`example` without the modality that its subset hides, and without the gold of that modality."""
    subset = manifest.documents[example.document.id]
    document, gold = show(example.document, subset), example.gold
    if subset == "no_text":
        gold = Annotation(regions=tuple(replace(region, chain=None) for region in gold.regions))
    elif subset == "no_video":
        gold = replace(gold, regions=())
    return Example(document, gold, example.unannotated)


# --- checks -----------------------------------------------------------------------------------------------------------


def lacking(spec: SystemSpec, examples: Sequence[Example]) -> str:
    """What a system of one modality needs, "frames" or "text", where no document has it; else ""."""
    if spec.modalities == {"video"}:
        return "" if any(example.document.frames for example in examples) else "frames"
    if spec.modalities == {"text"}:
        return "" if any(example.document.text for example in examples) else "text"
    return ""


def _tasks(experiment: Experiment, spec: SystemSpec) -> tuple[Task, ...]:
    if experiment.tasks is not None and (isinstance(experiment.tasks, str) or not experiment.tasks):
        raise UserError(f"tasks {experiment.tasks!r}: expected some of {', '.join(TASKS)}")
    asked = experiment.tasks or tuple(task for task in TASKS if task in spec.tasks)
    if missing := [task for task in asked if task not in spec.tasks]:
        answers = ", ".join(task for task in TASKS if task in spec.tasks) or "none"
        raise UserError(f"system '{spec.name}' does not answer {', '.join(missing)}; it answers {answers}")
    return tuple(task for task in TASKS if task in asked)


def _check_executor(experiment: Experiment) -> None:
    if experiment.executor not in (known := get_args(Executor)):
        raise UserError(f"--executor {experiment.executor}: expected {' or '.join(known)}")
    for name in ("address", "workers"):
        if experiment.executor != "ray" and getattr(experiment, name) is not None:
            raise UserError(f"{flag(name)} needs --executor ray")
    if experiment.workers is not None and experiment.workers < 1:
        raise UserError(f"--workers {experiment.workers}: expected 1 or more")


def _readable(corpus: Corpus, split: str, lang: Lang | None, spec: SystemSpec) -> Sequence[Example]:
    """The documents of a split in `lang` (None: all). Raises UserError if there are none, or one cannot be read."""
    if lang is not None and lang not in spec.languages:
        raise UserError(f"system '{spec.name}' does not read {lang}; it reads {', '.join(sorted(spec.languages))}")
    languages = [head.lang for head in heads(corpus[split])]
    kept = [i for i, of in enumerate(languages) if lang in (None, of)]
    if not kept:
        raise UserError(f"split '{split}' has no document in '{lang}'")
    for found in sorted({languages[i] for i in kept}.difference(spec.languages)):
        n = languages.count(found)
        others = " or ".join(f"--lang {name}" for name in sorted(spec.languages))
        what = f"does not read {found}, the language of {n} documents of '{split}'"
        raise UserError(f"system '{spec.name}' {what}: choose {others}")
    return pick(corpus[split], kept)


def corpus_of(experiment: Experiment) -> Corpus:
    """The corpus of the experiment. Raises UserError for the first problem in it."""
    root = experiment.corpus
    if not root:
        from m3dllm.corpora.demo import demo_corpus  # draws pictures: loaded only when needed

        root = demo_corpus()
    return load_corpus(root, linked_frames=experiment.linked_frames)


def _shared_groups(corpus: Corpus) -> list[str]:
    places: dict[str, set[str]] = {}
    for split, examples in corpus.splits.items():
        for head in heads(examples):
            if head.group:
                places.setdefault(head.group, set()).add(split)
    shared = sorted(group for group, splits in places.items() if len(splits) > 1)
    if not shared:
        return []
    more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    return [
        f"group '{shared[0]}'{more} is in two splits: a system trains on one of its clips and is evaluated on another"
    ]


def _manifest(experiment: Experiment, corpus: Corpus, parts: _Parts) -> Manifest:
    """The modalities of each document, decided over whole splits, so that no language, limit or seed changes them."""
    missing = str(experiment.missing)
    if (kind := read_kind(missing)) is not None:
        names = [name for name in (experiment.split, parts.train_name, parts.dev_name) if name]
        manifest = manifest_of([corpus[name] for name in names], kind=kind[0], share=kind[1])
    elif Path(missing).exists():
        manifest = read_manifest(Path(missing))
    else:
        raise UserError(
            f"--missing {missing}: expected {', '.join(KINDS)}, a share from 0 to 1, or the file of a manifest"
        )
    ids = [head.id for part in (parts.train, parts.dev, parts.test) for head in heads(part)]
    for name in ids:
        if name not in manifest.documents:
            raise UserError.at(missing, f"does not name document '{name}': make it from this corpus")
    return replace(manifest, documents={name: manifest.documents[name] for name in ids})


def _checkpoint(
    experiment: Experiment, spec: SystemSpec, corpus: Corpus
) -> tuple[Path | None, str | None, tuple[str, ...]]:
    """(its folder, its hash, messages about it)."""
    if experiment.checkpoint is None:
        return None, None, ()
    folder, done = fitting_checkpoint(experiment.checkpoint, spec, corpus.labels)
    return folder, sha256_file(folder / "done.json"), _notes_on(done, corpus, experiment.split)


def fitting_checkpoint(given: Path | str, spec: SystemSpec, labels: LabelSet) -> tuple[Path, dict[str, Any]]:
    """(the folder of a checkpoint, its `done.json`). Raises UserError if it is not of this system and label set."""
    if not spec.trainable:
        raise UserError(f"system '{spec.name}' takes no checkpoint: omit --checkpoint")
    folder = find_checkpoint(given, spec.fitted_name)
    done = read_done(folder)
    if done["system"] != spec.fitted_name:
        raise UserError.at(folder, f"is a checkpoint of system '{done['system']}', not of '{spec.fitted_name}'")
    check_labels(done["labels_sha256"], labels, folder)
    return folder, done


def find_checkpoint(given: Path | str, system: str) -> Path:
    """The folder of a checkpoint, given by its run, its folder, or its name among those of `system` in the package."""
    for folder in (Path(given) / "checkpoint", Path(given), CHECKPOINTS / system / given):
        if (folder / "done.json").is_file():
            return folder
    return Path(given)


def _notes_on(done: Mapping[str, Any], corpus: Corpus, split: str) -> tuple[str, ...]:
    """A message if the checkpoint was trained or selected on the split to predict, and one if it was trained on another
    corpus."""
    fitted = convert(done["corpus"], CorpusRecord)
    asked = corpus.hashes.get(f"{split}.jsonl")
    for name, what in ((fitted.train, "fitted to"), (fitted.dev, "chosen by")):
        if name is not None and asked is not None and fitted.sha256.get(f"{name}.jsonl") == asked:
            return (f"the checkpoint was {what} '{name}', the same documents that it is evaluated on",)
    if fitted.sha256.get(f"{fitted.train}.jsonl") not in corpus.hashes.values():
        return (f"the checkpoint was fitted to another corpus: {fitted.name}",)
    return ()


def read_done(folder: Path) -> dict[str, Any]:
    """The `done.json` of a checkpoint. Raises UserError if it, or a file that it names, is missing or changed."""
    file = folder / "done.json"
    if not file.is_file():
        what = "has no done.json: its fit did not finish" if folder.is_dir() else "does not exist"
        raise UserError.at(folder, f"{what}; expected a checkpoint that 'm3dllm fit' wrote")
    try:
        done = decode(read_bytes(file), dict[str, Any])
        files = dict(done["files"])
    except (WireError, KeyError, TypeError, ValueError) as error:
        raise UserError.at(file, "is not a checkpoint record: fit again") from error
    for name, expected in files.items():
        if not is_within(folder, name):
            raise UserError.at(file, f"lists '{name}', which is not in the checkpoint: fit again")
        if sha256_file(folder / name) != expected:
            raise UserError.at(folder / name, "is not the file that the fit wrote (truncated or changed): fit again")
    return done


# --- record -----------------------------------------------------------------------------------------------------------


def _run_path(record: RunRecord, defaults: Mapping[str, Any], *, alone: bool) -> Path:
    """The run's default folder in runs/; if it does not exist, one with the same identity from another version.

    `alone`: a run that only trains.
    """
    digest = hashlib.sha256(repr(sorted(record.identity().items())).encode()).hexdigest()[:8]
    what = "fit" if alone else record.corpus.split
    name = "-".join(map(file_name, (record.system, record.corpus.name, what)))
    path = Path("runs") / f"{name}-{digest}"
    if not path.exists():
        for other in sorted(path.parent.glob(f"{glob.escape(name)}-????????")):
            with suppress(UserError):
                if not any(Run(other).record().differences(record, defaults=defaults)):
                    return other
    return path


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


PACKAGES = ("m3dllm", "numpy", "scipy", "msgspec", "torch", "transformers", "peft", "vllm", "outlines", "llguidance")


def _git_revision() -> str | None:
    """The commit of the checkout that this package runs from, with "+" if it has changes; None if installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return revision + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603


def _device() -> str:
    return f"{platform.system()} {platform.machine()}, {platform.processor() or sys.platform}"
