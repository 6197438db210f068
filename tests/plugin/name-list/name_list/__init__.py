"""The strategy `names`: one question for the texts of mentions, without types; each text is a chain."""

import json
from pathlib import Path

from m3dllm.systems.videollm.engines.base import Constraint
from m3dllm.systems.videollm.grammar import spans_grammar
from m3dllm.systems.videollm.reading import strings
from m3dllm.systems.videollm.schema import spans_schema
from m3dllm.systems.videollm.strategies.base import Stage, Strategy

MOST = 12
"""The maximum number of texts in an answer."""


def constraint(context, about):
    return Constraint(
        grammar=spans_grammar(context.document, context.bounds, MOST), schema=spans_schema(context.bounds, MOST)
    )


def target(gold, about):
    text = gold.context.document.text
    texts = dict.fromkeys(text[m.start : m.end] for m in sorted(gold.annotation.mentions))
    return json.dumps({"mentions": list(texts)[:MOST]}, ensure_ascii=False, separators=(",", ":"))


def parse(context, reply, about):
    return list(dict.fromkeys(strings(context.read(reply, "mentions", "mentions").get("mentions"))))


NAMES = Stage(
    template="names/names", constraint=constraint, target=target, parse=parse, tasks=frozenset(("entity", "chain"))
)


class Names(Strategy):
    name = "names"
    stages = (NAMES,)
    templates = Path(__file__).parent / "prompts"

    def run(self, context):
        texts = (yield from NAMES.put(context)) if context.has_text else []
        kind = context.labels.mentions[0].name
        chains = [{"id": f"c{i}", "type": kind, "mentions": [text]} for i, text in enumerate(texts)]
        return {"chains": chains, "relations": [], "regions": []}
