"""Documents that do not fit the context: what is left out, and what is read in windows."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.answers import Occurrences
from m3dllm.normalize import CODES, normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.base import Count, Engine, Reply
from m3dllm.systems.videollm.families import FAMILIES
from m3dllm.systems.videollm.messages import Still
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.types import Chain, Document, Frame, Given, Issue, Mention, Segment
from m3dllm.wire import decode_raw, encode_raw
from tests.small import LABELS, example
from tests.videollm.documents import EN, NASTY, ZH, frames

NAMES = ("Ada", "Bela", "Cora")
PICTURE = 50


class Reader(Engine):
    """An engine that reads: it finds the names in the subtitles it is shown, one chain each, and boxes every frame.

    A token is a character, and a picture is PICTURE of them. `mangled` are the questions it answers with noise.
    """

    family = FAMILIES["generic"]
    supports = frozenset({"images"})
    max_concurrency = 2
    provenance = {"model": "reader"}  # noqa: RUF012

    def __init__(self, context: int, *, mangled: tuple[int, ...] = ()):
        self.context, self.mangled = context, mangled
        self.asked: list[list] = []
        self._todo: list[tuple[int, str]] = []

    def count(self, messages):
        parts = [part for message in messages for part in message.parts]
        return Count(sum(PICTURE if isinstance(part, Still) else len(part) for part in parts))

    def submit(self, key, request):
        parts = list(request.messages[-1].parts)
        self.asked.append(parts)
        shown = [part.frame for part in parts if isinstance(part, Still)]
        view = "".join(part for part in parts[:-1] if isinstance(part, str))
        names = [name for name in NAMES if name in view]
        chains = [{"id": f"c{i}", "type": "PER", "mentions": [name]} for i, name in enumerate(names)]
        relations = [{"head": "c0", "tail": "c1", "type": "PER-PER_couple"}] if len(names) > 1 else []
        regions = [{"frame": frame, "type": "PER", "box": [0.25, 0.25, 0.5, 0.75]} for frame in shown]
        said = json.dumps({"chains": chains, "relations": relations, "regions": regions})
        self._todo.append((key, "noise" if len(self.asked) - 1 in self.mangled else said))

    def poll(self):
        key, said = self._todo.pop(0)
        return [(key, Reply(text=said))]

    @property
    def seen(self) -> list[list[int]]:
        return [[part.frame for part in parts if isinstance(part, Still)] for parts in self.asked]


def system(engine: Reader, **options) -> VideoLLM:
    return VideoLLM(Config(**{"model": "reader", "max_tokens": 100} | options), labels=LABELS, engine=engine)


def long(stills: tuple[Frame, ...] = (), *, lines: int = 60, **more) -> Document:
    """Lines of five seconds each; every one names Ada, and the others come and go."""
    said = [f"Ada saw {('Bela', 'Cora', 'nobody')[i * 3 // lines]} at {i:03d} .\n" for i in range(lines)]
    at, segments = 0, []
    for i, line in enumerate(said):
        segments.append(Segment(at, at + len(line), 5.0 * i, 5.0 * i + 5))
        at += len(line)
    return Document("d", "en", "".join(said), segments=tuple(segments), frames=stills, **more)


def answer(engine: Reader, document: Document, **options):
    (raw,) = system(engine, **options).predict([document])
    return raw, normalize(document, raw, LABELS)


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    made = frames(tmp_path_factory.mktemp("frames"), *[(64, 48)] * 4)
    return tuple(
        Frame(24 * s, f.path, f.width_px, f.height_px, annotated=True)
        for s, f in zip((10, 90, 200, 290), made, strict=True)
    )


@pytest.fixture(scope="module")
def room(stills) -> int:
    """What a document of some lines needs, with two frames."""
    made = system(Reader(1_000_000))
    return made.builder.needed(replace(made.builder.show(long(stills[:2], lines=8)), is_worked=False))


def test_a_long_text_is_read_in_windows_and_nothing_of_it_is_left_out(room):
    engine = Reader(room)
    raw, prediction = answer(engine, long())
    assert raw.failure is None
    assert len(raw.turns) == len(engine.asked) > 2
    assert [i for i in prediction.issues if i.where == "prompt"] == [
        Issue("windows", "prompt", f"the text is read in {len(raw.turns)} overlapping windows")
    ]
    assert {issue.code for issue in prediction.issues} <= CODES.keys()
    for line in long().text.splitlines():
        assert any(line in "".join(map(str, parts)) for parts in engine.asked)
    assert all(engine.count([type("M", (), {"parts": parts})]).tokens <= engine.context for parts in engine.asked)
    assert decode_raw(encode_raw(raw)) == raw


def test_a_chain_goes_on_from_window_to_window(room):
    _, prediction = answer(Reader(room), long())
    text = long().text
    found = {text[c.mentions[0].start : c.mentions[0].end]: len(c.mentions) for c in prediction.annotation.chains}
    assert found == {"Ada": 60, "Bela": 20, "Cora": 20}
    names = {c.id: text[c.mentions[0].start : c.mentions[0].end] for c in prediction.annotation.chains}
    pairs = {(names[r.head], names[r.tail]) for r in prediction.annotation.relations}
    assert pairs == {("Ada", "Bela"), ("Ada", "Cora")}


def test_every_frame_stands_in_the_window_of_its_time_and_is_boxed_once(room, stills):
    engine = Reader(room)
    document = long(stills)
    raw, prediction = answer(engine, document)
    assert sorted(frame for shown in engine.seen for frame in shown) == [f.index for f in stills] == list(raw.frames)
    assert 24 * 10 in engine.seen[0]
    assert 24 * 290 in engine.seen[-1]
    assert raw.boxes is None
    assert [(r.frame, tuple(r.box)) for r in sorted(prediction.annotation.regions, key=lambda r: r.frame)] == [
        (f.index, (0.25, 0.25, 0.5, 0.75)) for f in stills
    ]


def test_shots_then_frames_are_left_out_before_a_text_is_cut(stills):
    shots = [example("shot", "[PER0 Ada] left . " + "word " * 40)]
    made = VideoLLM(
        Config(model="reader", max_tokens=100, shots=1), labels=LABELS, examples=shots, engine=Reader(1_000_000)
    )
    document = long(stills, lines=6)
    sizes = []
    for given, pictures in ((shots, stills), ((), stills), ((), stills[1::2]), ((), stills[3:])):
        fitting = made.builder._pictures(pictures)
        sizes.append(made.builder.needed(made.builder._context(document, fitting, [*map(made.builder._shot, given)])))
    assert sizes == sorted(sizes, reverse=True)
    details = []
    for size in [*sizes, sizes[-1] - 1]:
        made.engine.context = size
        (raw,) = made.predict([document])
        details.append([issue.detail for issue in raw.issues])
    no_shots = "0 of 1 shots are shown"
    assert details == [
        [],
        [no_shots],
        [no_shots, "2 of 4 frames are shown"],
        [no_shots, "1 of 4 frames are shown"],
        ["the text is read in 2 overlapping windows", no_shots, *details[-1][2:]],
    ]


def test_a_window_that_says_nothing_readable_is_named_and_the_others_count(room):
    raw, prediction = answer(Reader(room, mangled=(1,)), long())
    assert [(i.code, i.where) for i in prediction.issues][1:] == [("not_json", "windows[1].answer")]
    assert prediction.annotation.chains
    assert raw.failure is None


def test_where_no_window_says_anything_readable_the_answer_does_not_look_empty(room):
    _, prediction = answer(Reader(room, mangled=tuple(range(99))), long())
    codes = [issue.code for issue in prediction.issues]
    assert "not_json" in codes
    assert "empty_answer" not in codes


def test_a_text_that_cannot_be_cut_small_enough_fails_by_name():
    made = system(Reader(1_000_000))
    least = made.builder.needed(replace(made.builder.show(Document("d", "en", "a")), is_worked=False))
    raw, _ = answer(Reader(least + 10), long())
    assert "too small" in raw.failure.message
    assert "its text cannot be cut any smaller" in raw.failure.message
    assert raw.frames == ()


def test_windows_bear_what_is_given(room):
    gold = list(re.finditer("Ada|Bela", long().text))
    mentions = tuple(Chain(f"m{i}", (Mention(*m.span(), "PER"),)) for i, m in enumerate(gold))
    document = long(given=Given(chains=mentions, kind="mentions"))
    raw, prediction = answer(Reader(room), document)
    assert raw.given == "mentions"
    assert {m.span for m in prediction.annotation.mentions} == {m.span() for m in gold}


# --- the claim, over windows ------------------------------------------------------------------------------------------


def adversarial(lang: str, stills: tuple[Frame, ...], *, words: int = 4000) -> Document:
    """A document of so many words, with something nasty after every fiftieth."""
    rnd = random.Random(lang)
    pieces = []
    for i in range(words):
        pieces.append(rnd.choice(EN.split() if lang == "en" else re.findall(r"..", ZH)))
        if i % 50 == 49:
            pieces.append(rnd.choice(NASTY))
    return Document(lang, lang, (" " if lang == "en" else "").join(pieces), frames=stills)


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("strategy", ["joint", "staged", "mqa"])
def test_a_text_of_four_thousand_words_is_answered_rightly(tiny, stills, tmp_path: Path, strategy, lang):
    bounds = {"max_chains": 3, "max_mentions": 2, "max_relations": 2, "max_regions": 1, "max_mention_characters": 20}
    config = Config(
        model=tiny("qwen2_5_vl"),
        strategy=strategy,
        context=12_000,
        max_tokens=500,
        device="cpu",
        dtype="float32",
        temperature=0.0 if strategy == "mqa" else 1.0,
        longest_side=64,
        **bounds,
    )
    document = adversarial(lang, stills)
    (raw,) = VideoLLM(config, labels=LABELS).predict([document])
    assert raw.failure is None
    assert "windows" in {issue.code for issue in raw.issues}
    prediction = normalize(document, raw, LABELS)
    finished = [turn for turn in raw.turns if turn.finish == "stop"]
    assert len(finished) > len(raw.turns) / 2
    occurrences = Occurrences(document)
    for mention in prediction.annotation.mentions:
        assert mention.span in occurrences.of(document.text[mention.start : mention.end])
    assert all(region.box.is_legal and region.frame in raw.frames for region in prediction.annotation.regions)
    odd = {issue.code for issue in prediction.issues} & {"not_json", "text_not_found", "unaligned", "fuzzy", "folded"}
    assert not odd


def test_the_first_questions_are_those_that_were_counted(stills, monkeypatch):
    made, runs = system(Reader(1_000_000)), []
    monkeypatch.setattr(type(made.builder.strategy), "run", _counted(type(made.builder.strategy).run, runs))
    list(made.predict([long(stills[:2]), long(lines=3)]))
    assert len(runs) == len(set(map(id, runs))) == 2


def _counted(run, runs):
    def counted(strategy, context):
        runs.append(context)
        return run(strategy, context)

    return counted


def test_frames_that_were_read_ahead_are_shown_as_others(stills):
    document, engine = Document("d", "en", "Ada .", frames=stills), Reader(10_000)
    builder = system(engine).builder
    (plain,) = builder.of(document)
    builder.read_ahead(document)
    (ahead,) = builder.of(document)
    pictures = [[part.image.tobytes() for part in v.context.view if isinstance(part, Still)] for v in (plain, ahead)]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == len(stills)


def test_a_frame_that_cannot_be_read_fails_its_document_alone(stills, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = Document("broken", "en", "Ada .", frames=(replace(stills[0], path=str(tmp_path / "broken.png")),))
    documents = [Document("d0", "en", "Ada .", frames=stills), broken, Document("d1", "en", "Bela .", frames=stills)]
    raws = list(system(Reader(10_000)).predict(documents))
    assert [raw.error is None for raw in raws] == [True, False, True]
