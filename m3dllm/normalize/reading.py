"""From an answer to an annotation: shapes, chain ids, types, references, boxes.

`align` finds texts in the document, and `salvage` extracts the object from a text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain as chain_all
from itertools import count, islice
from typing import Any, NamedTuple

from m3dllm.answers import LISTS, Nesting, Span
from m3dllm.labels import LabelSet
from m3dllm.normalize.align import Aligner, Alignment
from m3dllm.normalize.details import WHOLE, clean, excerpt, shown
from m3dllm.normalize.salvage import read_object
from m3dllm.normalize.spelling import four, spelled
from m3dllm.types import Annotation, Box, BoxForm, Chain, Document, Issue, Mention, RawOutput, Region, Relation

CHAIN, RELATION = ("id", "type", "mentions"), ("head", "tail", "type", "confidence")
MENTION = ("start", "end", "type", "text", "occurrence", "occurrences", "confidence", "link")
REGION = ("frame", "box", "type", "chain", "confidence", "id")
"""The keys of the parts of an answer."""
UNREAD = frozenset(("not_json", "truncated", "no_answer", "error"))
"""Issues of the system itself after which an empty payload is not an empty answer."""


class _ReadMention(NamedTuple):
    """A mention with its places. `type` is None if it is the chain's, "" if it cannot be used.

    A text without numbers is `bare`: it takes only the occurrences that lie inside no longer mention of the answer.
    """

    where: str
    text: str
    type: str | None
    places: tuple[Span, ...]
    bare: Alignment | None = None
    confidence: float | None = None
    link: float | None = None


class _ReadChain(NamedTuple):
    """A chain whose mentions may still conflict with those of other chains."""

    where: str
    id: str
    mentions: tuple[_ReadMention, ...]


class Reading:
    """An answer being read; `issues` collects its problems."""

    def __init__(self, document: Document, labels: LabelSet | None, boxes: BoxForm | None) -> None:
        self.issues: list[Issue] = []
        self._document, self._boxes = document, boxes
        self._types = labels and {kind: labels.names(kind) for kind in ("mentions", "relations", "regions")}
        self._frames = {frame.index for frame in document.frames}
        self._aligner = Aligner(document)
        self._ids: dict[str, str] = {}  # name of a chain in the answer -> its id
        self._chains: dict[str, Chain] = {}
        self._named: dict[str, bool] = {}  # id of a region -> whether the region can be used
        self._numbers: dict[str, int] = {}  # id -> the highest number already used with it
        # Texts without numbers, each computed once however often it is repeated: the places that lie inside
        # no longer mention, and, once a chain has taken them, the chains that have them.
        self._free: dict[Alignment, tuple[Span, ...]] = {}
        self._owners: dict[Alignment, frozenset[str]] = {}

    def annotation(self, raw: RawOutput) -> Annotation:
        """The annotation in the answer; if nothing can be used, empty, with an Issue that gives the reason."""
        answer = self._answer(raw)
        if answer is None:
            return Annotation()
        self._named = dict.fromkeys(_region_ids(answer.get("regions")), False)
        chains = list(self._read_chains(self._items(answer, "chains", "")))
        mentions = [mention for chain in chains for mention in chain.mentions]
        bare = {mention.bare: mention.places for mention in mentions if mention.bare}
        numbered = (mention.places for mention in mentions if not mention.bare)
        nesting = Nesting(span for places in chain_all(bare.values(), numbered) for span in places)
        owners: dict[Span, str] = {}
        for chain in chains:
            self._settle(chain, nesting, owners)
        before = len(self.issues)
        regions = tuple(self._regions(self._items(answer, "regions", "")))
        of_regions, self.issues[before:] = self.issues[before:], []  # they stand after those of the relations
        relations = tuple(self._relations(self._items(answer, "relations", "")))
        self.issues += of_regions
        return Annotation(tuple(self._chains.values()), relations, regions)

    # --- the answer as a whole ----------------------------------------------------------------------------------------

    def _answer(self, raw: RawOutput) -> dict[Any, Any] | None:
        """The object with the answer, or None."""
        if failure := raw.failure:
            self._note("error", WHOLE, clean(failure.message))
            return None
        payload = raw.payload
        if isinstance(payload, str) and payload.strip():
            payload, problems = read_object(payload)
            self.issues += problems
        elif payload is None or isinstance(payload, str):
            payload = None
            self._note("no_answer", WHOLE, "no payload" if raw.payload is None else "blank text")
        if not self._has("truncated"):
            for i, turn in enumerate(raw.turns):
                if turn.finish == "length":
                    self._note(
                        "truncated", f"turns[{i}]", f"stage {excerpt(turn.stage)} reached the maximum answer length"
                    )
        if payload is None:
            return None
        if not isinstance(payload, dict):
            self._note("bad_shape", WHOLE, f"expected an object, not {shown(payload)}")
            return None
        payload = spelled(payload, LISTS)
        self._check_keys(payload, LISTS, "")
        is_answer = not payload or not payload.keys().isdisjoint(LISTS)
        unread = self._has("truncated") or any(issue.code in UNREAD for issue in raw.issues)
        if is_answer and not unread and all(payload.get(name) in (None, [], ()) for name in LISTS):
            nothing_there = not self._document.text.strip() and not self._document.frames
            self._note("empty_document" if nothing_there else "empty_answer", WHOLE, "nothing was predicted")
        return payload

    # --- chains -------------------------------------------------------------------------------------------------------

    def _read_chains(self, rows: Collection[Any]) -> Iterator[_ReadChain]:
        rows = [spelled(row, CHAIN) if isinstance(row, dict) else row for row in rows]
        names = [_name(row.get("id")) if isinstance(row, dict) else None for row in rows]
        taken = {name for name in names if name is not None} | self._named.keys()
        for i, (row, name) in enumerate(zip(rows, names, strict=True)):
            where = f"chains[{i}]"
            if not self._is_object(row, where, CHAIN):
                continue
            if name is None:
                if row.get("id") is not None:
                    self._note("bad_shape", f"{where}.id", f"expected a name, not {shown(row['id'])}")
                chain_id = self._fresh(f"c{i}", taken, i)
                self._ids[chain_id] = chain_id
            elif name in self._ids:
                chain_id = self._fresh(name, taken, i)
                self._note("duplicate_id", where, f"{excerpt(name)} is taken; the chain is now {excerpt(chain_id)}")
            else:
                chain_id = self._ids[name] = name
            yield _ReadChain(where, chain_id, self._read_mentions(row, where))

    def _read_mentions(self, row: dict[Any, Any], where: str) -> tuple[_ReadMention, ...]:
        kind = None if row.get("type") is None else self._type(row["type"], "mentions", f"{where}.type")
        mentions = self._items(row, "mentions", where)
        read = [m for j, value in enumerate(mentions) if (m := self._read_mention(value, f"{where}.mentions[{j}]"))]
        if kind is None:
            # The type of a chain is the majority of its mentions' types.
            kind = next((name for name, _ in Counter(m.type for m in read if m.type).most_common(1)), "")
            if not kind and any(m.type is None for m in read):
                self._note("unknown_type", f"{where}.type", "neither the chain nor its mentions have a type")
        return tuple(m._replace(type=kind) if m.type is None else m for m in read)

    def _settle(self, chain: _ReadChain, nesting: Nesting, owners: dict[Span, str]) -> None:
        """Assign to the chain the places of its mentions that no earlier chain has."""
        settled: list[Mention] = []
        before: set[str] = set()
        for mention in chain.mentions:
            if not mention.type:
                continue
            places = self._places(mention, nesting)
            if not places:
                self._note("covered", mention.where, excerpt(mention.text))
            repeated = mention.bare in self._owners
            if taken := places if repeated else tuple(span for span in places if span in owners):
                at = ", ".join(str(start) for start, _ in taken[:5]) + (", …" if len(taken) > 5 else "")
                self._note(
                    "duplicate_mention",
                    mention.where,
                    f"{excerpt(mention.text)} at {at} is already in chain {excerpt(owners[taken[0]])}",
                )
                has = self._owners[mention.bare] if mention.bare and repeated else {owners[span] for span in taken}
                before.update(islice(has, 2))  # only whether there is exactly one matters
            if repeated:
                continue
            for start, end in places:
                if (start, end) not in owners:
                    owners[start, end] = chain.id
                    link = mention.link if settled else None
                    settled.append(Mention(start, end, mention.type, mention.confidence, link))
            if mention.bare:
                self._owners[mention.bare] = frozenset(owners[span] for span in places)
        if settled:
            self._chains[chain.id] = Chain(chain.id, tuple(settled))
        elif len(before) == 1:
            (first,) = before
            if chain.id in self._ids:
                self._ids[chain.id] = first
            self._note("repeated_chain", chain.where, f"{excerpt(chain.id)} is read as {excerpt(first)}")
        else:
            self._note("empty_chain", chain.where, f"none of the mentions of {excerpt(chain.id)} could be used")

    def _places(self, mention: _ReadMention, nesting: Nesting) -> tuple[Span, ...]:
        """The places that the mention takes, unless another chain has them."""
        if mention.bare is None:
            return mention.places
        if mention.bare not in self._free:
            self._free[mention.bare] = tuple(span for span in mention.places if not nesting.inside_longer(span))
        return self._free[mention.bare]

    # --- mentions -----------------------------------------------------------------------------------------------------

    def _read_mention(self, value: Any, where: str) -> _ReadMention | None:
        """A mention in any of its forms."""
        if isinstance(value, str):
            return self._by_text(value, where)
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
            return self._by_text(value[0], where, numbers=value[1:])
        value = spelled(value, MENTION) if isinstance(value, dict) else value
        if not self._is_object(value, where, MENTION):
            return None
        kind = None if value.get("type") is None else self._type(value["type"], "mentions", f"{where}.type")
        sure, link = self._confidence(value, "confidence", where), self._confidence(value, "link", where)
        text = value.get("text")
        if "start" in value or "end" in value:
            if span := self._offsets(value, where):
                return _ReadMention(where, self._document.text[slice(*span)], kind, (span,), confidence=sure, link=link)
            if not isinstance(text, str):
                return None
        if not isinstance(text, str):
            self._note("bad_shape", where, "expected a text, a list of a text and numbers, or offsets")
            return None
        numbers = value.get("occurrences", value.get("occurrence"))
        if not isinstance(numbers, (list, tuple)):
            numbers = () if numbers is None else (numbers,)
        read = self._by_text(text, where, numbers=numbers)
        return read and read._replace(type=kind, confidence=sure, link=link)

    def _by_text(self, text: str, where: str, *, numbers: Collection[Any] = ()) -> _ReadMention | None:
        """The mention at every free occurrence of `text`, or only at those with the given numbers."""
        wanted = [self._integer(number, where) for number in numbers]
        if None in wanted or not text:
            self._note("bad_shape", where, "an empty text" if not text else "expected numbers after the text")
            return None
        found = self._aligner.find(text)
        if found is None:
            self._note("text_not_found", where, excerpt(text))
            return None
        if found.status != "exact":
            self._note(found.status, where, f"{excerpt(text)} read as {excerpt(found.read_as)}")
        if not wanted:
            return _ReadMention(where, text, None, found.meant, bare=found)
        places = []
        for n in dict.fromkeys(wanted):
            if n is not None and 1 <= n <= len(found.places):
                places.append(found.places[n - 1])
            else:
                detail = f"no. {shown(n)} of {excerpt(text)}, which occurs {len(found.places)} times"
                self._note("occurrence_out_of_range", where, detail)
        return _ReadMention(where, text, None, tuple(places)) if places else None

    def _offsets(self, value: dict[Any, Any], where: str) -> Span | None:
        start, end = (self._integer(value.get(name), where) for name in ("start", "end"))
        length = len(self._document.text)
        if start is None or end is None or not 0 <= start < end <= length:
            offsets = f"{shown(value.get('start'))} to {shown(value.get('end'))}"
            self._note("bad_offsets", where, f"{offsets}; the text has {length} characters")
            return None
        there = self._document.text[start:end]
        if isinstance(text := value.get("text"), str) and text != there:
            self._note("bad_offsets", where, f"{excerpt(there)} is there, not {excerpt(text)}: located by its text")
            return None
        return start, end

    # --- relations ----------------------------------------------------------------------------------------------------

    def _relations(self, rows: Collection[Any]) -> Iterator[Relation]:
        seen: set[Relation] = set()
        for i, row in enumerate(rows):
            where = f"relations[{i}]"
            row = spelled(row, RELATION) if isinstance(row, dict) else row
            if (
                not self._is_object(row, where, RELATION)
                or not (kind := self._type(row.get("type"), "relations", f"{where}.type"))
                or (head := self._side(row.get("head"), f"{where}.head")) is None
                or (tail := self._side(row.get("tail"), f"{where}.tail")) is None
            ):
                continue
            if head == tail:
                self._note("self_relation", where, f"{excerpt(kind)} joins {excerpt(head)} to itself")
                continue
            relation = Relation(head, tail, kind, self._confidence(row, "confidence", where))
            if relation in seen:
                self._note("duplicate_relation", where, f"{excerpt(kind)} from {excerpt(head)} to {excerpt(tail)}")
                continue
            seen.add(relation)
            yield relation

    def _side(self, value: Any, where: str) -> str | None:
        """The id of the chain or region that `value` names."""
        name = _name(value)
        if name is None or name in self._ids or name not in self._named:
            return self._chain(value, where)
        if self._named[name]:
            return name
        self._note("dangling", where, f"refers to region {shown(value)}, which could not be used")
        return None

    def _chain(self, value: Any, where: str) -> str | None:
        """The id of the chain that `value` names."""
        name = _name(value)
        chain_id = None if name is None else self._ids.get(name)
        if chain_id in self._chains:
            return chain_id
        why = "there is none" if chain_id is None else "none of its mentions could be used"
        self._note("dangling", where, f"refers to chain {shown(value)}: {why}")
        return None

    # --- regions ------------------------------------------------------------------------------------------------------

    def _regions(self, rows: Collection[Any]) -> Iterator[Region]:
        for i, row in enumerate(rows):
            where = f"regions[{i}]"
            row = spelled(row, REGION) if isinstance(row, dict) else row
            if not self._is_object(row, where, REGION):
                continue
            chain = None if row.get("chain") is None else self._chain(row["chain"], f"{where}.chain")
            kind = self._chains[chain].type if chain is not None and row.get("type") is None else row.get("type")
            if not (kind := self._type(kind, "regions", f"{where}.type")):
                continue
            frame = self._integer(row.get("frame"), f"{where}.frame")
            if frame is None or frame not in self._frames:
                self._note("unknown_frame", f"{where}.frame", f"the document has no frame {shown(row.get('frame'))}")
                continue
            if box := self._box(row.get("box"), frame, f"{where}.box"):
                sure = self._confidence(row, "confidence", where)
                yield Region(frame, box, kind, chain, sure, self._region_id(row.get("id"), where))

    def _region_id(self, value: Any, where: str) -> str | None:
        """The id of a region that can be used; None where it has none, or a chain or a region before it has it."""
        name = _name(value)
        if name is None:
            if value is not None:
                self._note("bad_shape", f"{where}.id", f"expected a name, not {shown(value)}")
        elif name in self._ids or self._named[name]:
            self._note("duplicate_id", where, f"{excerpt(name)} is taken; the region has no id")
        else:
            self._named[name] = True
            return name
        return None

    def _box(self, value: Any, frame: int, where: str) -> Box | None:
        """The box as fractions of the frame.

        null stands for a non-finite number, as in files.
        """
        value = four(value)
        numbers = [_float(number) for number in value] if isinstance(value, (list, tuple)) and len(value) == 4 else []
        if not numbers or None in numbers:
            self._note("bad_box", where, f"expected four numbers, not {shown(value)}")
            return None
        if any(isinstance(number, str) for number in value):
            self._note("repaired", where, "numbers written as text")
        coordinates = [number for number in numbers if number is not None]
        box = _fractions(coordinates, self._boxes, frame)
        if box is not None and self._boxes is not None and _are_fractions(coordinates, self._boxes.sizes[frame]):
            across, down = self._boxes.sizes[frame]
            shown_as = ", ".join(f"{number:g}" for number in coordinates)
            self._note("box_convention", where, f"[{shown_as}] look like fractions, not 0 to {across:g} and {down:g}")
        if box is None:
            self._note("no_box_size", where, f"what is the right and bottom edge of frame {frame}?")
        elif not box.has_area:
            self._note("bad_geometry", where, f"{_rounded(box)} has no area")
        elif not box.is_legal:
            self._note("box_outside", where, f"{_rounded(box)} extends beyond the frame")
        return box

    # --- values -------------------------------------------------------------------------------------------------------

    def _note(self, code: str, where: str, detail: str) -> None:
        self.issues.append(Issue(code, where, detail))

    def _has(self, code: str) -> bool:
        return any(issue.code == code for issue in self.issues)

    def _items(self, row: dict[Any, Any], key: str, where: str) -> Collection[Any]:
        """The list at `key`; empty if it is missing, null, or not a list."""
        value = row.get(key)
        if isinstance(value, (list, tuple)):
            return value
        if value is not None:
            self._note("bad_shape", f"{where}.{key}" if where else key, f"expected a list, not {shown(value)}")
        return ()

    def _fresh(self, name: str, taken: set[str], i: int) -> str:
        """`name`, or the first free one of name_i, name_i+1, …, which is then taken. `i` grows from call to call."""
        fresh = name
        if name in taken:
            n = next(n for n in count(max(i, self._numbers.get(name, 0))) if f"{name}_{n}" not in taken)
            fresh, self._numbers[name] = f"{name}_{n}", n + 1
        taken.add(fresh)
        return fresh

    def _is_object(self, value: Any, where: str, keys: Collection[str]) -> bool:
        """Whether `value` is an object; keys that are not among `keys` are noted."""
        if not isinstance(value, dict):
            self._note("bad_shape", where, f"expected an object, not {shown(value)}")
            return False
        self._check_keys(value, keys, where)
        return True

    def _check_keys(self, row: dict[Any, Any], known: Collection[str], where: str) -> None:
        for key in row:
            if key not in known:
                name = clean(str(key))[:40]
                self._note("bad_shape", f"{where}.{name}" if where else name, f"not read: {shown(row[key])}")

    def _type(self, value: Any, kind: str, where: str) -> str:
        """The type that `value` names, or ""."""
        if not isinstance(value, str) or not value:
            self._note("unknown_type", where, f"expected a type, not {shown(value)}")
            return ""
        if self._types and value not in self._types[kind]:
            self._note("unknown_type", where, excerpt(value))
            return ""
        return clean(value)

    def _confidence(self, row: dict[Any, Any], name: str, where: str) -> float | None:
        """A confidence, from 0 to 1; None if it is missing or invalid."""
        value = row.get(name)
        if value is None:
            return None
        number = None if isinstance(value, str) else _float(value)
        if number is None or not 0 <= number <= 1:
            self._note("bad_confidence", f"{where}.{name}", f"expected a number from 0 to 1, not {shown(value)}")
            return None
        return number

    def _integer(self, value: Any, where: str) -> int | None:
        """A whole number, also one written as text or with a decimal point; None for anything else."""
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[0-9]{1,18}\s*", value):
            self._note("repaired", where, f"{excerpt(value)} read as a number")
            return int(value)
        return None


def _fractions(numbers: list[float], form: BoxForm | None, frame: int) -> Box | None:
    """Four numbers of an answer as fractions of the frame; None if its size is unknown.

    The numbers are reordered to x0 y0 x1 y1; then x becomes (x − offset) ÷ width and y (y − offset) ÷ height,
    where (width, height) is the frame's entry in `sizes`, and its offset (0, 0) if not given.
    """
    if form is None:
        return Box(*numbers)
    if frame not in form.sizes:
        return None
    a, b, c, d = numbers
    match form.order:
        case "xyxy":
            x0, y0, x1, y1 = a, b, c, d
        case "yxyx":
            x0, y0, x1, y1 = b, a, d, c
        case "xywh":
            x0, y0, x1, y1 = a, b, a + c, b + d
        case "cxcywh":
            x0, y0, x1, y1 = Box.from_cxcywh(a, b, c, d)
    width, height = form.sizes[frame]
    x, y = form.offsets.get(frame, (0.0, 0.0))
    return Box((x0 - x) / width, (y0 - y) / height, (x1 - x) / width, (y1 - y) / height)


def _are_fractions(numbers: list[float], size: tuple[float, float]) -> bool:
    """Whether numbers that should be of a frame of this size are all between 0 and 1, and not all whole."""
    return min(size) > 2 and all(0 <= n <= 1 for n in numbers) and not all(n.is_integer() for n in numbers)


def _float(value: Any) -> float | None:
    """A coordinate, also one written as text; NaN for null, None for anything that is no number."""
    if value is None:
        return math.nan
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if value.bit_length() <= 1000 else math.inf if value > 0 else -math.inf
    if isinstance(value, float):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,5})?\s*", value):
        return float(value)
    return None


def _name(value: Any) -> str | None:
    """A JSON scalar as an id; None for null (in files also NaN), an object or a list."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 1000 else hex(value)
    return repr(value) if isinstance(value, float) and math.isfinite(value) else None


def _region_ids(rows: Any) -> Iterator[str]:
    """The ids that the rows give to regions."""
    for row in rows if isinstance(rows, (list, tuple)) else ():
        if isinstance(row, dict) and (name := _name(spelled(row, REGION).get("id"))) is not None:
            yield name


def _rounded(box: Box) -> str:
    return f"[{', '.join(f'{x:.4g}' for x in box)}]"
