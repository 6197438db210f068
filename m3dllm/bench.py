"""Experiments in files: systems × corpora × seeds × options, run one after the other, and their report.

    title = "The length of the prompt of a missing modality"
    missing = "thirds"            # as `run --missing`; a system may have its own
    pairs = "gold"                # as `run --pairs`
    paper = "m3d"                 # as `report --paper`; `baseline` likewise

    [[systems]]
    system = "dffm"
    name = "dffm"                 # default: the system's; tells rows of one system apart
    preset = "tiny"
    options = { without = "mmcm" }

    [vary]
    prompt_length = [4, 8, 16]    # an option, or `missing`; several vary together in every combination

Each run has its own folder, so that the same command skips finished runs and resumes an interrupted one.
"""

from __future__ import annotations

import itertools
import logging
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from m3dllm import pipeline
from m3dllm.columns import columns, counted
from m3dllm.config import flag, options_of
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, Pairs, corpus_of, lacking
from m3dllm.files import file_name, read_text, shipped
from m3dllm.options import presets_of, resolve_config
from m3dllm.registry import find_system
from m3dllm.report import write_report
from m3dllm.runs import Run
from m3dllm.types import Lang
from m3dllm.wire import WireError, convert

SHIPPED = shipped("benchmarks/experiments")
"""The experiments that come with the package."""
Value = str | bool | int | float
log = logging.getLogger("m3dllm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A system of an experiment: its name in the tables, preset and options."""

    system: str
    name: str = ""
    preset: str | None = None
    missing: str | None = None
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The contents of an experiment file."""

    title: str
    systems: tuple[Row, ...]
    vary: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    pairs: Pairs = "end-to-end"
    missing: str | None = None
    split: str = "test"
    paper: str | None = None
    baseline: str | None = None


def overview() -> str:
    """The experiments that come with the package, one per line."""
    return "\n".join(columns([(path.stem, read_bench(path).title) for path in sorted(SHIPPED.glob("*.toml"))]))


def find_bench(name: str) -> tuple[str, Bench]:
    """The experiment of that name, or in that file. Raises UserError if there is none."""
    path = Path(name)
    if path.suffix != ".toml":
        path = SHIPPED / f"{file_name(name)}.toml"
        if not path.is_file():
            known = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.toml")))
            raise UserError(f"unknown experiment '{name}'; expected {known}, or a file of your own: NAME.toml")
    return path.stem, read_bench(path)


def read_bench(path: Path) -> Bench:
    """The experiment in a file. Raises UserError with file and place."""
    try:
        bench = convert(tomllib.loads(read_text(path)), Bench)
    except tomllib.TOMLDecodeError as error:
        raise UserError.at(path, f"is not valid TOML: {error}") from error
    except WireError as error:
        raise error.at(path) from error
    names = [row.name or row.system for row in bench.systems]
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise UserError.at(path, f"two systems are named '{twice}': give one of them another name", place="$.systems")
    if not names:
        raise UserError.at(path, "is empty; expected at least one system", place="$.systems")
    if empty := next((option for option, values in bench.vary.items() if not values), None):
        raise UserError.at(path, "has no value", place=f"$.vary.{empty}")
    return bench


def with_values(bench: Bench, words: Sequence[str]) -> Bench:
    """The experiment with other values, each `name=value,value`. Raises UserError for an option that does not vary."""
    vary = dict(bench.vary)
    for word in words:
        name, _, values = word.partition("=")
        name = name.replace("-", "_")
        if name not in vary:
            known = f"expected {' or '.join(vary)}" if vary else "the experiment varies nothing: omit --vary"
            raise UserError(f"--vary {word}: {known}")
        vary[name] = tuple(value.strip() for value in values.split(",") if value.strip())
        if not vary[name]:
            raise UserError(f"--vary {word}: expected {name}=VALUE,VALUE")
    return replace(bench, vary=vary)


def runs_of(
    bench: Bench,
    out: Path,
    *,
    corpora: Sequence[Path | None] = (None,),
    seeds: int = 1,
    preset: str | None = None,
    lang: Lang | None = None,
    limit: int | None = None,
    options: Mapping[str, str] | None = None,
    command: tuple[str, ...] = (),
) -> list[Experiment]:
    """The runs of an experiment, each with its folder under `out`; all systems with one seed before the next seed.

    `preset` and `options` apply to the systems that have them; a system that does not train runs with one seed.

    Raises UserError for an unknown system, an option or preset that none of the systems has or a value that a system
    does not take, and for two runs that would have one folder.
    """
    given = dict(options or {})
    specs = {row.system: find_system(row.system) for row in bench.systems}
    known = {name: {option.name for option in options_of(spec.config_class())} for name, spec in specs.items()}
    has_preset = {name for name, spec in specs.items() if preset in presets_of(spec.config_class())}
    for name in (*given, *(name for name in bench.vary if name != "missing")):
        if not any(name in of for of in known.values()):
            named = ", which [vary] names" if name in bench.vary else ""
            raise UserError(f"none of {', '.join(specs)} has an option {flag(name)}{named}")
    if preset is not None and not has_preset:
        raise UserError(f"none of {', '.join(specs)} has a preset '{preset}'")
    found = []
    for seed, corpus, row in itertools.product(range(seeds), corpora, bench.systems):
        if seed and not specs[row.system].trainable:
            continue
        for values in _combinations(row, bench.vary, known[row.system]):
            hidden = values.pop("missing", row.missing or bench.missing)
            own = {name: value for name, value in given.items() if name in known[row.system]}
            experiment = Experiment(
                system=row.system,
                corpus=corpus,
                split=bench.split,
                lang=lang,
                pairs=bench.pairs,
                missing=None if hidden is None else str(hidden),
                preset=preset if row.system in has_preset else row.preset,
                seed=seed,
                limit=limit,
                options={**row.options, **values, **own},
                command=command,
            )
            resolve_config(specs[row.system], experiment.options, preset=experiment.preset, seed=seed)
            found.append(replace(experiment, out=_place(out, experiment, row, bench.vary)))
    _check_places(found)
    return found


def _check_places(experiments: Sequence[Experiment]) -> None:
    """Raises UserError for two runs in one folder: of one corpus, of corpora of one name, or with one value twice."""
    places: dict[str, Experiment] = {}
    for experiment in experiments:
        other = places.setdefault(str(experiment.out), experiment)
        if other is not experiment:
            what = " and ".join(f"'{_words(one)}' of {one.corpus or 'demo'}" for one in (other, experiment))
            remedy = "give each corpus and value once, and corpora different names"
            raise UserError.at(str(experiment.out), f"would be the folder of two runs, {what}: {remedy}")


def run_all(experiments: Sequence[Experiment]) -> tuple[list[Run], list[str]]:
    """Do the runs one after the other. Returns those that finished, and a line for each that failed.

    Runs that cannot be done on their corpus are skipped: see `unmet`.
    """
    done: list[Run] = []
    failed: list[str] = []
    seconds: list[float] = []
    experiments = [experiment for experiment in experiments if not unmet(experiment)]
    is_fresh = [not is_done(experiment) for experiment in experiments]
    to_do = sum(is_fresh)
    for i, (experiment, fresh) in enumerate(zip(experiments, is_fresh, strict=True), start=1):
        words = _short(experiment)
        began = time.perf_counter()
        left = f", about {sum(seconds) / len(seconds) * to_do / 60:.0f} min left" if seconds else ""
        log.info("run %d of %d: %s%s", i, len(experiments), words, left if fresh else ", already done")
        to_do -= fresh
        try:
            done.append(pipeline.run(experiment))
        except UserError as error:
            failed.append(f"{words}: {error}")
            log.warning("failed: %s", failed[-1])
        if fresh:
            seconds.append(time.perf_counter() - began)
    return done, failed


def is_done(experiment: Experiment) -> bool:
    """Whether the run is already finished in its folder."""
    run = Run(Path(str(experiment.out)))
    try:
        return run.record().status == "done" and (run.path / "scores.json").is_file()
    except UserError:
        return False


def unmet(experiment: Experiment) -> str:
    """What the corpus lacks for this run, in words, such as "needs frames"; "" where nothing."""
    spec = find_system(experiment.system)
    if len(spec.modalities) != 1:
        return ""
    what = lacking(spec, corpus_of(experiment)[experiment.split])
    return f"needs {what}" if what else ""


def not_run(experiments: Sequence[Experiment]) -> list[str]:
    """A line for each run that its corpus does not allow."""
    return [f"{_short(one)}: {why}" for one in experiments if (why := unmet(one))]


def report(bench: Bench, runs: Sequence[Run], out: Path) -> Path:
    """Write the report of the runs, and return its page; a baseline that is not among them is named in the log."""
    names = {run.path.name for run in runs} | {run.record().system for run in runs}
    if bench.baseline is not None and bench.baseline not in names:
        log.warning("baseline '%s' is not among the finished runs: compared with the best one only", bench.baseline)
    baseline = bench.baseline if bench.baseline in names else None
    return write_report([run.path for run in runs], out, paper=bench.paper, baseline=baseline)


def listing(experiments: Sequence[Experiment]) -> str:
    """The runs, one per line, with their status."""
    rows = [(_status(one), str(one.out), _words(one)) for one in experiments]
    left = sum(row[0] == "left" for row in rows)
    return "\n".join([*columns(rows), f"{counted(len(rows), 'run')}, {left} left"])


def _status(experiment: Experiment) -> str:
    if is_done(experiment):
        return "done"
    return unmet(experiment) or "left"


def _short(experiment: Experiment) -> str:
    return "/".join(Path(str(experiment.out)).parts[-2:])


def _combinations(row: Row, vary: Mapping[str, Sequence[Value]], known: set[str]) -> Iterator[dict[str, Value]]:
    """Every combination of the values that vary for this system; an option that it lacks is not varied."""
    own = {name: values for name, values in vary.items() if name in known or name == "missing"}
    for values in itertools.product(*own.values()):
        yield dict(zip(own, values, strict=True))


def _place(out: Path, experiment: Experiment, row: Row, vary: Mapping[str, Sequence[Value]]) -> Path:
    corpus = "demo" if experiment.corpus is None else Path(experiment.corpus).resolve().name
    varied = {**experiment.options, "missing": experiment.missing}
    parts = [
        row.name or row.system,
        *(f"{name}-{varied[name]}" for name in vary if name in varied),
        f"seed{experiment.seed}",
    ]
    parts += [experiment.lang] if experiment.lang else []
    return out / file_name(corpus) / file_name("-".join(map(str, parts)))


def _words(experiment: Experiment) -> str:
    options = [f"{name}={value}" for name, value in experiment.options.items()]
    preset = [f"preset {experiment.preset}"] if experiment.preset else []
    return " ".join(
        [experiment.system, *preset, *options, *([f"missing {experiment.missing}"] if experiment.missing else [])]
    )
