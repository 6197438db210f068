"""The one HTML file: the program, its style and the data in it, and a policy that lets nothing else run.

Data is JSON in which no `<` stands, so that no text of a document ends a script; the program puts it into the page as
text only. The policy names the program by its hash: nothing that a document or a model says can run, and no address of
the network can be asked for.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from string import Template

from m3dllm.viewer.content import Content
from m3dllm.wire import encode

SCRIPTS = ("dom", "state", "list", "text", "tables", "graph", "frames", "player", "time", "dialogs", "document", "main")
"""The parts of the program, in the order in which they stand in the page."""
UNSAFE = {b"<": b"\\u003c", b">": b"\\u003e", "\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}


def json_for_html(value: Content) -> bytes:
    """`value` as JSON that may stand in a script element and in a script file."""
    data = encode(value)
    for sign, written in UNSAFE.items():
        data = data.replace(sign, written)
    return data


def script(number: int, content: Content) -> bytes:
    """One document in a script file; a script, because a page from disk may load scripts and nothing else."""
    return b"m3dllm.add(%d,%b);\n" % (number, json_for_html(content))


def embedded(number: int, content: Content) -> bytes:
    """The element of one document in a page of one file; it is read when the document is opened."""
    return b'<script type="application/json" id="document-%d">%b</script>\n' % (number, json_for_html(content))


def index_page(content: Content, entries: Iterable[bytes], bodies: Iterable[bytes]) -> Iterator[bytes]:
    """index.html piece by piece, with the list of documents in it and, in a page of one file, the documents.

    `entries` are the lines of the documents, each as `json_for_html` writes it.
    """
    style, program = _part("page.css"), _program()
    page = Template(_part("page.html")).substitute(
        policy=_policy(style, program), style=style, program=program, data="\0data\0"
    )
    head, tail = page.encode().split(b"\0data\0")
    yield head + json_for_html(content).removesuffix(b"}") + b',"documents":['
    for n, entry in enumerate(entries):
        yield b"," + entry if n else entry
    yield b"]}</script>\n"
    yield from bodies
    yield tail


def _policy(style: str, program: str) -> str:
    rules = {
        "default-src": "'none'",
        "script-src": f"{_hash(program)} 'strict-dynamic'",
        "style-src": _hash(style),
        "img-src": "'self' file: data:",
        "media-src": "'self' file:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _program() -> str:
    return '"use strict";\n(() => {\n' + "\n".join(_part(f"{name}.js") for name in SCRIPTS) + "})();\n"


@cache
def _part(name: str) -> str:
    return (files("m3dllm.viewer") / "app" / name).read_text("utf-8")
