"""The verbs `adapters`, `prompts` and `calibrate-boxes`: what video-llm offers besides answers. Light to import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from m3dllm.commands import Listing, say

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

adapters = typer.Typer(cls=Listing, help="LoRA adapters of video-llm: list, merge or push them.")
prompts = typer.Typer(cls=Listing, help="Prompts of video-llm: copy them, to be changed.")

AdapterName = Annotated[
    str, typer.Argument(metavar="ADAPTER", help="A name, a folder, or the run of its fit.", show_default=False)
]


@adapters.callback()
def list_adapters(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False
) -> None:
    """LoRA adapters of video-llm: those in ./adapters and those that come with the package."""
    if context.invoked_subcommand is None:
        say(_tool("adapters")(json=json))


@adapters.command("merge")
def merge_adapter(
    adapter: AdapterName,
    out: Annotated[Path, typer.Option("--out", help="The folder of the model to write.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="Its base model; default: the one that its adapter.toml names.")
    ] = None,
) -> None:
    """Write the base model with the adapter in its weights: a model like any other."""
    say(str(_tool("adapters merge")(adapter, out, model=model)))


@adapters.command("push")
def push_adapter(
    adapter: AdapterName,
    to: Annotated[str, typer.Option(help="OWNER/NAME on the Hugging Face hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private/--public", help="Who can see it.")] = True,
) -> None:
    """Upload an adapter to the Hugging Face hub, as the user that 'hf auth login' knows."""
    say(_tool("adapters push")(adapter, to, private=private))


@prompts.callback()
def prompts_group() -> None:
    """Prompts of video-llm: copy them, to be changed."""


@prompts.command("copy")
def copy_prompts(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.", show_default=False)],
    embedded: Annotated[bool, typer.Option("--embedded", help="Those of the embedded model.")] = False,
) -> None:
    """Write the newest prompts into a folder.

    What is changed there is used by 'm3dllm run --system video-llm --prompts DIR'; what is removed there, the model's.
    """
    say(str(_tool("prompts copy")(out, embedded_model=embedded)))


def _tool(name: str) -> Callable[..., Any]:
    from m3dllm.registry import find_system

    tool: Callable[..., Any] = find_system("video-llm").load_tool(name)
    return tool


def calibrate_boxes(context: typer.Context) -> None:
    """Find which box convention a video LLM uses.

    It is shown drawn shapes. The options of video-llm follow as --name value, --model first; 'm3dllm systems video-llm'
    lists them.
    """
    from m3dllm.options import parse_options, resolve_config
    from m3dllm.registry import find_system

    spec = find_system("video-llm")
    config = resolve_config(spec, parse_options(context.args), preset=None, seed=0)
    say(str(spec.load_tool("calibrate-boxes", config)(config)))
