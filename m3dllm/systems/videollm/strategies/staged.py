"""`staged`: entities, then their chains, then relations, then regions, each constrained by the previous answers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.groups import Group, group_of, listed, marked, place
from m3dllm.systems.videollm.likelihood import REGION, RELATION, Likelihood, with_confidences
from m3dllm.systems.videollm.reading import rows, strings
from m3dllm.systems.videollm.strategies.base import About, Conversation, Question, Stage, Strategy
from m3dllm.systems.videollm.visible import Named
from m3dllm.types import Given, Issue, Mention

# --- entities ---------------------------------------------------------------------------------------------------------


def _entities_constraint(context: PromptContext, about: About) -> Constraint:
    document, labels, bounds = context.document, context.labels, context.bounds
    if context.prompts.lists_objects:
        return Constraint(
            grammar=grammar.mentions_grammar(document, labels, bounds), schema=schema.mentions_schema(labels, bounds)
        )
    return Constraint(
        grammar=grammar.entities_grammar(document, labels, bounds), schema=schema.entities_schema(labels, bounds)
    )


def _entities_values(context: PromptContext, about: About) -> Mapping[str, Any]:
    form = json.dumps({label.name: ["…"] for label in context.labels.mentions}, ensure_ascii=False)
    return {"form": form.replace(" ", "")}


def _entities_target(gold: Gold, about: About) -> str:
    """The texts of the mentions with their types, in document order; in version 1 for each type its texts."""
    text, bounds = gold.context.document.text, gold.context.bounds
    texts = dict.fromkeys((m.type, text[m.start : m.end]) for m in sorted(gold.annotation.mentions))
    types = [label.name for label in gold.context.labels.mentions]
    if gold.context.prompts.lists_objects:
        mentions = [{"text": text, "type": kind} for kind, text in texts]
        return _json({"mentions": mentions[: bounds.mentions * len(types)]})
    return _json({kind: [text for k, text in texts if k == kind][: bounds.mentions] for kind in types})


def _entities_parse(context: PromptContext, reply: Reply, about: About) -> tuple[list[Mention], list[Group]]:
    """(the mentions, in order; texts that do not occur)."""
    types = [label.name for label in context.labels.mentions]
    found = Likelihood.of(reply)
    if not context.prompts.lists_objects:
        answer = context.read(reply, "turns[0]", *types)
        named = [(found, kind, at) for kind, at in found.root.named.items()] if found else []
        return place(context, answer, {(kind, text): p for of, kind, at in named for text, p in of.texts(at)})
    answer = context.read(reply, "turns[0]", "mentions", *types)
    listed = rows(answer.get("mentions"))
    probabilities = found.rows("mentions", MENTION) if found else []
    by_type: dict[str, list[str]] = {kind: strings(answer.get(kind)) for kind in types if kind != "mentions"}
    sure: dict[tuple[str, str], float] = {}
    for i, row in enumerate(listed):
        kind = row.get("type") if isinstance(row, dict) else None
        text = next(iter(strings([row])), None)
        if text is not None and kind in types:
            by_type.setdefault(kind, []).append(text)
            if len(probabilities) == len(listed):
                sure.setdefault((kind, text), probabilities[i])
        else:
            detail = f"expected a text with one of the types {', '.join(types)}, not {_json(row)[:60]}"
            code = "bad_shape" if text is None else "unknown_type"
            context.issues.append(Issue(code, f"mentions[{i}]", detail))
    return place(context, by_type, sure)


MENTION = ("text", "type")
"""The keys whose values count for the confidence of a mention."""

ENTITIES = Stage(
    template="staged/entities",
    constraint=_entities_constraint,
    values=_entities_values,
    target=_entities_target,
    parse=_entities_parse,
    tasks=frozenset(("entity",)),
)
"""The texts of the mentions, with their types."""


# --- chains -----------------------------------------------------------------------------------------------------------


def _named_mentions(mentions: About) -> list[Named]:
    return [Named(f"m{i}", mention.type) for i, mention in enumerate(mentions)]


def _by_type(mentions: About) -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = {}
    for i, mention in enumerate(mentions):
        by_type.setdefault(mention.type, []).append(f"m{i}")
    return by_type


def _chains_constraint(context: PromptContext, mentions: About) -> Constraint:
    named, objects = _named_mentions(mentions), context.prompts.lists_objects
    return Constraint(
        grammar=grammar.chains_grammar(named, context.bounds, objects=objects),
        schema=schema.chains_schema(named, context.bounds, objects=objects),
    )


def _chains_values(context: PromptContext, mentions: About) -> Mapping[str, Any]:
    groups = [{"type": kind, "names": names} for kind, names in _by_type(mentions).items()]
    return {"marked": marked(context, mentions), "groups": groups}


def _chains_target(gold: Gold, mentions: About) -> str:
    """The lists of names of mentions with the same chain and type, if several."""
    owner = {mention.span: chain.id for chain in gold.annotation.chains for mention in chain.mentions}
    lists: dict[tuple[str, str], list[str]] = defaultdict(list)
    for i, mention in enumerate(mentions):
        if mention.span in owner:
            lists[owner[mention.span], mention.type].append(f"m{i}")
    several = [names for names in lists.values() if len(names) > 1][: gold.context.bounds.chains]
    objects = gold.context.prompts.lists_objects
    return _json({"chains": [{"mentions": names} for names in several] if objects else several})


def _chains_listed(gold: Gold) -> tuple[About, str]:
    mentions = sorted(gold.annotation.mentions)
    return mentions, marked(gold.context, mentions)


def _chains_parse(context: PromptContext, reply: Reply, mentions: About) -> list[Group]:
    """Chains of `mentions`; one that is in no list of the answer is its own chain."""
    numbers = {f"m{i}": i for i in range(len(mentions))}
    owner: dict[int, int] = {}
    sure = Likelihood.of(reply)
    places = sure.root.named.get("chains") if sure else None
    each = [at.named.get("mentions", at) for at in places.listed] if places else []
    links = {name: p for at in each for name, p in sure.texts(at)} if sure else {}
    lists: list[list[int]] = []
    listed = context.read(reply, "chains", "chains").get("chains")
    for j, chain in enumerate(listed if isinstance(listed, list) else []):
        members: list[int] = []
        for name in strings(chain.get("mentions") if isinstance(chain, dict) else chain):
            if name not in numbers:
                context.issues.append(
                    Issue("dangling", f"chains[{j}]", f"refers to mention {name[:40]!r}, which does not exist")
                )
            elif numbers[name] in owner:
                context.issues.append(Issue("duplicate_mention", f"chains[{j}]", f"{name} is already in a chain"))
            else:
                owner[numbers[name]] = j
                members.append(numbers[name])
        if members:
            lists.append(members)
    return _groups([replace(m, link=links.get(f"m{i}")) for i, m in enumerate(mentions)], lists)


def _groups(mentions: About, lists: Sequence[Sequence[int]]) -> list[Group]:
    """The lists of mentions, and each mention that is in none, as chains in document order."""
    alone = set(range(len(mentions))).difference(*lists)
    ordered = sorted(sorted(members) for members in [*lists, *([i] for i in sorted(alone))])
    return [
        Group(f"c{i}", mentions[members[0]].type, [mentions[m] for m in members]) for i, members in enumerate(ordered)
    ]


CHAINS = Stage(
    template="staged/chains",
    constraint=_chains_constraint,
    values=_chains_values,
    target=_chains_target,
    listed=_chains_listed,
    parse=_chains_parse,
    tasks=frozenset(("chain",)),
)
"""Lists of the names of mentions."""


# --- relations --------------------------------------------------------------------------------------------------------


def _relations_constraint(context: PromptContext, groups: About) -> Constraint:
    named = [group.named for group in groups]
    return Constraint(
        grammar=grammar.relations_grammar(named, context.labels, context.bounds),
        schema=schema.relations_schema(named, context.labels, context.bounds),
    )


def listed_values(context: PromptContext, groups: About) -> Mapping[str, Any]:
    return {"chains": listed(context, groups)}


def _relations_target(gold: Gold, groups: About) -> str:
    """The relations among the groups, of types allowed between them."""
    best = gold.groups(groups)
    labels = {label.name: label for label in gold.context.labels.relations}
    found = []
    for relation in gold.annotation.relations:
        head, tail = best.get(relation.head), best.get(relation.tail)
        if head is not None and tail is not None and grammar.fits(labels[relation.type], head.type, tail.type):
            found.append({"head": head.name, "tail": tail.name, "type": relation.type})
    return _json({"relations": found[: gold.context.bounds.relations]})


def _relations_listed(gold: Gold) -> tuple[About, str]:
    groups = [group_of(i, chain) for i, chain in enumerate(gold.annotation.chains)]
    lines = [f"{one['name']} ({one['type']}): {' / '.join(one['texts'])}" for one in listed(gold.context, groups)]
    return groups, "\n".join(lines)


def _relations_parse(context: PromptContext, reply: Reply, groups: About) -> list[Any]:
    relations = rows(context.read(reply, "relations", "relations").get("relations"))
    return with_confidences(relations, reply, "relations", RELATION)


RELATIONS = Stage(
    template="staged/relations",
    constraint=_relations_constraint,
    values=listed_values,
    target=_relations_target,
    listed=_relations_listed,
    parse=_relations_parse,
    tasks=frozenset(("relation",)),
)
"""Relations among chains, by their names."""


# --- grounding --------------------------------------------------------------------------------------------------------


def grounding_constraint(context: PromptContext, groups: About) -> Constraint:
    named = [group.named for group in groups]
    return Constraint(
        grammar=grammar.regions_grammar(named, context.labels, context.visible, context.bounds),
        schema=schema.regions_schema(named, context.labels, context.visible, context.bounds),
    )


def _grounding_target(gold: Gold, groups: About) -> str:
    """The regions, each with the group of its type that it shows, if known."""
    best = gold.groups(groups)
    mention_types = gold.context.labels.names("mentions")
    written = []
    for region, box in gold.regions():
        shown = best.get(region.chain or "")
        right = shown is not None and (shown.type == region.type or region.type not in mention_types)
        name = shown.name if shown is not None and right else None
        written.append(f'{{"frame":{region.frame},"type":{_json(region.type)},"chain":{_json(name)},"box":{box}}}')
    return f'{{"regions":[{",".join(written)}]}}'


def grounding_parse(context: PromptContext, reply: Reply, groups: About) -> list[Any]:
    regions = rows(context.read(reply, "regions", "regions").get("regions"))
    return with_confidences(regions, reply, "regions", REGION)


GROUNDING = Stage(
    template="staged/grounding",
    constraint=grounding_constraint,
    values=listed_values,
    target=_grounding_target,
    listed=_relations_listed,
    parse=grounding_parse,
    tasks=frozenset(("grounding",)),
)
"""Regions of the prompt's frames, each of a chain or of none."""


# --- the conversation -------------------------------------------------------------------------------------------------


class Staged(Strategy):
    """Four stages, each only if it can have an answer."""

    name: ClassVar = "staged"
    stages: ClassVar[tuple[Stage, ...]] = (ENTITIES, CHAINS, RELATIONS, GROUNDING)
    lists_types: ClassVar = True

    def run(self, context: PromptContext) -> Conversation:
        if context.document.given is not None:
            return (yield from about_given(context, context.document.given))
        mentions: list[Mention] = []
        loose: list[Group] = []
        if context.has_text and context.labels.mentions:
            mentions, loose = yield from ENTITIES.put(context)
        groups = yield from chains_of(context, mentions)
        for i, group in enumerate(loose, start=len(groups)):
            group.name = f"c{i}"
        groups += loose
        related, regions = yield from self.related_and_shown(context, groups)
        return {"chains": [group.written() for group in groups], "relations": related, "regions": regions}

    def related_and_shown(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], tuple[list[Any], list[Any]]]:
        """Relations among the chains, and regions, each only if there can be any."""
        related = yield from relations_of(context, groups)
        regions: list[Any] = []
        if context.visible.sizes and context.labels.regions:
            regions = yield from self.regions(context, groups)
        return related, regions

    def regions(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], list[Any]]:
        """Regions of all frames."""
        found: list[Any] = yield from GROUNDING.put(context, groups)
        return found

    def later(self, context: PromptContext) -> list[Question]:
        if context.document.given is not None:
            return []
        stages = [CHAINS] if context.has_text else []
        if context.has_text and context.labels.relations:
            stages.append(RELATIONS)
        if context.visible.sizes and context.labels.regions:
            stages.append(self.stages[-1])
        return [stage.blank(context, marked="") for stage in stages]

    def growth(self, context: PromptContext) -> int:
        """The text with marked mentions, of the document and of the examples, at three bytes per token."""
        if context.document.given is not None:
            return 0
        texts = [context.say(shot.example.document.text) for shot in context.examples]
        examples = sum(len(text.encode("utf-8", "replace")) // 3 for text in texts)
        return 3 * (len(context.document.text.encode("utf-8", "replace")) // 3) + 2 * examples


def about_given(context: PromptContext, given: Given) -> Conversation:
    """The gold-mention setting: chains of the given mentions, or relations among the given chains."""
    if given.kind == "mentions":
        groups = yield from chains_of(context, sorted(given.mentions))
        return {"chains": [group.written() for group in groups], "relations": [], "regions": []}
    groups = [group_of(i, chain) for i, chain in enumerate(given.chains)]
    related = yield from relations_of(context, groups)
    return {"chains": [group.written() for group in groups], "relations": related, "regions": []}


def chains_of(
    context: PromptContext, mentions: Sequence[Mention]
) -> Generator[list[Question], list[Reply], list[Group]]:
    """Chains of `mentions`, asked only if two could corefer."""
    if not any(len(names) > 1 for names in _by_type(mentions).values()):
        return _groups(mentions, [])
    groups: list[Group] = yield from CHAINS.put(context, mentions)
    return groups


def relations_of(context: PromptContext, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Relations among the chains, asked only if some type fits some pair of them."""
    if not may_be_related(context, groups):
        return []
    related: list[Any] = yield from RELATIONS.put(context, groups)
    return related


def may_be_related(context: PromptContext, groups: Sequence[Group]) -> bool:
    """Whether some type of relation fits some pair of the chains."""
    kinds = Counter(group.type for group in groups)
    pairs = [(head, tail) for head in kinds for tail in kinds if head != tail or kinds[head] > 1]
    return any(grammar.fits(label, head, tail) for head, tail in pairs for label in context.labels.relations)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
