"""`markup`: one answer, as `joint`, but as the text with inline tags instead of JSON.

    <PER 0>Ada Lovelace</> was born in <LOC 1>Arles</> .
    <0 PER-LOC_birth 1>
    <24 PER [120,80,310,640]>

Each mention is between a tag with its type and the number of its chain, and `</>`; then comes a line for each relation
(the numbers of head and tail) and for each region (its frame and box). With a grammar, the text is copied letter by
letter, types, frames and boxes are valid, and mentions begin and end on token boundaries. Tags do not overlap: of
overlapping mentions, the gold answer has the longest. An answer is as long as the text: set `--max-tokens` accordingly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

from m3dllm.answers import Span
from m3dllm.systems.videollm import grammar
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.grammar import markup_pieces, mention_chunks
from m3dllm.systems.videollm.likelihood import Likelihood, Place
from m3dllm.systems.videollm.reading import without_thoughts
from m3dllm.systems.videollm.strategies.base import About, Conversation, Stage, Strategy
from m3dllm.systems.videollm.strategies.staged import CHAINS, RELATIONS, about_given
from m3dllm.types import Document, Issue, Mention


def _constraint(context: PromptContext, about: About) -> Constraint:
    return Constraint(grammar=grammar.markup_grammar(context.document, context.labels, context.visible, context.bounds))


# --- the gold answer --------------------------------------------------------------------------------------------------


def _target(gold: Gold, about: About) -> str:
    """The text with the mentions that can be tagged, then relations and regions, one per line."""
    document, bounds = gold.context.document, gold.context.bounds
    kept = list(_apart(document, gold.annotation.mentions))
    numbers = {m.span: chain.id[1:] for chain in gold.annotation.chains for m in chain.mentions}
    text, start, end = document.text, *_stretch(document)
    out, at = "", start
    for mention in kept:
        tagged = f"<{mention.type} {numbers[mention.span]}>{text[mention.start : mention.end]}</>"
        out, at = f"{out}{text[at : mention.start]}{tagged}", mention.end
    there = {numbers[mention.span] for mention in kept}
    lines = [out + text[at:end]]
    related = [r for r in gold.annotation.relations if {r.head[1:], r.tail[1:]} <= there]
    lines += [f"<{r.head[1:]} {r.type} {r.tail[1:]}>" for r in related[: bounds.relations]]
    lines += [f"<{region.frame} {region.type} {box}>" for region, box in gold.regions()]
    return "\n".join(lines)


def _apart(document: Document, mentions: Any) -> Iterator[Mention]:
    """Mentions that can be tagged together, in order: of those that overlap the longest, within one piece."""
    chunks, (start, _) = mention_chunks(document), _stretch(document)
    edges = [*accumulate(map(len, chunks), initial=start)]
    ends = [edges[last] for _, last in markup_pieces(chunks)]
    taken: list[Mention] = []
    for mention in sorted(mentions, key=lambda m: (m.start - m.end, m.start)):
        crosses = any(mention.start < edge < mention.end for edge in ends)
        if not crosses and all(mention.end <= m.start or m.end <= mention.start for m in taken):
            taken.append(mention)
    yield from sorted(taken)


def _stretch(document: Document) -> Span:
    """The copied span, from the first token of the text to its last."""
    whole = "".join(mention_chunks(document))
    start = document.text.find(whole)
    return start, start + len(whole)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tagged:
    """A mention as written: its places in the answer, and its span in the copied text."""

    type: str
    number: str
    text: str
    start: int
    places: tuple[Place, ...]


def _parse(context: PromptContext, reply: Reply, about: About) -> dict[str, Any]:
    """The answer in the answer form, with confidences if the engine has log-probabilities.

    That of a mention comes from its two tags, of its link from its number, of a relation or region from its line up to
    the box.
    """
    free = without_thoughts(reply.text)
    answer = reply.text if free == reply.text.strip() else free
    start, end = _stretch(context.document)
    wanted = context.document.text[start:end]
    tagged, copied, rest = _read(answer, wanted, [label.name for label in context.labels.mentions])
    is_copy = wanted.startswith(copied)
    if not is_copy or (len(copied) < len(wanted) and reply.finish == "stop"):
        detail = f"expected the text of the document with tags, not {answer[:60]!r}"
        context.issues.append(Issue("bad_shape", "answer", detail))
    sure = (
        Likelihood(answer, Place(0, len(answer)), reply.logprobs) if reply.logprobs and answer is reply.text else None
    )
    chains: dict[str, dict[str, Any]] = {}
    for one in tagged:
        chain = chains.setdefault(one.number, {"id": f"c{one.number}", "type": one.type, "mentions": []})
        at = {"start": start + one.start, "end": start + one.start + len(one.text)}
        mention = {**(at if is_copy else {"text": one.text}), "type": one.type}
        if sure is not None:
            opens, number, closes = one.places
            mention |= {"confidence": sure.probability(opens, closes), "link": sure.probability(number)}
        chain["mentions"].append(mention)
    relations, regions = _lines(context, answer, rest if is_copy else 0, sure)
    return {"chains": [*chains.values()], "relations": relations, "regions": regions}


def _read(answer: str, wanted: str, types: Sequence[str]) -> tuple[list[_Tagged], str, int]:
    """(the tagged mentions, the text without tags, the offset after the text)."""
    names = "|".join(map(re.escape, sorted(types, key=len, reverse=True))) or r"(?!)"
    tag = re.compile(rf"<(?P<type>{names}) (?P<number>\d{{1,4}})>|</>")
    tagged: list[_Tagged] = []
    copied, at, opened = "", 0, None
    for mark in tag.finditer(answer):
        piece = answer[at : mark.start()]
        if opened is None and len(copied) + len(piece) > len(wanted):
            break
        if (opened is None) == (mark["type"] is None):  # a tag where none is possible is text
            copied, at = copied + answer[at : mark.end()], mark.end()
            continue
        copied, at = copied + piece, mark.end()
        if opened is None:
            opened = mark, len(copied)
            continue
        first, began = opened
        places = (Place(first.start(), first.end()), Place(*first.span("number")), Place(*mark.span()))
        if copied[began:]:
            tagged.append(_Tagged(first["type"], first["number"], copied[began:], began, places))
        opened = None
    left = len(wanted) - len(copied)
    rest = min(at + max(left, 0), len(answer))
    return tagged, copied + answer[at:rest], rest


def _lines(
    context: PromptContext, answer: str, rest: int, sure: Likelihood | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(relations, regions) of the lines after the text."""
    names = {label.name for label in context.labels.relations}
    relations, regions = [], []
    for line in re.finditer(r"^<(\d{1,9}) (.+?) (?:(\d{1,4})|(\[[\d., ]{1,80}\]))>$", answer[rest:], re.MULTILINE):
        box = line[4]
        ends = line.end(2) if box else line.end(3)
        p = {} if sure is None else {"confidence": sure.probability(Place(rest + line.start(1), rest + ends))}
        if box:
            regions.append({"frame": int(line[1]), "type": line[2], "box": _numbers(box)} | p)
        elif line[2] in names or context.options.unconstrained:
            relations.append({"head": f"c{line[1]}", "tail": f"c{line[3]}", "type": line[2]} | p)
    return relations, regions


def _numbers(box: str) -> Any:
    """The numbers of a box; anything but a list of numbers is returned unchanged."""
    try:
        return json.loads(box)
    except ValueError:
        return box


MARKUP = Stage(
    template="markup/markup",
    constraint=_constraint,
    target=_target,
    parse=_parse,
    is_worked=True,
    tasks=frozenset(("entity", "chain", "relation")),
)
"""The text with tags, then relations and regions."""


class Markup(Strategy):
    """One question. With gold given, only chains or only relations are asked, as in `staged`."""

    name: ClassVar = "markup"
    stages: ClassVar = (MARKUP, CHAINS, RELATIONS)
    example_tasks: ClassVar = MARKUP.tasks
    has_schema: ClassVar = False
    wants: ClassVar = frozenset(("grammar",))

    def run(self, context: PromptContext) -> Conversation:
        if context.document.given is not None:
            return (yield from about_given(context, context.document.given))
        if not context.has_text and not context.visible.sizes:  # an empty document
            return {"chains": [], "relations": [], "regions": []}
        return (yield from MARKUP.put(context))
