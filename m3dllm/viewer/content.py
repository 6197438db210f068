"""One document as the page needs it: the text, the frames, and every side with the verdict on each of its parts.

Keys are written out; offsets stay code points; a box that is no four finite numbers holds null. Verdicts are "hit",
"type" (wrong type), "spurious", "part" (a chain that is a part of a gold chain), "merged" (a chain with mentions of
several gold chains) or null, where the scorer counts nothing; what gold has and a side lacks stands in its `missed`.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3dllm.confidence import confidences_of
from m3dllm.positions import Positions
from m3dllm.score.chain import chain_spans, placed_chains
from m3dllm.score.corpus import EMPTY, Gold
from m3dllm.score.entity import TypedSpan
from m3dllm.score.relation import placed_facts
from m3dllm.score.verdicts import Outcome, Verdicts, of_chains, of_mentions, of_regions, of_relations
from m3dllm.scored import ScoredRun
from m3dllm.stream import Joined, Lazy, Stream
from m3dllm.types import (
    TASKS,
    Annotation,
    Document,
    Example,
    GivenKind,
    Mention,
    Prediction,
    RawOutput,
    Region,
    Relation,
    Task,
)
from m3dllm.viewer.entities import Entities
from m3dllm.viewer.players import Players
from m3dllm.viewer.thumbnails import Thumbnails
from m3dllm.wire import encode_example, example_head

Content = dict[str, Any]
NOTHING = Verdicts({}, ())
PASSES: dict[GivenKind | None, frozenset[Task]] = {
    None: frozenset(("entity", "chain", "relation", "grounding")),
    "mentions": frozenset(("chain",)),
    "chains": frozenset(("relation",)),
}
"""What a pass is scored on: with nothing given on all, with gold given on what is left to say."""
WORDS: dict[Outcome, str] = {
    "true_positive": "hit",
    "type": "type",
    "wrong_type": "type",
    "boundary": "spurious",
    "false_relation": "spurious",
    "incorrect": "spurious",
    "missing": "part",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A document with its gold, and the runs that are about it, by their position, with their predictions by pass."""

    example: Example
    runs: tuple[tuple[int, ScoredRun, Mapping[GivenKind | None, Prediction]], ...]

    @property
    def document(self) -> Document:
        return self.example.document


def cases(runs: Sequence[ScoredRun]) -> Iterator[Case]:
    """Every document of the runs once, in their order; documents of one id that differ stand apart."""
    examples = Joined([run.examples for run in runs])
    answers = [run.answers for run in runs]
    for at, holders in _places(runs, examples):
        gold = Gold.of(example := examples[at])
        yield Case(example, tuple((n, runs[n], answers[n].of(gold).predictions) for n in holders))


def _places(runs: Sequence[ScoredRun], examples: Sequence[Example]) -> Iterator[tuple[int, Sequence[int]]]:
    """Where each document first is among those of all runs (`examples`), and the numbers of the runs that hold it."""
    if len(runs) == 1:  # nothing to compare
        yield from ((at, (0,)) for at in range(len(examples)))
        return
    lines = Joined([_lines(run.examples) for run in runs])
    ids: Positions[str] = Positions(lambda case: example_head(lines[first[case]]).id)
    first, holds = array("q"), [bytearray() for _ in runs]
    at = 0
    for run, held in zip(runs, holds, strict=True):
        for line in _lines(run.examples):
            name = example_head(line).id
            for case in ids.candidates(name):
                other = lines[first[case]]
                if other == line or (example_head(other).id == name and examples[first[case]] == examples[at]):
                    break
            else:
                case = len(ids)
                ids.append(name)
                first.append(at)
            held.extend(bytes(max(0, case + 1 - len(held))))
            held[case] = True
            at += 1
    for case, at in enumerate(first):
        yield at, [n for n, held in enumerate(holds) if held[case : case + 1] == b"\1"]


def whole_cases(run: ScoredRun, wholes: Iterable[tuple[Document, Annotation]]) -> Iterator[Case]:
    """What the documents of `run` are parts of, with what its predictions for them come to; nobody annotated it."""
    for document, annotation in wholes:
        predictions: dict[GivenKind | None, Prediction] = {None: Prediction(document.id, annotation)}
        yield Case(Example(document, EMPTY, frozenset(TASKS)), ((0, run, predictions),))


def _lines(examples: Sequence[Example]) -> Sequence[bytes]:
    return examples.read_as(bytes) if isinstance(examples, Stream) else Lazy(examples, encode_example)


def document_content(case: Case, thumbnails: Thumbnails, players: Players, *, gold: bool) -> Content:
    """What the page shows of one document."""
    document = case.document
    entities = Entities(document.text)
    sides, answers = [], []
    numbers = entities.add(case.example.gold) if gold else None
    if numbers is not None:
        sides.append(_gold_side(case.example.gold, numbers))
    for given in PASSES:
        for i, run, predictions in case.runs:
            raw, prediction = run.raws.get((document.id, given)), predictions.get(given)
            if given is None or raw or prediction:
                where = {"run": i, "given": given}
                sides.append(where | _side(case.example, prediction, given, run, entities, numbers))
                answers.append(where | _answer(raw, prediction))
    roots = [Path(run.record.corpus.root) for _, run, _ in case.runs]
    pictures = thumbnails.of(document.frames, roots)
    frames = [
        {"index": f.index, "time_s": f.time_s, "width": f.width_px, "height": f.height_px, "annotated": f.annotated}
        | picture
        for f, picture in zip(document.frames, pictures, strict=True)
    ]
    return {
        "id": document.id,
        "lang": document.lang,
        "title": document.title,
        "group": document.group,
        "text": document.text,
        "segments": [[s.start, s.end, s.start_s, s.end_s] for s in document.segments],
        "frames": frames,
        "video": players.of(document.video, roots),
        "entities": entities.content(),
        "sides": sides,
        "answers": answers,
    }


# --- sides ------------------------------------------------------------------------------------------------------------


def _gold_side(gold: Annotation, numbers: Mapping[str, int]) -> Content:
    judged = Judged(rows={i: f"g{i}" for i in placed_facts(gold)})
    return {"run": None, "given": None, "answered": True, "scored": [], **_parts(gold, numbers, judged)}


def _side(
    example: Example,
    prediction: Prediction | None,
    given: GivenKind | None,
    run: ScoredRun,
    entities: Entities,
    gold_numbers: Mapping[str, int] | None,
) -> Content:
    """What a run predicted in one pass. `tally` counts verdicts as the scorer does: repeats once, what it skips never.

    `hidden` names what the run was not shown of the document; without `gold_numbers` nothing is judged.
    """
    pred = prediction.annotation if prediction else EMPTY
    standard = Gold.of(example, run.subsets.get(example.document.id))
    settings = run.scores.settings
    counted = {task for task in settings.scored if standard.counts(task, settings)}
    scored = frozenset() if gold_numbers is None else counted & PASSES[given]
    frames, symmetric = standard.frames_in(settings), run.record.labels.symmetric
    judged = judge(example.gold, pred, scored, frames=frames, symmetric=symmetric)
    numbers = entities.add(pred)
    hidden = {"no_text": "text", "no_video": "frames"}.get(run.subsets.get(example.document.id, "full"))
    return {
        "answered": prediction is not None,
        "hidden": hidden,
        "scored": sorted(scored),
        **_parts(pred, numbers, judged),
        "missed": _missed(example.gold, judged, gold_numbers or {}),
        "tally": tally(example.gold, pred, judged),
    }


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on the parts of an annotation, and the gold that it lacks; empty for tasks that do not count.

    `rows` names the row of each relation in the list of all sides, where gold says which.
    """

    mentions: Mapping[TypedSpan, Outcome] = field(default_factory=dict)
    missed_mentions: frozenset[TypedSpan] = frozenset()
    chains: Verdicts = NOTHING
    relations: Verdicts = NOTHING
    regions: Verdicts = NOTHING
    rows: Mapping[int, str] = field(default_factory=dict)
    merged: frozenset[int] = frozenset()
    """The wrong chains that have mentions of several gold chains."""

    def chain(self, i: int) -> str | None:
        """The verdict on a chain as the page has it."""
        verdict = self.chains.preds.get(i)
        return None if verdict is None else "merged" if i in self.merged else WORDS[verdict.outcome]


def judge(
    gold: Annotation,
    pred: Annotation,
    tasks: Collection[Task],
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
) -> Judged:
    """The scorer's verdicts on the tasks that count."""
    mentions, missed = of_mentions(gold, pred) if "entity" in tasks else ({}, frozenset())
    chains = of_chains(gold, pred) if "chain" in tasks else NOTHING
    relations = of_relations(gold, pred, symmetric=symmetric, frames=frames) if "relation" in tasks else NOTHING
    return Judged(
        mentions,
        missed,
        chains,
        relations,
        of_regions(gold, pred, frames=frames) if "grounding" in tasks else NOTHING,
        {i: f"g{verdict.gold}" for i, verdict in relations.preds.items() if verdict.gold is not None},
        _merged(gold, pred, chains),
    )


def _merged(gold: Annotation, pred: Annotation, chains: Verdicts) -> frozenset[int]:
    """The wrong chains of `pred` that have mentions of several gold chains."""
    wrong = {i for i, verdict in chains.preds.items() if verdict.outcome == "incorrect"}
    if not wrong:
        return frozenset()
    home = {span: i for i, spans in placed_chains(gold).items() for span in spans}
    placed = placed_chains(pred)
    return frozenset(i for i in wrong if len({home[s] for s in placed[i] if s in home}) > 1)


def tally(gold: Annotation, pred: Annotation, judged: Judged) -> dict[str, dict[str, dict[str, int]]]:
    """How often each verdict stands, by task and type; chains count under the type of most of their mentions."""
    found: Counter[tuple[str, str, str]] = Counter()
    found.update([("entity", kind, WORDS[outcome]) for (_, _, kind), outcome in judged.mentions.items()])
    found.update([("entity", kind, "missed") for _, _, kind in judged.missed_mentions])
    parts: tuple[tuple[str, Verdicts, Sequence[Any], Sequence[Any]], ...] = (
        ("chain", judged.chains, gold.chains, pred.chains),
        ("relation", judged.relations, gold.relations, pred.relations),
        ("grounding", judged.regions, gold.regions, pred.regions),
    )
    for task, verdicts, wanted, predicted in parts:
        merged = judged.merged if task == "chain" else ()
        found.update(
            (task, predicted[i].type, "merged" if i in merged else WORDS[verdict.outcome])
            for i, verdict in verdicts.preds.items()
        )
        found.update((task, wanted[i].type, "missed") for i in verdicts.missed)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (task, kind, word), n in sorted(found.items()):
        counts.setdefault(task, {}).setdefault(kind, {})[word] = n
    return counts


def _parts(annotation: Annotation, numbers: Mapping[str, int], judged: Judged) -> Content:
    """Every part of an annotation with its verdict; chains by the numbers of their entities."""

    def word(verdicts: Verdicts, i: int) -> str | None:
        verdict = verdicts.preds.get(i)
        return WORDS[verdict.outcome] if verdict else None

    of_mentions = {mention: WORDS[outcome] for mention, outcome in judged.mentions.items()}
    return {
        "mentions": [
            _mention(m, number) | {"verdict": of_mentions.get((m.start, m.end, m.type))}
            for chain in annotation.chains
            for number in (numbers[chain.id],)
            for m in chain.mentions
        ],
        "chains": [
            {"entity": numbers[chain.id], "type": chain.type, "size": len(spans), "verdict": judged.chain(i)}
            for i, (chain, spans) in enumerate(zip(annotation.chains, chain_spans(annotation), strict=True))
        ],
        "relations": [
            _relation(r, numbers) | {"verdict": word(judged.relations, i), "row": judged.rows.get(i)}
            for i, r in enumerate(annotation.relations)
        ],
        "regions": [
            _region(r, numbers) | {"verdict": word(judged.regions, i)} for i, r in enumerate(annotation.regions)
        ],
    }


def _missed(gold: Annotation, judged: Judged, numbers: Mapping[str, int]) -> Content:
    """What gold has and a side lacks, in the form of `_parts`."""
    missed = judged.missed_mentions
    return {
        "mentions": [
            _mention(m, numbers[chain.id])
            for chain in (gold.chains if missed else ())
            for m in dict.fromkeys([m for m in chain.mentions if (m.start, m.end, m.type) in missed])
        ],
        "chains": [{"entity": numbers[gold.chains[i].id], "type": gold.chains[i].type} for i in judged.chains.missed],
        "relations": [_relation(gold.relations[i], numbers) | {"row": f"g{i}"} for i in judged.relations.missed],
        "regions": [_region(gold.regions[i], numbers) for i in judged.regions.missed],
    }


def _mention(mention: Mention, entity: int) -> Content:
    found: Content = {"start": mention.start, "end": mention.end, "type": mention.type, "entity": entity}
    return found | confidences_of(mention) if mention.confidence is not None or mention.link is not None else found


def _relation(relation: Relation, numbers: Mapping[str, int]) -> Content:
    ends = {"head": numbers[relation.head], "tail": numbers[relation.tail]}
    return ends | {"type": relation.type} | ({} if relation.confidence is None else confidences_of(relation))


def _region(region: Region, numbers: Mapping[str, int]) -> Content:
    box = [x if math.isfinite(x) else None for x in region.box]
    entity = None if region.chain is None else numbers[region.chain]
    found: Content = {"frame": region.frame, "box": box, "type": region.type, "entity": entity}
    if region.id is not None and region.id in numbers:  # a relation names it
        found["number"] = numbers[region.id]
    return found | confidences_of(region)


# --- answers ----------------------------------------------------------------------------------------------------------


def _answer(raw: RawOutput | None, prediction: Prediction | None) -> Content:
    """What was predicted before it was scored, what it cost, and every Issue."""
    issues = [[issue.code, issue.where, issue.detail] for issue in prediction.issues] if prediction else []
    if raw is None:
        return {"there": False, "issues": issues}
    return {
        "there": True,
        "issues": issues,
        "payload": raw.payload,
        "turns": [
            {"stage": t.stage, "text": t.text, "finish": t.finish, "tokens_in": t.tokens_in, "tokens_out": t.tokens_out}
            for t in raw.turns
        ],
        "error": raw.failure.message if raw.failure else None,
        "seconds": raw.seconds,
        "tokens_in": raw.tokens_in,
        "tokens_out": raw.tokens_out,
        "frames": None if raw.frames is None else list(raw.frames),
    }
