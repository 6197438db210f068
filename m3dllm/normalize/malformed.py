"""A tolerant, one-pass reader of answers in malformed JSON.

It accepts single and curly quotes, unescaped quotes inside a text, words without quotes, Python's literals, comments,
missing or extra commas, and missing or mismatched brackets. It takes linear time for any text, since a looping model
writes the worst cases.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from m3dllm.answers import LISTS
from m3dllm.normalize.details import WHOLE, clean

LONG_TEXT = 500
"""The longest quoted text, in characters, that is checked for a missing quote at its end."""

# (part, bracket, key) -> part: the parts that are kept if only their end is missing. Of a truncated chain the
# complete mentions are kept; half of a mention, relation or region is dropped.
_PARTS = {("answer", "[", name): name for name in LISTS} | {
    ("chains", "{", None): "chain",
    ("chain", "[", "mentions"): "mentions",
}
_QUOTES = {'"': '"', "'": "'", "“": "”"}
_SKIP = re.compile(r"(?:\s++|//[^\n]*+|#[^\n]*+|/\*.*?(?:\*/|\Z))++", re.DOTALL)
_KEY = re.compile(
    r"""(?:"(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*+)"|["'“”]*+(?P<bare>\w++)["'“”]*+)\s*+:""",
    re.DOTALL,
)
_WORD = re.compile(r"""[^\s,:\[\]{}"“][^,:\[\]{}"“\n]*+|.""", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,5})?")
_LITERALS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_BREAK = re.compile(r"[,\]}\n]")
_MORE = re.compile(r"""\s*,\s*(?=["'“]?(?:chains|relations|regions)["'”]?\s*:)""")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Mended(NamedTuple):
    """The result of `mend`.

    If the text is truncated inside the object, `cut` is the place in it, `end` where its last complete element ends,
    and `closing` closes the brackets that are open there.
    """

    value: dict[str, Any]
    end: int
    cut: str = ""
    closing: str = ""


def mend(text: str, start: int) -> Mended:
    """The object whose bracket is at `start`."""
    reader = _Reader(text, start + 1)
    while reader.step():
        pass
    return reader.result()


def integer(digits: str) -> int | float:
    """A whole number, as a float where Python would refuse to read so many digits."""
    return int(digits) if len(digits) < 1000 else float(digits)


class _Open:
    """An object or list being read, its part of the answer, and the key whose value comes next."""

    __slots__ = ("key", "part", "value")

    def __init__(self, bracket: str, part: str) -> None:
        self.value: dict[str, Any] | list[Any] = {} if bracket == "{" else []
        self.part = part
        self.key: str | None = None

    @property
    def closer(self) -> str:
        return "}" if isinstance(self.value, dict) else "]"

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.value, dict)

    def put(self, value: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is not None:
            self.value.setdefault(self.key, value)
            self.key = None
        elif not isinstance(value, (dict, list)):
            self.key = value if isinstance(value, str) else str(value)


class _Reader:
    """Steps through the text, one punctuation mark or value at a time. The root is closed only by its own bracket."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at
        self.stack = [_Open("{", "answer")]
        self.n_open = {"}": 0, "]": 0}  # by closing bracket, without the root
        self.complete = (at, "}")  # where the last complete element ends, and the closing of the brackets open there
        self.finished = False

    def step(self) -> bool:
        """Read one step; returns whether there is more."""
        if skipped := _SKIP.match(self.text, self.at):
            self.at = skipped.end()
        if self.at == len(self.text) or self.text.startswith("```", self.at):
            return False
        mark = self.text[self.at]
        if mark in "{[":
            self.at += 1
            self.open(mark)
        elif mark in ",:":
            self.at += 1
            if mark == ",":
                self.stack[-1].key = None
        elif mark in "}]":
            self.at += 1
            self.close(mark)
        elif not self.value():
            return False
        return not self.finished

    def open(self, mark: str) -> None:
        top = self.stack[-1]
        if top.wants_key:
            # Either the object was not closed before this bracket, or the bracket is superfluous.
            in_list = len(self.stack) > 1 and isinstance(self.stack[-2].value, list)
            if not (mark == "{" and top.value and in_list):
                return
            self.pop()
            top = self.stack[-1]
        self.stack.append(_Open(mark, _PARTS.get((top.part, mark, top.key), "")))
        self.n_open[self.stack[-1].closer] += 1

    def close(self, mark: str) -> None:
        top = self.stack[-1]
        if len(self.stack) == 1 and mark == "}":
            more = _MORE.match(self.text, self.at)
            self.finished = more is None
            self.at, top.key = more.end() if more else self.at, None
        elif self.n_open[mark] and (top.key is None or mark == top.closer):
            while self.pop() != mark:
                pass
            self.note_complete()

    def pop(self) -> str:
        """Add the innermost value to the one around it; returns its closing bracket."""
        done = self.stack.pop()
        self.n_open[done.closer] -= 1
        self.stack[-1].put(done.value)
        return done.closer

    def value(self) -> bool:
        """Read a key, text, number or word; False if it may continue after the end of the text."""
        top = self.stack[-1]
        if top.wants_key and (key := _KEY.match(self.text, self.at)):
            top.key, self.at = _unescaped(key["quoted"] or key["bare"] or ""), key.end()
            return True
        value, self.at = _scalar(self.text, self.at)
        if self.at < 0:
            return False
        top.put(value)
        self.note_complete()
        return True

    def note_complete(self) -> None:
        if self.stack[-1].part and self.stack[-1].key is None:
            self.complete = self.at, "".join(opened.closer for opened in reversed(self.stack))

    def result(self) -> Mended:
        """The root, and where the text was cut off if the root was not closed."""
        end, closing = self.complete
        cut = "" if self.finished else self.place()
        while len(self.stack) > 1:
            half = self.stack.pop()
            if half.part and half.value:
                self.stack[-1].put(half.value)
        root = self.stack[0].value
        value = root if isinstance(root, dict) else {}
        return Mended(value, self.at) if self.finished else Mended(value, end, cut, closing)

    def place(self) -> str:
        """The place in the answer, such as `chains[1].mentions[0]`."""
        place = ""
        for opened in self.stack[:4]:
            if isinstance(opened.value, list):
                place += f"[{len(opened.value)}]"
            elif opened.key is not None:
                place += f".{opened.key}" if place else opened.key
        return clean(place)[:80] or WHOLE


def _scalar(text: str, at: int) -> tuple[Any, int]:
    """(value, where it ends) of the text, number or word at `at`; the end is -1 if it may continue after the text."""
    if text[at] in _QUOTES:
        return _quoted(text, at)
    match = _WORD.match(text, at)
    end = match.end() if match else at + 1
    if end == len(text):
        return None, -1
    word = text[at:end].strip()
    if word in _LITERALS:
        return _LITERALS[word], end
    if _NUMBER.fullmatch(word):
        return (integer(word) if word.lstrip("+-").isdigit() else float(word)), end
    return word, end


def _quoted(text: str, at: int) -> tuple[str, int]:
    """The quoted text at `at`; a quote that no JSON punctuation follows belongs to the text."""
    closer, start = _QUOTES[text[at]], at + 1
    marks = re.compile(rf"\\.|{closer}(\s*+)(.?)", re.DOTALL)
    i = start
    while match := marks.search(text, i):
        escaped = match[0][0] == "\\"
        if not escaped and (match[2] in ("", *",:]}") or (match[1] and match[2] in "\"'“[{")):
            end = match.start()
            if match[2] == ":" and end - start < LONG_TEXT and (early := _BREAK.search(text, start, end)):
                # A key ends here: the closing quote of this text is missing.
                return _unescaped(text[start : early.start()].rstrip()), early.start()
            quoted = text[start:end]
            if quoted.count(closer) == 1 and "\\" not in quoted:
                quoted = quoted.strip(closer)
            return _unescaped(quoted), end + 1
        i = match.end() if escaped else match.start() + 1
    return "", -1


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    text = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", _escape, text, flags=re.DOTALL)
    # Two escapes may make one character.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)
