"""The heuristic baselines as a system: dictionaries of mentions, chains by text, type pairs, the most frequent boxes.

Everything is counted on train and selected on dev, separately for English and Chinese; there is no model. The
checkpoint is one file, `model.json`. If dev cannot select (no gold of the task, or no true positive), train does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from m3dllm.config import FIT, AtLeast0, Options
from m3dllm.errors import UserError
from m3dllm.files import read_bytes, write_atomic
from m3dllm.heuristics import (
    CHAIN_RULES,
    BoxRule,
    ChainRule,
    RelationRule,
    best_cut,
    box_rules,
    box_tallies,
    chain_by,
    n_regions,
    n_relations,
    relate,
    relation_rules,
    relation_tallies,
)
from m3dllm.labels import LabelSet
from m3dllm.system import System, SystemSpec
from m3dllm.tokens import tokenize
from m3dllm.types import TASKS, Chain, Document, Example, Mention, RawOutput
from m3dllm.wire import FORMAT, WireError, decode, pretty

FILE = "model.json"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    """The options of `majority`."""

    chain_rule: Annotated[Literal["dev", "singletons", "same_text", "same_last_word"], FIT] = "dev"
    """How mentions are linked: singletons, same_text, same_last_word, or dev: the best of them on dev."""
    boxes: Annotated[AtLeast0, FIT] = 8
    """The maximum number of boxes per frame; the number is chosen on dev."""


SPEC = SystemSpec(
    name="majority",
    factory="m3dllm.systems.majority:Majority",
    config=Config,
    summary="the heuristic baselines as a system: dictionaries, same-text chains, frequent types and boxes",
    tasks=TASKS,
    modalities=("text", "video"),
    languages=("en", "zh"),
    takes_given=True,
    trainable=True,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A text, as tokens, that was a mention in train: its most frequent type, and the share of its mentions."""

    tokens: tuple[str, ...]
    type: str
    share: float


@dataclass(frozen=True, slots=True)
class Rules:
    """The selected rules of one language, the best first."""

    mentions: tuple[Entry, ...]
    chain_rule: ChainRule
    relations: tuple[RelationRule, ...]
    regions: tuple[BoxRule, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """The checkpoint: the rules of each language, and their label set."""

    labels: LabelSet
    languages: dict[str, Rules]
    format: int = FORMAT


class Majority(System):
    """Predicts what was most frequent in train."""

    def __init__(
        self,
        config: Config | None,
        *,
        labels: LabelSet,
        examples: Sequence[Example] = (),
        checkpoint: Path | None = None,
    ) -> None:
        """Raises UserError for a checkpoint that is broken or of other labels."""
        super().__init__(config or Config(), labels=labels, examples=examples, checkpoint=checkpoint)
        self.model = None if checkpoint is None else read_model(checkpoint / FILE, labels)

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Count on `train`, select on `dev`, write `out/model.json`. Raises UserError if `train` is empty."""
        if not train:
            raise UserError("system 'majority' has nothing to count: train has no document")
        languages: dict[str, Rules] = {}
        for lang in sorted({example.document.lang for example in train}):
            own = [[example for example in part if example.document.lang == lang] for part in (train, dev)]
            languages[lang] = self._rules(*own)
        self.model = Model(self.labels, languages)
        write_atomic(out / FILE, pretty(self.model))

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer per document, mentions as offsets and boxes as fractions."""
        if self.model is None:
            raise UserError("system 'majority' has no checkpoint: run 'm3dllm fit' first, or give --checkpoint")
        lexicons = {lang: Lexicon(rules.mentions) for lang, rules in self.model.languages.items()}
        for document in documents:
            kind = document.given.kind if document.given else None
            rules = self.model.languages.get(document.lang)
            if rules is None:
                known = ", ".join(self.model.languages)
                error = f"train had no document in '{document.lang}', only in {known}"
                yield RawOutput(document.id, given=kind, error=error)
            else:
                yield RawOutput(document.id, given=kind, payload=_answer(document, rules, lexicons[document.lang]))

    def _rules(self, train: Sequence[Example], dev: Sequence[Example]) -> Rules:
        symmetric = self.labels.symmetric
        relations = relation_rules(train, symmetric)
        regions = box_rules(train, limit=self.config.boxes)

        def cut_relations(part: Sequence[Example]) -> tuple[int, float]:
            tallies = relation_tallies(relations, part, symmetric)
            return best_cut([tallies[rule] for rule in relations], n_relations(part, symmetric))

        def cut_regions(part: Sequence[Example]) -> tuple[int, float]:
            tallies = box_tallies(regions, part)
            return best_cut([tallies[rule] for rule in regions], n_regions(part))

        rule = self.config.chain_rule
        n_kept, f1 = cut_relations(dev)
        n_boxes, box_f1 = cut_regions(dev)
        return Rules(
            mentions=_choose(_entries(train), dev, train),
            chain_rule=_best_chain_rule(dev, train) if rule == "dev" else rule,
            relations=tuple(relations[: n_kept if f1 else cut_relations(train)[0]]),
            regions=tuple(regions[: n_boxes if box_f1 else cut_regions(train)[0]]),
        )


def read_model(file: Path, labels: LabelSet) -> Model:
    """The checkpoint in `file`. Raises UserError if it is missing, broken, or of a label set other than `labels`."""
    try:
        model = decode(read_bytes(file), Model)
    except WireError as error:
        raise error.at(file) from error
    if model.format != FORMAT:
        raise UserError.at(file, f"is format {model.format}; this version reads format {FORMAT}: fit again")
    for kind in ("mentions", "relations", "regions"):
        theirs, ours = ({label.name for label in getattr(of, kind)} for of in (model.labels, labels))
        if theirs != ours:
            odd = sorted(theirs ^ ours)
            have = "has" if odd[0] in theirs else "lacks"
            message = f"was fitted for other labels: it {have} {odd[0]!r} among its {kind}"
            raise UserError.at(file, f"{message}: fit again on this corpus")
    return model


def _answer(document: Document, rules: Rules, lexicon: Lexicon) -> dict[str, Any]:
    """The rules' prediction for one document: all of it, or what is not given."""
    given = document.given
    if given is not None and given.kind == "chains":
        chains = given.chains
    else:
        mentions = lexicon.find(document) if given is None else given.mentions
        chains = chain_by(document, mentions, rules.chain_rule)
    return {
        "chains": [
            {
                "id": chain.id,
                "type": chain.type,
                "mentions": [{"start": m.start, "end": m.end, "type": m.type} for m in chain.mentions],
            }
            for chain in chains
        ],
        "relations": [{"head": r.head, "tail": r.tail, "type": r.type} for r in relate(chains, rules.relations)],
        "regions": [
            {"frame": frame.index, "type": rule.type, "box": list(rule.box)}
            for frame in document.frames
            for rule in rules.regions
        ],
    }


# --- mentions ---------------------------------------------------------------------------------------------------------


class Lexicon:
    """Finds known texts from left to right, at each token the longest."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.types = {entry.tokens: entry.type for entry in entries}
        lengths: dict[str, set[int]] = defaultdict(set)
        for tokens in self.types:
            lengths[tokens[0]].add(len(tokens))
        self.lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        """First token of known texts -> their lengths in tokens, longest first."""

    def find(self, document: Document) -> list[Mention]:
        """The known texts in the document, without overlaps."""
        offsets = tokenize(document)
        words = tuple(document.text[start:end] for start, end in offsets)
        found, at = [], 0
        while at < len(words):
            for length in self.lengths.get(words[at], ()):
                kind = self.types.get(words[at : at + length])
                if kind is not None and at + length <= len(words):
                    found.append(Mention(offsets[at][0], offsets[at + length - 1][1], kind))
                    at += length
                    break
            else:
                at += 1
        return found


def _entries(train: Iterable[Example]) -> list[Entry]:
    """Every text that was a mention, with the share of its token-aligned occurrences that were."""
    train = [example for example in train if "entity" in example.annotated]
    kinds: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    words_of: list[tuple[str, ...]] = []
    for example in train:
        text, offsets = example.document.text, tokenize(example.document)
        words = tuple(text[start:end] for start, end in offsets)
        words_of.append(words)
        first = {start: i for i, (start, _) in enumerate(offsets)}
        last = {end: i for i, (_, end) in enumerate(offsets, start=1)}
        for mention in set(example.gold.mentions):
            if mention.start in first and mention.end in last:
                kinds[words[first[mention.start] : last[mention.end]]][mention.type] += 1
    lengths: dict[str, set[int]] = defaultdict(set)
    for tokens in kinds:
        lengths[tokens[0]].add(len(tokens))
    seen: Counter[tuple[str, ...]] = Counter()
    for words in words_of:
        for at, word in enumerate(words):
            for length in lengths.get(word, ()):
                tokens = words[at : at + length]
                if tokens in kinds and at + length <= len(words):
                    seen[tokens] += 1
    entries = []
    for tokens, counts in kinds.items():
        most = min(counts, key=lambda name: (-counts[name], name))
        entries.append(Entry(tokens, most, min(1.0, counts.total() / seen[tokens])))
    return sorted(entries, key=lambda entry: (-entry.share, entry.tokens))


def _choose(entries: Sequence[Entry], dev: Sequence[Example], train: Sequence[Example]) -> tuple[Entry, ...]:
    """The entries whose share reaches the threshold that is best on dev; of equal thresholds the lowest."""

    def f1(threshold: float, part: Sequence[Example]) -> float:
        lexicon = Lexicon(entry for entry in entries if entry.share >= threshold)
        tp = predicted = total = 0
        for example in (example for example in part if "entity" in example.annotated):
            gold, found = set(example.gold.mentions), set(lexicon.find(example.document))
            tp, predicted, total = tp + len(gold & found), predicted + len(found), total + len(gold)
        return 2 * tp / (predicted + total) if tp else 0.0

    for part in (dev, train):
        scores = {threshold: f1(threshold, part) for threshold in THRESHOLDS}
        best = max(scores, key=lambda threshold: (scores[threshold], -threshold))
        if scores[best]:
            return tuple(entry for entry in entries if entry.share >= best)
    return ()


# --- chains -----------------------------------------------------------------------------------------------------------


def _best_chain_rule(dev: Sequence[Example], train: Sequence[Example]) -> ChainRule:
    return max(CHAIN_RULES, key=lambda rule: (_links_f1(dev, rule), _links_f1(train, rule)))


def _links_f1(examples: Sequence[Example], rule: ChainRule) -> float:
    """F1 over the pairs of gold mentions in one chain."""
    tp = predicted = total = 0
    for example in (example for example in examples if "chain" in example.annotated):
        chains = chain_by(example.document, example.gold.mentions, rule)
        owner = {mention.span: i for i, chain in enumerate(example.gold.chains) for mention in chain.mentions}
        predicted += _n_pairs(chains)
        total += _n_pairs(example.gold.chains)
        for chain in chains:
            shared = Counter(owner[mention.span] for mention in chain.mentions)
            tp += sum(n * (n - 1) // 2 for n in shared.values())
    return 2 * tp / (predicted + total) if tp else 0.0


def _n_pairs(chains: Iterable[Chain]) -> int:
    return sum(len(chain.spans) * (len(chain.spans) - 1) // 2 for chain in chains)
