"""A codec for a test, and answers written piece by piece in the grammar of their query."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from m3dllm.systems.generative.codec import Codec, Slots, TinyCodec, load_codec
from m3dllm.systems.generative.grammar import Walk
from m3dllm.systems.generative.queries import Query, encode
from m3dllm.types import Example
from tests.generative.t5 import HAN, LATIN, write_t5_tokenizer
from tests.supervised.documents import LABELS

CODECS = ("tiny", "pretrained")


def codec_of(kind: str, examples: Iterable[Example], folder: Path, words: Sequence[str] = ()) -> Codec:
    if kind == "tiny":
        return TinyCodec.of([("g", example.document.text) for example in examples], LABELS, 2, words)
    return load_codec(str(write_t5_tokenizer(folder, LATIN + HAN)))


def walk(query: Query, codec: Codec) -> tuple[Walk, Slots]:
    slots = Slots()
    codec.encode(query.source, slots)
    return query.walk(codec, slots), slots


def write_any(query: Query, codec: Codec, rng: random.Random) -> str:
    """An answer of pieces drawn from those that are allowed, which comes to its end."""
    one, slots = walk(query, codec)
    pieces: list[int] = []
    while not one.over and len(pieces) < 2000:
        pieces.append(rng.choice(one.allowed()))
        one.take(pieces[-1])
    assert one.over
    return codec.decode(pieces, slots)


def write_gold(query: Query, codec: Codec) -> None:
    """Every piece of the gold answer is allowed where it comes, and then the end."""
    one, _ = walk(query, codec)
    for piece in encode(query, codec).target:
        assert piece in one.allowed(), query.target
        one.take(piece)
    assert one.over
