"""The command 'm3dllm serve': its options. Light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def serve(
    context: typer.Context,
    system: Annotated[str, typer.Option(help="The system: see 'm3dllm systems'.")] = "video-llm",
    checkpoint: Annotated[Path | None, typer.Option(help="A trained system: its run, or the checkpoint in it.")] = None,
    preset: Annotated[str | None, typer.Option(help="A named set of the system's options.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A labels.json with the types to extract; default: those of the checkpoint, else of M3D."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; other machines' access needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 9090,
    token_env: Annotated[
        str, typer.Option(help="The environment variable that holds the token, which every request then needs.")
    ] = "M3DLLM_TOKEN",  # noqa: S107  its name
    out: Annotated[Path, typer.Option(help="The folder for the results.")] = Path("served"),
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Serve a web form, and predictions for Label Studio.

    Only this machine has access, unless a token is set. Label Studio connects to it as an ML backend.

    The system's own options follow as --name value; 'm3dllm systems NAME' lists them.
    """
    from m3dllm.options import parse_options
    from m3dllm.serve.service import Service, start

    options = parse_options(context.args)
    start(
        Service(system, checkpoint, preset, labels, seed, options, tuple(context.args)),
        out,
        host,
        port,
        token_env=token_env,
    )
