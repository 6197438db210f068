"""The verbs `adapters`, `prompts` and `calibrate-boxes` of video-llm. Light to import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from m3dllm.commands import Listing, say

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

adapters = typer.Typer(cls=Listing, help="List, merge or push the LoRA adapters of video-llm.")
prompts = typer.Typer(cls=Listing, help="Copy the prompts of video-llm, to edit them.")

AdapterName = Annotated[
    str,
    typer.Argument(
        metavar="ADAPTER", help="The name or folder of an adapter, or the run that trained it.", show_default=False
    ),
]


@adapters.callback()
def list_adapters(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False
) -> None:
    """List the LoRA adapters of video-llm: those in ./adapters and those that come with the package."""
    if context.invoked_subcommand is None:
        say(_tool("adapters")(json=json))


@adapters.command("merge")
def merge_adapter(
    adapter: AdapterName,
    out: Annotated[Path, typer.Option("--out", help="The folder of the model to write.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="The base model; default: the one in its adapter.toml.")] = None,
) -> None:
    """Merge an adapter into its base model and write the result as a model."""
    say(str(_tool("adapters merge")(adapter, out, model=model)))


@adapters.command("push")
def push_adapter(
    adapter: AdapterName,
    to: Annotated[str, typer.Option(help="OWNER/NAME on the Hugging Face hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private/--public", help="Who can see it.")] = True,
) -> None:
    """Upload an adapter to the Hugging Face hub, as the user logged in by 'hf auth login'."""
    say(_tool("adapters push")(adapter, to, private=private))


@prompts.callback()
def prompts_group() -> None:
    """Copy the prompts of video-llm, to edit them."""


@prompts.command("copy")
def copy_prompts(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.", show_default=False)],
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Copy the prompts of the embedded model instead.")
    ] = False,
) -> None:
    """Copy the newest prompts into a folder.

    Edit them there, and use them by 'm3dllm run --system video-llm --prompts DIR'. For a file that you delete, the
    original is used.
    """
    say(str(_tool("prompts copy")(out, embedded_model=embedded)))


def _tool(name: str) -> Callable[..., Any]:
    from m3dllm.registry import find_system

    tool: Callable[..., Any] = find_system("video-llm").load_tool(name)
    return tool


def calibrate_boxes(context: typer.Context) -> None:
    """Find out which box convention a video LLM uses.

    The model is asked for the boxes of drawn shapes. The options of video-llm follow as --name value, --model first;
    'm3dllm systems video-llm' lists them.
    """
    from m3dllm.options import parse_options, resolve_config
    from m3dllm.registry import find_system

    spec = find_system("video-llm")
    config = resolve_config(spec, parse_options(context.args), preset=None, seed=0)
    say(str(spec.load_tool("calibrate-boxes", config)(config)))
