"""The tokenizer: a BPE over words, with few tokens for the JSON of answers, designed for copying.

A text and its copy in an answer must have the same tokens. So a space belongs to the word before it, and only the last
token of a mention differs: `isha` and `isha␣` are twins. An English name is always the same two tokens, its two
syllables. One token each: every Chinese character, name of a chain (`c7`), coordinate used in training, and frame
number of the demo's clips.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from m3dllm.labels import LabelSet

_NAMES = ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")
SPECIALS = tuple(f"<|{name}|>" for name in _NAMES)
CHAT = """\
{%- for message in messages -%}
{%- set text -%}
{%- if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor %}{% endif -%}
{%- endset -%}
{%- if message.role == 'assistant' -%}<|im_start|>{{ text }}<|im_end|>
{%- elif text -%}{{ text }}<|im_end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>{%- endif -%}
"""
STEP = 20
"""Coordinates are trained in steps of this many thousandths of a frame."""
CHAINS = 24
"""The number of chain names that are single tokens."""
LAST_FRAME = 2400
FPS = 24
_CJK = r"[\u3400-\u9fff]"


def scaffolding(labels: LabelSet) -> list[str]:
    """The stretches of JSON that are one token each, the longest first."""
    found = [
        '{"chains":[', '{"id":"', '","', '"]},{"id":"', '"]}],"relations":[', '],"relations":[', '{"head":"',
        '","tail":"', ',{"head":"', '],"regions":[', '{"frame":', ',{"frame":', "]}", '"]}',
    ]  # fmt: skip
    found += [f'","type":"{label.name}","mentions":["' for label in labels.mentions]
    found += [f'","type":"{label.name}"}}' for label in labels.relations]
    found += [f',"type":"{label.name}","box":[' for label in labels.regions]
    return sorted(found, key=lambda text: (-len(text), text))


def numbers() -> list[str]:
    """The numbers that are one token each: coordinates with the comma that follows them or without, frames."""
    coordinates = [str(n) for n in range(0, 1001, STEP)]
    frames = [str(n) for n in range(0, LAST_FRAME + 1, FPS)]
    pairs = [f"{n:02}{space}" for n in range(100) for space in ("", " ")]
    return list(dict.fromkeys([*coordinates, *(f"{n}," for n in coordinates), *frames, *pairs]))


Syllables = tuple[Sequence[str], Sequence[str]]
"""What names begin with, and what they end with."""


def weights(tokenizer: Any, labels: LabelSet) -> Tensor:
    """The loss weight of each token: relations are hard, and edges of boxes need not be exact.

    Names of chains have the weight of relations: those that begin a chain are easy, and have almost no loss.
    """
    known = tokenizer.get_vocab()
    found = torch.ones(len(tokenizer))
    of_relations = [*(f"c{i}" for i in range(CHAINS)), *(f'","type":"{label.name}"}}' for label in labels.relations)]
    found[[known[token] for token in of_relations]] = 3.0
    found[[known[f"{n}{comma}"] for n in range(0, 1001, STEP) for comma in ("", ",")]] = 0.5
    return found


def pretoken_pattern(labels: LabelSet, syllables: Sequence[Syllables]) -> str:
    """A regular expression for pretokens, which no token crosses, except for white space after a word."""
    pieces = [re.escape(text) for text in scaffolding(labels)]
    pieces += [rf"(?:{'|'.join(first)})(?=(?:{'|'.join(last)})(?!\p{{L}}))" for first, last in syllables]
    pieces += [r"c\d{1,2}(?=\")", r"\d{1,4},(?=\d)", r"\d+(?=$|,\"type|\])", r"\d{2}(?=\d{2} ?)", r"\d{1,2} ?"]
    pieces += [_CJK, r"[A-Z](?=[A-Z])", r"\p{L}+ ?", r"\n+", r". ?"]
    return "|".join(pieces)


def make_tokenizer(
    texts: Iterable[str], labels: LabelSet, *, merges: int, characters: Sequence[str], syllables: Sequence[Syllables]
) -> Any:
    """A fast tokenizer of the transformers library.

    `characters`: the Chinese characters that are tokens; `syllables`: those of names, whose words the merges are
    not trained on.
    """
    parts = sorted({syllable for pair in syllables for part in pair for syllable in part})
    name = re.compile("|".join(f"(?:{'|'.join(first)})(?:{'|'.join(last)})" for first, last in syllables))
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def split() -> Any:
        cut = pre_tokenizers.Split(Regex(pretoken_pattern(labels, syllables)), behavior="isolated")
        return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def as_bytes(text: str) -> str:
        return "".join(piece for piece, _ in level.pre_tokenize_str(text))

    def plain(text: str) -> str:
        kept = (word for word in re.findall(r"[^\W\d_]+", re.sub(_CJK, " ", text)) if not name.fullmatch(word))
        return " ".join(word for word in kept if not word.isupper())

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}+|."), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words.train_from_iterator(
        (plain(text) for text in texts),
        trainers.BpeTrainer(
            vocab_size=len(alphabet) + merges, initial_alphabet=alphabet, show_progress=False, min_frequency=2
        ),
    )
    learned = json.loads(words.to_str())["model"]
    pairs = [tuple(pair) for pair in learned["merges"]]
    vocabulary = {token: i for i, token in enumerate(SPECIALS)}
    base = [*sorted(learned["vocab"], key=learned["vocab"].__getitem__), *parts]
    space = as_bytes(" ")
    twins = [token for token in base if re.fullmatch(r"[A-Za-z0-9.,()\"'-]+", token)]
    whole = [*scaffolding(labels), *(f"c{i}" for i in range(CHAINS)), *numbers(), *characters]
    for token in [*base, *(token + space for token in twins), *map(as_bytes, whole)]:
        vocabulary.setdefault(token, len(vocabulary))
    merged = [*pairs, *((token, space) for token in twins)]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merged, ignore_merges=True))
    made.pre_tokenizer = split()
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIALS),
        chat_template=CHAT,
        model_max_length=4096,
    )
