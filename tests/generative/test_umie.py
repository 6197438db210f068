"""UMIE as a system: learned by heart, resumed, kept, and what it does where something is missing."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from m3dllm.errors import UserError
from m3dllm.experiment import resolve_config
from m3dllm.normalize import normalize
from m3dllm.registry import built_in
from m3dllm.systems.generative.checkpoint import describe
from m3dllm.systems.generative.learner import GenerativeLearner
from m3dllm.systems.supervised.checkpoint import MODEL
from m3dllm.systems.umie import Config
from m3dllm.systems.umie.model import Umie, UmieModel
from m3dllm.training import TRAINING, Training, f1_scores, weighted_sum
from m3dllm.types import TASKS, Annotation, Chain, Document, Given
from tests.generative.documents import four_with_candidates
from tests.generative.t5 import write_t5
from tests.supervised.documents import LABELS

SMALL = {"hidden": 16, "layers": 1, "decoder_layers": 1, "image_size": 32, "attention_heads": 2, "max_pieces": 40}
HEART = {"hidden": 48, "layers": 2, "decoder_layers": 2, "attention_heads": 4, "image_size": 64, "dropout": 0.0}
HEART |= {"lr": 4e-3, "warmup": 0.1, "epochs": 180, "batch_size": 4, "max_pieces": 120}


@pytest.fixture
def documents(tmp_path):
    return four_with_candidates(tmp_path)


def answers(system, examples, **changed):
    return list(system.predict([replace(example.document, **changed) for example in examples]))


def fitted(folder, examples, boxes, **options):
    system = Umie(Config(boxes=(boxes,), **{"fewest": 1, "epochs": 1, **SMALL, **options}), labels=LABELS)
    system.fit(examples, (), folder)
    return system


@pytest.fixture(scope="module")
def by_heart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heart")
    examples, boxes = four_with_candidates(folder)
    return examples, fitted(folder / "out", examples, boxes, **HEART)


@pytest.mark.parametrize("constrain", [True, False])
def test_four_documents_are_learned_by_heart_in_every_task(by_heart, constrain):
    examples, system = by_heart
    system._fitted[1].config = replace(system.config, constrain=constrain)
    found = f1_scores(examples, answers(system, examples), LABELS)
    assert {task: found[task] for task in TASKS} == dict.fromkeys(TASKS, 1.0)


def test_with_gold_mentions_it_answers_chains_and_with_gold_chains_relations(by_heart):
    examples, system = by_heart
    for example in examples:
        if not example.document.text:
            continue
        chains = example.gold.chains
        alone = tuple(
            replace(chain, id=f"{chain.id}-{i}", mentions=(mention,))
            for chain in chains
            for i, mention in enumerate(chain.mentions)
        )
        for given, kind in ((alone, "mentions"), (chains, "chains")):
            (raw,) = system.predict([replace(example.document, given=Given(given, kind=kind))])
            found = normalize(example.document, raw, LABELS).annotation
            assert {frozenset(chain.mentions) for chain in found.chains} == {frozenset(c.mentions) for c in chains}
            assert [turn.stage for turn in raw.turns] == ["chain" if kind == "mentions" else "relation"]
            assert len(found.relations) == (len(example.gold.relations) if kind == "chains" else 0)


def test_the_gates_of_its_answers_are_kept_by_task(by_heart):
    examples, system = by_heart
    answers(system, examples)
    assert set(system.tally["gate"]) == {"entity", "chain", "relation", "grounding"}
    assert all(-1 <= value <= 1.65 for values in system.tally["gate"].values() for value in values)


def idle(model, examples):
    """The names of parameters without a gradient after one step on `examples`."""
    learner = GenerativeLearner(model.train(), LABELS, "")
    items = learner.items(examples)
    weighted_sum(learner.losses(items), {}, learner.counts(items)).backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def new_model(examples, boxes, **options):
    system = Umie(Config(boxes=(boxes,), **{"fewest": 1, "dropout": 0.0, **SMALL, **options}), labels=LABELS)
    card = describe(system.config, LABELS, examples, "", UmieModel.words(system.config, LABELS))
    torch.manual_seed(0)
    text = card.new_text()
    model = UmieModel(system.config, LABELS, text, card.new_vision(text.width))
    model.boxes = system._boxes
    return model


@pytest.mark.parametrize("gate", ["code", "paper"])
def test_every_parameter_has_a_gradient(documents, gate):
    examples, boxes = documents
    assert idle(new_model(examples, boxes, gate=gate), examples[:1]) == []
    assert idle(new_model(examples, boxes, gate=gate), examples[2:3]) == []  # without text
    found = idle(new_model(examples, boxes, gate=gate), examples[3:])  # without frames, from a row of zeros
    blind = ("vision.", "visual.features.weight", "visual.boxes.weight")
    alone = ("attention.query", "attention.key", "look.norm.", "layers.0.attention.", "layers.1.attention.")
    assert [name for name in found if not name.startswith(blind) and not any(part in name for part in alone)] == []


def test_a_batch_gives_each_document_what_it_gets_alone(documents):
    examples, boxes = documents
    model = new_model(examples, boxes).eval()
    together = model.answer([example.document for example in examples])
    alone = [model.answer([example.document])[0] for example in examples]
    assert [answer.payload for answer in together] == [answer.payload for answer in alone]


def test_an_empty_document_gets_no_prompt(by_heart):
    _, system = by_heart
    (raw,) = system.predict([Document("empty", "zh", "")])
    assert raw.payload == {"chains": [], "relations": [], "regions": []}
    assert raw.turns == ()


def test_without_candidates_it_grounds_nothing_and_says_so(documents, tmp_path):
    examples, _ = documents
    system = Umie(Config(**SMALL, epochs=1), labels=LABELS)
    system.fit(examples, (), tmp_path / "out")
    assert system.unsupported == {"grounding"}
    assert all(raw.payload["regions"] == [] for raw in answers(system, examples))


def test_a_task_without_gold_in_train_is_not_prompted_for(documents, tmp_path):
    examples, boxes = documents
    alone = [
        replace(
            one,
            gold=Annotation(tuple(Chain(f"m{i}", (m,)) for i, m in enumerate(sorted(one.gold.mentions)))),
            unannotated=frozenset(("chain", "relation", "grounding")),
        )
        for one in examples
    ]
    system = fitted(tmp_path / "out", alone, boxes)
    assert system.unsupported == {"chain", "relation", "grounding"}
    given = Given(alone[0].gold.chains, kind="mentions")
    for raw in (*answers(system, examples), *answers(system, examples[:1], given=given)):
        assert all(len(chain["mentions"]) == 1 for chain in raw.payload["chains"])
        assert raw.payload["relations"] == []
        assert {turn.stage for turn in raw.turns} <= {"entity", "grounding"}
    assert len(answers(system, examples[:1], given=given)[0].payload["chains"]) == len(given.chains)


def test_documents_without_any_candidate_are_reported(documents, tmp_path, caplog):
    examples, boxes = documents
    system = fitted(tmp_path / "out", examples, boxes)
    assert caplog.messages == []
    list(system.predict([replace(examples[0].document, id="other"), examples[1].document]))
    (said,) = caplog.messages
    assert "holds no answer about 1 of 2 documents with frames that it is asked about, such as 'other'" in said


def test_a_fit_without_any_candidate_is_one_line(documents, tmp_path):
    examples, boxes = documents
    others = [replace(one, document=replace(one.document, id=f"other-{one.document.id}")) for one in examples]
    with pytest.raises(UserError, match=r"predictions\.jsonl: holds none of the train documents with frames"):
        fitted(tmp_path / "out", others, boxes)


def test_more_candidates_than_have_names_are_refused():
    with pytest.raises(UserError, match=r"--most-boxes 37: expected 1 to 36"):
        Config(most_boxes=37)


def test_without_a_vision_encoder_it_reads_the_text_alone(documents, tmp_path):
    examples, boxes = documents
    system = fitted(tmp_path / "out", examples, boxes, vision_encoder="none")
    assert system.unsupported == {"grounding"}
    assert not [name for name in system._fitted[1].state_dict() if name.startswith(("gate", "visual", "vision"))]
    assert [raw.failure for raw in answers(system, examples)] == [None] * 4


def test_a_language_that_it_was_not_fitted_on_is_one_line(documents, tmp_path):
    examples, boxes = documents
    system = fitted(tmp_path / "out", examples[:1], boxes)
    (raw,) = system.predict([examples[1].document])
    assert raw.failure.message == "the document is in 'zh', and the model was fitted on en"


# --- fits and checkpoints ---------------------------------------------------------------------------------------------


def test_a_fit_that_was_cut_off_ends_at_the_same_numbers(documents, tmp_path, monkeypatch):
    examples, boxes = documents
    fitted(tmp_path / "whole", examples, boxes, epochs=2)
    done, real = [], Training.epoch

    def cut_off(*args):
        if done:
            raise KeyboardInterrupt
        done.append(args)
        return real(*args)

    monkeypatch.setattr(Training, "epoch", cut_off)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", examples, boxes, epochs=2)
    assert (tmp_path / "cut" / TRAINING).exists()
    monkeypatch.setattr(Training, "epoch", real)
    fitted(tmp_path / "cut", examples, boxes, epochs=2)
    assert (tmp_path / "cut" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    monkeypatch.setattr(Training, "epoch", None)
    fitted(tmp_path / "cut", examples, boxes, epochs=2)  # finished: not done again


def test_a_checkpoint_answers_as_the_fit_that_wrote_it(documents, tmp_path):
    examples, boxes = documents
    system = fitted(tmp_path / "out", examples, boxes)
    again = Umie(system.config, labels=LABELS, checkpoint=tmp_path / "out")
    assert [raw.payload for raw in answers(again, examples)] == [raw.payload for raw in answers(system, examples)]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [MODEL]


def test_other_options_than_those_of_the_fit_are_one_line(documents, tmp_path):
    examples, boxes = documents
    system = fitted(tmp_path / "out", examples, boxes)
    with pytest.raises(UserError, match="was fitted with --gate code: give the options or the preset of its fit"):
        Umie(replace(system.config, gate="paper"), labels=LABELS, checkpoint=tmp_path / "out")


def test_a_pickle_is_never_read(documents, tmp_path):
    (tmp_path / MODEL).write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(UserError, match="is a pickle, which is never loaded"):
        Umie(Config(), labels=LABELS, checkpoint=tmp_path)


@pytest.mark.parametrize("multilingual", [False, True])
def test_a_published_t5_or_mt5_is_fitted_and_kept(documents, tmp_path, multilingual):
    examples, boxes = documents
    own = examples[1:2] if multilingual else examples[:1]
    name = str(write_t5(tmp_path / "t5", multilingual=multilingual))
    system = fitted(tmp_path / "out", own, boxes, text_model=(name,), checkpointing=True)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [MODEL, "text_model"]
    again = Umie(system.config, labels=LABELS, checkpoint=tmp_path / "out")
    assert [raw.payload for raw in answers(again, own)] == [raw.payload for raw in answers(system, own)]


def test_a_t5_that_does_not_know_the_language_is_one_line(documents, tmp_path):
    examples, boxes = documents
    name = str(write_t5(tmp_path / "t5"))
    with pytest.raises(UserError, match=r"does not know 'zh': \d+% of the pieces are unknown"):
        fitted(tmp_path / "out", examples[1:2], boxes, text_model=(name,))


def test_one_model_for_two_languages_has_one_t5(documents, tmp_path):
    examples, boxes = documents
    with pytest.raises(UserError, match="choose a language by --lang"):
        fitted(tmp_path / "out", examples, boxes, text_model=("en=google/flan-t5-base", "zh=google/mt5-base"))
    with pytest.raises(UserError, match="has none for 'zh': add zh=ID"):
        fitted(tmp_path / "out", examples, boxes, text_model=("en=google/flan-t5-base",))


def test_candidates_that_are_not_there_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"expected for --boxes a run, its predictions\.jsonl, or a split of a corpus"):
        Umie(Config(boxes=(str(tmp_path),)), labels=LABELS)


def test_the_preset_of_the_paper_has_its_models_and_training():
    paper = resolve_config(built_in()["umie"], {}, preset="paper", seed=0)
    assert paper.text_model == ("en=google/flan-t5-base", "zh=google/mt5-base")
    assert (paper.epochs, paper.lr, paper.pretrained_lr, paper.warmup, paper.clip) == (40, 1e-4, 1e-4, 0.06, 5.0)
