"""The scores of the heuristic baselines (`m3dllm.heuristics`), which stand beside every score.

Rules over gold mentions and chains are the heuristic baselines of the gold-mention setting; over a system's predicted
chains they are those of its end-to-end scores. Without train examples the rules are counted on the scored documents
themselves: they then show what frequencies alone achieve, as a lower bound for trained systems.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from m3dllm.heuristics import (
    BoxRule,
    ChainRule,
    Drawn,
    RelationCounts,
    RelationRule,
    best_cut,
    by_type,
    drawn_in,
    frequent_boxes,
    in_order,
    related,
    together,
)
from m3dllm.labels import LabelSet
from m3dllm.score.chain import Partition, b3, ceaf_e, muc, partition
from m3dllm.score.corpus import EMPTY, Gold, Golds
from m3dllm.score.document import Counts
from m3dllm.score.grounding import grounding
from m3dllm.score.relation import Fact, compared, distinct, facts, spans_of
from m3dllm.score.scores import Ratio, Sums
from m3dllm.score.settings import Settings
from m3dllm.types import PRF, TASKS, Annotation, Example, Region, Subset

NAMES: dict[ChainRule, str] = {
    "singletons": "all singletons",
    "same_text": "same text",
    "same_last_word": "same last word",
}
ZH_LAST = "same last two characters"
TYPE_PAIRS = "most frequent type of each type pair"
MOST_FREQUENT_BOX = "most frequent box"
RELATIONS = ("relation", "relation.undirected")
"""The metrics for which relation rules are counted and cut."""


@dataclass(frozen=True, slots=True)
class HeuristicBaseline:
    """The score of one rule in one language. `task` is the name of the metric, which may be "relation.undirected"."""

    lang: str
    task: str
    name: str
    counts: PRF | None = None
    mean: Ratio | None = None
    """For a score that is the mean of others and has no counts."""

    @property
    def score(self) -> PRF | Ratio:
        return self.counts or self.mean or PRF()


def heuristic_baselines(
    examples: Sequence[Example],
    labels: LabelSet | None = None,
    train: Iterable[Example] = (),
    *,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
    over: Mapping[str, Annotation] | None = None,
) -> tuple[HeuristicBaseline, ...]:
    """The heuristic baselines of `examples`, by language and task; none for a task without gold.

    - chain: all singletons, same text, same last word (Chinese: last two characters), joined within a type;
    - relation: the most frequent type of every pair of chain types, the pairs ranked by precision and cut where F1 is
      best; once as relations are scored and once with every type unordered ("relation.undirected"), counted and cut for
      that score;
    - grounding: the most frequent typed box, in every annotated frame.

    The rules are counted on `train`, else on `examples`. `over` gives the annotation of each document whose mentions
    and chains the rules use (None: the gold's). `settings` and `subsets` are those of `score`: nothing is predicted
    from a modality that was not given.
    """
    golds = Golds(examples, subsets or {})
    rules = Rules(labels)
    for example in train:
        rules.add_train(example)
    for example, gold in zip(examples, golds, strict=True):
        rules.add(example, gold)
    reached = Reached(rules, settings or Settings())
    for example, gold in zip(examples, golds, strict=True):
        reached.add(example, gold, gold.annotation if over is None else over.get(gold.document, EMPTY))
    return tuple(row for lang in sorted(reached.languages) for row in reached.of(lang))


class _Every:
    """A set that contains every type."""

    def __contains__(self, _: object) -> bool:
        return True


@dataclass(slots=True)
class _Counted:
    """The counts for the rules of a language, of scored documents or of train."""

    relations: dict[str, RelationCounts] = field(default_factory=lambda: {key: RelationCounts() for key in RELATIONS})
    drawn: list[list[Drawn]] = field(default_factory=list)
    has_relations: bool = False

    def add(self, example: Example, symmetric: Mapping[str, Container[str]]) -> None:
        self.has_relations |= "relation" in example.annotated
        for key, counts in self.relations.items():
            counts.add(example, symmetric[key])

    def draw(self, example: Example) -> None:
        self.drawn.append(drawn_in(example))


class Rules:
    """The rules of each language, counted on documents added one by one."""

    def __init__(self, labels: LabelSet | None) -> None:
        self.declared = labels.symmetric if labels else frozenset[str]()
        self._symmetric: dict[str, Container[str]] = {"relation": self.declared, "relation.undirected": _Every()}
        self._scored: dict[str, _Counted] = defaultdict(_Counted)
        self._train: dict[str, _Counted] = defaultdict(_Counted)
        self._relations: dict[str, dict[str, list[RelationRule]]] = {}
        self._boxes: dict[str, list[BoxRule]] = {}

    def add(self, example: Example, gold: Gold) -> None:
        """Count a document that is scored."""
        text, frames = shown_of(example, gold)
        if text:
            self._scored[gold.lang].add(example, self._symmetric)
        if frames:
            self._scored[gold.lang].draw(example)

    def add_train(self, example: Example) -> None:
        self._train[example.document.lang].add(example, self._symmetric)
        self._train[example.document.lang].draw(example)

    def relations(self, lang: str) -> dict[str, list[RelationRule]]:
        """The rules for each of RELATIONS, ranked by precision and cut where F1 over the gold chains is best."""
        if lang not in self._relations:
            counted = self._train[lang] if self._train[lang].has_relations else self._scored[lang]
            self._relations[lang] = {key: _kept(counts) for key, counts in counted.relations.items()}
        return self._relations[lang]

    def boxes(self, lang: str) -> list[BoxRule]:
        """The most frequent box."""
        if lang not in self._boxes:
            drawn = (self._train[lang] if lang in self._train and self._train[lang].drawn else self._scored[lang]).drawn
            self._boxes[lang] = frequent_boxes(drawn, limit=1)
        return self._boxes[lang]


def shown_of(example: Example, gold: Gold) -> tuple[bool, bool]:
    """(whether the document's text was given, whether its frames were)."""
    return bool(example.document.text) and gold.subset != "no_text", bool(example.document.frames) and (
        gold.subset != "no_video"
    )


class Reached:
    """The scores of the rules on documents added one by one."""

    def __init__(self, rules: Rules, settings: Settings) -> None:
        self._rules, self._settings = rules, settings
        self.languages: dict[str, dict[tuple[str, str], Sums]] = {}

    def add(self, example: Example, gold: Gold, over: Annotation) -> None:
        """Add a document; `over`: the annotation whose mentions and chains the rules use."""
        text, frames = shown_of(example, gold)
        sums = self.languages.setdefault(gold.lang, {})
        counted = [task for task in self._settings.scored if gold.counts(task, self._settings)]
        if "chain" in counted:
            for rule, counts in self._chains(example, gold, over if text else EMPTY):
                name = ZH_LAST if gold.lang == "zh" and rule == "same_last_word" else NAMES[rule]
                _sums(sums, "chain", name).add(counts)
        if "relation" in counted:
            for key, prf in self._relations(gold, over if text else EMPTY, gold.frames_in(self._settings)):
                _sums(sums, key, TYPE_PAIRS).add({key: prf})
        if "grounding" in counted:
            prf = self._box(example, gold, able=frames)
            _sums(sums, "grounding", MOST_FREQUENT_BOX).add({"grounding": prf})

    def of(self, lang: str) -> Iterator[HeuristicBaseline]:
        """The heuristic baselines of a language, for tasks with something to score."""
        found = self.languages.get(lang, {})
        for key, name in sorted(found, key=lambda pair: TASKS.index(pair[0].split(".")[0])):
            reached = found[key, name].scores().tasks.get(key)
            if reached is not None and reached.f1 is not None:
                counts, mean = (None, reached) if isinstance(reached, Ratio) else (reached, None)
                yield HeuristicBaseline(lang, key, name, counts, mean)

    def _chains(self, example: Example, gold: Gold, over: Annotation) -> Iterator[tuple[ChainRule, Counts]]:
        of_gold, mentions = partition(gold.annotation), in_order(over.mentions)
        known: dict[Partition, Counts] = {}  # two rules often give the same chains
        for rule in NAMES:
            groups = together(example.document, mentions, rule)
            of_pred = tuple([frozenset([(mention.start, mention.end) for mention in group]) for group in groups])
            if of_pred not in known:
                known[of_pred] = _chain(of_gold, of_pred)
            yield rule, known[of_pred]

    def _relations(self, gold: Gold, over: Annotation, frames: frozenset[int] | None) -> Iterator[tuple[str, PRF]]:
        of_types, spans = by_type(over.chains), spans_of(over)
        for key, rules in self._rules.relations(gold.lang).items():
            found = [Fact(spans[head.id], spans[tail.id], kind) for head, tail, kind in related(of_types, rules)]
            unordered: Collection[str] = self._rules.declared
            if key != "relation":
                unordered = {fact.type for fact in found}.union([r.type for r in gold.annotation.relations])
            pred = tuple(distinct(found, unordered).values())
            yield key, compared(facts(gold.annotation, unordered, frames), pred, unordered)

    def _box(self, example: Example, gold: Gold, *, able: bool) -> PRF:
        frames = [frame.index for frame in example.document.frames if frame.annotated and able]
        rules = self._rules.boxes(gold.lang)
        pred = Annotation(regions=tuple(Region(frame, rule.box, rule.type) for frame in frames for rule in rules))
        return grounding(gold.annotation, pred, frames=gold.frames)


def _sums(sums: dict[tuple[str, str], Sums], key: str, name: str) -> Sums:
    if (key, name) not in sums:
        sums[key, name] = Sums()
    return sums[key, name]


def _chain(gold: Partition, pred: Partition) -> Counts:
    return {"chain.muc": muc(gold, pred), "chain.b3": b3(gold, pred), "chain.ceaf_e": ceaf_e(gold, pred)}


def _kept(counts: RelationCounts) -> list[RelationRule]:
    """The rules of type pairs, ranked by precision and cut where F1 over the gold chains is best."""
    rules = counts.rules()
    n, _ = best_cut(map(counts.tally, rules), counts.facts.total())
    return rules[:n]
