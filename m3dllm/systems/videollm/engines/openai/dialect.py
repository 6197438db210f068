"""The part of OpenAI's interface that a server supports: learned from its refusals, and kept for the run.

A request follows OpenAI's documentation; a `Dialect` rewrites it, and describes the changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Body = dict[str, Any]
Held = Literal["schema", "json", "none"]

BOUNDS = frozenset(("minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "uniqueItems", "pattern"))
"""JSON schema keywords that some servers do not support."""
_FORM = re.compile(
    r"response_?format|json_?schema|json_object|structured|schema|guided|grammar|json mode", re.IGNORECASE
)
_NO_SCHEMA = re.compile(
    r"(?:json_schema|response_format).{0,80}(?:not support|unsupported|unknown|unavailable|not (?:available|allowed))"
    r"|(?:not support|unsupported|unknown|unavailable).{0,80}(?:json_schema|response_format|structured)"
    r"|must be.{0,40}json_object|expected.{0,40}json_object",
    re.IGNORECASE | re.DOTALL,
)
"""Reasons that no schema is supported at all, not only a part of this one."""
NEEDED = frozenset(("model", "messages"))
GRAMMARS = frozenset(("grammar", "structured_outputs", "guided_grammar", "ebnf"))
"""Parameters whose refusal is ignored: a probe shows which of them works."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How requests must be written for one server."""

    tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    omitted: frozenset[str] = frozenset()
    merges_system: bool = False
    """Whether the system message is merged into the first user message."""
    bounded: bool = True
    """Whether the schema has lengths and ranges."""
    held: Held = "schema"
    """The strongest constraint that the server supports, besides grammars."""
    adapted: tuple[str, ...] = ()
    """The changes, in words, in the order of refusals."""

    def write(self, body: Mapping[str, Any]) -> Body:
        """The request as this server accepts it."""
        made = dict(body)
        if "max_tokens" in made:
            made[self.tokens_name] = made.pop("max_tokens")
        if self.merges_system:
            made["messages"] = merged(made["messages"])
        if "response_format" in made:
            form = self._form(made.pop("response_format"))
            made |= {"response_format": form} if form else {}
        return {name: value for name, value in made.items() if name not in self.omitted or name in NEEDED}

    def _form(self, form: Body) -> Body | None:
        if self.held == "none" or form.get("type") != "json_schema":
            return None if self.held == "none" else form
        if self.held == "json":
            return {"type": "json_object"}
        if self.bounded:
            return form
        inner = form["json_schema"]
        return form | {"json_schema": inner | {"schema": unbounded(inner["schema"])}}

    def learn(self, sent: Mapping[str, Any], why: str) -> Dialect | None:
        """The dialect after a request written in this one was refused; None if the reason names nothing in it."""
        for change, words in self._changes(sent, why):
            return replace(change, adapted=(*self.adapted, words))
        return None

    def _changes(self, sent: Mapping[str, Any], why: str) -> Iterator[tuple[Dialect, str]]:
        """Changes that may fix the request, the most likely first."""
        if "max_tokens" in sent and _names(why, "max_completion_tokens", "max_tokens"):
            yield replace(self, tokens_name="max_completion_tokens"), "max_completion_tokens for max_tokens"
        form = sent.get("response_format")
        if form and (_FORM.search(why) or _names(why, *BOUNDS)):
            by_schema = form.get("type") == "json_schema"
            takes_no_schema = _NO_SCHEMA.search(why) and not _names(why, *BOUNDS)
            if by_schema and has_bounds(form["json_schema"]["schema"]) and not takes_no_schema:
                yield replace(self, bounded=False), "a schema without lengths and ranges"
            if by_schema:
                yield replace(self, held="json"), "json_object for json_schema"
            yield replace(self, held="none"), "no response_format"
        roles = [message.get("role") for message in sent.get("messages", ())]
        if "system" in roles and re.search(
            r"system[ _]?(?:role|message|prompt|instruction)|developer instruction|role\W+system|'system'"
            r"|roles must alternate|only (?:user|supports user)",
            why,
            re.IGNORECASE,
        ):
            yield replace(self, merges_system=True), "the system message merged into the user's"
        for name in sent:
            fixed = name in NEEDED | GRAMMARS or name.startswith("max_") or name == "response_format"
            if not fixed and _names(why, name):
                yield replace(self, omitted=self.omitted | {name}), f"no {name}"


def merged(messages: list[Body]) -> list[Body]:
    """The messages with the system message at the beginning of the first user message."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [dict(message) for message in messages if message["role"] != "system"]
    if system and rest:
        instructions, first = "\n\n".join(system), rest[0]["content"]
        text = (
            [{"type": "text", "text": f"{instructions}\n\n"}, *first]
            if isinstance(first, list)
            else f"{instructions}\n\n{first}"
        )
        rest[0]["content"] = text
    return rest


def has_bounds(schema: Any) -> bool:
    """Whether a schema has lengths or ranges."""
    return bool(unbounded(schema) != schema)


def unbounded(schema: Any) -> Any:
    """A schema without lengths and ranges. Names of properties are not keywords."""
    if isinstance(schema, dict):
        return {
            name: {inner: unbounded(part) for inner, part in value.items()}
            if name == "properties"
            else unbounded(value)
            for name, value in schema.items()
            if name not in BOUNDS
        }
    return [unbounded(value) for value in schema] if isinstance(schema, list) else schema


def _names(why: str, *names: str) -> bool:
    """Whether a reason contains one of these parameters as a separate word."""
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", why, re.IGNORECASE) for name in names)
