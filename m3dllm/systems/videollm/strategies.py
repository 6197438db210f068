"""How to ask: one answer for all, or stage by stage.

A strategy is a conversation about one document, written as a generator: it yields questions and is sent the replies to
them, and returns the payload. Many conversations go on at once; none knows of another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from m3dllm.answers import Nesting, Occurrences
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.config import Config, StrategyName
from m3dllm.systems.videollm.engines import Constraint, Reply, Request
from m3dllm.systems.videollm.prompt import Message, Part, Prompts, harmless
from m3dllm.systems.videollm.reading import read_object, rows, strings
from m3dllm.systems.videollm.shown import Bounds, Named, Shown
from m3dllm.types import Chain, Document, Given, Issue, Lang, Mention

TEXTS = 6
"""How many different texts of a chain a prompt shows."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the stage that asks it."""

    stage: str
    request: Request


Conversation = Generator[list[Question], list[Reply], Any]


@dataclass(slots=True)
class Subject:
    """One document, as it is shown, and all that is needed to ask about it. `issues` collects what was wrong."""

    document: Document
    labels: LabelSet
    config: Config
    prompts: Prompts
    shown: Shown
    system: str
    """The system message."""
    view: tuple[Part, ...]
    """The document itself: what all questions begin with."""
    frames: tuple[int, ...] = ()
    """The frames that are shown; those of a video stand here only."""
    specials: Sequence[str] = ()
    shots: Callable[[str], list[dict[str, str]]] = field(default=lambda stage: [])
    """The examples of a stage, as its template wants them."""
    share: str = ""
    issues: list[Issue] = field(default_factory=list)

    @property
    def lang(self) -> Lang:
        return self.document.lang

    @property
    def bounds(self) -> Bounds:
        return Bounds.of(self.config)

    @property
    def has_text(self) -> bool:
        return bool(self.document.text.strip())

    def ask(self, template: str, constraint: Callable[[], Constraint], **values: Any) -> Question:
        """A question from a template. `constraint` is made only where one is wanted."""
        stage = template.rpartition("/")[2]
        text = self.prompts.render(
            template,
            self.lang,
            mention_types=[_label(label, self.lang) for label in self.labels.mentions],
            relation_types=[_relation_label(label, self.lang) for label in self.labels.relations],
            region_types=[_label(label, self.lang) for label in self.labels.regions],
            convention=self.shown.convention,
            has_text=self.has_text,
            has_frames=bool(self.shown.sizes),
            example_frame=next(iter(self.shown.sizes), 0),
            example_type=self.labels.mentions[0].name if self.labels.mentions else "…",
            shots=self.shots(stage),
            **values,
        )
        messages = (Message("system", (self.system,)), Message("user", (*self.view, "\n\n" + text)))
        held = None if self.config.unconstrained else constraint()
        if held is not None and self.config.schema_only:
            held = Constraint(schema=held.schema)
        return Question(
            stage, Request(messages=messages, max_tokens=self.config.max_tokens, constraint=held, share=self.share)
        )

    def say(self, text: str) -> str:
        """A text of the document, as a prompt may hold it."""
        return harmless(text, self.specials)

    def read(self, reply: Reply, where: str) -> dict[str, Any]:
        """The object of a reply; what had to be mended is noted."""
        value, issues = read_object(reply.text, where)
        self.issues += [issue for issue in issues if issue.code != "truncated" or reply.finish != "length"]
        return value


def _label(label: Label, lang: Lang) -> dict[str, Any]:
    return {"name": label.name, "gloss": label.gloss(lang)}


def _relation_label(label: RelationLabel, lang: Lang) -> dict[str, Any]:
    return _label(label, lang) | {"head": label.head, "tail": label.tail, "symmetric": label.symmetric}


# --- joint ------------------------------------------------------------------------------------------------------------


def joint(subject: Subject) -> Conversation:
    """Everything in one answer. What is given bounds the question: then only chains, or only relations, are asked."""
    if (given := subject.document.given) is not None:
        return (yield from _given(subject, given))
    if not subject.has_text and not subject.shown.sizes:  # nothing could be said about it
        return {"chains": [], "relations": [], "regions": []}
    question = subject.ask(
        "joint/joint",
        lambda: Constraint(
            grammar=grammar.joint_grammar(subject.document, subject.labels, subject.shown, subject.bounds),
            schema=schema.joint_schema(subject.labels, subject.shown, subject.bounds),
        ),
    )
    (reply,) = yield [question]
    return reply.text


# --- staged -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Group:
    """A chain as the stages build it. `loose` are texts of it that stand nowhere in the document."""

    name: str
    type: str
    mentions: list[Mention] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)

    @property
    def named(self) -> Named:
        return Named(self.name, self.type)

    def written(self) -> dict[str, Any]:
        """The chain in the answer form."""
        placed = [{"start": m.start, "end": m.end, "type": m.type} for m in self.mentions]
        return {"id": self.name, "type": self.type, "mentions": [*placed, *self.loose]}


def staged(subject: Subject) -> Conversation:
    """Entities, then chains of them, then relations between these, then regions: each bounded by what came before."""
    if (given := subject.document.given) is not None:
        return (yield from _given(subject, given))
    mentions: list[Mention] = []
    loose: list[Group] = []
    if subject.has_text and subject.labels.mentions:
        form = json.dumps({label.name: ["…"] for label in subject.labels.mentions}, ensure_ascii=False)
        question = subject.ask(
            "staged/entities",
            lambda: Constraint(
                grammar=grammar.entities_grammar(subject.document, subject.labels, subject.bounds),
                schema=schema.entities_schema(subject.labels, subject.bounds),
            ),
            form=form.replace(" ", ""),
        )
        (reply,) = yield [question]
        mentions, loose = place(subject, subject.read(reply, "turns[0]"))
    groups = yield from chains(subject, mentions)
    for i, group in enumerate(loose, start=len(groups)):
        group.name = f"c{i}"
    groups += loose
    related = yield from relations(subject, groups)
    regions = yield from grounding(subject, groups)
    return {"chains": [group.written() for group in groups], "relations": related, "regions": regions}


def place(subject: Subject, answer: dict[str, Any]) -> tuple[list[Mention], list[Group]]:
    """(the mentions that an `entities` answer means, in order; those of its texts that stand nowhere).

    A text means each of its token-aligned occurrences that does not lie inside a longer mention; a span that two types
    claim is the first one's. What stands nowhere is kept as it was written: `normalize` says what was wrong with it.
    """
    occurrences = Occurrences(subject.document)
    said = [(label.name, text) for label in subject.labels.mentions for text in strings(answer.get(label.name))]
    said = list(dict.fromkeys(said))
    nesting = Nesting(span for _, text in said for span in occurrences.of(text))
    found: dict[tuple[int, int], Mention] = {}
    loose = []
    for kind, text in said:
        spans = occurrences.of(text)
        if not spans:
            loose.append(Group("", kind, loose=[text]))
        for span in spans:
            if not nesting.inside_longer(span):
                found.setdefault(span, Mention(*span, kind))
    return sorted(found.values()), loose


def chains(subject: Subject, mentions: Sequence[Mention]) -> Generator[list[Question], list[Reply], list[Group]]:
    """Chains of `mentions`; one that is in no list of the answer is a chain of its own. Asked only where two could be
    of one entity."""
    by_type: dict[str, list[str]] = {}
    for i, mention in enumerate(mentions):
        by_type.setdefault(mention.type, []).append(f"m{i}")
    owner: dict[int, int] = {}
    lists: list[list[int]] = []
    if any(len(names) > 1 for names in by_type.values()):
        named = [Named(f"m{i}", mention.type) for i, mention in enumerate(mentions)]
        question = subject.ask(
            "staged/chains",
            lambda: Constraint(
                grammar=grammar.chains_grammar(named, subject.bounds),
                schema=schema.chains_schema(named, subject.bounds),
            ),
            marked=marked(subject, mentions),
            groups=[{"type": kind, "names": names} for kind, names in by_type.items()],
        )
        (reply,) = yield [question]
        numbers = {one.name: i for i, one in enumerate(named)}
        answer = subject.read(reply, "chains")
        said = answer.get("chains")
        for j, names in enumerate(said if isinstance(said, list) else []):
            members: list[int] = []
            for name in strings(names):
                if name not in numbers:
                    subject.issues.append(
                        Issue("dangling", f"chains[{j}]", f"names mention {name[:40]!r}: there is none")
                    )
                elif numbers[name] in owner:
                    subject.issues.append(
                        Issue("duplicate_mention", f"chains[{j}]", f"{name} stands already in a chain")
                    )
                else:
                    owner[numbers[name]] = j
                    members.append(numbers[name])
            if members:
                lists.append(members)
    lists += [[i] for i in range(len(mentions)) if i not in owner]
    ordered = sorted(sorted(members) for members in lists)
    return [
        Group(f"c{i}", mentions[members[0]].type, [mentions[m] for m in members]) for i, members in enumerate(ordered)
    ]


def marked(subject: Subject, mentions: Sequence[Mention]) -> str:
    """The text with `[m3 …]` around each mention; a longer one stands around those inside it."""
    text = subject.document.text
    opens: dict[int, list[tuple[int, int]]] = {}
    closes: dict[int, int] = {}
    for i, mention in enumerate(mentions):
        opens.setdefault(mention.start, []).append((-mention.end, i))
        closes[mention.end] = closes.get(mention.end, 0) + 1
    pieces, at = [], 0
    for edge in sorted({*opens, *closes, len(text)}):
        pieces += [subject.say(text[at:edge]), "]" * closes.get(edge, 0)]
        pieces += [f"[m{i} " for _, i in sorted(opens.get(edge, []))]
        at = edge
    return "".join(pieces)


def relations(subject: Subject, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Relations among the chains, asked only where some type fits some pair of them."""
    named = [group.named for group in groups]
    pairs = ((head, tail) for head in named for tail in named if head is not tail)
    if not any(grammar.fits(label, head.type, tail.type) for head, tail in pairs for label in subject.labels.relations):
        return []
    question = subject.ask(
        "staged/relations",
        lambda: Constraint(
            grammar=grammar.relations_grammar(named, subject.labels, subject.bounds),
            schema=schema.relations_schema(named, subject.labels, subject.bounds),
        ),
        chains=listed(subject, groups),
    )
    (reply,) = yield [question]
    return rows(subject.read(reply, "relations").get("relations"))


def grounding(subject: Subject, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Regions of the frames shown."""
    if not subject.shown.sizes or not subject.labels.regions:
        return []
    named = [group.named for group in groups]
    question = subject.ask(
        "staged/grounding",
        lambda: Constraint(
            grammar=grammar.regions_grammar(named, subject.labels, subject.shown, subject.bounds),
            schema=schema.regions_schema(named, subject.labels, subject.shown, subject.bounds),
        ),
        chains=listed(subject, groups),
    )
    (reply,) = yield [question]
    return rows(subject.read(reply, "regions").get("regions"))


def listed(subject: Subject, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Chains as a prompt lists them: name, type, and a few of their texts."""
    return [
        {"name": group.name, "type": group.type, "texts": [subject.say(text) for text in _texts(subject, group)]}
        for group in groups
    ]


def _texts(subject: Subject, group: Group) -> list[str]:
    texts = [subject.document.text[m.start : m.end] for m in group.mentions]
    return list(dict.fromkeys([*texts, *group.loose]))[:TEXTS]


# --- what is given ----------------------------------------------------------------------------------------------------


def _given(subject: Subject, given: Given) -> Conversation:
    """The gold-pair protocol: chains of the given mentions, or relations among the given chains."""
    if given.kind == "mentions":
        groups = yield from chains(subject, sorted(given.mentions))
        return {"chains": [group.written() for group in groups], "relations": [], "regions": []}
    groups = [group_of(i, chain) for i, chain in enumerate(given.chains)]
    related = yield from relations(subject, groups)
    return {"chains": [group.written() for group in groups], "relations": related, "regions": []}


def group_of(number: int, chain: Chain) -> Group:
    """A chain under the name that prompts use."""
    return Group(f"c{number}", chain.type, list(chain.mentions))


STRATEGIES: dict[StrategyName, Callable[[Subject], Conversation]] = {"joint": joint, "staged": staged}
