"""The meaning of a server's errors: what they concern, and whether a retry may help."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from m3dllm.systems.videollm.address import without_secrets
from m3dllm.wire import read_json

LONGEST_REASON = 2000
"""The most characters that are kept of a server's reason."""

LONGEST_PAGE = 4000
"""The characters of a web page that are searched for its title."""

Kind = Literal["document", "busy", "down", "request", "later", "fatal"]


@dataclass(eq=False)
class RefusalError(Exception):
    """Why a request was not answered, in one line.

    `kind`: the "document" cannot be answered; the server is "busy" (a rate limit) or "down" (it may be up again); the
    "request" has something that the server does not support, for any document; the answer comes "later", with a
    batch; or no request can be answered until the user changes something ("fatal"). `reason` is the server's message,
    `wait_s` the time until a retry.
    """

    message: str
    kind: Kind
    reason: str = ""
    status: int | None = None
    wait_s: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether retrying, in a resumed run, may help."""
        return self.kind != "document"


_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|too (?:long|large|many (?:input )?tokens)|maximum (?:context|input|prompt)"
    r"|exceed\w*.{0,40}(?:tokens|context|length)|input (?:token count|length)|prompt is too|payload size"
    r"|string_above_max",
    re.IGNORECASE,
)
_MODERATED = re.compile(
    r"moderation|content[ _-]?(?:filter|policy|management)|flagged|safety|responsible[ _]?ai|data_inspection"
    r"|inappropriate|prohibited_content|usage polic|risk[ _]control",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"insufficient[ _](?:quota|balance|credit|funds)|billing|out of credits|payment", re.IGNORECASE)
_AGAIN_IN = re.compile(
    r"(?:try again|retry|reset|wait)\D{0,40}?((?:\d+(?:\.\d+)?\s*(?:ms|h|m|s)[a-z]*\s*)+)", re.IGNORECASE
)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|h|m|s)", re.IGNORECASE)
_UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def refusal(url: str, status: int, body: str, headers: Mapping[str, str], *, key: str) -> RefusalError:
    """The meaning of an HTTP status, or of a code in a body. `key` names the environment variable with the key."""
    why = reason(body)
    limits = "; ".join(f"{name} {value}" for name, value in headers.items() if "ratelimit-limit" in name.lower())
    summary = f"{url} answers {status} ({why}{f'; {limits}' if limits and status == 429 else ''})"
    wait_s = wait_of(headers, body)

    def made(kind: Kind, message: str = summary) -> RefusalError:
        return RefusalError(message, kind, why, status, wait_s)

    if status in (301, 302, 303, 307, 308):
        to = one_line(without_secrets({n.lower(): v for n, v in headers.items()}.get("location", "")))
        where = f"it redirects ({to or 'it does not say where'}): give the final address as --base-url"
        return made("fatal", f"{url} answers {status}: {where} (the key is only sent to the given address)")
    if status in (400, 403, 413, 422, 451) and _MODERATED.search(why):
        return made("document")
    if status == 413 or (status in (400, 422) and _is_too_long(why)):
        return made("document")
    if status == 403 and is_page(body):
        return made("fatal", f"{url} answers {status}: it, or a proxy before it, refuses access ({why})")
    if status in (401, 403):
        return made("fatal", f"{url} answers {status}: it wants a valid key: set {key} in the environment ({why})")
    if status == 404 and not _names_parameter(why):
        what = "no such address or model: see --base-url (it often ends in /v1) and --model"
        return made("fatal", f"{url} answers {status}: {what} ({why})")
    if status == 429 or status == 529:
        return made("down" if _QUOTA.search(why) else "busy")
    if status in (402, 408, 409, 425) or (status >= 500 and status != 501):
        return made("busy" if status == 503 and wait_s else "down")
    return made("request")


def _is_too_long(why: str) -> bool:
    """Whether the prompt is too long. Too large a limit of the answer, in contrast, concerns all documents."""
    concerns_answer = re.search(r"max_(?:completion_)?tokens", why) and not re.search(
        r"context|prompt|input", why, re.I
    )
    return _TOO_LONG.search(why) is not None and not concerns_answer


def _names_parameter(why: str) -> bool:
    """OpenRouter returns 404 if no provider of the model supports a parameter."""
    return re.search(r"parameter|endpoints found that (?:support|can handle)", why, re.IGNORECASE) is not None


def code_of(error: Any) -> int:
    """The HTTP status of an error in a body; 502 if it has none."""
    found = [error.get(name) for name in ("code", "status", "status_code")] if isinstance(error, dict) else []
    for value in found:
        if isinstance(value, int | str) and re.fullmatch(r"[345]\d\d", str(value)):
            return int(value)
    text = json.dumps(error) if isinstance(error, dict) else str(error)
    if re.search(r"rate.?limit|too many requests|resource_exhausted", text, re.IGNORECASE):
        return 429
    if re.search(r"invalid.?request|bad.?request|invalid_argument|context_length", text, re.IGNORECASE):
        return 400
    return 502


# --- messages of the server -------------------------------------------------------------------------------------------


def reason(body: str) -> str:
    """The full reason in a body: its message and code, and those of a provider behind the server."""
    try:
        value = read_json(body)
    except ValueError:
        return shown(body) or "and says nothing"
    if isinstance(value, list) and value:  # Gemini puts its error into a list
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return one_line(error if isinstance(error, str) else json.dumps(error, ensure_ascii=False))
    parts = [error.get("message") or error.get("detail") or json.dumps(error, ensure_ascii=False)]
    parts += [error[name] for name in ("code", "param", "type", "status") if error.get(name)]
    metadata = error.get("metadata")
    if isinstance(metadata, dict):
        parts += [metadata[name] for name in ("provider_name", "raw", "reasons") if metadata.get(name)]
    inner = error.get("innererror") or error.get("inner_error")
    parts += [inner] if inner else []
    texts = [part if isinstance(part, str) else json.dumps(part, ensure_ascii=False) for part in parts]
    kept = [text for i, text in enumerate(texts) if i == 0 or text not in texts[0]]
    return one_line("; ".join(kept)) or "and says nothing"


def is_page(body: str) -> bool:
    """Whether it is a web page: of a proxy, a login, or another kind of server."""
    return re.match(r"\s*<(?:!doctype\s+html|html|head|body)\b", body, re.IGNORECASE) is not None


def shown(body: str) -> str:
    """A body that is not JSON in one line: the title of a web page, or else its text."""
    if not is_page(body):
        return one_line(body)
    head = body[:LONGEST_PAGE]
    title = re.search(r"<title[^>]*>([^<]*)", head, re.IGNORECASE)
    text = title[1] if title else re.sub(r"<(script|style)\b.*?(?:</\1>|$)|<[^>]*>", " ", head, flags=re.I | re.S)
    return f"a web page: {one_line(html.unescape(text)) or 'without a title'}"


def one_line(text: str) -> str:
    """`text` in one line, without control characters; cut if very long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} … ({len(line)} characters)"


def wait_of(headers: Mapping[str, str], body: str = "") -> float | None:
    """The number of seconds until a retry that the server asks for; None if it does not.

    From Retry-After in seconds or as a date, retry-after-ms, Gemini's retryDelay, or the text of its message.
    """
    low = {name.lower(): value for name, value in headers.items()}
    for name, scale in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            if (seconds := float(low.get(name, "")) * scale) >= 0:  # not NaN
                return seconds
        except ValueError:
            continue
    try:
        date = parsedate_to_datetime(low.get("retry-after", ""))
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp())
    except (TypeError, ValueError, OverflowError):
        pass
    if delay := re.search(r'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"', body):
        return float(delay[1])
    for text in (
        body,
        *(
            low.get(f"x-ratelimit-reset-{what}", "") and f"reset {low[f'x-ratelimit-reset-{what}']}"
            for what in ("requests", "tokens")
        ),
    ):
        if found := _AGAIN_IN.search(text):
            return sum(float(n) * _UNITS[unit.lower()] for n, unit in _SPAN.findall(found[1]))
    return None
