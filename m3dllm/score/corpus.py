"""Score predictions against gold: selects the prediction and the documents for each task and language.

There are two protocols. End to end, everything is scored from the predictions with nothing given. In
the gold-mention setting, chains are scored from the pass in which the gold mentions were given, relations from the pass
in which the gold chains were given, and the rest from the pass with nothing given.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from m3dllm.confidence import at_least, lack_confidences
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.positions import Positions
from m3dllm.score.calibration import GOLD_OF, Calibration, Confidences, outcomes
from m3dllm.score.document import count
from m3dllm.score.scores import DocumentScore, LanguageScores, Pairs, Scores, Sums, TaskScores, document_scores
from m3dllm.score.settings import Settings
from m3dllm.stream import Lazy, Stream, heads
from m3dllm.types import PRF, TASKS, Annotation, Example, GivenKind, Prediction, Subset, Task
from m3dllm.wire import ExampleHead, prediction_key

log = logging.getLogger(__name__)
EMPTY = Annotation()
PredictionKey = tuple[str, GivenKind | None]
"""The document and the pass of a prediction."""
END = 0, None
"""After the last prediction: no place and no key."""
GIVEN: dict[Task, GivenKind | None] = {"entity": None, "chain": "mentions", "relation": "chains", "grounding": None}
"""The pass from which each task is scored under the gold-pair protocol."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold of a document, and what else scoring needs of it.

    `length`: the characters of its text (None: it has none, or it is not known); `frames`: its annotated frames
    (None: all); `shown`: the tasks whose modality was given; `annotated`: the annotated tasks, which alone count.
    """

    document: str
    lang: str
    group: str
    annotation: Annotation
    frames: frozenset[int] | None
    subset: Subset
    shown: frozenset[Task]
    annotated: frozenset[Task] = frozenset(TASKS)
    length: int | None = None

    def counts(self, task: Task, settings: Settings) -> bool:
        """Whether the task is scored on this document."""
        return task in self.annotated and (settings.modality == "all" or task in self.shown)

    def frames_in(self, settings: Settings) -> frozenset[int] | None:
        """The frames whose regions count: the annotated ones, none where grounding does not count. None: all."""
        return self.frames if self.counts("grounding", settings) else frozenset()

    @classmethod
    def of(cls, example: Example, subset: Subset | None = None) -> Gold:
        """`subset`: the modalities that the system was given; None: those of the document."""
        document = example.document
        tasks: set[Task] = set()
        if document.text and subset != "no_text":
            tasks |= {"entity", "chain", "relation"}
        if document.frames and subset != "no_video":
            tasks.add("grounding")
        if subset is None:
            subset = "no_text" if not document.text else "no_video" if not document.frames else "full"
        frames = frozenset(frame.index for frame in document.frames if frame.annotated)
        shown = frozenset(tasks)
        known = example.annotated
        length = len(document.text) or None
        return cls(document.id, document.lang, document.group, example.gold, frames, subset, shown, known, length)


@dataclass(frozen=True, slots=True)
class Case:
    """A gold document under one protocol, with the prediction that answers each of the tasks counted on it."""

    gold: Gold
    pairs: Pairs
    preds: Mapping[Task, Annotation]


@dataclass(frozen=True, slots=True)
class Golds:
    """The gold of examples, made again for each iteration. `subsets`: the modalities given of each document."""

    examples: Sequence[Example]
    subsets: Mapping[str, Subset] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Gold]:
        return (Gold.of(example, self.subsets.get(example.document.id)) for example in self.examples)

    def heads(self) -> Sequence[ExampleHead]:
        """The head of each document, read on access."""
        return heads(self.examples)


@dataclass(frozen=True, slots=True)
class Answered:
    """A gold document with its predictions, by pass. `passes` are those that its language has."""

    gold: Gold
    predictions: Mapping[GivenKind | None, Prediction]
    passes: frozenset[GivenKind | None]

    def get(self, given: GivenKind | None) -> Annotation:
        found = self.predictions.get(given)
        return found.annotation if found else EMPTY

    def frames(self, settings: Settings) -> tuple[int, int, bool]:
        """(annotated frames if grounding counts, how many of these were given, whether the answer tells that).

        An answer that does not tell counts as given all frames, a missing answer as given none.
        """
        gold, answer = self.gold, self.predictions.get(None)
        says = answer is not None and answer.frames is not None
        if not gold.frames or not gold.counts("grounding", settings):
            return 0, 0, says
        seen = (
            frozenset() if answer is None else gold.frames if answer.frames is None else gold.frames & {*answer.frames}
        )
        return len(gold.frames), len(seen), says

    @property
    def lacks(self) -> bool:
        """Whether the document lacks the pass with nothing given, or another pass that its language has.

        A pass with gold given is not expected if that gold, or the gold of its task, is not annotated.
        """
        asked = {GIVEN[task] for task in self.gold.annotated}.intersection(self.passes)
        return any(given not in self.predictions for given in {None} | asked)

    @property
    def failed(self) -> bool:
        """Whether the system failed on the document, in any pass."""
        return any(map(_is_failure, self.predictions.values()))

    def cases(self, settings: Settings) -> Iterator[Case]:
        """The document under each protocol, with the tasks that count on it."""
        for pairs, of_tasks in protocols(self.passes, settings.scored).items():
            preds: dict[Task, Annotation] = {}
            for task, given in of_tasks.items():
                answer = self.predictions.get(given)
                if self.gold.counts(task, settings) and not (answer and _is_failure(answer)):
                    preds[task] = answer.annotation if answer else EMPTY
            yield Case(self.gold, pairs, preds)


def _is_failure(prediction: Prediction) -> bool:
    return "error" in [issue.code for issue in prediction.issues]


@cache
def protocols(
    passes: frozenset[GivenKind | None], tasks: tuple[Task, ...]
) -> Mapping[Pairs, Mapping[Task, GivenKind | None]]:
    """The protocols, each with those of the tasks that it scores and the pass from which each is scored.

    With gold given, these are the tasks whose pass was made.
    """
    found: dict[Pairs, dict[Task, GivenKind | None]] = {"end_to_end": dict.fromkeys(tasks)}
    if passes - {None}:
        found["gold_pairs"] = {task: GIVEN[task] for task in tasks if GIVEN[task] in passes}
    return found


class MisplacedError(UserError):
    """A document of the gold, or a prediction, that cannot be scored.

    `position` is its own among the documents or predictions, `first` that of the one which it repeats; None: it is the
    prediction of no document of the gold.
    """

    def __init__(
        self, message: str, of: Literal["gold", "predictions"], key: PredictionKey, position: int, first: int | None
    ) -> None:
        super().__init__(message)
        self.of, self.key, self.position, self.first = of, key, position, first


class Answers:
    """The predictions of each document by pass, with a confidence of at least `threshold` (None: all).

    They are read one at a time; in memory are some thirty bytes of each document. Raises UserError for one without a
    gold document, for a second one of a document and pass, and for a threshold if no prediction has a confidence.
    """

    def __init__(
        self, golds: Golds | Sequence[Gold], predictions: Iterable[Prediction], threshold: float | None = None
    ) -> None:
        self._predictions = predictions if isinstance(predictions, Sequence) else tuple(predictions)
        heads = golds.heads() if isinstance(golds, Golds) else Lazy(golds, _head)
        self._positions: Positions[str] = Positions(lambda i: heads[i].id)
        """The documents, in the order of the gold."""
        self._places: dict[GivenKind | None, array[int]] = {}
        """For each pass the place of the prediction of each document plus one; 0: it has none."""
        self._join(heads, enumerate(_keys(self._predictions)))
        self._threshold = threshold
        if threshold is not None and lack_confidences(prediction.annotation for prediction in self._predictions):
            what = f"a threshold of {threshold:g} cannot be applied to them"
            raise UserError(f"no prediction has a confidence: {what}")

    def _join(self, heads: Iterable[ExampleHead], keys: Iterator[tuple[int, PredictionKey]]) -> None:
        """Read gold and predictions side by side: in the same order, no prediction is looked for."""
        langs: dict[str, int] = {}
        lang_of, made = bytearray(), set()
        place, key = next(keys, END)
        for position, head in enumerate(heads):
            if (first := self._positions.add(head.id)) is not None:
                message = f"gold document '{head.id}' appears twice: ids must be unique"
                raise MisplacedError(message, "gold", (head.id, None), position, first)
            lang = langs.setdefault(head.lang, len(langs))
            lang_of.append(lang)
            while key is not None and key[0] == head.id:
                made.add((lang, self._note(position, place, key)))
                place, key = next(keys, END)
        if not langs:
            raise UserError("there are no gold documents: nothing to score")
        while key is not None:
            found = self._positions.get(key[0])
            if found is None:
                message = f"prediction of '{key[0]}', which is not a document of the gold"
                raise MisplacedError(message, "predictions", key, place, None)
            made.add((lang_of[found], self._note(found, place, key)))
            place, key = next(keys, END)
        for places in self._places.values():
            places.extend([0] * (len(self._positions) - len(places)))
        self.passes = {
            name: frozenset(given for of, given in made if of == lang) for name, lang in sorted(langs.items())
        }
        """The passes that were made in each language."""

    def _note(self, position: int, place: int, key: PredictionKey) -> GivenKind | None:
        """Note the place of a prediction of the document at this position; returns its pass."""
        document, given = key
        places = self._places.setdefault(given, array("q"))
        places.extend([0] * (position + 1 - len(places)))
        if first := places[position]:
            message = f"document '{document}' has two predictions {given_words(given)}"
            raise MisplacedError(message, "predictions", key, place, first - 1)
        places[position] = place + 1
        return given

    def __len__(self) -> int:
        """The number of predictions."""
        return len(self._predictions)

    def of(self, gold: Gold) -> Answered:
        passes = self.passes[gold.lang]
        for position in self._positions.candidates(gold.document):
            places = ((given, self._places[given][position]) for given in passes)
            found = {given: self._prediction(place - 1) for given, place in places if place}
            if found and next(iter(found.values())).document == gold.document:
                for prediction in found.values():
                    _check_mentions(prediction, gold.length)
                return Answered(gold, found, passes)
        return Answered(gold, {}, passes)

    def _prediction(self, i: int) -> Prediction:
        found = self._predictions[i]
        if self._threshold is None:
            return found
        return replace(found, annotation=at_least(found.annotation, self._threshold))


def _check_mentions(prediction: Prediction, length: int | None) -> None:
    """Name the first mention that ends outside of a text of that length: its offsets may count something else."""
    for i, chain in enumerate(prediction.annotation.chains):
        for j, mention in enumerate(chain.mentions):
            if length is not None and length < mention.end:
                place = f"prediction of '{prediction.document}': chains[{i}].mentions[{j}]"
                log.warning("%s ends at %d; the text has %d characters: it counts as wrong", place, mention.end, length)
                return


def _head(gold: Gold) -> ExampleHead:
    return ExampleHead(gold.document, gold.lang)


def _keys(predictions: Sequence[Prediction]) -> Iterable[PredictionKey]:
    if isinstance(predictions, Stream):
        return predictions.read_as(prediction_key)
    return ((prediction.document, prediction.given) for prediction in predictions)


@dataclass(slots=True)
class LanguageSums:
    """The sums over the documents of one language."""

    documents: int = 0
    unanswered: int = 0
    failed: int = 0
    regions_unannotated: int = 0
    annotated: int = 0
    shown: int = 0
    says: bool = False
    counts: dict[Pairs, Sums] = field(default_factory=dict)
    sure: dict[Pairs, dict[Task, Confidences]] = field(default_factory=dict)

    def add(self, document: Answered, settings: Settings) -> None:
        annotated, shown, says = document.frames(settings)
        self.documents += 1
        self.unanswered += document.lacks
        self.failed += document.failed
        self.annotated += annotated
        self.shown += shown
        self.says |= says
        frames = document.gold.frames
        if frames is not None:
            self.regions_unannotated += sum(region.frame not in frames for region in document.get(None).regions)

    def scores(self, settings: Settings) -> LanguageScores:
        frames = (self.annotated, self.shown) if self.says and "grounding" in settings.scored else (0, None)
        totals = {pairs: sums.scores() for pairs, sums in self.counts.items()}
        found = {pairs: _calibration(self.sure.get(pairs, {}), total) for pairs, total in totals.items()}
        return LanguageScores(
            documents=self.documents,
            **totals,
            calibration={pairs: of for pairs, of in found.items() if of},
            unanswered=self.unanswered,
            failed=self.failed,
            regions_unannotated=self.regions_unannotated,
            frames_annotated=frames[0],
            frames_shown=frames[1],
        )


def score(
    examples: Sequence[Example],
    predictions: Iterable[Prediction],
    *,
    labels: LabelSet | None = None,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
) -> Scores:
    """The scores of predictions, by language.

    `labels` tells which relation types are symmetric (None: none is); `subsets` the modalities given of each document
    (None, or a document that is not in it: all). A document without a prediction is scored as an empty one; one on
    which the system failed is not counted, except in `LanguageScores.failed`. Raises UserError for a prediction of an
    unknown document, and for a second one of the same document and pass.
    """
    return score_golds(Golds(examples, subsets or {}), predictions, labels=labels, settings=settings or Settings())


def score_golds(
    golds: Golds | Sequence[Gold], predictions: Iterable[Prediction], *, labels: LabelSet | None, settings: Settings
) -> Scores:
    """`score`, for gold that need not come from a corpus."""
    answers = Answers(golds, predictions, settings.threshold)
    scoring = Scoring(answers, labels=labels, settings=settings)
    for gold in golds:
        scoring.add(answers.of(gold))
    return scoring.done()


class Scoring:
    """The scores of documents, added one by one."""

    def __init__(self, answers: Answers, *, labels: LabelSet | None, settings: Settings) -> None:
        self._settings, self._symmetric = settings, labels.symmetric if labels else frozenset[str]()
        self._rows = document_scores()
        self._unanswered: list[str] = []
        self._languages = {lang: LanguageSums() for lang in answers.passes}
        for lang, passes in answers.passes.items():
            for pairs, of_tasks in protocols(passes, settings.scored).items():  # with those that count on no document
                names = count(EMPTY, dict.fromkeys(of_tasks, EMPTY), settings=settings)
                self._languages[lang].counts[pairs] = Sums(names)

    def add(self, document: Answered) -> None:
        gold, settings = document.gold, self._settings
        frames = gold.frames_in(settings)
        of = self._languages[gold.lang]
        of.add(document, settings)
        if document.lacks:
            self._unanswered.append(gold.document)
        for case in document.cases(settings):
            by_task = of.sure.setdefault(case.pairs, {})
            for task, pred in case.preds.items():
                found = outcomes(task, gold.annotation, pred, frames=frames, symmetric=self._symmetric)
                if task not in by_task:
                    by_task[task] = Confidences()
                by_task[task].add(found)
            counts = count(gold.annotation, case.preds, frames=frames, symmetric=self._symmetric, settings=settings)
            of.counts[case.pairs].add(counts)
            self._rows.append(DocumentScore(gold.document, gold.lang, gold.group, gold.subset, case.pairs, counts))

    def done(self) -> Scores:
        languages = {lang: of.scores(self._settings) for lang, of in self._languages.items()}
        return Scores(self._settings, languages, self._rows, tuple(self._unanswered))


def given_words(given: GivenKind | None) -> str:
    return "with nothing given" if given is None else f"with gold {given} given"


def _calibration(sure: Mapping[Task, Confidences], scores: TaskScores) -> dict[Task, Calibration]:
    """The calibration by task; tasks without confidences are absent."""
    found = {}
    for task, of in sure.items():
        gold = scores.tasks[GOLD_OF[task]]
        if isinstance(gold, PRF) and (calibration := of.calibration(gold.r_den)):
            found[task] = calibration
    return found
