"""Grammars for constrained decoding: one for each stage, made from one document.

They are written for llguidance (its dialect of Lark). What they guarantee of a finished answer: it is JSON without free
white space; every mention is a substring of the document that begins and ends on its token boundaries; types are the
label set's; names of chains and mentions exist; head and tail differ; frames are among those in the prompt; boxes lie
inside the frame and have an area; every list has a maximum length. In the `relations` stage types fit head and tail.

The joint grammar does not check that an occurrence number exists for its text (only that some token occurs as often),
that a relation's type fits, and that no mention is in two chains: a chain may be repeated, and a relation may join it
with itself under both names. `normalize` makes Issues of these.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from m3dllm.labels import LabelSet, RelationLabel
from m3dllm.systems.videollm.families import Size
from m3dllm.systems.videollm.visible import Bounds, Named, VisibleFrames
from m3dllm.tokens import tokenize
from m3dllm.types import Document


def joint_grammar(
    document: Document,
    labels: LabelSet,
    visible: VisibleFrames,
    bounds: Bounds,
    *,
    chains: int | None = None,
    related: bool = False,
    refused: Collection[str] = (),
) -> str:
    """Chains, relations and regions in one object. Relations name only chains that were written before them.

    `chains`: the grammar of the rest of an answer after this many chains; `related`: after its relations too. With
    `refused`, the list of chains continues, without these texts.
    """
    rules = _Rules()
    n_chains = bounds.chains if mention_chunks(document) and labels.mentions else 0
    n_pairs = n_chains if labels.relations and bounds.relations else 0
    regions = rules.regions(visible, labels, bounds)
    if n_chains:
        rules.mentions(document, bounds, refused)
        rules.add("chain_type", _names(label.name for label in labels.mentions))
        mentions = _list("mention", bounds.mentions, least=1)
        rules.add("chain_body", _row(_text(',"type":'), "chain_type", _text(',"mentions":['), mentions, _text("]}")))
    if n_pairs > 1:
        rules.add("RELATION_TYPE", _names(label.name for label in labels.relations))
        rules.add("SAME", _union(f'"c{i}","tail":"c{i}"' for i in range(n_pairs)))
    rules.add("regions", _row(_text('],"regions":['), regions, _text("]}")))  # once: compiling takes a quarter less
    if chains is None:
        rules.add("start", _row(_text('{"chains":['), "(chain_0 next_1 | rest_0)" if n_chains else "rest_0"))
    else:
        rules.add("start", "regions" if related else f"next_{chains}" if refused else f"rest_{chains}")
    for k in range(n_chains + 1):
        if k < n_chains:
            rules.add(f"chain_{k}", _row(_text(f'{{"id":"c{k}"'), "chain_body"))
        if k:
            more = f'"," chain_{k} next_{k + 1} | ' if k < n_chains else ""
            rules.add(f"next_{k}", f"{more}rest_{k}")
        relations = '""'
        if 1 < k <= n_pairs:
            ids = "|".join(_ranges(0, k - 1))
            rules.add(f"PAIR_{k}", f'/"c({ids})","tail":"c({ids})"/ & ~SAME')
            rules.add(f"relation_{k}", _object({"head": f"PAIR_{k}", "type": "RELATION_TYPE"}))
            relations = _list(f"relation_{k}", bounds.relations)
        rules.add(f"rest_{k}", _row(_text('],"relations":['), relations, "regions"))
    return rules.text()


def markup_grammar(document: Document, labels: LabelSet, visible: VisibleFrames, bounds: Bounds) -> str:
    """The text, letter by letter, with `<TYPE n>` and `</>` around mentions; then a line for each relation and region.

    Mentions do not overlap, and end in the piece (`markup_pieces`) in which they begin.
    """
    rules = _Rules()
    chunks = mention_chunks(document)
    many = bool(chunks and labels.mentions)
    numbers = "|".join(_ranges(0, bounds.chains - 1))
    if many:
        rules.add("TYPE", _union(label.name for label in labels.mentions))
        rules.add("OPEN", _row(_text("<"), "TYPE", f"/ ({numbers})>/"))
        rules.add("CLOSE", _text("</>"))
    pieces = [rules.piece(i, chunks[start:end], many=many) for i, (start, end) in enumerate(markup_pieces(chunks))]
    relations = '""'
    if many and bounds.chains > 1 and labels.relations and bounds.relations:
        rules.add("RELATION_TYPE", _union(label.name for label in labels.relations))
        rules.add("relation", _row(f"/\\n<({numbers}) /", "RELATION_TYPE", f"/ ({numbers})>/"))
        relations = f"relation{{0,{bounds.relations}}}"
    regions = rules.marked_regions(visible, labels, bounds)
    rules.add("start", _row(*pieces, relations, regions))
    return rules.text()


PIECE = 64
"""Tokens and white space between them after which a piece of a text ends at the next end of a sentence; twice as many
at the latest. A parser keeps a state for each of them at once."""


def markup_pieces(chunks: Sequence[str]) -> list[tuple[int, int]]:
    """The pieces of a text: (first, last + 1) of the chunks of each."""
    ends, first = [], 0
    for i, chunk in enumerate(chunks, start=1):
        is_end = chunk.rstrip()[-1:] in (".", "!", "?", "。", "！", "？") or "\n" in chunk
        if i == len(chunks) or (i - first >= PIECE and is_end) or i - first >= 2 * PIECE:
            ends.append((first, i))
            first = i
    return ends


def entities_grammar(document: Document, labels: LabelSet, bounds: Bounds) -> str:
    """For each mention type, the list of the texts of its mentions."""
    rules = _Rules()
    texts = '""'
    if mention_chunks(document):
        rules.mentions(document, bounds)
        texts = _list("MENTION", bounds.mentions)
    rules.add("start", _object({label.name: _array(texts) for label in labels.mentions}))
    return rules.text()


def mentions_grammar(document: Document, labels: LabelSet, bounds: Bounds) -> str:
    """A list of the mentions, each with its text and type."""
    rules = _Rules()
    mentions = '""'
    if mention_chunks(document) and labels.mentions:
        rules.mentions(document, bounds)
        rules.add("TYPE", _names(label.name for label in labels.mentions))
        rules.add("typed", _object({"text": "MENTION", "type": "TYPE"}))
        mentions = _list("typed", bounds.mentions * len(labels.mentions))
    rules.add("start", _object({"mentions": _array(mentions)}))
    return rules.text()


def spans_grammar(document: Document, bounds: Bounds, most: int, *, objects: bool = False) -> str:
    """At most `most` texts of the document, without types; with `objects`, each is that of an object."""
    rules = _Rules()
    texts = '""'
    if mention_chunks(document):
        rules.mentions(document, bounds)
        rules.add("span", _object({"text": "MENTION"}) if objects else "MENTION")
        texts = _list("span", most)
    rules.add("start", _object({"mentions": _array(texts)}))
    return rules.text()


def chains_grammar(mentions: Sequence[Named], bounds: Bounds, *, objects: bool = False) -> str:
    """Lists of names of `mentions`, each list of one type, each name at most once in the answer; with `objects`, each
    list is that of an object.

    With more than MARKED mentions a name may be repeated. Raises ValueError if there is no mention.
    """
    if not mentions:
        raise ValueError("no mention to make chains of")
    rules = _Rules()
    kinds = list(_by_type(mentions))
    opens, closes = (_text('{"mentions":['), _text("]}")) if objects else (_text("["), _text("]"))
    if len(mentions) > MARKED:
        for i, names in enumerate(_by_type(mentions).values()):
            rules.add(f"NAME_{i}", _names(names))
            rules.add(f"chain_{i}", _row(opens, _list(f"NAME_{i}", len(names), least=1), closes))
        rules.add("chain", " | ".join(f"chain_{i}" for i in range(len(kinds))))
        rules.add("start", _object({"chains": _array(_list("chain", bounds.chains))}))
        return rules.text()
    # The parameter of a rule has one bit for each mention that was used.
    used: dict[str, list[str]] = {kind: [] for kind in kinds}
    for bit, mention in enumerate(mentions):
        name = f"{_text(_json(mention.name))} more_{kinds.index(mention.type)}::set_bit({bit}) %if bit_clear({bit})"
        used[mention.type].append(name)
    rules.add("start", _row(_text('{"chains":['), "(first::0x0 |", _text("]}"), ")"))
    rules.add("first::_", " | ".join(f"{opens} {name}" for names in used.values() for name in names))
    for i, names in enumerate(used.values()):
        rules.add(f"more_{i}::_", " | ".join([f"{closes} end::_", *(f'"," {name}' for name in names)]))
    rules.add("end::_", f'"," first::_ %if not(is_ones([0:{len(mentions)}])) | {_text("]}")}')
    return rules.text()


MARKED = 60
"""The most mentions of which a grammar tracks which were used, in 64-bit parameters."""


def relations_grammar(chains: Sequence[Named], labels: LabelSet, bounds: Bounds) -> str:
    """Relations among `chains`, of types that fit head and tail; an empty list if no type fits any pair."""
    rules = _Rules()
    kinds = []
    by_type = _by_type(chains)
    if chains:
        rules.add("SAME", _union(f'{_json(c.name)},"tail":{_json(c.name)}' for c in chains))
    for i, (head, heads) in enumerate(by_type.items()):
        for j, (tail, tails) in enumerate(by_type.items()):
            fitting = [label.name for label in labels.relations if fits(label, head, tail)]
            if not fitting or (head == tail and len(heads) < 2):
                continue
            pair = _row(f"({_names(heads)})", _text(',"tail":'), f"({_names(tails)})")
            rules.add(f"PAIR_{i}_{j}", f"({pair}) & ~SAME" if head == tail else pair)
            rules.add(f"TYPE_{i}_{j}", _names(fitting))
            kinds.append(rules.add(f"relation_{i}_{j}", _object({"head": f"PAIR_{i}_{j}", "type": f"TYPE_{i}_{j}"})))
    if kinds:
        rules.add("relation", " | ".join(kinds))
    rules.add("start", _object({"relations": _array(_list("relation", bounds.relations if kinds else 0))}))
    return rules.text()


def fits(label: RelationLabel, head: str, tail: str) -> bool:
    """Whether a relation of this type may join chains of these types; a chain without a type fits any."""
    return not head or not tail or label.joins(head, tail)


def regions_grammar(chains: Sequence[Named], labels: LabelSet, visible: VisibleFrames, bounds: Bounds) -> str:
    """Regions of the prompt's frames, each of a chain of its type (of any chain, if mentions do not have that type)."""
    rules = _Rules()
    regions = rules.regions(visible, labels, bounds, chains=chains)
    rules.add("start", _object({"regions": _array(regions)}))
    return rules.text()


def box_grammar(frame: int, visible: VisibleFrames) -> str:
    """One box in a frame of the prompt."""
    rules = _Rules()
    rules.box("BOX", visible.convention.limits(visible.sizes[frame]), visible)
    rules.add("start", _object({"box": "BOX"}))
    return rules.text()


def choice_grammar(options: Iterable[str]) -> str:
    """One of `options`, verbatim."""
    return f"start: {_union(options)}\n"


def text_grammar(key: str, most: int) -> str:
    """An object with one line of at most `most` characters."""
    rules = _Rules()
    rules.add("TEXT", f'/"[^"\\\\\\x00-\\x1f]{{1,{most}}}"/')
    rules.add("start", _object({key: "TEXT"}))
    return rules.text()


FREE = '%llguidance {"no_forcing": true}'
"""Even if only one text can follow, the model chooses its tokens."""


# --- rules ------------------------------------------------------------------------------------------------------------


class _Rules:
    """A grammar being written: one line per rule, each name once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def add(self, name: str, body: str) -> str:
        self._lines[name] = f"{name}: {body}"
        return name

    def text(self) -> str:
        return "\n".join([FREE, *self._lines.values()]) + "\n"

    def mentions(self, document: Document, bounds: Bounds, refused: Collection[str] = ()) -> None:
        """`mention` and MENTION: a text of the document in quotes, none of `refused`; the former also with occurrence
        numbers."""
        chunks = [_json(chunk)[1:-1] for chunk in mention_chunks(document)]
        self.add("SUBSTRING", f"%regex {_json({'substring_chunks': chunks})}")
        self.add("WHOLE", f"/{_SOLID}({_UNIT}{{0,{max(bounds.characters - 2, 0)}}}{_SOLID})?/")
        if refused:
            self.add("REFUSED", _union(_json(text)[1:-1] for text in refused))
        self.add("MENTION", f'"\\"" (SUBSTRING & WHOLE{" & ~REFUSED" if refused else ""}) "\\""')
        most = max(Counter(document.text[start:end] for start, end in tokenize(document)).values(), default=1)
        self.add("OCCURRENCE", f"/{'|'.join(_ranges(1, most))}/")
        numbers = _list("OCCURRENCE", min(most, bounds.mentions), least=1)
        self.add("mention", f"MENTION | {_array(_row('MENTION', _text(','), numbers))}")

    def piece(self, number: int, chunks: Sequence[str], *, many: bool) -> str:
        """A rule for these chunks; with `many`, some of them are between tags."""
        out, within = (lambda i: f"out_{number}_{i}"), (lambda i: f"in_{number}_{i}")
        for i, chunk in enumerate(chunks):
            plain, is_token = _text(chunk), bool(chunk.strip())
            ways = [_row(plain, out(i + 1))]
            if many and is_token:
                ways.append(_row("OPEN", plain, within(i + 1)))
            self.add(out(i), " | ".join(ways))
            if many and i:
                ways = [_row("CLOSE", out(i))] if chunks[i - 1].strip() else []
                if is_token or i + 1 < len(chunks):  # a mention does not end with white space
                    ways.append(_row(plain, within(i + 1)))
                self.add(within(i), " | ".join(ways))
        self.add(out(len(chunks)), '""')
        if many and chunks[-1].strip():
            self.add(within(len(chunks)), "CLOSE")
        return out(0)

    def marked_regions(self, visible: VisibleFrames, labels: LabelSet, bounds: Bounds) -> str:
        """A line for each region."""
        if not visible.sizes or not labels.regions or not bounds.regions:
            return '""'
        groups: dict[Size, list[int]] = {}
        for frame, size in visible.sizes.items():
            groups.setdefault(visible.convention.limits(size), []).append(frame)
        self.add("REGION_TYPE", _union(label.name for label in labels.regions))
        for i, (limits, frames) in enumerate(groups.items()):
            self.box(f"BOX_{i}", limits, visible)
            begin = f"/\\n<({'|'.join(map(str, frames))}) /"
            self.add(f"region_{i}", _row(begin, "REGION_TYPE", _text(" "), f"BOX_{i}", _text(">")))
        self.add("region", " | ".join(f"region_{i}" for i in range(len(groups))))
        return f"region{{0,{bounds.regions * len(visible.sizes)}}}"

    def regions(
        self, visible: VisibleFrames, labels: LabelSet, bounds: Bounds, *, chains: Sequence[Named] | None = None
    ) -> str:
        """The items of the list of regions; with `chains` each names the one that it shows."""
        if not visible.sizes or not labels.regions or not bounds.regions:
            return '""'
        groups: dict[Size, list[int]] = {}
        for frame, size in visible.sizes.items():
            groups.setdefault(visible.convention.limits(size), []).append(frame)
        kinds = []
        for i, (limits, frames) in enumerate(groups.items()):
            self.add(f"FRAME_{i}", f"/{'|'.join(map(str, frames))}/")
            self.box(f"BOX_{i}", limits, visible)
            parts = (_text('{"frame":'), f"FRAME_{i}", "region_kind", _text(',"box":'), f"BOX_{i}", _text("}"))
            kinds.append(self.add(f"region_{i}", _row(*parts)))
        self.add("region", " | ".join(kinds))
        self._region_kind(labels, chains)
        return _list("region", bounds.regions * len(visible.sizes))

    def _region_kind(self, labels: LabelSet, chains: Sequence[Named] | None) -> None:
        if chains is None:
            kinds = [_row(_text(',"type":'), f"({_names(label.name for label in labels.regions)})")]
        else:
            mention_types = labels.names("mentions")
            kinds = []
            for label in labels.regions:
                fitting = [c.name for c in chains if c.type in (label.name, "") or label.name not in mention_types]
                named = " | ".join([*map(_text, map(_json, fitting)), '"null"'])
                kinds.append(_row(_text(f',"type":{_json(label.name)},"chain":'), f"({named})"))
        self.add("region_kind", " | ".join(kinds))

    def box(self, name: str, limits: Size, visible: VisibleFrames) -> None:
        """`name`: a list of four numbers in range, the third above the first and the fourth above the second."""
        decimals = visible.convention.decimals
        first, second = limits if visible.convention.order == "xyxy" else limits[::-1]
        number = "[0-9.]+" if decimals else "[0-9]+"
        a, b = (_numbers(0, limit, decimals) for limit in (first, second))
        self.add(f"{name}_FIRST", _rising(first, decimals, r"\[", f",({b}),", rf",{number}\]"))
        self.add(f"{name}_SECOND", _rising(second, decimals, rf"\[({a}),", f",{number},", r"\]"))
        self.add(name, f"{name}_FIRST & {name}_SECOND")


# --- mentions ---------------------------------------------------------------------------------------------------------

# Characters as JSON writes them, and those that are not white space.
_UNIT = r"""([^\\"\x00-\x1f]|\\["\\bfnrt]|\\u[0-9a-f]{4})"""
_SOLID = r"""([^\\"\x00-\x1f\s]|\\["\\b]|\\u00(0[0-8ef]|1[0-9ab]))"""


def mention_chunks(document: Document) -> list[str]:
    """The text from its first token to its last, in pieces: tokens, and the white space between them.

    If anything but white space lies between two tokens, they form one piece with it: a mention then never
    begins or ends inside it. Overlapping tokens are one piece too.
    """
    text = document.text
    merged: list[list[int]] = []
    for start, end in sorted(tokenize(document)):
        if merged and (start < merged[-1][1] or text[merged[-1][1] : start].strip()):
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    edges = sorted({edge for span in merged for edge in span})
    return [text[start:end] for start, end in pairwise(edges)]


_json = json.JSONEncoder(ensure_ascii=False).encode


# --- parts of grammars ------------------------------------------------------------------------------------------------


def _text(literal: str) -> str:
    """A string of the grammar."""
    return _json(literal)


def _union(literals: Iterable[str]) -> str:
    return " | ".join(map(_text, literals))


def _names(names: Iterable[str]) -> str:
    """One of the names, in JSON."""
    return _union(map(_json, names))


def _row(*parts: str) -> str:
    """The concatenation of the parts."""
    return " ".join(parts)


def _array(items: str) -> str:
    return _row(_text("["), items, _text("]"))


def _object(values: Mapping[str, str]) -> str:
    """An object with these keys, in this order."""
    parts = [_row(_text(f"{',' if i else ''}{_json(key)}:"), value) for i, (key, value) in enumerate(values.items())]
    return _row(_text("{"), *parts, _text("}"))


def _list(item: str, most: int, *, least: int = 0) -> str:
    """`least` to `most` items with commas between them, without brackets."""
    if most < 1:
        return '""'
    some = item if most == 1 else f'{item} ("," {item}){{0,{most - 1}}}'
    return some if least else f"({some})?"


def _by_type(named: Sequence[Named]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for one in named:
        groups.setdefault(one.type, []).append(one.name)
    return groups


# --- numbers ----------------------------------------------------------------------------------------------------------


def _ranges(least: int, most: int) -> list[str]:
    """Regular expressions whose union is the integers from `least` to `most`, written without leading zeros."""
    found = []
    for length in range(len(str(least)), len(str(most)) + 1):
        low, high = max(least, 10 ** (length - 1) if length > 1 else 0), min(most, 10**length - 1)
        if low <= high:
            found += _same_length(str(low), str(high))
    return found


def _same_length(low: str, high: str) -> list[str]:
    """Regular expressions for the numbers from `low` to `high`, all of this length (with leading zeros)."""
    if len(low) == 1:
        return [f"[{low}-{high}]" if low != high else low]
    rest = len(low) - 1
    if low[0] == high[0]:
        return [f"{low[0]}({'|'.join(_same_length(low[1:], high[1:]))})"]
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return [f"[{low[0]}-{high[0]}][0-9]{{{rest}}}"]
    found = [f"{low[0]}({'|'.join(_same_length(low[1:], '9' * rest))})"]
    if int(high[0]) - int(low[0]) > 1:
        found.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}][0-9]{{{rest}}}")
    return [*found, f"{high[0]}({'|'.join(_same_length('0' * rest, high[1:]))})"]


def _numbers(least: int, most: int, decimals: int) -> str:
    """A regular expression for the numbers from `least` to `most`, in units of the last decimal.

    With decimals they are from 0 to 1, and all decimals are written.
    """
    if not decimals:
        return "|".join(_ranges(least, most))
    one = 10**decimals
    found = [rf"1\.0{{{decimals}}}"] if most >= one else []
    if least < one:
        parts = _same_length(f"{least:0{decimals}}", f"{min(most, one - 1):0{decimals}}")
        found.append(rf"0\.({'|'.join(parts)})")
    return "|".join(found)


CELLS = 500
"""In frames with at least this many units across, the two edges of a box must differ in the tens: no box wider than
1/50 of the frame is lost, and the grammar is ten times smaller."""


def _rising(limit: int, decimals: int, before: str, between: str, after: str) -> str:
    """`before` a `between` b `after`, where 0 <= a < b <= `limit`: for each a, or each ten of them, the range of b."""
    cell = 10 if limit >= CELLS else 1
    cases = []
    for low in range(0, limit, cell):
        if low + cell <= limit:
            a, b = _numbers(low, low + cell - 1, decimals), _numbers(low + cell, limit, decimals)
            cases.append(f"({a}){between}({b})")
    return f"/{before}({'|'.join(cases)}){after}/"
