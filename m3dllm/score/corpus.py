"""Score predictions against gold: which prediction answers which task, on which documents, in which language.

Two protocols may stand side by side. End to end, everything is scored from what was predicted with nothing given. In
the gold-mention setting, chains are scored from the pass in which the gold mentions were given, relations from the pass
in which the gold chains were given, and the rest from the pass with nothing given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from m3dllm.confidence import at_least, has_confidences
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.score.calibration import GOLD_OF, Calibration, Confidences, outcomes
from m3dllm.score.document import count
from m3dllm.score.scores import DocumentScore, LanguageScores, Pairs, Scores, TaskScores, total
from m3dllm.score.settings import Settings
from m3dllm.types import PRF, TASKS, Annotation, Example, GivenKind, Prediction, Subset, Task

EMPTY = Annotation()
GIVEN: dict[Task, GivenKind | None] = {"entity": None, "chain": "mentions", "relation": "chains", "grounding": None}
"""The pass from which each task is scored under the gold-pair protocol."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold of a document, and what scoring must know of the document.

    `frames` are its annotated frames (None: all that anyone names); `shown` are the tasks whose modality was there;
    `annotated` those whose gold is known: no other counts.
    """

    document: str
    lang: str
    group: str
    annotation: Annotation
    frames: frozenset[int] | None
    subset: Subset
    shown: frozenset[Task]
    annotated: frozenset[Task] = frozenset(TASKS)

    def counts(self, task: Task, settings: Settings) -> bool:
        """Whether the task is scored on this document."""
        return task in self.annotated and (settings.modality == "all" or task in self.shown)

    @classmethod
    def of(cls, example: Example, subset: Subset | None = None) -> Gold:
        """`subset` is what the system was shown; None: the document as it stands."""
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
        return cls(document.id, document.lang, document.group, example.gold, frames, subset, shown, known)


@dataclass(frozen=True, slots=True)
class Case:
    """A gold document under one protocol, with the prediction that answers each of the tasks counted on it."""

    gold: Gold
    pairs: Pairs
    preds: Mapping[Task, Annotation]


class Answers:
    """Predictions by document and pass, as far as they are at least as sure as `threshold` (None: all).

    Raises UserError for one of no gold document, or of one that has it already, and for a threshold where no prediction
    has a confidence.
    """

    def __init__(
        self, golds: Sequence[Gold], predictions: Iterable[Prediction], threshold: float | None = None
    ) -> None:
        lang_of: dict[str, str] = {}
        for gold in golds:
            if gold.document in lang_of:
                raise UserError(f"gold document '{gold.document}' stands twice: ids are unique")
            lang_of[gold.document] = gold.lang
        if not golds:
            raise UserError("there are no gold documents: nothing to score")
        self._found: dict[tuple[str, GivenKind | None], Annotation] = {}
        self._shown: dict[str, frozenset[int] | None] = {}
        self._failed: set[tuple[str, GivenKind | None]] = set()
        self._passes: dict[str, set[GivenKind | None]] = {lang: set() for lang in lang_of.values()}
        silent = sure = False
        for prediction in predictions:
            key = prediction.document, prediction.given
            if prediction.document not in lang_of:
                raise UserError(f"prediction of '{prediction.document}', which is no document of the gold")
            if key in self._found:
                raise UserError(f"document '{prediction.document}' has two predictions {given_words(prediction.given)}")
            self._found[key] = prediction.annotation
            if threshold is not None:
                sure = sure or has_confidences(prediction.annotation)
                silent = silent or prediction.annotation != EMPTY
                self._found[key] = at_least(prediction.annotation, threshold)
            if any(issue.code == "error" for issue in prediction.issues):
                self._failed.add(key)
            if prediction.given is None:
                self._shown[prediction.document] = None if prediction.frames is None else frozenset(prediction.frames)
            self._passes[lang_of[prediction.document]].add(prediction.given)
        if silent and not sure:
            raise UserError(f"no prediction has a confidence: a threshold of {threshold:g} cannot be held against them")

    def get(self, document: str, given: GivenKind | None) -> Annotation:
        return self._found.get((document, given), EMPTY)

    def answers_with_gold(self, lang: str) -> bool:
        """Whether any gold was given in this language."""
        return bool(self._passes[lang] - {None})

    def tasks(self, lang: str, pairs: Pairs, settings: Settings) -> tuple[Task, ...]:
        """The tasks of one protocol in one language: with gold given, those whose pass was made."""
        made = self._passes[lang]
        return tuple(task for task in settings.scored if pairs == "end_to_end" or GIVEN[task] in made)

    def frames(self, golds: Sequence[Gold], settings: Settings) -> tuple[int, int | None]:
        """(annotated frames of the documents on which grounding counts, how many of these were shown).

        None for the latter where no answer says what was shown; a document whose answer does not say it was shown all,
        and one without an answer none.
        """
        counted = [gold for gold in golds if gold.frames and gold.counts("grounding", settings)]
        if "grounding" not in settings.scored or not any(self._shown.get(gold.document) is not None for gold in golds):
            return 0, None
        annotated = [(gold.frames or frozenset(), self._shown.get(gold.document, frozenset())) for gold in counted]
        shown = sum(len(frames if seen is None else frames & seen) for frames, seen in annotated)
        return sum(len(frames) for frames, _ in annotated), shown

    def lacks(self, gold: Gold) -> bool:
        """Whether the document lacks the pass with nothing given, or another that its language has.

        Nothing is asked with a gold given that is not known, or whose answer is not.
        """
        asked = {GIVEN[task] for task in gold.annotated} & self._passes[gold.lang]
        return any((gold.document, given) not in self._found for given in {None} | asked)

    def failed(self, gold: Gold) -> bool:
        """Whether the system failed on the document, in any pass."""
        return any((gold.document, given) in self._failed for given in self._passes[gold.lang])

    def cases(self, gold: Gold, settings: Settings) -> Iterator[Case]:
        """The document under each protocol, with the tasks that count on it."""
        for pairs in self.protocols(gold.lang):
            yield Case(
                gold,
                pairs,
                {
                    task: self.get(gold.document, GIVEN[task] if pairs == "gold_pairs" else None)
                    for task in self.tasks(gold.lang, pairs, settings)
                    if gold.counts(task, settings)
                    and (gold.document, GIVEN[task] if pairs == "gold_pairs" else None) not in self._failed
                },
            )

    def protocols(self, lang: str) -> tuple[Pairs, ...]:
        return ("end_to_end", "gold_pairs") if self.answers_with_gold(lang) else ("end_to_end",)


def score(
    examples: Sequence[Example],
    predictions: Iterable[Prediction],
    *,
    labels: LabelSet | None = None,
    settings: Settings | None = None,
    subsets: Mapping[str, Subset] | None = None,
) -> Scores:
    """The scores of predictions, by language.

    `labels` says which relation types are symmetric (None: none is); `subsets` what was shown of each document (None,
    or a document that is not in it: all of it). A document without a prediction is scored as an empty one; one on which
    the system failed counts nowhere, and `LanguageScores.failed` says how many these are. Raises UserError for a
    prediction of a document that is not there, and for a second one of the same document and pass.
    """
    subsets = subsets or {}
    golds = [Gold.of(example, subsets.get(example.document.id)) for example in examples]
    return score_golds(golds, predictions, labels=labels, settings=settings or Settings())


def score_golds(
    golds: Sequence[Gold], predictions: Iterable[Prediction], *, labels: LabelSet | None, settings: Settings
) -> Scores:
    """`score`, of gold that need not come from a corpus."""
    answers = Answers(golds, predictions, settings.threshold)
    symmetric = labels.symmetric if labels else frozenset()
    rows = []
    sure: dict[tuple[str, Pairs], dict[Task, Confidences]] = {}
    for gold in golds:
        for case in answers.cases(gold, settings):
            by_task = sure.setdefault((gold.lang, case.pairs), {})
            for task, pred in case.preds.items():
                found = outcomes(task, gold.annotation, pred, frames=gold.frames, symmetric=symmetric)
                by_task.setdefault(task, Confidences()).add(found)
            counts = count(gold.annotation, case.preds, frames=gold.frames, symmetric=symmetric, settings=settings)
            rows.append(DocumentScore(gold.document, gold.lang, gold.group, gold.subset, case.pairs, counts))
    languages = {}
    for lang in sorted({gold.lang for gold in golds}):
        here = [gold for gold in golds if gold.lang == lang]
        annotated, shown = answers.frames(here, settings)
        totals = {pairs: _total(rows, lang, pairs, answers, settings) for pairs in answers.protocols(lang)}
        languages[lang] = LanguageScores(
            documents=len(here),
            **totals,
            calibration={
                pairs: of for pairs, total in totals.items() if (of := _calibration(sure.get((lang, pairs), {}), total))
            },
            unanswered=sum(map(answers.lacks, here)),
            failed=sum(map(answers.failed, here)),
            regions_unannotated=sum(
                region.frame not in gold.frames
                for gold in here
                if gold.frames is not None
                for region in answers.get(gold.document, None).regions
            ),
            frames_annotated=annotated,
            frames_shown=shown,
        )
    unanswered = tuple(gold.document for gold in golds if answers.lacks(gold))
    return Scores(settings, languages, tuple(rows), unanswered)


def given_words(given: GivenKind | None) -> str:
    return "with nothing given" if given is None else f"with gold {given} given"


def _calibration(sure: Mapping[Task, Confidences], scores: TaskScores) -> dict[Task, Calibration]:
    """How far confidences can be trusted, by task; those without any are absent."""
    found = {}
    for task, of in sure.items():
        gold = scores.tasks[GOLD_OF[task]]
        if isinstance(gold, PRF) and (calibration := of.calibration(gold.r_den)):
            found[task] = calibration
    return found


def _total(rows: Sequence[DocumentScore], lang: str, pairs: Pairs, answers: Answers, settings: Settings) -> TaskScores:
    """The sum of one language and protocol, with every task it has, even those that counted on no document."""
    names = count(EMPTY, dict.fromkeys(answers.tasks(lang, pairs, settings), EMPTY), settings=settings)
    return total((row.tasks for row in rows if row.lang == lang and row.pairs == pairs), names)
