"""The auxiliary losses against plain twins; what every supervised system does with them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from m3dllm.errors import UserError
from m3dllm.rng import rand, seeded
from m3dllm.systems.dffm import Config
from m3dllm.systems.dffm.model import DFFM
from m3dllm.systems.supervised import auxiliary
from m3dllm.systems.supervised.auxiliary import ALL
from m3dllm.systems.supervised.auxiliary.attn_mixup import MOST
from m3dllm.systems.supervised.auxiliary.base import Contrast
from m3dllm.systems.supervised.auxiliary.shap_ca import ORDERS, TEMPERATURE, ShapCA, shapley
from m3dllm.systems.supervised.backbone import States
from m3dllm.systems.supervised.checkpoint import MODEL, read_checkpoint
from m3dllm.systems.supervised.config import ACROSS, AuxLoss
from m3dllm.systems.supervised.data import gold_of
from m3dllm.systems.supervised.features import Features
from m3dllm.systems.supervised.learner import SupervisedLearner, describe
from m3dllm.systems.supervised.losses import ClassWeights, GoldBatch, balanced
from m3dllm.training import weighted_sum
from tests.supervised.documents import LABELS, four
from tests.supervised.models import fit, new_model
from tests.supervised.test_fusion import linear
from tests.supervised.test_streams import layer_of
from tests.supervised.test_systems import SMALL, SUPERVISED, idle, model_of

HIDDEN = 6
PAPER_HEADS = {"slots": 1, "lexical": False, "pair_size": 0, "decision": "argmax", "aligned": False}
CPU = torch.device("cpu")


def random(module):
    torch.manual_seed(0)
    for p in module.parameters():
        p.data.normal_(std=0.4)
    return module.eval()


def states(*, words=4, frames=3):
    """Three documents: a whole one, one whose text is shorter, one without frames."""
    text, patches = torch.randn(3, words, HIDDEN), torch.randn(3, frames, HIDDEN)
    word_mask = torch.tensor([[True] * words, [True, True, False, False], [True] * words])
    frame_mask = torch.tensor([[True] * frames, [True] * frames, [False] * frames])
    encoded = Features(text, {}, word_mask), Features(patches, {}, frame_mask)
    fused = torch.randn(3, words, HIDDEN)
    return States(fused, word_mask, patches[:, :, None], patches, frame_mask, encoded=encoded)


def loss_of(name, of):
    module = random(ALL[name](HIDDEN, ()))
    return module, module(of, None, ()).item()


def softmax(x):
    weights = [math.exp(v) for v in x]
    return [w / sum(weights) for w in weights]


def cosine(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def matches(module, of, *, through=lambda x: x):
    """The cosines of the texts and frames of the two documents that have both: texts by row."""
    words, patches = of.encoded
    texts = [through(linear(module.of_text, words.last[d, words.mask[d]].mean(0).tolist())) for d in (0, 1)]
    frames = [through(linear(module.of_frames, patches.last[d].mean(0).tolist())) for d in (0, 1)]
    return [[cosine(text, frame) for frame in frames] for text in texts]


# --- twins ------------------------------------------------------------------------------------------------------------


def test_the_prior_is_the_divergence_of_what_frames_say_from_what_the_fused_text_says():
    of = states()
    module, found = loss_of("kl-prior", of)
    costs = []
    for d in (0, 1):
        text = softmax(of.words[d, of.word_mask[d]].mean(0).tolist())
        frames = softmax(linear(module.project, of.encoded[1].last[d].mean(0).tolist()))
        costs.append(sum(p * math.log(p / q) for p, q in zip(text, frames, strict=True)))
    assert found == pytest.approx(sum(costs) / 2, rel=1e-4)


def test_the_prior_moves_the_frames_and_not_the_text():
    of = states()
    of.words.requires_grad_()
    of.encoded[1].last.requires_grad_()
    random(ALL["kl-prior"](HIDDEN, ()))(of, None, ()).backward()
    assert of.words.grad is None
    assert of.encoded[1].last.grad[:2].abs().sum() > 0


def test_camim_is_the_share_of_the_own_frames():
    of = states()
    module, found = loss_of("camim", of)
    table = matches(module, of, through=lambda x: [math.tanh(v) for v in x])
    costs = [-math.log(softmax(row)[i]) for i, row in enumerate(table)]
    assert found == pytest.approx(sum(costs) / 2, rel=1e-4)


def test_cag_contrasts_the_more_sharply_the_more_the_two_agree():
    of = states()
    module, found = loss_of("cag", of)
    logits = [[s / (0.07 * (1 - 0.5 * (1 + s) / 2)) for s in row] for row in matches(module, of)]
    both = [*logits, *map(list, zip(*logits, strict=True))]
    costs = [-math.log(softmax(row)[i % 2]) for i, row in enumerate(both)]
    assert found == pytest.approx(sum(costs) / 4, rel=1e-3)


def worth(players, game):
    """What some players are worth: the mean of their matches, weighed by their softmax."""
    weights = softmax([game[p] / TEMPERATURE for p in players])
    return sum(w * game[p] for w, p in zip(weights, players, strict=True))


def test_shapley_values_over_all_orders_are_those_of_all_coalitions():
    torch.manual_seed(0)
    match = torch.rand(4, 3)
    found = shapley(match, torch.tensor(list(itertools.permutations(range(4)))))
    for g, p in itertools.product(range(3), range(4)):
        game, value = match[:, g].tolist(), 0.0
        rest = [q for q in range(4) if q != p]
        for size in range(4):
            share = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
            for others in itertools.combinations(rest, size):
                value += share * (worth((*others, p), game) - worth(others, game))
        assert found[p, g].item() == pytest.approx(value, abs=1e-5)


def test_shap_ca_is_what_the_own_frames_and_the_own_text_add():
    of = states()
    module = random(ShapCA(HIDDEN, ()))
    with seeded(5):
        found = module(of, None, ()).item()
    with seeded(5):
        orders = rand((2, ORDERS, 2), CPU).argsort(-1).tolist()
    table = matches(module, of)
    apart = []
    for players, of_side in zip((list(zip(*table, strict=True)), table), orders, strict=True):
        for game in range(2):  # players by row
            values, matched = [0.0, 0.0], [players[p][game] for p in range(2)]
            for first, second in of_side:
                values[first] += worth((first,), matched) / ORDERS
                values[second] += (worth((first, second), matched) - worth((first,), matched)) / ORDERS
            apart.append(values[game] - values[1 - game])
    assert found == pytest.approx(-sum(apart) / 4, abs=1e-5)


@pytest.mark.parametrize("name", ["camim", "cag", "shap-ca"])
def test_a_document_that_stands_alone_costs_nothing(name):
    of = states()
    words, patches = of.encoded
    index = torch.tensor([0, 2])
    alone = States(
        of.words[index], of.word_mask[index], of.patches[index], of.frames[index], of.frame_mask[index],
        encoded=(words.rows(index), patches.rows(index)),
    )  # fmt: skip
    assert loss_of(name, alone)[1] == 0


# --- AttnMixup --------------------------------------------------------------------------------------------------------


def batch_of(model, examples):
    inputs = [model.inputs(example.document) for example in examples]
    golds = [gold_of(one, e.gold, model.labels, e.unannotated) for one, e in zip(inputs, examples, strict=True)]
    return model.encode(model.batch(inputs)), GoldBatch.of(golds, ClassWeights(), CPU)


def test_half_of_the_pairs_that_are_taken_are_related():
    pairs, related = torch.ones(2, 10, 10, dtype=torch.bool), torch.zeros(2, 10, 10, dtype=torch.bool)
    related[0, :3] = True
    for most, positive in ((20, 10), (80, 30), (1000, 30)):
        found = balanced(pairs, related, most)
        assert len(found) == min(most, 200)
        assert related[found.unbind(1)].sum() == positive
        assert len(set(map(tuple, found.tolist()))) == len(found)
    assert balanced(pairs & False, related, 8).shape == (0, 3)


@pytest.mark.parametrize("options", [{}, PAPER_HEADS], ids=["tiny", "paper heads"])
def test_a_pair_as_a_vector_has_the_scores_that_it_has_among_all(tmp_path, options):
    examples = four(tmp_path)
    model = model_of("dffm", examples, **SMALL | options).eval()
    found, gold = batch_of(model, examples)
    mentions = gold.mentions
    for words, vectors, head in (
        (found.words, found.mention_vectors(mentions), model.chain),
        (model.relation.words(found), found.chain_vectors(mentions), model.relation),
    ):
        together = head.scorer(words, vectors, mentions)
        at = torch.ones(together.shape[:3]).nonzero()
        alone = head.scorer.classify(head.scorer.pair_vectors(words, vectors, mentions, at))
        torch.testing.assert_close(alone.view_as(together), together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, PAPER_HEADS], ids=["tiny", "paper heads"])
def test_attn_mixup_is_its_plain_twin(tmp_path, options):
    examples = four(tmp_path)
    model = random(model_of("dffm", examples, **SMALL | options | {"aux_loss": ("attn-mixup",)}))
    found, gold = batch_of(model, examples)
    module, expected = model.auxiliary["attn-mixup"], 0.0
    with seeded(3):
        cost = module(found, gold, tuple(model.heads)).item()
    with seeded(3):
        for head in (model.chain, model.relation):
            samples = head.samples(found, gold, MOST)
            n = len(samples.vectors)
            kept = round(0.7 * n)
            order, share = rand((2 * kept,), CPU).argsort().tolist(), rand((1,), CPU).item()
            rows = samples.vectors.tolist()
            both = [*rows, *layer_of(module.layers[head.task], rows)]

            def costs(vector, pair, head=head, samples=samples):
                return head.sample_losses(torch.tensor([vector]), samples, torch.tensor([pair])).item()

            expected += sum(costs(row, i % n) for i, row in enumerate(both)) / (2 * n)
            chosen = [*range(kept), *range(2 * n - kept, 2 * n)]
            for i, other in zip(chosen, (chosen[k] for k in order), strict=True):
                mixed = [share * a + (1 - share) * b for a, b in zip(both[i], both[other], strict=True)]
                target = share * costs(mixed, i % n) + (1 - share) * costs(mixed, other % n)
                expected += target / (2 * kept)
    assert cost == pytest.approx(expected, rel=1e-3)


def test_pairs_of_chains_that_nobody_annotated_are_not_mixed(tmp_path):
    examples = four(tmp_path)
    model = model_of("text-only", examples, **SMALL).eval()
    found, gold = batch_of(model, examples)
    gold = replace(gold, documents=[replace(one, unannotated=frozenset(("chain",))) for one in gold.documents])
    assert model.chain.samples(found, gold, MOST) is None
    assert model.relation.samples(found, gold, MOST) is not None


# --- in every system --------------------------------------------------------------------------------------------------


def test_each_loss_is_a_file_and_a_word():
    files = {path.stem.replace("_", "-") for path in Path(auxiliary.__file__).parent.glob("*.py")}
    assert files - {"base", "--init--"} == set(ALL) == set(get_args(AuxLoss))
    assert {name for name, kind in ALL.items() if issubclass(kind, Contrast)} == set(ACROSS)


@pytest.mark.parametrize("name", [name for name in SUPERVISED if name not in ("text-only", "vision-only")])
def test_every_system_trains_all_of_them(name, tmp_path):
    examples = four(tmp_path)
    model = model_of(name, examples, **SMALL | {"aux_loss": tuple(ALL)})
    assert set(model.auxiliary) == set(ALL)
    assert idle(model, examples) == []


def test_their_weights_and_the_option_weigh_them(tmp_path):
    examples = four(tmp_path)
    model = model_of("dffm", examples, **SMALL | {"aux_loss": ("kl-prior", "camim"), "weight_auxiliary": 3.0}).eval()
    found, gold = batch_of(model, examples)
    terms = model.losses(found, gold.documents)
    for name, weight in (("kl-prior", 0.5), ("camim", 0.1)):
        cost = model.auxiliary[name](found, gold, tuple(model.heads))
        torch.testing.assert_close(terms[name], weight * cost)
        torch.testing.assert_close(weighted_sum({name: terms[name]}, model.config.loss_weights, {}), 3 * weight * cost)


def test_a_checkpoint_does_not_hold_them_and_answers_without_them(tmp_path):
    examples = four(tmp_path)
    small = {"hidden": 16, "latent_size": 8, "image_size": 32, "layers": 3, "pair_size": 8}
    fit(Config(**small, epochs=1, aux_loss=("attn-mixup", "cag")), LABELS, examples, (), tmp_path / "out")
    assert not [name for name in read_checkpoint(tmp_path / "out" / MODEL)[1] if name.startswith("auxiliary")]
    loaded = DFFM(Config(**small), labels=LABELS, checkpoint=tmp_path / "out")
    assert [raw.failure for raw in loaded.predict([example.document for example in examples])] == [None] * 4


def test_what_compares_documents_sees_a_whole_step(tmp_path):
    examples = four(tmp_path)
    for aux_loss, parts in (((), 2), (("kl-prior", "attn-mixup"), 2), (("cag",), 0)):
        model = new_model(Config(**SMALL, latent_size=8, batch_size=4, aux_loss=aux_loss), LABELS, examples)
        assert SupervisedLearner(model, LABELS, CPU, "").schedule.micro_batch == parts


@pytest.mark.parametrize("name", ["camim", "cag", "shap-ca"])
def test_what_compares_documents_needs_more_than_one(name):
    with pytest.raises(UserError, match=f"--aux-loss {name}: compares the documents of a step, and --batch-size is 1"):
        Config(aux_loss=(name,), batch_size=1)


def test_without_frames_those_that_read_them_are_skipped_and_named(tmp_path, caplog):
    examples = four(tmp_path)
    model = model_of("text-only", examples, **SMALL | {"aux_loss": ("cag", "attn-mixup")})
    SupervisedLearner(model, LABELS, CPU, "")
    assert set(model.auxiliary) == {"attn-mixup"}
    assert "--aux-loss cag: skipped" in caplog.text


def test_a_system_that_does_not_say_what_it_fuses_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugin/mean-frames"))
    import mean_frames
    from mean_frames.model import MeanFrames

    examples = four(tmp_path)
    system = MeanFrames(mean_frames.Config(**SMALL, aux_loss=("kl-prior",)), labels=LABELS)
    model = system.new_model(describe(system.config, LABELS, examples))
    found, gold = batch_of(model, examples)
    with pytest.raises(UserError, match="--aux-loss kl-prior: this system does not expose the output of its encoders"):
        model.losses(found, gold.documents)
