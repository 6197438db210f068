"""The command 'm3dllm extract': its options. Light to import: the work is loaded when it begins."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from m3dllm.commands import (
    ADVANCED,
    Address,
    Executor,
    ExecutorOption,
    Seed,
    Videos,
    VideosOption,
    Workers,
    say,
    say_page,
)

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


class Lang(StrEnum):
    en = "en"
    zh = "zh"


def extract(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Videos, subtitles, texts, or folders of these.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.", show_default=False)],
    system: Annotated[str, typer.Option(help="The system: see 'm3dllm systems'.")] = "video-llm",
    subtitles: Annotated[
        list[Path] | None,
        typer.Option(help="The subtitles of the first video; repeat for the next; default: those beside or inside it."),
    ] = None,
    track: Annotated[
        int | None, typer.Option(rich_help_panel=ADVANCED, min=0, help="The video's subtitle track, counted from 0.")
    ] = None,
    lang: Annotated[Lang | None, typer.Option(help="The language of all sources; default: detected.")] = None,
    every: Annotated[int | None, typer.Option(min=1, help="Take every N-th frame; default: 24.")] = None,
    fps: Annotated[float | None, typer.Option(help="Take N frames per second instead.")] = None,
    at_subtitles: Annotated[
        bool, typer.Option("--at-subtitles", help="Take the frame in the middle of each subtitle instead.")
    ] = False,
    min_change: Annotated[
        float,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="Skip frames in which no part changes in brightness by this share, such as 0.1.",
        ),
    ] = 0.0,
    longest_side: Annotated[
        int,
        typer.Option(
            rich_help_panel=ADVANCED,
            min=0,
            help="The longest side of a frame, in pixels; larger frames are scaled down; 0: no limit.",
        ),
    ] = 1280,
    transcribe: Annotated[
        str | None,
        typer.Option(help="If there are no subtitles: whisper, whisper:MODEL, or a program that prints SRT."),
    ] = None,
    ocr: Annotated[
        bool, typer.Option("--ocr", help="If there are no subtitles: read the captions in the frames.")
    ] = False,
    shortest: Annotated[
        float,
        typer.Option(
            rich_help_panel=ADVANCED, help="A long film is cut into documents: their minimum length in seconds."
        ),
    ] = 60.0,
    longest: Annotated[float, typer.Option(rich_help_panel=ADVANCED, help="Their maximum length in seconds.")] = 120.0,
    labels: Annotated[
        Path | None,
        typer.Option(help="A labels.json with the types to extract; default: those of the checkpoint, else of M3D."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A trained system: its run, the checkpoint in it, or 'demo' (of dffm).")
    ] = None,
    videos: VideosOption = Videos.link,
    preset: Annotated[str | None, typer.Option(help="A named set of the system's options.")] = None,
    seed: Seed = 0,
    executor: ExecutorOption = Executor.local,
    address: Address = None,
    workers: Workers = None,
) -> None:
    """Extract a knowledge graph from videos or texts.

    Writes a corpus, a run, a page and JSON-LD into one folder. Run the same command again to resume. The system's own
    options follow as --name value; 'm3dllm systems NAME' lists them.
    """
    from m3dllm.extract.reading import Reading
    from m3dllm.extract.steps import Extraction, extract
    from m3dllm.options import parse_options

    first = next((i for i, word in enumerate(sources) if word.startswith("--")), len(sources))
    reading = Reading(
        lang=lang.value if lang else None,
        every=every,
        fps=fps,
        at_subtitles=at_subtitles,
        longest_side=longest_side,
        least_change=min_change,
        track=track,
        transcribe=transcribe,
        ocr=ocr,
        shortest_s=shortest,
        longest_s=longest,
    )
    done = extract(
        Extraction(
            sources=[Path(word) for word in sources[:first]],
            out=out,
            system=system,
            subtitles=subtitles or (),
            reading=reading,
            labels=labels,
            checkpoint=checkpoint,
            preset=preset,
            seed=seed,
            options=parse_options([*sources[first:], *context.args]),
            command=("m3dllm", *sys.argv[1:]),
            executor=executor.value,
            address=address,
            workers=workers,
            videos=videos.value,
        )
    )
    for line in (*done.triples, "" if done.triples else "no relation was found"):
        say(line)
    say(f"run    {done.run.path}\ngraph  {done.graphs}")
    say_page(done.page)
    if not done.complete:
        raise SystemExit(2)
