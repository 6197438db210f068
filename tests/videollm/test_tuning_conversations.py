"""What is learned: prediction's own questions, and answers that its grammars accept."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.score import score
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.engines.local.masks import compile_grammar
from m3dllm.systems.videollm.engines.local.model import LocalModel
from m3dllm.systems.videollm.engines.local.tokenizer_only import TokenizerOnlyEngine
from m3dllm.systems.videollm.families import CONVENTIONS
from m3dllm.systems.videollm.gold import Gold, written_box
from m3dllm.systems.videollm.messages import prompt_text
from m3dllm.systems.videollm.strategies.base import Question
from m3dllm.systems.videollm.strategies.mqa import BOX
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.tuning.conversations import answered, averages, ceiling, items_of, target_of
from m3dllm.systems.videollm.tuning.dataset import SFTDataset
from m3dllm.systems.videollm.tuning.encoding import answer_ids
from m3dllm.systems.videollm.visible import VisibleFrames
from m3dllm.tokens import tokenize
from m3dllm.types import (
    Annotation,
    Box,
    Chain,
    Document,
    Example,
    Frame,
    Mention,
    Prediction,
    RawOutput,
    Region,
    Relation,
)
from tests.small import LABELS, example
from tests.videollm.documents import adversarial, document, frames

SIZES = ((160, 90), (90, 160), (64, 64))


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    return frames(tmp_path_factory.mktemp("frames"), *SIZES)


@pytest.fixture(scope="module")
def make(tiny):
    """A system that shows documents and holds answers, and has no weights."""
    loaded = {}

    def system(model: str = "qwen2_5_vl", **options) -> VideoLLM:
        config = Config(model=tiny(model), **options)
        key = model, config.context
        if key not in loaded:
            loaded[key] = TokenizerOnlyEngine(config)
        return VideoLLM(config, labels=LABELS, engine=loaded[key])

    return system


@pytest.fixture(scope="module")
def local(tiny) -> LocalModel:
    return LocalModel(Config(model=tiny("qwen2_5_vl")))


def gold(stills=()) -> Example:
    made = example(
        "d",
        "[PER0 Ada Lovelace] was born in [LOC1 Arles] . [PER0 Ada] met [PER2 Bela] in [LOC3 Ada] . [PER0 She] left .",
        relations=[("c0", "c1", "PER-LOC_birth"), ("c2", "c0", "PER-PER_couple")],
    )
    regions = tuple(Region(s.index, Box(0.1, 0.2, 0.5, 0.9), "PER", "c0") for s in stills)
    return Example(replace(made.document, frames=tuple(stills)), replace(made.gold, regions=regions))


def examples(stills) -> list[Example]:
    zh = example(
        "zh",
        "[PER0 苏珊]出生在[LOC1 北京]。[PER0 她]遇见了[PER2 乔治]。",
        lang="zh",
        relations=[("c0", "c1", "PER-LOC_birth")],
    )
    return [
        gold(stills),
        Example(replace(zh.document, frames=stills[:1]), zh.gold),
        Example(document("silent", "zh", "", stills), Annotation(regions=(Region(24, Box(0, 0, 1, 1), "PER"),))),
        Example(document("blind", "en"), Annotation((Chain("x", (Mention(0, 12, "PER"),)),))),
        Example(document("empty", "en", ""), Annotation()),
        Example(document("nothing", "en", stills=stills), Annotation()),
    ]


def noise(made: Document, rnd: random.Random) -> Annotation:
    """Any gold that a document may have: mentions on its tokens and off them, nested, repeated, of any length."""
    tokens = tokenize(made)
    chains = []
    taken = set()
    for i in range(rnd.randrange(8) if tokens else 0):
        mentions = []
        for _ in range(rnd.randrange(1, 4)):
            first = rnd.randrange(len(tokens))
            last = min(len(tokens) - 1, first + rnd.choice((0, 0, 1, 3, 30)))
            start, end = tokens[first][0], tokens[last][1]
            if rnd.random() < 0.1 and end - start > 1:
                end -= 1
            if end > start and (start, end) not in taken:
                taken.add((start, end))
                mentions.append(Mention(start, end, rnd.choice(("PER", "LOC"))))
        if mentions:
            chains.append(Chain(f"g{i}", tuple(mentions)))
    names = [chain.id for chain in chains]
    kinds = ("PER-LOC_birth", "PER-PER_couple")
    relations = tuple({Relation(*rnd.sample(names, 2), rnd.choice(kinds)) for _ in range(3)}) if len(names) > 1 else ()
    regions = []
    for frame in made.frames:
        for _ in range(rnd.randrange(4)):
            x, y = sorted(rnd.random() for _ in range(2)), sorted(rnd.random() for _ in range(2))
            regions.append(Region(frame.index, Box(x[0], y[0], x[1], y[1]), "PER", rnd.choice([*names, None])))
    return Annotation(tuple(chains), relations, tuple(regions))


def accepts(local: LocalModel, grammar: str, answer: str) -> bool:
    """Whether the grammar takes the answer, token by token, and lets it end there."""
    matcher = compile_grammar(grammar, local.grammar_tokenizer)
    *ids, end = answer_ids(local, answer)
    assert end == local.tokenizer.eos_token_id
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


class Parrot:
    """An engine that answers with what it is told, and keeps what it was asked."""

    max_concurrency = 1

    def __init__(self, engine, words) -> None:
        self.engine, self.words, self.asked, self._pending = engine, list(words), [], []

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def submit(self, key, request) -> None:
        self.asked.append(request)
        self._pending.append(key)

    def poll(self):
        ready, self._pending = self._pending, []
        return [(key, Reply(text=self.words.pop(0))) for key in ready]


@pytest.mark.parametrize("strategy", ["joint", "staged"])
@pytest.mark.parametrize("model", ["qwen2_5_vl", "llava"])
def test_a_prompt_of_training_is_the_prompt_of_prediction_token_by_token(make, stills, model, strategy):
    system = make(model, strategy=strategy)
    for made in examples(stills):
        views = system.builder.of(made.document)
        items = items_of(views, made.gold)
        said = answered(made.document, views, items)
        parrot = Parrot(system.engine, [item.answer for item in items])
        asked = VideoLLM(system.config, labels=LABELS, engine=parrot)
        (raw,) = asked.predict([made.document])
        assert raw.failure is None
        assert (raw.payload, raw.boxes, raw.frames) == (said.payload, said.boxes, said.frames)
        assert len(parrot.asked) == len(items)
        encode = system.engine.local.encode
        for request, item in zip(parrot.asked, items, strict=True):
            there, here = encode(request.messages), encode(item.request.messages)
            assert there["input_ids"].tolist() == here["input_ids"].tolist()
            assert [*there] == [*here]
            assert all(there[name].equal(here[name]) for name in there)


def test_a_frame_that_nobody_annotated_is_not_learned_from(tiny, stills):
    system = VideoLLM(Config(model=tiny("qwen2_5_vl"), device="cpu"), labels=LABELS)
    whole = gold(stills)
    first, *others = whole.document.frames
    hidden, without = (gold(shown) for shown in ((replace(first, annotated=False), *others), others))
    n = {
        name: SFTDataset(system.builder, system.engine, [e], system.config).tokens
        for name, e in (("hidden", hidden), ("without", without))
    }
    assert n["hidden"] == n["without"] < SFTDataset(system.builder, system.engine, [whole], system.config).tokens


def test_a_long_document_is_trained_on_in_the_windows_of_prediction(make):
    sentence = "[PER0 Ada] was born in [LOC1 Arles] . [PER2 Bela] met [PER0 Ada] near the old mill by the river . "
    long = example("long", sentence * 12, relations=[("c0", "c1", "PER-LOC_birth")])
    options = {"frames": 0, "max_tokens": 300}
    short = make(**options)
    context = short.builder.needed(
        replace(short.builder.show(example("short", sentence * 5).document), is_worked=False)
    )
    system = make(**options, context=context)
    views = system.builder.of(long.document)
    assert len(views) > 1
    items = items_of(views, long.gold)
    assert len(items) == len(views)
    parrot = Parrot(system.engine, [item.answer for item in items])
    (raw,) = VideoLLM(system.config, labels=LABELS, engine=parrot).predict([long.document])
    assert [prompt_text(r.messages) for r in parrot.asked] == [prompt_text(x.request.messages) for x in items]
    found = normalize(long.document, raw, LABELS).annotation
    assert {mention.span for mention in found.mentions} == {mention.span for mention in long.gold.mentions}
    assert raw.payload == answered(long.document, views, items).payload


@pytest.mark.parametrize("strategy", ["joint", "staged"])
def test_the_answer_is_accepted_by_the_documents_own_grammar(make, local, stills, strategy):
    system = make(strategy=strategy)
    for made in examples(stills):
        for item in items_of(system.builder.of(made.document), made.gold):
            assert accepts(local, item.request.constraint.grammar, item.answer), item


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("strategy", ["joint", "staged"])
def test_any_gold_gives_answers_that_the_grammars_accept(make, local, stills, strategy, lang):
    system = make(strategy=strategy, max_chains=5, max_mentions=3, max_relations=2, max_regions=2)
    rnd = random.Random(lang)
    for made in adversarial(40, lang, stills, seed=1, longest=30):
        for item in items_of(system.builder.of(made), noise(made, rnd)):
            assert accepts(local, item.request.constraint.grammar, item.answer), item.answer


@pytest.mark.parametrize("strategy", ["joint", "staged"])
def test_right_answers_are_read_as_the_gold(make, stills, strategy):
    system = make(strategy=strategy)
    made = [e for e in examples(stills) if e.document.id in ("d", "zh", "silent")]
    raws = []
    for e in made:
        views = system.builder.of(e.document)
        raws.append(answered(e.document, views, items_of(views, e.gold)))
    if strategy == "joint":
        found = ceiling(made, raws, LABELS)
        assert {name: round(value, 3) for name, value in found.items()} == dict.fromkeys(found, 1.0)
        assert set(found) == {"entity", "chain", "relation", "grounding", "average"}
    for e, raw in zip(made, raws, strict=True):
        assert not {i.code for i in normalize(e.document, raw, LABELS).issues} - {"covered", "empty_answer"}


def test_a_text_of_two_chains_is_one_chains_in_stages_and_each_ones_own_in_one_prompt(make):
    one = gold()
    joint = items_of(make(strategy="joint").builder.of(one.document), one.gold)[0].answer
    assert '["Ada",2]' in joint
    assert '["Ada",3]' in joint
    entities = items_of(make(strategy="staged").builder.of(one.document), one.gold)[0].answer
    listed = [(mention["text"], mention["type"]) for mention in json.loads(entities)["mentions"]]
    assert [text for text, kind in listed if kind == "PER"] == ["Ada Lovelace", "Ada", "Bela", "She"]
    assert [text for text, kind in listed if kind == "LOC"] == ["Arles", "Ada"]


def test_a_document_without_a_prompt_is_not_trained_on(make):
    made = document("empty", "en", "")
    views = make().builder.of(made)
    assert items_of(views, Annotation()) == []
    assert answered(made, views, []).payload == {"chains": [], "relations": [], "regions": []}


def test_what_cannot_be_written_is_skipped(make, local):
    text = "Adam met Bela ."
    chains = (Chain("a", (Mention(0, 3, "PER"), Mention(9, 13, "PER"))), Chain("b", (Mention(1, 4, "PER"),)))
    made = Document("d", "en", text)
    gold = Annotation(chains, (Relation("a", "b", "PER-PER_couple"),))
    (item,) = items_of(make().builder.of(made), gold)
    assert item.answer == '{"chains":[{"id":"c0","type":"PER","mentions":["Bela"]}],"relations":[],"regions":[]}'


def test_an_answer_keeps_within_its_bounds(make, local, stills):
    many = example(
        "d", " ".join(f"[PER{i} Ada{i}] met ." for i in range(9)), relations=[("c0", "c8", "PER-PER_couple")]
    )
    (item,) = items_of(make(max_chains=4).builder.of(many.document), many.gold)
    assert item.answer.count('"id"') == 4
    assert accepts(local, item.request.constraint.grammar, item.answer)


@pytest.mark.parametrize("name", [*CONVENTIONS])
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (64, 64), (1280, 720)])
def test_a_box_is_written_in_the_numbers_that_its_model_speaks(make, name, size):
    subject = make().builder.show(document("d", "en"))
    subject.visible = VisibleFrames({24: size}, CONVENTIONS[name])
    rnd = random.Random(name)
    for _ in range(50):
        x, y = sorted(rnd.random() for _ in range(2)), sorted(rnd.random() for _ in range(2))
        box = Box(x[0], y[0], x[0] + max(0.05, x[1] - x[0]), y[0] + max(0.05, y[1] - y[0]))
        box = Box(*(min(1.0, edge) for edge in box))
        written = written_box(box, 24, subject)
        payload = f'{{"chains":[],"relations":[],"regions":[{{"frame":24,"type":"PER","box":{written}}}]}}'
        about = document("d", "en", stills=(Frame(24, "24.png", *size),))
        boxes = subject.visible.convention.form(subject.visible.sizes)
        (region,) = normalize(about, RawOutput("d", payload=payload, boxes=boxes), LABELS).annotation.regions
        assert all(abs(a - b) < 0.04 for a, b in zip(region.box, box, strict=True)), (box, region.box, written)


def test_boxes_are_learned_in_steps_where_the_user_says_so(make):
    subject = make(box_convention="permille").builder.show(document("d", "en"))
    subject.visible = VisibleFrames({24: (640, 360)}, CONVENTIONS["permille"])
    assert written_box(Box(0.217, 0.165, 0.417, 0.799), 24, subject, step=20) == "[220,160,420,800]"


def test_a_relation_is_said_where_the_later_of_its_chains_comes_up(make):
    pairs = [("c0", "c2", "PER-PER_couple"), ("c1", "c2", "PER-PER_couple"), ("c0", "c1", "PER-PER_couple")]
    made = example("d", "[PER0 Ada] met [PER1 Bela] and [PER2 Cora] .", relations=pairs)
    (item,) = items_of(make().builder.of(made.document), made.gold)
    said = [(r["head"], r["tail"]) for r in json.loads(item.answer)["relations"]]
    assert said == [("c0", "c1"), ("c0", "c2"), ("c1", "c2")]


def test_a_relation_with_a_region_stands_in_no_gold_answer(make):
    made = example("d", "[PER0 Ada] met [PER1 Bela] .", relations=[("c0", "c1", "PER-PER_couple")])
    shown = Relation("c0", "c9", "PER-PER_couple")
    regions = (Region(0, Box(0, 0, 1, 1), "PER", id="c9"),)
    more = replace(made.gold, relations=(*made.gold.relations, shown), regions=regions)
    (item,), (as_before,) = (items_of(make().builder.of(made.document), gold) for gold in (more, made.gold))
    assert item.answer == as_before.answer


def test_a_strategy_without_right_answers_is_refused(make):
    subject = make().builder.show(document("d", "en"))

    with pytest.raises(ValueError, match="no gold answer for the stage 'box'"):
        target_of(Question(BOX, None), Gold(subject, Annotation()))


def test_averages_are_over_languages_and_tasks(stills):
    made = gold(stills)
    found = averages(score([made], [Prediction(made.document.id, made.gold)], labels=LABELS))
    assert found == {"entity": 1.0, "chain": 1.0, "relation": 1.0, "grounding": 1.0, "average": 1.0}


@pytest.mark.parametrize(
    ("lacking", "learned"),
    [
        ("relation", {"entities", "chains", "grounding"}),
        ("chain", {"entities", "relations", "grounding"}),
        ("grounding", {"entities", "chains", "relations"}),
    ],
)
def test_a_question_is_not_learned_from_where_nobody_annotated_its_answer(tiny, stills, lacking, learned):
    system = VideoLLM(Config(model=tiny("qwen2_5_vl"), device="cpu", strategy="staged"), labels=LABELS)
    whole = gold(stills)
    lone = replace(whole.gold, relations=() if lacking == "relation" else whole.gold.relations)
    if lacking == "chain":
        lone = replace(lone, chains=tuple(replace(c, mentions=c.mentions[:1]) for c in lone.chains))
    frames = whole.document.frames
    if lacking == "grounding":
        lone, frames = replace(lone, regions=()), tuple(replace(f, annotated=False) for f in frames)
    lacks = Example(replace(whole.document, frames=frames), lone, frozenset((lacking,)))
    dataset = SFTDataset(system.builder, system.engine, [lacks], system.config)
    items = items_of(system.builder.of(dataset.examples[0].document), dataset.examples[0].gold)
    assert {items[entry.item].stage for entry in dataset.entries} == learned


def test_nothing_is_learned_from_a_joint_answer_that_is_not_all_annotated(tiny):
    system = VideoLLM(Config(model=tiny("qwen2_5_vl"), device="cpu"), labels=LABELS)
    whole = gold()
    lacks = Example(whole.document, replace(whole.gold, relations=()), frozenset(("relation",)))
    with pytest.raises(UserError, match="nothing to train on"):
        SFTDataset(system.builder, system.engine, [lacks], system.config)
