"""What the rules of `m3dllm.heuristics` reach: the rows that stand beside every score.

Rules over gold mentions and chains are the heuristic baselines of the gold-mention setting; over a system's predicted
chains they are those of its end-to-end scores. Without train examples the rules are counted on the scored documents
themselves: they then show what the frequencies alone reach, and a trained system that stays below has learned less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from m3dllm.heuristics import (
    ChainRule,
    RelationRule,
    best_cut,
    box_rules,
    by_type,
    count_relations,
    in_order,
    relate,
    together,
)
from m3dllm.labels import LabelSet
from m3dllm.score.chain import Partition, b3, ceaf_e, muc, partition
from m3dllm.score.corpus import EMPTY, Gold
from m3dllm.score.document import Counts
from m3dllm.score.grounding import grounding
from m3dllm.score.relation import compared, joined, spans_of
from m3dllm.score.scores import Ratio, total
from m3dllm.score.settings import Settings
from m3dllm.types import PRF, Annotation, Example, Region, Subset, Task

NAMES: dict[ChainRule, str] = {
    "singletons": "all singletons",
    "same_text": "same text",
    "same_last_word": "same last word",
}
ZH_LAST = "same last two characters"
TYPE_PAIRS = "most frequent type of each type pair"
MOST_FREQUENT_BOX = "most frequent box"


Counted = dict[tuple[str, frozenset[str]], list[RelationRule]]
"""The relation rules of a language, by the types that were taken as symmetric."""


@dataclass(frozen=True, slots=True)
class HeuristicBaseline:
    """What one rule reaches in one language. `task` is the name of the score: "relation.undirected" is one of them."""

    lang: str
    task: str
    name: str
    score: PRF | Ratio


def heuristic_baselines(
    examples: Sequence[Example],
    labels: LabelSet | None = None,
    train: Sequence[Example] = (),
    *,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
    over: Mapping[str, Annotation] | None = None,
    counted: Counted | None = None,
) -> tuple[HeuristicBaseline, ...]:
    """The heuristic baselines of `examples`, by language and task; none for a task without gold.

    - chain: all singletons, same text, same last word (Chinese: last two characters), joined within a type;
    - relation: the most frequent type of every pair of chain types, the pairs ranked by precision and cut where F1 is
      best; once as relations are scored and once with every type unordered ("relation.undirected"), counted and cut for
      that score;
    - grounding: the most frequent typed box, in every annotated frame.

    The rules are counted on `train`, else on `examples`. `over` gives the annotation of each document whose mentions
    and chains the rules work on (None: the gold's). `settings` and `subsets` are those of `score`: nothing is predicted
    from a modality that was not shown. `counted` keeps the relation rules for the next call with the same examples.
    """
    settings, subsets = settings or Settings(), subsets or {}
    rows: list[HeuristicBaseline] = []
    for lang in sorted({example.document.lang for example in examples}):
        here = [example for example in examples if example.document.lang == lang]
        train_here = [example for example in train if example.document.lang == lang]
        found = {e.document.id: e.gold if over is None else over.get(e.document.id, Annotation()) for e in here}
        stand = _Stand(lang, here, labels, settings, subsets)
        if "chain" in settings.scored:
            rows += _chain_heuristics(stand, found)
        if "relation" in settings.scored:
            rows += _relation_heuristics(stand, found, train_here, {} if counted is None else counted)
        if "grounding" in settings.scored:
            rows += _box_heuristic(stand, train_here)
    return tuple(rows)


@dataclass(frozen=True)
class _Stand:
    """The documents of one language, and how they are scored."""

    lang: str
    examples: Sequence[Example]
    labels: LabelSet | None
    settings: Settings
    subsets: Mapping[str, Subset]

    @cached_property
    def golds(self) -> list[Gold]:
        return [Gold.of(example, self.subsets.get(example.document.id)) for example in self.examples]

    @property
    def with_text(self) -> list[Example]:
        return [e for e in self.examples if e.document.text and self.subsets.get(e.document.id) != "no_text"]

    def of(self, task: Task) -> list[Example]:
        """The documents with a text that was shown whose gold of the task is known."""
        return [example for example in self.with_text if task in example.annotated]

    @property
    def with_video(self) -> list[Example]:
        return [e for e in self.examples if e.document.frames and self.subsets.get(e.document.id) != "no_video"]

    def counted(self, task: Task) -> Iterator[tuple[Example, Gold, bool]]:
        """The documents on which the task counts, and whether the rules may predict it there."""
        able = {example.document.id for example in (self.with_video if task == "grounding" else self.of(task))}
        for example, gold in zip(self.examples, self.golds, strict=True):
            if gold.counts(task, self.settings):
                yield example, gold, gold.document in able

    def heuristic(self, key: str, name: str, rows: Iterable[Counts]) -> Iterator[HeuristicBaseline]:
        """What is reached in the score `key`, if there is anything to score."""
        reached = total(rows).tasks.get(key)
        if reached is not None and reached.f1 is not None:
            yield HeuristicBaseline(self.lang, key, name, reached)


def _chain(gold: Partition, pred: Partition) -> Counts:
    return {"chain.muc": muc(gold, pred), "chain.b3": b3(gold, pred), "chain.ceaf_e": ceaf_e(gold, pred)}


def _chain_heuristics(stand: _Stand, found: Mapping[str, Annotation]) -> Iterator[HeuristicBaseline]:
    rows: dict[ChainRule, list[Counts]] = {rule: [] for rule in NAMES}
    for example, gold, able in stand.counted("chain"):
        of_gold = partition(gold.annotation)
        mentions = in_order(found[gold.document].mentions) if able else []
        known: dict[Partition, Counts] = {}  # two rules often join alike
        for rule, of in rows.items():
            groups = together(example.document, mentions, rule)
            of_pred = tuple(frozenset([mention.span for mention in group]) for group in groups)
            if of_pred not in known:
                known[of_pred] = _chain(of_gold, of_pred)
            of.append(known[of_pred])
    for rule, name in NAMES.items():
        name = ZH_LAST if stand.lang == "zh" and rule == "same_last_word" else name
        yield from stand.heuristic("chain", name, rows[rule])


def _relation_heuristics(
    stand: _Stand, found: Mapping[str, Annotation], train: Sequence[Example], counted: Counted
) -> Iterator[HeuristicBaseline]:
    counted_on = [example for example in train if "relation" in example.annotated] or stand.of("relation")
    declared = stand.labels.symmetric if stand.labels else frozenset()
    every = frozenset(relation.type for example in counted_on for relation in example.gold.relations)
    by_key = {"relation": (declared, declared), "relation.undirected": (every, None)}
    rows: dict[str, list[Counts]] = {key: [] for key in by_key}
    for symmetric, _ in by_key.values():
        if (stand.lang, symmetric) not in counted:
            counted[stand.lang, symmetric] = kept_relations(counted_on, symmetric)
    for _, gold, able in stand.counted("relation"):
        pred = found[gold.document] if able else EMPTY
        of_types, spans, of_gold = by_type(pred.chains), spans_of(pred), spans_of(gold.annotation)
        for key, (symmetric, scored_as) in by_key.items():
            relations, of = relate(of_types, counted[stand.lang, symmetric]), gold.annotation.relations
            unordered = {r.type for r in (*of, *relations)} if scored_as is None else scored_as
            facts = (tuple(joined(*side, unordered).values()) for side in ((of, of_gold), (relations, spans)))
            rows[key].append({key: compared(next(facts), next(facts), unordered)})
    for key, of_key in rows.items():
        yield from stand.heuristic(key, TYPE_PAIRS, of_key)


def _box_heuristic(stand: _Stand, train: Sequence[Example]) -> Iterator[HeuristicBaseline]:
    rules = box_rules(train or stand.with_video, limit=1)
    rows = []
    for example, gold, able in stand.counted("grounding"):
        frames = [frame.index for frame in example.document.frames if frame.annotated and able]
        pred = Annotation(regions=tuple(Region(frame, rule.box, rule.type) for frame in frames for rule in rules))
        rows.append({"grounding": grounding(gold.annotation, pred, frames=gold.frames)})
    yield from stand.heuristic("grounding", MOST_FREQUENT_BOX, rows)


def kept_relations(examples: Sequence[Example], symmetric: frozenset[str]) -> list[RelationRule]:
    """The rules of type pairs, ranked by precision and cut where F1 over the gold chains is best."""
    counts = count_relations(examples, symmetric)
    rules = counts.rules()
    n, _ = best_cut(map(counts.tally, rules), counts.facts.total())
    return rules[:n]
