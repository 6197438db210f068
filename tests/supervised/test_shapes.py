from __future__ import annotations

import torch

from m3dllm.systems.supervised.shapes import WordShapes, shape_codes

ROW = torch.tensor([[[1, 1, 0], [2, 2, 2], [10, 2, 1]]])
"""Case, repetition and place of three words."""


def test_a_word_tells_its_case_and_whether_it_begins_a_sentence_or_comes_again():
    words = ["Ada", "met", "Bob", ".", "He", "met", "USA", "3"]
    assert shape_codes(words) == [(10, 0), (1, 1), (2, 0), (5, 0), (10, 0), (1, 1), (3, 0), (4, 0)]


def test_chinese_characters_repeat_as_names_do():
    assert shape_codes(list("苏珊。苏珊")) == [(14, 1), (6, 3), (5, 0), (14, 1), (6, 3)]


def test_no_words_have_no_shapes():
    assert shape_codes([]) == []


def test_shapes_say_nothing_before_training_and_learn_all_the_same():
    shapes = WordShapes(6)
    said = shapes(ROW, torch.ones(1, 3, dtype=torch.bool))
    assert said.shape == (1, 3, 6)
    assert not said.any()
    said.sum().backward()
    assert shapes.near.weight.grad.any()


def test_padding_tells_a_word_nothing():
    shapes = WordShapes(6)
    torch.nn.init.normal_(shapes.near.weight)
    mask = torch.tensor([[True, True, False]])
    together = shapes(ROW, mask)[:, :2]
    alone = shapes(ROW[:, :2], mask[:, :2])
    torch.testing.assert_close(together, alone)
