"""What the rules of `m3dllm.heuristics` reach: the rows that stand beside every score.

Rules over gold mentions and chains are the heuristic baselines of the gold-mention setting; over a system's predicted
chains they are those of its end-to-end scores. Without train examples the rules are counted on the scored documents
themselves: they then show what the frequencies alone reach, and a trained system that stays below has learned less.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from m3dllm.heuristics import (
    ChainRule,
    RelationRule,
    best_cut,
    box_rules,
    chain_by,
    n_relations,
    relate,
    relation_rules,
    relation_tallies,
)
from m3dllm.labels import LabelSet
from m3dllm.score.chain import b3, ceaf_e, muc, partition
from m3dllm.score.corpus import EMPTY, Gold
from m3dllm.score.document import Counts
from m3dllm.score.grounding import grounding
from m3dllm.score.relation import relation, relation_undirected
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

    def heuristic(self, key: str, name: str, predicted: Mapping[str, Annotation]) -> Iterator[HeuristicBaseline]:
        """What the annotations reach in the score `key`, if there is anything to score."""
        task: Task = key.partition(".")[0]  # type: ignore[assignment]
        symmetric = self.labels.symmetric if self.labels else frozenset()
        rows = [
            COUNTED[key](gold.annotation, predicted.get(gold.document, EMPTY), gold.frames, symmetric)
            for gold in self.golds
            if gold.counts(task, self.settings)
        ]
        reached = total(rows).tasks.get(key)
        if reached is not None and reached.f1 is not None:
            yield HeuristicBaseline(self.lang, key, name, reached)


def _chain(gold: Annotation, pred: Annotation, _frames: object, _symmetric: object) -> Counts:
    of_gold, of_pred = partition(gold), partition(pred)
    return {
        "chain.muc": muc(of_gold, of_pred),
        "chain.b3": b3(of_gold, of_pred),
        "chain.ceaf_e": ceaf_e(of_gold, of_pred),
    }


def _relation(gold: Annotation, pred: Annotation, _frames: object, symmetric: frozenset[str]) -> Counts:
    return {"relation": relation(gold, pred, symmetric=symmetric)}


def _undirected(gold: Annotation, pred: Annotation, _frames: object, _symmetric: object) -> Counts:
    return {"relation.undirected": relation_undirected(gold, pred)}


def _grounding(gold: Annotation, pred: Annotation, frames: Collection[int] | None, _symmetric: object) -> Counts:
    return {"grounding": grounding(gold, pred, frames=frames)}


COUNTED: dict[str, Callable[[Annotation, Annotation, Any, Any], Counts]] = {
    "chain": _chain,
    "relation": _relation,
    "relation.undirected": _undirected,
    "grounding": _grounding,
}
"""The score that each heuristic is counted by, and no other."""


def _chain_heuristics(stand: _Stand, found: Mapping[str, Annotation]) -> Iterator[HeuristicBaseline]:
    for rule, name in NAMES.items():
        if stand.lang == "zh" and rule == "same_last_word":
            name = ZH_LAST
        documents = [e.document for e in stand.of("chain")]
        chains = {d.id: Annotation(chain_by(d, found[d.id].mentions, rule)) for d in documents}
        yield from stand.heuristic("chain", name, chains)


def _relation_heuristics(
    stand: _Stand, found: Mapping[str, Annotation], train: Sequence[Example], counted: Counted
) -> Iterator[HeuristicBaseline]:
    counted_on = [example for example in train if "relation" in example.annotated] or stand.of("relation")
    declared = stand.labels.symmetric if stand.labels else frozenset()
    every = frozenset(relation.type for example in counted_on for relation in example.gold.relations)
    for key, symmetric in (("relation", declared), ("relation.undirected", every)):
        place = stand.lang, symmetric
        if place not in counted:
            counted[place] = kept_relations(counted_on, symmetric)
        rules = counted[place]
        chains = {e.document.id: found[e.document.id].chains for e in stand.of("relation")}
        predicted = {name: Annotation(of, relate(of, rules)) for name, of in chains.items()}
        yield from stand.heuristic(key, TYPE_PAIRS, predicted)


def _box_heuristic(stand: _Stand, train: Sequence[Example]) -> Iterator[HeuristicBaseline]:
    rules = box_rules(train or stand.with_video, limit=1)
    predicted = {
        e.document.id: Annotation(
            regions=tuple(Region(f.index, r.box, r.type) for f in e.document.frames if f.annotated for r in rules)
        )
        for e in stand.with_video
    }
    yield from stand.heuristic("grounding", MOST_FREQUENT_BOX, predicted)


def kept_relations(examples: Sequence[Example], symmetric: frozenset[str]) -> list[RelationRule]:
    """The rules of type pairs, ranked by precision and cut where F1 over the gold chains is best."""
    rules = relation_rules(examples, symmetric)
    tallies = relation_tallies(rules, examples, symmetric)
    n, _ = best_cut([tallies[rule] for rule in rules], n_relations(examples, symmetric))
    return rules[:n]
