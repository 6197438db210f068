"""H-Index: its indices, what may be written of them, and its pointers against plain twins."""

from __future__ import annotations

import random

import pytest
import torch

from m3dllm.errors import UserError
from m3dllm.systems.generative.boxes import candidates, read_boxes
from m3dllm.systems.generative.checkpoint import describe
from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.grammar import Walk
from m3dllm.systems.generative.grounding import mention_query, region_query
from m3dllm.systems.generative.places import windows
from m3dllm.systems.generative.seq2seq import load_seq2seq, text_loss
from m3dllm.systems.hindex import Config, indices, pointers
from m3dllm.systems.hindex.indices import END, HIDDEN, SHOWN, START, Indices, Malformed, Record
from m3dllm.systems.hindex.model import HIndexModel
from m3dllm.tokens import tokenize
from tests.generative.bart import write_bart
from tests.generative.documents import four_short
from tests.supervised.documents import LABELS

INDICES = Indices(LABELS)
WORD = INDICES.first_word
PER, LOC = INDICES.type("PER"), INDICES.type("LOC")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    examples, boxes = four_short(tmp_path_factory.mktemp("four"))
    return examples, (boxes,)


def queries_of(example, boxes, most=3, longest=6):
    document, frames = example.document, range(len(example.document.frames))
    seen = frames, candidates(document, read_boxes(boxes), most)
    found = [
        mention_query(indices, document, words, LABELS, longest, *seen, example.gold)
        for words in windows(tokenize(document), document.text, 12)
    ]
    return [*found, region_query(indices, document, LABELS, most, *seen, example.gold)] if frames else found


# --- indices ----------------------------------------------------------------------------------------------------------


def test_a_mention_is_its_words_a_flag_and_a_type(documents):
    query = queries_of(documents[0][3], documents[1])[0]
    assert query.source == "Gauss grew up in Brunswick ."
    assert " ".join(query.target) == "[0] <<no region>> PER [4] <<no region>> LOC"


def test_what_has_no_name_has_no_words(documents):
    query = queries_of(documents[0][1], documents[1])[-1]
    assert " ".join(query.target) == "<<which region>> PER <<which region>> LOC"
    assert len(query.overlaps) == 2


def test_a_mention_inside_of_a_word_is_that_word(documents):
    document = documents[0][3].document
    said = [indices.GroundedItem((1, 3), "PER", None)]
    assert INDICES.write(said, tokenize(document)) == ("[0]", "<<no region>>", "PER")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([WORD, WORD + 1, SHOWN, PER, END], [Record((0, 1), True, "PER", 0)]),
        ([WORD, HIDDEN, PER, SHOWN, LOC], [Record((0,), False, "PER", 0), Record((), True, "LOC", 1)]),
        ([WORD, PER, WORD, SHOWN, LOC, END], [Malformed("[0] PER"), Record((0,), True, "LOC", 0)]),
        ([SHOWN, SHOWN, LOC, END], [Malformed("<<which region>>"), Record((), True, "LOC", 1)]),
        ([SHOWN, WORD, END], [Malformed("<<which region>>"), Malformed("[0]")]),
        ([WORD + 3], [Malformed("[3]")]),
        ([END, WORD], []),
        ([], []),
    ],
)
def test_indices_are_read_whole_or_not_at_all(written, expected):
    assert list(INDICES.read(written)) == expected


# --- what may be written ----------------------------------------------------------------------------------------------


def walk_of(query) -> Walk:
    return query.walk(None, Slots())


def test_every_gold_answer_may_be_written(documents):
    examples, boxes = documents
    for example in examples:
        for query in queries_of(example, boxes):
            walk = walk_of(query)
            for index in (*map(INDICES.index, query.target), END):
                assert index in walk.allowed(), query.target
                walk.take(index)
            assert walk.allowed() == [END]


def test_whatever_may_be_written_ends_and_is_runs_of_words_in_order(documents):
    rng = random.Random(0)
    examples, boxes = documents
    for example in examples:
        for query in queries_of(example, boxes, longest=3) * 8:
            walk, written = walk_of(query), []
            while not walk.over:
                written.append(rng.choice(walk.allowed()))
                walk.take(written[-1])
            read = list(INDICES.read(written))
            assert all(isinstance(record, Record) for record in read)
            runs = [(r.words[0], r.words[-1] + 1) for r in read if r.words]
            assert runs == sorted(set(runs))
            assert all(r.words == tuple(range(*run)) and len(r.words) <= 3 for r, run in zip(read, runs, strict=False))
            assert bool(runs) == (query.task == "entity" and bool(read))
            if not query.frames:
                assert not any(record.shown for record in read)


def test_of_one_type_no_more_regions_may_be_written_than_a_frame_has_boxes(documents):
    walk = walk_of(queries_of(documents[0][2], documents[1], most=1)[-1])
    for index in (SHOWN, LOC, SHOWN):
        walk.take(index)
    assert LOC not in walk.allowed()


# --- pointers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(documents):
    examples, boxes = documents
    config = Config(boxes=boxes, hidden=16, layers=1, decoder_layers=1, image_size=32, fewest=1)
    card = describe(config, LABELS, examples, "", HIndexModel.words(config, LABELS))
    torch.manual_seed(0)
    text = card.new_text()
    made = HIndexModel(config, LABELS, text, card.new_vision(text.width)).eval()
    made.boxes = read_boxes(boxes)
    return made


@pytest.fixture(scope="module")
def at_work(model, documents):
    """(the queries of two documents side by side, what was fused of them)."""
    examples = documents[0][:2]
    asked = [
        (i, model.encode(query)) for i, example in enumerate(examples) for query in model.training_queries(example)
    ]
    batch = model.batch(asked)
    with torch.no_grad():
        return batch, model.fuse(batch, model.look([example.document for example in examples]))


def product(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def linear(layer, x):
    return [product(row, x) + bias for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)]


def pointed_twin(model, state, embedded):
    """(MLP(H) + E) / 2, number by number."""
    first, _, _, second = model.pointers.mlp
    mapped = linear(second, [max(0.0, x) for x in linear(first, state)])
    return [(a + b) / 2 for a, b in zip(mapped, embedded, strict=True)]


def test_scores_are_products_with_the_end_the_names_and_the_words(model, at_work):
    batch, fused = at_work
    embed = model.text.model.get_input_embeddings().weight.tolist()
    with torch.no_grad():
        scores, states = model.decode(batch, fused, batch.labels)
    for i, one in enumerate(batch.items):
        pointed = {END: embed[model.text.codec.end]}
        pointed |= {2 + n: row for n, row in enumerate(model.pointers.names.weight.tolist())}
        for n, place in enumerate(one.first):
            state = fused.states[i, place].tolist()
            pointed[WORD + n] = pointed_twin(model, state, embed[one.source[place]])
        for t in range(len(one.target)):
            for index, vector in pointed.items():
                assert float(scores[i, t, index]) == pytest.approx(product(states[i, t].tolist(), vector), abs=1e-4)
        assert set((scores[i, 0] == -torch.inf).nonzero().flatten().tolist()) == (
            {START, *range(WORD + len(one.first), scores.shape[2])}
        )


def test_rows_are_pointed_to_as_words_are(model, at_work):
    batch, fused = at_work
    n = batch.pieces.shape[1]
    with torch.no_grad():
        embedded = model.rows(fused.seen.rows.features)
    for i in range(len(batch)):
        for row in range(embedded.shape[1]):
            found = pointed_twin(model, fused.states[i, n + row].tolist(), embedded[i, row].tolist())
            assert fused.seen.vectors[i, row].tolist() == pytest.approx(found, abs=1e-4)


def test_the_state_that_reads_a_flag_chooses(model, at_work):
    batch, fused = at_work
    with torch.no_grad():
        _, states = model.decode(batch, fused, batch.labels)
    query, chosen = model.choosing(states, batch.labels)
    expected = [
        (i, states[i, t + 1]) for i, one in enumerate(batch.items) for t, x in enumerate(one.target) if x in (2, 3)
    ]
    assert query.tolist() == [i for i, _ in expected]
    assert torch.equal(chosen, torch.stack([state for _, state in expected]))


def test_without_rows_the_encoder_is_the_published_one(model, at_work):
    batch, _ = at_work
    bart = model.text.model
    none = torch.zeros(len(batch), 0, model.text.width)
    with torch.no_grad():
        states, _ = pointers.encode(bart, batch.pieces, batch.mask, none, batch.mask[:, :0])
        expected = bart.get_encoder()(input_ids=batch.pieces, attention_mask=batch.mask.long()).last_hidden_state
    assert torch.allclose(states[batch.mask], expected[batch.mask], atol=1e-5)


def test_rows_have_no_places(model, at_work):
    batch, _ = at_work
    rows, mask = torch.randn(len(batch), 3, model.text.width), torch.ones(len(batch), 3, dtype=torch.bool)
    order, n = [2, 0, 1], batch.pieces.shape[1]
    with torch.no_grad():
        states, _ = pointers.encode(model.text.model, batch.pieces, batch.mask, rows, mask)
        turned, _ = pointers.encode(model.text.model, batch.pieces, batch.mask, rows[:, order], mask)
    assert torch.allclose(states[:, n:][:, order], turned[:, n:], atol=1e-5)


@pytest.mark.parametrize("constrain", [True, False])
def test_what_is_written_is_the_best_behind_what_was_written(model, at_work, constrain):
    batch, fused = at_work
    walks = [walk_of(one.query) for one in batch.items] if constrain else None
    with torch.no_grad():
        written = model.write(batch, fused, walks)
        labels = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in written], True, -100)
        scores, _ = model.decode(batch, fused, labels)
    for i, one in enumerate(batch.items):
        walk = walk_of(one.query)
        for t, index in enumerate(written[i]):
            left = walk.allowed() if constrain else range(scores.shape[2])
            assert float(scores[i, t, index]) == pytest.approx(max(float(scores[i, t, x]) for x in left), abs=1e-4)
            if constrain:
                walk.take(index)


def test_flags_and_types_begin_as_the_mean_of_their_names(model):
    codec, embed = model.text.codec, model.text.model.get_input_embeddings()
    made = pointers.Pointers(model.text, INDICES, 0.0)
    which, region = (embed(torch.tensor(codec.encode(word, Slots())))[0] for word in ("which", "region"))
    assert torch.allclose(made.names.weight[0], (which + region) / 2)


def test_smoothing_gives_nothing_to_what_there_is_not():
    scores = torch.tensor([[[0.0, 1.0, -torch.inf]]])
    real = torch.nn.functional.cross_entropy(scores[0, :, :2], torch.tensor([1]), label_smoothing=0.3)
    assert float(text_loss(scores, torch.tensor([[1]]), 0.3)) == pytest.approx(float(real))


# --- published models -------------------------------------------------------------------------------------------------


def test_each_word_is_pointed_to_at_its_first_piece(documents, tmp_path):
    config = Config(text_model=(str(write_bart(tmp_path)),), vision_encoder="none")
    text = load_seq2seq(config.text_model[0], config)
    made = HIndexModel(config, LABELS, text, None)
    one = made.encode(queries_of(documents[0][3], ())[0])
    tokenizer = text.codec.tokenizer
    assert (one.source[0], one.source[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(one.source[1:-1]) == " Gauss grew up in Brunswick ."
    assert tokenizer.convert_ids_to_tokens([one.source[place] for place in one.first]) == ["Ġ"] * 6


def test_a_window_longer_than_the_model_is_one_line(documents, tmp_path):
    config = Config(text_model=(str(write_bart(tmp_path, positions=16)),), vision_encoder="none")
    made = HIndexModel(config, LABELS, load_seq2seq(config.text_model[0], config), None)
    with pytest.raises(UserError, match=r"window 48: .* 31 pieces, and text_model has 16 places: give a smaller"):
        made.encode(queries_of(documents[0][3], ())[0])


class Endless(Walk):
    """The first word, again and again."""

    def allowed(self):
        return [WORD]

    def take(self, piece):
        pass


def test_an_answer_is_no_longer_than_the_model_has_places(documents, tmp_path):
    config = Config(text_model=(str(write_bart(tmp_path, positions=40)),), vision_encoder="none", max_pieces=99)
    made = HIndexModel(config, LABELS, load_seq2seq(config.text_model[0], config), None).eval()
    batch = made.batch([(0, made.encode(queries_of(documents[0][3], ())[0]))])
    with torch.no_grad():
        assert made.write(batch, made.fuse(batch, torch.zeros(1, 0, 1, 16)), [Endless()]) == [[WORD] * 39]


def test_a_weight_that_the_files_lack_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    write_bart(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if name.endswith("decoder.layers.0.fc1.weight"))
    save_file({name: value for name, value in weights.items() if name != lost}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lack 1 weights: model\.decoder\.layers\.0\.fc1\.weight"):
        load_seq2seq(str(tmp_path), Config(text_model=(str(tmp_path),)))


def test_another_kind_of_model_is_refused(tmp_path):
    from tests.generative.t5 import write_t5

    with pytest.raises(UserError, match="is a 't5': expected bart"):
        load_seq2seq(str(write_t5(tmp_path)), Config(text_model=(str(tmp_path),)))


def test_a_run_of_words_with_a_gap_is_no_mention(model, documents):
    from m3dllm.systems.generative.grounded import GroundedDraft
    from m3dllm.systems.generative.model import Reply
    from m3dllm.types import Turn

    example = documents[0][3]
    query, draft = queries_of(example, ())[0], GroundedDraft(example.document, LABELS)
    pieces = (WORD, WORD + 2, HIDDEN, PER, HIDDEN, PER, WORD + 4, SHOWN, LOC, END)
    model.read(draft, Reply(query, "", Turn("entity"), pieces), tokenize(example.document))
    answer = draft.answer()
    assert [issue.code for issue in answer.issues] == ["bad_shape", "bad_shape"]
    assert [chain["mentions"][0]["start"] for chain in answer.payload["chains"]] == [17]
