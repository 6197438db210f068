"""The system `gliner`: the real library, over tiny random models of both of its architectures."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'gliner'")
pytest.importorskip("gliner2", reason="needs the extra 'gliner'")

import torch
from safetensors.torch import load_file, save_file

from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet
from m3dllm.normalize import normalize
from m3dllm.registry import find_system
from m3dllm.systems.gliner import Config
from m3dllm.systems.gliner.system import Found, Gliner, Pair, answer_of, read, split
from m3dllm.types import Document, Mention, RawOutput
from tests.small import LABELS
from tests.videollm.documents import EN, ZH
from tests.videollm.tiny import tokenizer

KINDS = ("span", "boundary")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of a tiny model of that architecture."""
    from gliner2 import AutoExtractor, ExtractorConfig
    from transformers import DebertaV2Config

    made = {}

    def get(kind: str) -> Path:
        if kind not in made:
            names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
            tokens = tokenizer(list(names.values()), "", eos="[SEP]", pad=names.pop("pad_token"), **names)
            sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
            placed = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
            encoder = DebertaV2Config(vocab_size=len(tokens) + 50, **placed, **sizes)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                config = ExtractorConfig(model_name="tiny", architecture=kind)
                model = AutoExtractor.from_config(config, encoder_config=encoder, tokenizer=tokens)
            made[kind] = tmp_path_factory.mktemp("models") / kind
            model.save_pretrained(str(made[kind]))
        return made[kind]

    return get


def system(model: Path | str, labels: LabelSet = LABELS, **options) -> Gliner:
    given = {"threshold": 0.5, "relation_threshold": 0.5, "device": "cpu", "window": 32, "overlap": 4} | options
    return Gliner(Config(model=str(model), **given), labels=labels)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_document_is_answered_in_order(models, kind):
    texts = [("en", EN), ("zh", ZH), ("en", ""), ("zh", " "), ("en", EN)]
    documents = [Document(f"d{i}", lang, text) for i, (lang, text) in enumerate(texts)]
    raws = list(system(models(kind), batch=2).predict(documents))
    assert [raw.document for raw in raws] == [document.id for document in documents]
    predictions = [normalize(d, raw, LABELS) for d, raw in zip(documents, raws, strict=True)]
    assert [any(p.annotation.mentions) for p in predictions] == [True, True, False, False, True]
    assert any(p.annotation.relations for p in predictions)
    codes = {issue.code for prediction in predictions for issue in prediction.issues}
    assert codes <= {"empty_document", "dangling"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_documents_give_the_same_answers_in_any_company(models, kind):
    documents = [Document(str(i), lang, text) for i, (lang, text) in enumerate((("en", EN), ("zh", ZH)))]
    together = [raw.payload for raw in system(models(kind), batch=3).predict(documents)]
    alone = [raw.payload for raw in system(models(kind), batch=1).predict(documents)]
    assert [spans(payload) for payload in together] == [spans(payload) for payload in alone]


def spans(payload) -> list[tuple[int, int, str]]:
    return [(m["start"], m["end"], m["type"]) for chain in payload["chains"] for m in chain["mentions"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_read_to_its_end(models, kind):
    text = f"{EN} {ZH} " * 2
    (raw,) = system(models(kind)).predict([Document("d", "en", text)])
    found = spans(raw.payload)
    assert max(end for _, end, _ in found) > len(text) - 60
    ordered = sorted(found)
    assert all(before[1] <= after[0] for before, after in pairwise(ordered))


def test_words_are_our_tokens_in_both_languages():
    assert [word for word, _, _ in split("Ada met 苏珊 in 1976.")] == ["ada", "met", "苏", "珊", "in", "1976", "."]
    assert [(start, end) for _, start, end in split("Ada 苏珊", lower=False)] == [(0, 3), (4, 5), (5, 6)]


def test_the_prompt_has_names_and_glosses_in_the_documents_language(models):
    labels = LabelSet((Label("PER", "person", "人物"),))
    told = [system(models("span"), labels)._schema(lang).build() for lang in ("en", "zh")]
    assert [schema["entity_descriptions"] for schema in told] == [{"PER": "person"}, {"PER": "人物"}]


# --- what it says, as an answer ---------------------------------------------------------------------------------------

TEXT = "Ada was born in Arles . Ada met Bela ."


def mention(text: str, kind: str, confidence: float, *, at: int = 0) -> Mention:
    start = [i for i in range(len(TEXT)) if TEXT.startswith(text, i)][at]
    return Mention(start, start + len(text), kind, confidence)


def pair(head: str, tail: str, confidence: float, kind: str = "PER-LOC_birth") -> Pair:
    label = LABELS.relation(kind)
    assert label is not None
    return Pair(label, mention(head, "", 1).span, mention(tail, "", 1).span, confidence)


FOUND = Found(
    mentions=[
        mention("Ada", "PER", 0.9),
        mention("Ada", "PER", 0.8, at=1),
        mention("Arles", "PER", 0.5),
        mention("Arles", "LOC", 0.6),
        mention("in Arles", "LOC", 0.4),
    ],
    pairs=[
        pair("Ada was", "Arles", 0.55),
        pair("Ada", "in Arles", 0.7),
        pair("Arles", "Ada", 0.6),
        pair("Bela", "Arles", 0.6),
    ],
)


def answered(rule: str = "same_text"):
    return answer_of(Document("d", "en", TEXT), FOUND, rule)


def test_of_mentions_that_overlap_the_surest_stays_and_equal_texts_are_one_chain():
    payload, _ = answered()
    assert [(chain["type"], len(chain["mentions"])) for chain in payload["chains"]] == [("PER", 2), ("LOC", 1)]
    assert [chain["mentions"][0]["confidence"] for chain in payload["chains"]] == [0.9, 0.6]
    assert len(answered("singletons")[0]["chains"]) == 3


def test_a_relation_joins_the_chains_whose_mentions_its_spans_overlap_once():
    payload, _ = answered()
    assert payload["relations"] == [{"head": "c0", "tail": "c1", "type": "PER-LOC_birth", "confidence": 0.7}]


def test_a_relation_between_what_is_no_mention_of_a_type_that_fits_is_an_issue():
    _, issues = answered()
    assert [(issue.code, issue.where) for issue in issues] == [("dangling", "PER-LOC_birth")] * 2
    assert "'Bela' and 'Arles'" in issues[1].detail


def test_the_answer_is_in_order():
    document = Document("d", "en", TEXT)
    payload, issues = answered()
    prediction = normalize(document, RawOutput("d", payload=payload, issues=issues), LABELS)
    assert [issue.code for issue in prediction.issues] == ["dangling", "dangling"]
    assert [relation.confidence for relation in prediction.annotation.relations] == [0.7]


@pytest.mark.parametrize("key", ["PER-LOC_birth", "PER-LOC_birth: born in"])
def test_a_window_is_read_into_the_document_without_the_mark_at_its_end(key):
    said = {
        "entities": {"PER": [{"start": 0, "end": 5, "confidence": 0.9}, {"start": 4, "end": 5, "confidence": 0.9}]},
        "relation_extraction": {
            key: [{side: {"start": 0, "end": 3, "confidence": c} for side, c in (("head", 0.7), ("tail", 0.6))}]
        },
    }
    found = Found()
    read(said, "Ada", 24, LABELS, found)
    assert [m.span for m in found.mentions] == [(24, 27)]
    assert [(p.label.name, p.head, p.confidence) for p in found.pairs] == [("PER-LOC_birth", (24, 27), 0.6)]


# --- what the user can mend -------------------------------------------------------------------------------------------


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_a_folder_that_is_no_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"is not a GLiNER2 model: it has no config\.json"):
        system(tmp_path)


def test_a_model_that_is_nowhere_is_one_line():
    with pytest.raises(UserError, match="--model nobody/nothing: expected a GLiNER2 model's folder or hub id"):
        system("nobody/nothing")


@pytest.mark.parametrize("name", ["config.json", "encoder_config/config.json"])
def test_code_of_the_models_own_is_refused(models, tmp_path, name):
    file = copied(models("span"), tmp_path / "model") / name
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoModel": "code.Model"}}))
    with pytest.raises(UserError, match="refers to code of its own"):
        system(tmp_path / "model")


def test_weights_that_lack_a_part_are_one_line(models, tmp_path):
    file = copied(models("span"), tmp_path / "model") / "model.safetensors"
    weights = load_file(file)
    weights.pop(next(name for name in weights if name.startswith("span_rep")))
    save_file(weights, file)
    with pytest.raises(UserError, match="cannot be loaded as a GLiNER2 model") as caught:
        system(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_document_on_which_the_model_fails_says_so_and_the_others_go_on(models):
    documents = [Document("longer than its 512 places", "en", EN * 12), Document("short", "en", EN)]
    for batch in (1, 2):
        raws = list(system(models("span"), batch=batch, window=384, overlap=64).predict(documents))
        assert "lower --window" in raws[0].failure.message
        assert raws[1].failure is None


def test_windows_that_would_never_end_are_refused():
    with pytest.raises(UserError, match="--overlap 20: expected less than --window 20"):
        Config(window=20, overlap=20)


def test_its_row_says_what_it_does_not_do():
    spec = find_system("gliner")
    assert (spec.tasks, spec.modalities) == ({"entity", "chain", "relation"}, {"text"})
