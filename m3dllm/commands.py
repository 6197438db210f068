"""Commands made of plain functions on demand: a group lists names without importing the functions.

The options of such a command are the keyword-only parameters of a function, with the help of its docstring.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection
from difflib import get_close_matches
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from m3dllm import plugins
from m3dllm.errors import UserError, printable

SETTINGS = {"help_option_names": ["-h", "--help"]}
ADVANCED = "Advanced options"
"""The `rich_help_panel` of rarely used options: help and reference list them apart."""
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Only predictions of at least this confidence (0 to 1); default: all."),
]


Seed = Annotated[int, typer.Option(help="Random seed.")]
LinkedFrames = Annotated[
    bool,
    typer.Option(
        "--linked-frames", rich_help_panel=ADVANCED, help="Allow frames that are links to files outside the corpus."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class Videos(StrEnum):
    link = "link"
    copy = "copy"
    none = "none"


VideosOption = Annotated[
    Videos,
    typer.Option(
        help="Videos to play on the page: link (hard links, no extra disk space), copy (from another disk), or none."
    ),
]


class Executor(StrEnum):
    local = "local"
    ray = "ray"


ExecutorOption = Annotated[
    Executor,
    typer.Option(rich_help_panel=ADVANCED, help="Run in this process, or in Ray workers on this machine or a cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=ADVANCED, help="The Ray cluster, such as head:6379 or auto; default: workers on this machine."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=ADVANCED,
        min=1,
        help="With Ray, the number of workers, each with its own model; default: as many as fit.",
    ),
]


class Command(TyperCommand):
    """A command whose help lists its advanced options under a heading of their own."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                sections.setdefault(section_of(parameter), []).append((_of_one(record[0]), record[1]))
        for heading in ("Arguments", "Options", ADVANCED):
            if records := sections.get(heading):
                with formatter.section(heading):
                    formatter.write_dl(records)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = (re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx))
        return [re.sub(r"\[\[(.*)\]\]", r"[\1]", piece) for piece in pieces]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = [word.partition("=")[0] for word in args]
        self._refuse_empty(ctx, args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # the parser's, which is private to typer
            missing: list[str] = list(getattr(getattr(error, "param", None), "opts", []))
            unknown = {*words} - {name for parameter in self.get_params(ctx) for name in parameter.opts}
            for name in missing:
                for close in get_close_matches(name, unknown, n=1):
                    hint = f"did you mean {name}? (see '{ctx.command_path} --help')"
                    raise UserError(f"no option {close}; {hint}") from error
            raise

    def _refuse_empty(self, ctx: Any, args: list[str]) -> None:
        """Raises UserError for an empty argument or path, which an unset shell variable leaves: an empty path would be
        the working directory."""
        parameters = self.get_params(ctx)
        paths = {name for parameter in parameters if _is_path(parameter) for name in parameter.opts}
        arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
        for before, word in pairwise(["", *args]):
            name, equals, value = word.partition("=")
            if (word == "" and before in paths) or (equals and not value and name in paths):
                raise UserError(f"{before if word == '' else name}: is empty; expected a path")
            if word == "" and arguments and not before.startswith("-"):
                raise UserError(f"{_name_of(arguments[0])}: is empty")


def _name_of(argument: Any) -> str:
    return str(argument.metavar or argument.name).strip("[]")


def _is_path(parameter: Any) -> bool:
    """Whether the value of an argument or option is a path, or several are."""
    if hasattr(parameter, "type"):  # typer before 0.29
        return bool(parameter.type.name == "path")
    return parameter.type_descriptor.annotation in (Path, list[Path])


def section_of(parameter: Any) -> str:
    """The heading under which help lists an argument or option."""
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or "Options"


def _of_one(name: str) -> str:
    """The type of a repeated or bounded value as that of one value: `<list[Path]>`, `<int range>`."""
    return re.sub(r"<(?:list\[)?(\w+)(?:\]| range)>", lambda found: f"<{found[1].lower()}>", name)


class Listing(TyperGroup):
    """A group whose list shows each summary in full, on as many lines as it takes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command]
            )


def group(names: Callable[[], list[str]], command: Callable[[str], Callable[..., None]]) -> type[TyperGroup]:
    """A group of the commands of these names; `command` gives the function behind one, when it is needed.

    It raises UserError for an unknown name.
    """

    class Group(Listing):
        def list_commands(self, ctx: Any) -> list[str]:
            return names()

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            one = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=SETTINGS)
            try:
                one.command(cmd_name, cls=Command)(command(cmd_name))
            except UserError as error:
                if cmd_name not in names():
                    raise
                one.command(cmd_name)(_broken(error))  # listed nevertheless
            return typer.main.get_command(one)

    return Group


def _broken(error: UserError) -> Callable[..., None]:
    def command() -> None:
        raise error

    command.__doc__ = f"Cannot be loaded: {error}"
    return command


def with_options(verb: Callable[..., None], function: Callable[..., Any], *, doc: str) -> Callable[..., None]:
    """`verb` as a command that also takes the options of `function`, passed on in one mapping as its last argument."""
    own = list(inspect.signature(verb, eval_str=True).parameters.values())[:-1]
    helps = plugins.option_helps(function)
    more = [_option(parameter, helps.get(parameter.name, "")) for parameter in plugins.options(function)]

    def command(**values: Any) -> None:
        words = {parameter.name: values.pop(parameter.name) for parameter in more}
        options = {name: tuple(value) if isinstance(value, list) else value for name, value in words.items()}
        verb(**values, options=options)

    command.__doc__ = doc
    command.__signature__ = inspect.Signature(own + more)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in own + more}
    return command


def _option(parameter: inspect.Parameter, text: str) -> inspect.Parameter:
    flag = f"--{parameter.name.replace('_', '-')}"
    flags = [flag] if parameter.annotation is not bool or parameter.default is False else [f"{flag}/--no-{flag[2:]}"]
    kind, default = _several(parameter.annotation), parameter.default
    kind = Annotated[kind, typer.Option(*flags, help=text[:1].upper() + text[1:])]
    default = list(default) if isinstance(default, tuple) else default
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def _several(kind: Any) -> Any:
    """The type as the parser knows it: several values are a list."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = tuple(_several(part) for part in typing.get_args(kind))
        return typing.Union[parts]  # noqa: UP007
    origin = typing.get_origin(kind)
    if isinstance(origin, type) and issubclass(origin, Collection):
        return list[typing.get_args(kind)[0]]  # type: ignore[misc]
    return kind


def say(text: str) -> None:
    """Print a result to stdout; unprintable characters are escaped."""
    text = printable(text.rstrip("\n"))
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def say_page(page: Path) -> None:
    """Print the address of a written page, as a link that a terminal can open."""
    say(f"Open: {page.resolve().as_uri()}")
