"""CorefUD: CoNLL-U with entities and coreference; each document is one sentence.

In names of entities and types, characters that the format reserves are escaped as `%..`; white space of the text is in
`SpaceAfter`, `SpacesAfter` and `SpacesBefore`. The columns of syntax hold `_`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from m3dllm.export import File, Item, Notes, Source
from m3dllm.exporters._tokens import escaped, tokens_of

HOLDS = frozenset(("texts", "mentions", "overlaps", "chains", "tokens", "groups", "languages"))
_ODD = r"\s()\-|\[\],=#"
_SPACES = {" ": "\\s", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
Place = tuple[int, int]
"""The first and last token of a mention."""


def export(source: Source, notes: Notes) -> Iterator[File]:
    """One file per split."""
    for split, items in source.splits().items():
        yield f"{split}.conllu", _lines(items, notes)


def _lines(items: Sequence[Item], notes: Notes) -> Iterator[str]:
    first = True
    for item in items:
        spans = tokens_of(item)
        if not spans:
            notes.leave_out("document", "it has no text, and so no sentence", item.document.id)
            continue
        yield f"# newdoc id = {escaped(item.document.id, '')}\n"
        if first:
            yield "# global.Entity = eid-etype-head\n"
            first = False
        yield from _sentence(item, spans, notes)


def _sentence(item: Item, spans: Sequence[tuple[int, int]], notes: Notes) -> Iterator[str]:
    document, text = item.document, item.document.text
    yield f"# lang = {document.lang}\n"
    if document.group:
        yield f"# group = {escaped(document.group, '')}\n"
    yield f"# sent_id = {escaped(document.id, '')}-1\n# text = {' '.join(text.split())}\n"
    opening, closing = _brackets(item, spans, notes)
    last = len(spans) - 1
    for n, (start, end) in enumerate(spans):
        after = text[end : spans[n + 1][0] if n < last else len(text)]
        misc = [f"Entity={''.join(closing[n] + opening[n])}"] if closing[n] or opening[n] else []
        if not after and n < last:
            misc.append("SpaceAfter=No")
        elif after and (after != " " or n == last):
            misc.append(f"SpacesAfter={_white(after)}")
        if n == 0 and start:
            misc.append(f"SpacesBefore={_white(text[:start])}")
        yield "\t".join([str(n + 1), text[start:end], *"_" * 7, "|".join(misc) or "_"]) + "\n"
    yield "\n"


def _white(text: str) -> str:
    return "".join(_SPACES.get(c) or escaped(c, "") for c in text)


def _brackets(
    item: Item, spans: Sequence[tuple[int, int]], notes: Notes
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """(token -> the brackets that open there, token -> those that close there), nested as the mentions are.

    If two mentions of one entity cross, brackets cannot tell which closes first: the later one is skipped.
    """
    starts = {start: n for n, (start, _) in enumerate(spans)}
    ends = {end: n for n, (_, end) in enumerate(spans)}
    kept: list[tuple[Place, str, str]] = []
    for chain in item.annotation.chains:
        own: list[Place] = []
        for mention in sorted(chain.mentions):
            place = starts[mention.start], ends[mention.end]
            if any(first < place[0] <= end < place[1] for first, end in own):
                where = f"{item.document.id}: {mention.start} to {mention.end}"
                notes.leave_out("mention", "it crosses another mention of its entity", where)
                continue
            own.append(place)
            kept.append((place, escaped(chain.id, _ODD), escaped(mention.type, _ODD)))
    opening: dict[int, list[str]] = defaultdict(list)
    closing: dict[int, list[str]] = defaultdict(list)
    for (first, end), entity, kind in sorted(kept, key=lambda one: (one[0][0], -one[0][1])):
        if first == end:
            opening[first].append(f"({entity}-{kind}-1)")
        else:
            opening[first].append(f"({entity}-{kind}-1")
            closing[end].insert(0, f"{entity})")
    return opening, closing
