"""The demo corpus: how hard it is for simple rules, and that it can be learned."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

import pytest

from m3dllm.corpora.native import Corpus, load_corpus
from m3dllm.score.heuristics import heuristic_baselines
from m3dllm.types import Example, Mention
from tests.corpora.demo import LANGS, demo_folder, examples, parts, words


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(demo_folder(tmp_path_factory))


def capitalized(example: Example) -> set[tuple[int, int]]:
    """Every longest run of capitalized words."""
    runs: list[list[int]] = []
    previous = False
    for start, end in example.document.tokens:
        capital = example.document.text[start].isupper()
        if capital and previous:
            runs[-1][1] = end
        elif capital:
            runs.append([start, end])
        previous = capital
    return {(start, end) for start, end in runs}


def test_a_tagger_of_capitalized_words_stays_below_080(corpus: Corpus):
    for lang, name, some in parts(corpus):
        if lang == "en":
            found = {e.document.id: capitalized(e) for e in some}
            tp = sum(len(found[e.document.id] & {m.span for m in e.gold.mentions}) for e in some)
            total = sum(len(found[e.document.id]) + len(list(e.gold.mentions)) for e in some)
            assert 0.3 < 2 * tp / total <= 0.80, name  # whatever the type
            people = sum(len(found[e.document.id] & {m.span for m in e.gold.mentions if m.type == "PER"}) for e in some)
            assert 2 * people / total <= 0.80, name


@pytest.mark.parametrize("lang", LANGS)
def test_a_dictionary_of_the_names_seen_in_training_stays_below_080(corpus: Corpus, lang: str):
    known = {words(e, m) for e in examples(corpus, lang, "train") for m in e.gold.mentions}
    tp = total = 0
    for example in examples(corpus, lang, "test"):
        gold = {m.span for m in example.gold.mentions}
        found = longest(example, known)
        tp, total = tp + len(gold & found), total + len(gold) + len(found)
    assert 0.1 < 2 * tp / total <= 0.80


def longest(example: Example, known: set[str]) -> set[tuple[int, int]]:
    """From left to right, the longest known text that begins at a token and ends at one."""
    tokens, text, at, found = example.document.tokens, example.document.text, 0, set()
    while at < len(tokens):
        for last in range(min(at + 12, len(tokens)) - 1, at - 1, -1):
            span = tokens[at][0], tokens[last][1]
            if text[slice(*span)] in known:
                found.add(span)
                at = last
                break
        at += 1
    return found


@pytest.fixture(scope="module")
def reached(corpus: Corpus) -> list[tuple[str, str, float]]:
    """(where, task, F1) of every heuristic baseline, its rules counted on train and on the documents themselves."""
    return [
        (f"{lang} {name}, counted on {counted}: {heuristic.name}", heuristic.task, heuristic.score.f1 or 0.0)
        for lang, name, some in parts(corpus)
        for counted, learned in (("train", examples(corpus, lang, "train")), ("itself", some))
        for heuristic in heuristic_baselines(some, corpus.labels, learned)
    ]


def outside(reached: list[tuple[str, str, float]], task: str, low: float, high: float) -> list[tuple[str, float]]:
    """The heuristic baselines of a task outside of (low, high]; there have to be some for every part."""
    of_task = [(where, value) for where, name, value in reached if name.startswith(task)]
    assert len(of_task) >= 8
    return [(where, value) for where, value in of_task if not low < value <= high]


def test_chains_by_text_stay_below_080(reached: list[tuple[str, str, float]]):
    assert outside(reached, "chain", 0.2, 0.80) == []


def test_the_most_frequent_type_of_a_type_pair_stays_below_030(reached: list[tuple[str, str, float]]):
    assert outside(reached, "relation", 0.05, 0.30) == []


def test_the_most_frequent_box_stays_below_020(reached: list[tuple[str, str, float]]):
    assert outside(reached, "grounding", 0.01, 0.20) == []


# --- and that it can be learned ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("lang", LANGS)
def test_a_perceptron_learns_the_entities(corpus: Corpus, lang: str):
    train = [e for e in examples(corpus, lang, "train") if e.document.text]
    test = [e for e in examples(corpus, lang, "test") if e.document.text]
    tagger = Perceptron(train)
    tp = total = 0
    for example in test:
        gold, found = set(example.gold.mentions), tagger.mentions(example)
        tp, total = tp + len(gold & found), total + len(gold) + len(found)
    assert 2 * tp / total >= 0.90


class Perceptron:
    """An averaged perceptron over the words around a token, tagging from left to right."""

    def __init__(self, train: list[Example], *, epochs: int = 6) -> None:
        rows = [(self._features(e), self._tags(e)) for e in train]
        self.labels = sorted({tag for _, tags in rows for tag in tags})
        self.weights: dict[str, dict[str, float]] = {}
        weights: defaultdict[str, Counter[str]] = defaultdict(Counter)
        sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
        rng, step = Random(0), 1
        for _ in range(epochs):
            rng.shuffle(rows)
            for features, tags in rows:
                previous = "O"
                for found, tag in zip(features, tags, strict=True):
                    guess = self._best(weights, found, previous)
                    if guess != tag:
                        for feature in [*found, f"after {previous}"]:
                            for label, change in ((tag, 1), (guess, -1)):
                                weights[feature][label] += change
                                sums[feature][label] += step * change
                    previous, step = tag, step + 1
        self.weights = {f: {label: w - sums[f][label] / step for label, w in row.items()} for f, row in weights.items()}

    def mentions(self, example: Example) -> set[Mention]:
        found: list[tuple[int, int, str]] = []
        previous = "O"
        for (start, end), features in zip(example.document.tokens, self._features(example), strict=True):
            previous = self._best(self.weights, features, previous)
            if previous[0] == "B":
                found.append((start, end, previous[2:]))
            elif previous[0] == "I":
                found[-1] = (found[-1][0], end, found[-1][2])
        return {Mention(*span) for span in found}

    def _best(self, weights, features: list[str], previous: str) -> str:
        scores = dict.fromkeys(self.labels, 0.0)
        for feature in [*features, f"after {previous}"]:
            for label, weight in weights.get(feature, {}).items():
                scores[label] += weight
        allowed = [label for label in self.labels if label[0] != "I" or previous[2:] == label[2:]]
        return max(allowed, key=lambda label: scores[label])

    @staticmethod
    def _features(example: Example) -> list[list[str]]:
        tokens = ["_"] * 3 + [example.document.text[a:b] for a, b in example.document.tokens] + ["_"] * 4
        rows = []
        for i in range(3, len(tokens) - 4):
            near = [(k, tokens[i + k]) for k in range(-3, 4)]
            row = [f"{k} {token}" for k, token in near] + [f"{k} {token} {tokens[i + k + 1]}" for k, token in near]
            row += [f"{k} {token} {tokens[i + k + 1]} {tokens[i + k + 2]}" for k, token in near[:5]]
            row.append("".join("A" if token[0].isupper() else "a" for _, token in near[2:6]))
            rows.append([*row, f"ends {tokens[i][-3:]}"])
        return rows

    @staticmethod
    def _tags(example: Example) -> list[str]:
        firsts = {mention.start: mention for mention in example.gold.mentions}
        tags, inside = [], None
        for start, end in example.document.tokens:
            if inside is not None and start >= inside.end:
                inside = None
            if start in firsts:
                inside = firsts[start]
                tags.append(f"B-{inside.type}")
            else:
                tags.append("O" if inside is None else f"I-{inside.type}")
            assert inside is None or end <= inside.end
        return tags
