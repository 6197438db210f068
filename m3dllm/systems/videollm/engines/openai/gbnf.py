"""A JSON schema of ours as a GBNF grammar, llama.cpp's own, in which mentions are runs of the document's words.

GBNF has neither substrings nor intersections. A mention is a token of the document and those that follow it, one rule
per token; its length, the range of a number within its digits, the area of a box, and the existence of a name are not
constrained, as in the schema. There is no free white space.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LIST = 200
"""The most items of a list: llama.cpp expands repetitions."""


def write(schema: Mapping[str, Any], chunks: Sequence[str]) -> str | None:
    """The grammar. `chunks`: the document's tokens and the white space between them, see `grammar.mention_chunks`.

    Texts that the schema leaves free (those with `minLength`) are runs of tokens. None if the document has no tokens.
    """
    rules = _Rules(chunks)
    try:
        root = rules.value(schema)
    except LookupError:
        return None
    return "\n".join([f"root ::= {root}", *rules.lines]) + "\n"


def one_of(texts: Iterable[str]) -> str:
    """One of `texts`, verbatim."""
    return f"root ::= {' | '.join(map(_literal, texts))}\n"


class _Rules:
    """The rules under the root, being written."""

    def __init__(self, chunks: Sequence[str]) -> None:
        self.lines: list[str] = []
        self._chunks = chunks
        self._has_mention = False

    def value(self, schema: Mapping[str, Any]) -> str:
        """The rule for a value of this schema. Raises LookupError for a text if the document has none."""
        if "anyOf" in schema:
            return f"({' | '.join(self.value(option) for option in schema['anyOf'])})"
        if "enum" in schema:
            return f"({' | '.join(_literal(_json(value)) for value in schema['enum'])})"
        match schema.get("type"):
            case "object":
                properties = schema["properties"].items()
                keys = [("," if i else "") + _json(name) + ":" for i, (name, _) in enumerate(properties)]
                parts = [
                    _literal(key) + " " + self.value(value) for key, (_, value) in zip(keys, properties, strict=True)
                ]
                return " ".join([_literal("{"), *parts, _literal("}")])
            case "array":
                return f'"[" {self._items(schema)} "]"'
            case "string":
                return self._mention() if schema.get("minLength") else _free(schema.get("maxLength", 8))
            case "integer" | "number":
                return _number(schema)
            case "null":
                return '"null"'
        raise LookupError(schema.get("type"))

    def _items(self, schema: Mapping[str, Any]) -> str:
        most = min(schema.get("maxItems", LIST), LIST)
        if most < 1:
            return '""'
        if (options := schema["items"].get("anyOf")) and [option.get("type") for option in options] == [
            "string",
            "integer",
        ]:
            # A text and the numbers of its occurrences; the schema leaves open which comes first.
            text, number = map(self.value, options)
            return f'{text} ("," {number}){{0,{max(most - 1, 1)}}}'
        name = f"item{len(self.lines)}"
        self.lines.append("")  # its place, before the rules of what is inside
        place = len(self.lines) - 1
        self.lines[place] = f"{name} ::= {self.value(schema['items'])}"
        least = schema.get("minItems", 0)
        more = f'("," {name}){{{max(least - 1, 0)},{most - 1}}}' if most > 1 else ""
        return f"{name} {more}" if least else f"({name} {more})?"

    def _mention(self) -> str:
        if not self._has_mention:
            self._has_mention = True
            self.lines += self._runs()
        return "mention"

    def _runs(self) -> list[str]:
        """A rule for each token: the token, and perhaps what follows it."""
        tokens: list[tuple[str, str]] = []  # (the white space before it, the token)
        space = ""
        for chunk in self._chunks:
            if chunk.strip():
                tokens.append((space, chunk))
            space = "" if chunk.strip() else chunk
        if not tokens:
            raise LookupError("the document has no token")
        runs = []
        for i, (_, token) in enumerate(tokens):
            after = ""
            if i + 1 < len(tokens):
                gap = tokens[i + 1][0]
                after = f" ({_literal(_json(gap)[1:-1]) + ' ' if gap else ''}t{i + 1})?"
            runs.append(f"t{i} ::= {_literal(_json(token)[1:-1])}{after}")
        starts = " | ".join(f"t{i}" for i in range(len(tokens)))
        return [f'mention ::= "\\"" ({starts}) "\\""', *runs]


def _free(most: int) -> str:
    """A short text such as a name."""
    return f'"\\"" [a-zA-Z0-9_-]{{1,{most}}} "\\""'


def _number(schema: Mapping[str, Any]) -> str:
    digits = len(str(int(schema.get("maximum", 999))))
    whole = f'("0" | [1-9] [0-9]{{0,{digits - 1}}})' if not schema.get("minimum") else f"[1-9] [0-9]{{0,{digits - 1}}}"
    return whole if schema.get("type") == "integer" else f'{whole} ("." [0-9]{{1,4}})?'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    """A string of the grammar."""
    marks = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(marks.get(c, c if ord(c) >= 32 else f"\\x{ord(c):02x}") for c in text) + '"'
