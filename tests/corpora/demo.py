"""What tests of the demo corpus share: the corpus on disk, and its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3dllm.corpora.demo import demo_corpus
from m3dllm.corpora.native import Corpus
from m3dllm.types import Example, Mention

LANGS = ("en", "zh")
SPLITS = ("train", "dev", "test")


def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo corpus, in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M3DLLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        return demo_corpus()


def examples(corpus: Corpus, lang: str, *splits: str) -> list[Example]:
    return [e for split in splits or SPLITS for e in corpus[split] if e.document.lang == lang]


def words(example: Example, mention: Mention) -> str:
    return example.document.text[mention.start : mention.end]


def parts(corpus: Corpus) -> list[tuple[str, str, list[Example]]]:
    """The parts on which a bound has to hold: the test split and the whole, in each language."""
    return [
        (lang, name, examples(corpus, lang, *s)) for lang in LANGS for name, s in (("test", ("test",)), ("all", ()))
    ]
