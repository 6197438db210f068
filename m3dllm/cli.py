"""The command line: each verb parses, calls one function, and prints what it returns.

Results go to stdout, progress and logs to stderr. Exit 0: done; 1: a bug of ours, with its traceback; 2: something the
user can mend, in one line, or documents that failed. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import functools
import gc
import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3dllm import corpus_verbs, formats, page_verbs, tools
from m3dllm.commands import (
    ADVANCED,
    Address,
    Command,
    Executor,
    ExecutorOption,
    JsonOption,
    LinkedFrames,
    Listing,
    Seed,
    Threshold,
    Workers,
    say,
)
from m3dllm.ending import Terminal, one_line
from m3dllm.errors import UserError, printable
from m3dllm.extract import verb as extraction
from m3dllm.serve import verb as serving

if TYPE_CHECKING:
    from m3dllm.experiment import Experiment
    from m3dllm.types import Task

ORDER: tuple[str, ...] = (
    *("systems", "import", "check", "split", "merge", "run", "fit", "predict", "gather", "normalize", "score"),
    *("report", "view", "export", "extract", "serve", "bench", "adapters", "prompts", "calibrate-boxes"),
)
"""The commands in the order of the work."""


class Ordered(Listing):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="m3dllm",
    cls=Ordered,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
as_verb = functools.partial(app.command, cls=Command)


class Pairs(StrEnum):
    end_to_end = "end-to-end"
    gold = "gold"
    both = "both"


class Modality(StrEnum):
    available = "available"
    all = "all"


def main() -> None:
    """The entry point: `app` with errors in one line and the exit codes."""
    gc.set_threshold(100_000, 50, 100)  # documents are many small long-lived objects: the defaults double the cost
    terminal = Terminal(verbose=_takes("--verbose"))
    logging.basicConfig(level=logging.INFO, handlers=[terminal])

    def command() -> None:
        _check_names()
        try:
            code = app(standalone_mode=False)
        finally:
            terminal.sum_up()
        sys.stdout.flush()
        raise SystemExit(code)

    one_line(command)


def _takes(flag: str) -> bool:
    """Whether the command line has this flag, which may follow any verb; it is removed from `sys.argv`."""
    there = flag in sys.argv
    sys.argv = [word for word in sys.argv if word != flag]
    return there


def _check_names() -> None:
    """Raises UserError if an argument or the working directory is not valid Unicode: no file of a run could hold it."""
    for word in (*sys.argv[1:], str(Path.cwd())):
        if not word.isascii() and word != word.encode("utf-8", "replace").decode():
            raise UserError(f"the name {word!r} is not UTF-8: rename it, or work in another folder")


# --- run and its parts ------------------------------------------------------------------------------------------------

LangOption = Annotated[extraction.Lang | None, typer.Option("--lang", help="Only documents in this language.")]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        help="Also score by any_match, undirected, exact_chains, no_singletons, triple, iou=X or released; repeatable.",
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", rich_help_panel=ADVANCED, help="Also retry documents whose failure is permanent."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=ADVANCED,
        help="Only part I of N of the documents, such as 2/8, as a separate run: see 'm3dllm gather'.",
    ),
]


def _words(
    context: typer.Context,
    system: Annotated[str, typer.Option(help="The system: see 'm3dllm systems'.", show_default=False)],
    corpus: Annotated[Path | None, typer.Option(help="A native corpus; default: the embedded demo corpus.")] = None,
    train: Annotated[str, typer.Option(help="The split for training and few-shot examples.")] = "train",
    dev: Annotated[str, typer.Option(help="The split for model selection; if missing, a part of train.")] = "dev",
    split: Annotated[str, typer.Option(help="The split to predict.")] = "test",
    lang: LangOption = None,
    pairs: Annotated[
        Pairs,
        typer.Option(
            help="Predict chains and relations from the predicted mentions and chains, from the gold ones, or both."
        ),
    ] = Pairs.end_to_end,
    tasks: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=ADVANCED, help="The tasks to score, separated by commas; default: all the system predicts."
        ),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="Hide a modality: text, video, thirds, a share of the documents such as 0.4 (half of them lose text, "
            "half frames), or a manifest file."
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A named set of the system's options.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A trained system: its run, the checkpoint in it, or 'demo' (of dffm).")
    ] = None,
    seed: Seed = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Predict only the first N documents of each language.")
    ] = None,
    limit_train: Annotated[
        int | None,
        typer.Option(rich_help_panel=ADVANCED, min=1, help="Train only on the first N documents of each language."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the run; default: runs/<system>-<corpus>-<split>-<hash>.")
    ] = None,
    linked_frames: LinkedFrames = False,
) -> Experiment:
    from m3dllm.experiment import Experiment
    from m3dllm.options import parse_options

    return Experiment(
        system=system,
        corpus=corpus,
        train=train,
        dev=dev,
        split=split,
        lang=lang.value if lang else None,
        pairs=pairs.value,
        tasks=None if tasks is None else _task_names(tasks),
        missing=missing,
        preset=preset,
        checkpoint=checkpoint,
        seed=seed,
        limit=limit,
        limit_train=limit_train,
        out=out,
        linked_frames=linked_frames,
        options=parse_options(context.args),
        command=("m3dllm", *sys.argv[1:]),
    )


def _task_names(text: str) -> tuple[Task, ...]:
    from m3dllm.types import TASKS

    names = [name.strip() for name in text.split(",") if name.strip()]
    if odd := [name for name in names if name not in TASKS]:
        raise UserError(f"--tasks: unknown task '{odd[0]}'; the tasks are {', '.join(TASKS)}")
    if not names:
        raise UserError(f"--tasks is empty; expected some of {', '.join(TASKS)}")
    return tuple(task for task in TASKS if task in names)


def experiment_verb(verb: Callable[..., None]) -> None:
    """Make `verb(experiment, …)` a command with the options of an experiment, those of its system, and its own."""
    shared = _parameters(_words)
    own = _parameters(verb)[1:]

    def command(**values: Any) -> None:
        words = {parameter.name: values.pop(parameter.name) for parameter in shared}
        verb(_words(**words), **values)

    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__signature__ = inspect.Signature(shared + own)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in shared + own}
    as_verb(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(command)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    later = {"Experiment": Any}  # not imported yet: `--help` must not wait for it
    return list(inspect.signature(function, eval_str=True, locals=later).parameters.values())


@experiment_verb
def run(
    experiment: Experiment,
    variant: Variants = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the first prompt, write its grammar to a file, and stop.")
    ] = False,
    retry_failed: RetryFailed = False,
    json: JsonOption = False,
    shard: Shard = None,
    executor: ExecutorOption = Executor.local,
    address: Address = None,
    workers: Workers = None,
) -> None:
    """Train if needed, predict, score and print F1.

    Run the same command again to resume an interrupted run; 'm3dllm score RUN' prints all its scores. The system's own
    options follow as --name value; 'm3dllm systems NAME' lists them.
    """
    from m3dllm import pipeline

    experiment = replace(experiment, shard=shard, executor=executor.value, address=address, workers=workers)
    if dry_run:
        say(pipeline.preview(experiment))
        return
    done = pipeline.run(experiment, variants=tuple(variant or ()), retry_failed=retry_failed)
    _print_scores(done, json=json, whole=False)
    if complaint := pipeline.complaint(done):
        raise UserError(complaint)
    if done.failed():
        raise SystemExit(2)


@experiment_verb
def fit(
    experiment: Experiment,
    processes: Annotated[
        int, typer.Option(min=1, help="The number of training processes on this machine, each with its own GPU.")
    ] = 1,
) -> None:
    """Train a system, without predicting.

    'm3dllm run' with the same options then uses it; a tuned video LLM is used by --adapter.
    """
    from m3dllm import pipeline
    from m3dllm.processes import is_first

    done = pipeline.fit(experiment, processes=processes)
    if is_first():
        say(str(done.checkpoint))


@experiment_verb
def predict(
    experiment: Experiment,
    retry_failed: RetryFailed = False,
    shard: Shard = None,
    executor: ExecutorOption = Executor.local,
    address: Address = None,
    workers: Workers = None,
) -> None:
    """Predict, without scoring.

    Systems that train need a finished checkpoint. Prints the path of the raw answers: the run's raw.jsonl.
    """
    from m3dllm import pipeline

    experiment = replace(experiment, shard=shard, executor=executor.value, address=address, workers=workers)
    done = pipeline.predict(experiment, retry_failed=retry_failed)
    say(str(done.path / "raw.jsonl"))
    if done.failed():
        raise SystemExit(2)


@as_verb()
def gather(
    shards: Annotated[
        list[Path], typer.Argument(metavar="SHARD", help="The folders of the shards.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="The folder of the run; default: next to the shards.")] = None,
    json: JsonOption = False,
) -> None:
    """Combine the shards of a run into one run, and score it.

    It is an error if shards are missing, duplicate, unfinished or of different runs.
    """
    from m3dllm.shards import gather as gather_shards

    done = gather_shards(shards, out)
    _print_scores(done, json=json, whole=False)
    if done.failed():
        raise SystemExit(2)


@as_verb(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="An experiment that '--list' lists, or your own TOML file.")
    ] = None,
    corpus: Annotated[
        list[Path] | None, typer.Option(help="A native corpus; repeatable; default: the embedded demo corpus.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A preset, for the systems that have it.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="The number of seeds, for systems that train.")] = 3,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="Other values for an option that varies, such as prompt_length=4,16; repeatable."),
    ] = None,
    lang: LangOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N documents of each language.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder for the runs and the report; default: bench/NAME.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the experiments that come with the package.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs: which are done, which are left.")] = False,
    executor: ExecutorOption = Executor.local,
    address: Address = None,
    workers: Workers = None,
) -> None:
    """Run the paper's experiments, or your own.

    Run the same command again to skip finished runs and resume an interrupted one. Options of the systems follow as
    --name value; each applies to the systems that have it.
    """
    from m3dllm import bench as benches
    from m3dllm.options import parse_options

    if (listed or name is None) and context.args:
        raise UserError(f"{context.args[0]}: only an experiment takes it: give its name, without --list")
    if listed or name is None:
        say(benches.overview())
        return
    stem, found = benches.find_bench(name)
    folder = out or Path("bench") / stem
    experiments = benches.runs_of(
        benches.with_values(found, vary or ()),
        folder / "runs",
        corpora=corpus or (None,),
        seeds=seeds,
        preset=preset,
        lang=lang.value if lang else None,
        limit=limit,
        options=parse_options(context.args),
        command=("m3dllm", *sys.argv[1:]),
    )
    if dry_run:
        say(benches.listing(experiments))
        return
    placed = [replace(one, executor=executor.value, address=address, workers=workers) for one in experiments]
    runs, failed = benches.run_all(placed)
    if runs:
        say(str(benches.report(found, runs, folder / "report")))
    for line in benches.not_run(placed):
        say(f"not run: {line}")
    for line in failed:
        say(f"failed: {line}")
    if failed or any(run.failed() for run in runs):
        raise SystemExit(2)


as_verb("extract", context_settings=extraction.SETTINGS)(extraction.extract)
as_verb("serve", context_settings=serving.SETTINGS)(serving.serve)


@as_verb()
def normalize(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)]) -> None:
    """Normalize a run's raw answers again, without the system.

    Writes predictions.jsonl from raw.jsonl.
    """
    from m3dllm import pipeline

    say(str(pipeline.normalize(run).path / "predictions.jsonl"))


@as_verb()
def score(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run directory; or use --gold and --pred.")
    ] = None,
    gold: Annotated[Path | None, typer.Option(help="The gold: JSON Lines of a corpus, or of predictions.")] = None,
    pred: Annotated[Path | None, typer.Option(help="The predictions: JSON Lines.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The labels.json of the two files; default: any type is allowed, all relations are directed."
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="The format of the two files, if another one: see 'm3dllm import'."),
    ] = None,
    modality: Annotated[
        Modality, typer.Option(help="Score each task on the documents that have its modality, or on all.")
    ] = Modality.available,
    variant: Variants = None,
    threshold: Threshold = None,
    per_document: Annotated[Path | None, typer.Option(help="Write the counts per document to this file.")] = None,
    json: JsonOption = False,
) -> None:
    """Score a run again, or predictions against gold."""
    from m3dllm import pipeline
    from m3dllm.files import check_replaces
    from m3dllm.runs import Run
    from m3dllm.score import Settings, score_files
    from m3dllm.wire import write_lines

    settings = Settings(modality=modality.value, variants=tuple(variant or ()), threshold=threshold)
    if per_document is not None:
        check_replaces(per_document, "a file of counts per document", b'"document":', b'"pairs":', b'"tasks":')
    if run is not None:
        if gold or pred or labels or form:
            raise UserError("score takes a run, or --gold and --pred: not both")
        tasks = Run(run).record().answered_tasks
        done = pipeline.score(run, settings=replace(settings, tasks=tasks))
        if per_document is not None:
            write_lines(per_document, done.per_document().lines())
        _print_scores(done, json=json)
        return
    if gold is None or pred is None:
        raise UserError("score takes a run, or both --gold FILE and --pred FILE")
    if form is None:
        scores = score_files(gold, pred, labels=labels, settings=settings)
    else:
        from m3dllm.imports import score_imported

        scores, notes = score_imported(gold, pred, form, labels=labels, settings=settings)
        for note in notes:
            typer.echo(printable(note), err=True)
    if scores.unanswered:
        from m3dllm.columns import counted

        first, count = scores.unanswered[0], len(scores.unanswered)
        text = f"{counted(count, 'document')} without a prediction (first: '{first}'), scored as empty"
        typer.echo(printable(text), err=True)
    if per_document is not None:
        write_lines(per_document, scores.row_lines())
    _print(scores.to_wire(), json=json)
    if 2 * len(scores.unanswered) > sum(of.documents for of in scores.languages.values()):
        raise SystemExit(2)


def _print_scores(run: Any, *, json: bool, whole: bool = True) -> None:
    from m3dllm.report import run_summary, run_table

    if json:
        _print(run.scores(), json=True)
    else:
        say(f"{run.path}\n\n{run_table(run) if whole else run_summary(run)}")


def _print(scores: dict[str, Any], *, json: bool) -> None:
    from m3dllm.report import table
    from m3dllm.wire import pretty

    say(pretty(scores) if json else table(scores))


# --- corpora ----------------------------------------------------------------------------------------------------------

app.add_typer(formats.imports, name="import")
app.add_typer(formats.exports, name="export")
app.add_typer(tools.adapters, name="adapters", invoke_without_command=True)
app.add_typer(tools.prompts, name="prompts")
as_verb("calibrate-boxes", context_settings=tools.SETTINGS)(tools.calibrate_boxes)


as_verb()(corpus_verbs.merge)
as_verb()(corpus_verbs.split)
as_verb()(corpus_verbs.check)


@as_verb()
def systems(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A system, to list its options.")] = None,
    json: JsonOption = False,
) -> None:
    """List the systems, or the options of one."""
    from m3dllm.catalogue import describe, overview

    say(overview(json=json) if name is None else describe(name, json=json))


as_verb()(page_verbs.report)
as_verb()(page_verbs.view)


def version(value: bool) -> None:
    if value:
        from m3dllm import __version__

        say(f"m3dllm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print every warning, not one of each kind; works after any command.")
    ] = False,
) -> None:
    """Compare supervised fusion models and video LLMs at grounded extraction from text and video."""
    if context.invoked_subcommand is None:
        say(context.get_help())
