"""From templates to messages, in the document's language.

A template is `<strategy>/<stage>.<language>.v<version>.jinja`; those in `document/` are shared by the strategies. A
template missing in a version is taken from the version before. A message is a list of parts, texts and images in order.
The text of a document never acts on the chat format: strings that look like special tokens are broken by an invisible
character.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from m3dllm.errors import UserError
from m3dllm.files import new_folder, sha256, sha256_file, shipped
from m3dllm.systems.videollm.messages import Clip, Part, Still
from m3dllm.systems.videollm.options import Options
from m3dllm.types import Document, Lang

SHIPPED = shipped("prompts")
"""The prompts that come with the package."""

BREAK = "\u2060"
"""The invisible character (word joiner) that keeps a text from being read as a special token."""
_SPECIAL = re.compile(
    r"<(?=\|[^<>|]{1,40}\|>)|<(?=/?(?:s|image|video|img|pad|unk|bos|eos|IMG_CONTEXT|image_soft_token|[a-z]+_of_[a-z]+)>)"
    r"|\[(?=/?INST\])",
    re.IGNORECASE,
)


SUFFIX = ".jinja"

_FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError)
"""Errors that rendering a template can raise."""


NEWEST = 2
"""The newest version of the prompts that come with the package."""


class Prompts:
    """The templates of one version, and their common values: guidelines, and whether they are compact."""

    def __init__(
        self, *folders: Path, version: int = 1, guidelines: Mapping[Lang, str] | None = None, compact: bool = False
    ) -> None:
        """`folders`: templates that override the shipped ones, in order of precedence. `guidelines`: by language.
        Raises UserError if one is not a folder, or if the version does not support guidelines or compact prompts."""
        for folder in folders:
            if not folder.is_dir():
                raise UserError.at(folder, "is not a folder; expected one with <strategy>/<stage>.<language>.v1.jinja")
        if version > NEWEST and not any(version_of(folder) == version for folder in folders):
            raise UserError(f"there are no prompts of version {version}: expected at most {NEWEST}")
        self.version, self.guidelines, self.compact = version, dict(guidelines or {}), compact
        self._folders = [*folders, SHIPPED]
        # A template is untrusted: in the sandbox it can only insert values.
        self._environment = ImmutableSandboxedEnvironment(
            loader=jinja2.FileSystemLoader([str(path) for path in self._folders], encoding="utf-8"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
        )

    @property
    def has_turns(self) -> bool:
        """Whether few-shot examples are turns of the conversation (version 2 or later), or part of the question."""
        return self.version > 1

    @property
    def lists_objects(self) -> bool:
        """Whether answers of `staged` and `mqa` list objects (version 2 or later), or texts: a small model ends a list
        of texts before its first one."""
        return self.version > 1

    def render(self, name: str, lang: Lang, **values: Any) -> str:
        """The text of the template `name`, such as "staged/chains", filled with `values`.

        In a template `part("mentions")` is the template "document/mentions" with the same values. Raises UserError,
        with file and line, if a template is missing or wrong.
        """
        own = {"guidelines": self.guidelines.get(lang, ""), "compact": self.compact}
        values = own | values | {"part": lambda part: self.render(f"document/{part}", lang, **values)}
        file = self._file(f"{name}.{lang}")
        template = self._template(file)
        try:
            text = template.render(values)
        except (jinja2.TemplateError, *_FAULTS) as error:
            where, line = _place(error, template.filename or file)
            raise UserError.at(where, f"cannot be filled: {error}", line=line) from error
        return re.sub(r"\n{3,}", "\n\n", text).strip()

    def _file(self, name: str) -> str:
        """The file of a template: in the first folder that has it, of the newest version up to this one."""
        files = [f"{name}.v{version}.jinja" for version in range(self.version, 0, -1)]
        found = (file for folder in self._folders for file in files if (folder / file).is_file())
        return next(found, files[0])

    def _template(self, file: str) -> jinja2.Template:
        """The template in a file. Raises UserError, with file and line, if it is missing or invalid."""
        try:
            return self._environment.get_template(file)
        except jinja2.TemplateNotFound as error:
            at = " or ".join(str(folder) for folder in self._folders)
            raise UserError(f"there is no prompt {error.name} in {at}") from error
        except UnicodeDecodeError as error:
            raise UserError.at(file, "contains bytes that are not UTF-8: save the file as UTF-8") from error
        except jinja2.TemplateSyntaxError as error:
            raise UserError.at(
                error.filename or file, f"is not a valid template: {error.message}", line=error.lineno
            ) from error

    def check(self, *folders: str) -> None:
        """Raises UserError, with file and line, for an invalid template in one of these folders."""
        for name in self.hashes(*folders):
            if name.endswith(SUFFIX):
                self._template(name)

    def hashes(self, *strategies: str) -> dict[str, str]:
        """file -> sha256 of every template of these strategies and of the shared ones; and of guidelines."""
        names = {
            path.relative_to(folder).as_posix().rsplit(".", 2)[0]
            for folder in self._folders
            for part in ("document", *strategies)
            for path in (folder / part).glob(f"*{SUFFIX}")
        }
        found = {f"guidelines.{lang}.md": sha256(text.encode()) for lang, text in self.guidelines.items()}
        for file in map(self._file, names):
            path = next((folder / file for folder in self._folders if (folder / file).is_file()), None)
            if path is not None:  # else it exists only in a later version
                found[file] = sha256_file(path)
        return dict(sorted(found.items()))

    def sha256(self, strategy: str) -> str:
        """The hash of all templates that a strategy uses."""
        return sha256(json.dumps(self.hashes(strategy), sort_keys=True).encode())


def unused(own: Path, *others: Path) -> list[str]:
    """The files of a folder of prompts that no strategy uses: their names are neither in the `others`, the folders that
    it overrides, nor included by one of its own templates."""
    known = {_name(path, folder) for folder in (*others, SHIPPED) for path in folder.rglob(f"*{SUFFIX}")}
    files = [path for path in sorted(own.rglob("*")) if path.is_file() and not path.name.startswith((".", "README"))]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.suffix == SUFFIX]
    parts = {f"document/{name}" for text in texts for name in re.findall(r"part\(\s*[\"'](\w+)", text)}
    used = [path.suffix == SUFFIX and _name(path, own) in known | parts for path in files]
    return [path.relative_to(own).as_posix() for path, is_used in zip(files, used, strict=True) if not is_used]


def copy(out: Path, *folders: Path) -> None:
    """Write the newest version of each template of `folders` (of equal names the first one) into the folder `out`.

    Raises UserError if `out` exists and is not empty.
    """
    found: dict[str, tuple[int, Path, Path]] = {}
    for folder in folders:
        own: dict[str, tuple[int, Path, Path]] = {}
        for path in folder.rglob(f"*{SUFFIX}"):
            name, _, version = path.relative_to(folder).as_posix().removesuffix(SUFFIX).rpartition(".v")
            own[name] = max(own.get(name, (0, path, path)), (int(version), path, path.relative_to(folder)))
        found = own | found
    with new_folder(out) as new:
        for _, source, relative in found.values():
            (new / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, new / relative)


def _name(path: Path, folder: Path) -> str:
    """The name of a template, such as "joint/joint"."""
    return path.relative_to(folder).as_posix().split(".")[0]


def default_version(options: Options, *, embedded_model: bool) -> int:
    """The default version of the prompts."""
    if options.prompts is not None:
        return version_of(Path(options.prompts)) or NEWEST
    return 1 if embedded_model and not options.shots else NEWEST


def version_of(folder: Path) -> int:
    """The newest version of the templates in a folder; 0 if there are none."""
    paths = folder.rglob(f"*{SUFFIX}") if folder.is_dir() else ()
    versions = (re.fullmatch(r".*\.v(\d+)", path.stem) for path in paths)
    return max((int(found[1]) for found in versions if found), default=0)


def _place(error: BaseException, file: str) -> tuple[str, int | None]:
    """(file, line) of the innermost template line of an error."""
    where, line, trace = file, None, error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.endswith(".jinja"):
            where, line = name, trace.tb_lineno
        trace = trace.tb_next
    return where, line


# --- documents --------------------------------------------------------------------------------------------------------


def harmless(text: str, specials: Iterable[str] = ()) -> str:
    """`text` without special tokens: neither one of `specials` nor anything that looks like one."""
    text = _SPECIAL.sub(lambda match: match[0] + BREAK, text)
    for special in sorted({s for s in specials if s.strip()}, key=len, reverse=True):
        if special in text:
            text = text.replace(special, special[0] + BREAK + special[1:])
    return text


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the text in a prompt, with its times in seconds; None if unknown."""

    text: str
    start: str | None = None
    end: str | None = None


def text_lines(document: Document, specials: Iterable[str] = ()) -> list[Line]:
    """The whole text in lines, segments with their times. Nothing is omitted or repeated."""
    text, at = document.text, 0
    lines: list[Line] = []

    def add(start: int, end: int, *times: str) -> None:
        if text[start:end].strip():
            lines.append(Line(harmless(text[start:end].strip("\n"), specials), *times))

    for segment in sorted(document.segments, key=lambda s: (s.start, s.end)):
        start, end = max(segment.start, at), max(segment.end, at)
        add(at, start)
        add(start, end, f"{segment.start_s:g}", f"{segment.end_s:g}")
        at = max(at, end)
    add(at, len(text))
    return lines


def show_document(
    prompts: Prompts,
    document: Document,
    stills: Sequence[Still],
    *,
    fps: float,
    as_video: bool = False,
    specials: Sequence[str] = (),
    unlisted: bool = False,
) -> tuple[Part, ...]:
    """The frames and subtitles as parts of a message, common to all stages of a document.

    `as_video`: the frames are one clip, listed beside it; `unlisted`: they are one clip at the beginning, without text.
    """
    noted = {frame.index: frame.at_s(fps) for frame in document.frames}
    times = [noted.get(still.frame, still.frame / fps) if fps else None for still in stills]
    mark = f"\0{sha256(document.text.encode('utf-8', 'replace'))[:16]}:"
    frames = [
        {
            "index": still.frame,
            "seconds": None if times[i] is None else f"{times[i]:.1f}",
            "picture": f"{mark}{i}\0",
        }
        for i, still in enumerate(stills)
    ]
    lines = text_lines(document, specials)
    text = prompts.render(
        "document/document",
        document.lang,
        frames=[] if unlisted else frames,
        clip=f"{mark}clip\0" if as_video and stills and not unlisted else "",
        lines=lines,
        timed=any(line.start is not None for line in lines),
    )
    seconds = (still.frame / 24.0 if time is None else time for still, time in zip(stills, times, strict=True))
    clip = Clip(tuple(stills), tuple(seconds))
    parts: list[Part] = [clip] if unlisted and stills else []
    for i, piece in enumerate(re.split(re.escape(mark) + r"(\w+)\0", text)):
        if i % 2:
            parts.append(clip if piece == "clip" else stills[int(piece)])
        elif piece:
            parts.append(piece)
    return tuple(parts)
