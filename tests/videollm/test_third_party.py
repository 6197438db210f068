"""A strategy, or an engine, of another package: one file and one entry point."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import engine_names, find_engine
from m3dllm.systems.videollm.strategies import find_strategy, strategy_names
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.tuning.conversations import items_of
from tests.small import LABELS, example
from tests.videollm.documents import document

PLUGIN = Path(__file__).resolve().parents[1] / "plugin/name-list"
TRAIN = example("shot", "[PER0 Ada] met [PER1 Bela] . [PER0 Ada] left .", group="other")


ENGINE = """
from m3dllm.systems.videollm.engines.base import Count, Engine, Reply
from m3dllm.systems.videollm.families import FAMILIES

class Silent(Engine):
    name = "silent"
    supports = frozenset({"schema", "images"})
    family = FAMILIES["generic"]
    context = 100_000
    provenance = {"model": "silent"}

    def __init__(self, options, budget=None):
        self.waiting = []

    def count(self, messages):
        return Count(1, exact=False)

    def submit(self, key, request):
        self.waiting.append(key)

    def poll(self):
        ready, self.waiting = self.waiting, []
        return [(key, Reply(text='{"chains":[],"relations":[],"regions":[]}')) for key in ready]
"""


def install(folder: Path, monkeypatch, name: str, points: dict[str, dict[str, str]], *places: Path) -> None:
    """A distribution with these entry points in `folder`, as an installation leaves it; `places` are importable."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = [f"[{group}]\n" + "".join(f"{n} = {w}\n" for n, w in rows.items()) for group, rows in points.items()]
    (info / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.setattr(sys, "path", [str(folder), *map(str, places), *sys.path])


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The plugin of the tests is installed."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    install(tmp_path, monkeypatch, "m3dllm_name_list", project["entry-points"], PLUGIN)
    yield
    find_strategy.cache_clear()


def system(**options) -> VideoLLM:
    config = Config(strategy="names", device="cpu", max_tokens=64, frames=0, **options)
    return VideoLLM(config, labels=LABELS, examples=[TRAIN])


def test_it_is_known_only_where_it_is_installed(installed):
    assert {"joint", "mqa", "names", "staged"} <= {*strategy_names()}


def test_without_it_its_name_is_refused():
    with pytest.raises(UserError, match="--strategy names: expected focalmre, framewise, gem, joint, "):
        Config(strategy="names")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_embedded_model_answers_its_question_within_its_grammar(installed, lang):
    made = document("d", lang)
    (raw,) = (asked := system()).predict([made])
    assert raw.failure is None
    assert [turn.stage for turn in raw.turns] == ["names"]
    prediction = normalize(made, raw, LABELS)
    assert "text_not_found" not in {issue.code for issue in prediction.issues}
    assert f"names/names.{lang}.v1.jinja" in asked.provenance["prompts"]
    assert "mentions" in next(iter(asked.take_prompts().values()))


def test_a_document_without_text_is_not_prompted_about(installed):
    (raw,) = system().predict([document("d", "en", "")])
    assert (raw.turns, raw.payload) == ((), {"chains": [], "relations": [], "regions": []})


def test_its_gold_answer_is_the_example_in_a_prompt_and_what_is_tuned_to(installed):
    asked = system(shots=1)
    (item,) = items_of(asked.builder.of(document("d", text="Cora left .")), example("d", "[PER0 Cora] left .").gold)
    assert item.answer == '{"mentions":["Cora"]}'
    assert item.request.messages[-2].parts[-1] == '{"mentions":["Ada","Bela"]}'


def test_an_engine_of_another_package_is_one_class(tmp_path, monkeypatch):
    (tmp_path / "silent_engine.py").write_text(ENGINE)
    install(tmp_path, monkeypatch, "silent", {"m3dllm.engines": {"silent": "silent_engine:Silent"}})
    assert engine_names() == ["openai", "silent", "transformers", "video-chatgpt", "video-llama-2", "vllm"]
    asked = VideoLLM(Config(engine="silent", model="any"), labels=LABELS)
    raws = list(asked.predict([document("a"), document("b", "zh"), document("c", text="")]))
    assert [raw.failure for raw in raws] == [None] * 3
    assert (asked.provenance["model"], asked.provenance["constraint"]) == ("silent", "schema")
    find_engine.cache_clear()
