"""The worked example, used without few-shot examples: a short text of another domain, with its own types.

No corpus is about this heron, so that mentions which an answer copied from here can be recognized.
"""

from __future__ import annotations

from collections.abc import Mapping

from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.types import Annotation, Chain, Document, Example, Lang, Mention, Relation

LABELS = LabelSet(
    mentions=(Label("BIRD", "bird", "鸟"), Label("FISH", "fish", "鱼")),
    relations=(RelationLabel("BIRD-FISH_eats", "eats", "吃", ("BIRD",), ("FISH",)),),
)


def _example(lang: Lang, text: str, bird: tuple[str, ...], fish: tuple[str, ...]) -> Example:
    """The example; each mention's text occurs once in `text`."""
    chains = tuple(
        Chain(name, tuple(Mention(text.index(words), text.index(words) + len(words), kind) for words in mentions))
        for name, kind, mentions in (("c0", "BIRD", bird), ("c1", "FISH", fish))
    )
    return Example(
        Document(f"worked-{lang}", lang, text), Annotation(chains, (Relation("c0", "c1", "BIRD-FISH_eats"),))
    )


WORKED: Mapping[Lang, Example] = {
    "en": _example(
        "en",
        "An old grey heron stood in the reeds . It saw a young pike , and the hungry wader swallowed the stray fish .",
        ("An old grey heron", "the hungry wader"),
        ("a young pike", "the stray fish"),
    ),
    "zh": _example(
        "zh",
        "一只老苍鹭站在芦苇丛里。它看见一条小狗鱼，这只饥饿的水鸟便把那条迷路的鱼整个吞了下去。",
        ("一只老苍鹭", "这只饥饿的水鸟"),
        ("一条小狗鱼", "那条迷路的鱼"),
    ),
}
