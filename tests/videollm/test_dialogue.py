"""Who is asked what: one engine, or another for some questions."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.systems.videollm.builder import PromptBuilder
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.dialogue import Dialogue
from m3dllm.systems.videollm.engines.base import Constraint, Count, Engine, Reply
from m3dllm.systems.videollm.families import FAMILIES
from m3dllm.systems.videollm.fewshot import FewShotSelector
from m3dllm.systems.videollm.prompts import Prompts
from m3dllm.systems.videollm.strategies.base import Stage, Strategy
from m3dllm.types import Document, Failure
from tests.small import LABELS


class Named(Engine):
    """An engine that answers with its name and how many questions it had."""

    context = 100_000
    supports = frozenset({"schema"})

    def __init__(self, name: str, *, family: str = "generic", fails: bool = False):
        self.says, self.family, self.fails, self.asked, self.waiting = name, FAMILIES[family], fails, [], []

    @property
    def provenance(self):
        return {"model": self.says}

    def count(self, messages):
        return Count(sum(len(part) for message in messages for part in message.parts))

    def submit(self, key, request):
        self.asked.append(request.messages[-1].parts[-1])
        self.waiting.append(key)

    def poll(self):
        ready, self.waiting = self.waiting, []
        failure = Failure("it is away", retryable=True) if self.fails else None
        return [(key, Reply(text=f"{self.says}{len(self.asked)}", failure=failure)) for key in ready]


def stage(model: str) -> Stage:
    return Stage(template="mqa/spans", constraint=lambda context, about: Constraint(), model=model)


class Checked(Strategy):
    """What the main model says, and what the entailment model says of it."""

    name = "checked"
    stages = (stage("main"), stage("entailment"))

    def run(self, context):
        first, second = self.stages
        said = yield from first.put(context)
        return said, (yield from second.put(context))


def dialogue(main: Named, **roles: Named) -> Dialogue:
    options = Config(model="echo", strategy="mqa")
    main_builder, *others = (
        PromptBuilder(options, LABELS, engine, Prompts(), FewShotSelector([], options), Checked())
        for engine in (main, *roles.values())
    )
    return Dialogue(main_builder, dict(zip(roles, others, strict=True)))


DOCUMENTS = [Document("a", "en", "Ada left ."), Document("b", "zh", "苏珊走了。"), Document("c", "en", "")]


def test_a_question_goes_to_the_model_of_its_role():
    raws = list(dialogue(Named("main"), entailment=Named("other")).predict(DOCUMENTS))
    assert [raw.payload for raw in raws] == [("main1", "other1"), ("main2", "other2"), ("main3", "other3")]


def test_the_main_model_is_asked_where_a_role_has_none():
    raws = list(dialogue(Named("main")).predict(DOCUMENTS))
    assert [raw.payload for raw in raws] == [("main1", "main2"), ("main3", "main4"), ("main5", "main6")]


def test_a_document_fails_where_any_of_its_models_does():
    raws = list(dialogue(Named("main"), entailment=Named("other", fails=True)).predict(DOCUMENTS))
    assert [raw.failure.message for raw in raws] == ["it is away"] * 3
