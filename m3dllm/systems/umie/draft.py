"""An answer being read: the replies for each task, parsed strictly, on top of earlier tasks."""

from __future__ import annotations

from collections.abc import Iterable

from m3dllm.answers import Span
from m3dllm.labels import LabelSet
from m3dllm.systems.generative import draft
from m3dllm.systems.generative.draft import offsets
from m3dllm.systems.generative.language import Form, Record, read, read_number, read_object
from m3dllm.systems.generative.model import Answer, Reply
from m3dllm.systems.generative.places import Places
from m3dllm.systems.umie import tasks
from m3dllm.types import Chain, Document, Mention, Region, Relation


class Draft(draft.Draft):
    """The answer to one document, task by task."""

    def __init__(self, document: Document, labels: LabelSet) -> None:
        super().__init__(document, labels)
        given = document.given
        kind = given.kind if given else None
        chains = given.chains if given else ()
        self.mentions: list[Mention] = sorted({m for chain in chains for m in chain.mentions})
        self.chains: list[Chain] = sorted(chains, key=lambda c: min(c.mentions)) if kind == "chains" else []
        self.relations: list[Relation] = []
        self.regions: list[Region] = []
        self.wants_relations = kind == "chains" and len(self.chains) > 1
        self._kind = kind

    @property
    def wants_chains(self) -> bool:
        """Whether chains are to be predicted for mentions."""
        return self._kind != "chains" and bool(self.mentions)

    def read_mentions(self, reply: Reply, words: tuple[Span, ...]) -> None:
        """Read the mentions of a window: types of the label set, texts that occur there."""
        known, places = self.labels.names("mentions"), Places(self.document.text, words)
        for where, (kind, text) in self._records(reply, tasks.MENTIONS):
            span = places.take(text)
            if kind not in known:
                self.note("unknown_type", where, kind)
            elif span is None:
                self.note("text_not_found", where, text)
            else:
                self.mentions.append(Mention(*span, kind))
        self.mentions = sorted(set(self.mentions))

    def read_chains(self, reply: Reply) -> None:
        """Read the chains; a mention that no record names is its own chain."""
        left = dict(enumerate(self.mentions))
        for where, record in self._records(reply, tasks.CHAINS):
            numbers = [read_number(part, len(self.mentions)) for part in record]
            members = [left.pop(n) for n in numbers if n is not None and n in left]
            if lost := len(numbers) - len(members):
                self.note("bad_shape", where, f"{lost} of {len(numbers)} parts are no numbers that are left")
            if members:
                self.chains.append(Chain("", tuple(sorted(members))))
        self.finish_chains(left.values())

    def finish_chains(self, left: Iterable[Mention]) -> None:
        """Mentions that are left become chains of one, and all chains are named in their order."""
        self.chains += [Chain("", (mention,)) for mention in left]
        ordered = sorted(self.chains, key=lambda chain: chain.mentions[0])
        self.chains = [Chain(f"c{n}", chain.mentions) for n, chain in enumerate(ordered)]
        self.wants_relations = self._kind is None and len(self.chains) > 1

    def read_relations(self, reply: Reply) -> None:
        """Read the relations between two different chains."""
        known = self.labels.names("relations")
        for where, (first, kind, second) in self._records(reply, tasks.RELATIONS):
            head, tail = (read_number(part, len(self.chains)) for part in (first, second))
            if kind not in known:
                self.note("unknown_type", where, kind)
            elif head is None or tail is None:
                self.note("dangling", where, f"{first} and {second} are not both chains")
            elif head == tail:
                self.note("self_relation", where, f"{first} to itself")
            else:
                self.relations.append(Relation(self.chains[head].id, self.chains[tail].id, kind))

    def read_regions(self, reply: Reply) -> None:
        """Read the candidates that are regions."""
        known, candidates = self.labels.names("regions"), reply.query.candidates
        for where, (kind, name) in self._records(reply, tasks.REGIONS):
            n = read_object(name, len(candidates))
            if kind not in known:
                self.note("unknown_type", where, kind)
            elif n is None:
                self.note("bad_shape", where, f"{name} is not a candidate")
            else:
                frame = self.document.frames[candidates[n].frame]
                self.regions.append(Region(frame.index, candidates[n].box, kind))

    def answer(self) -> Answer:
        """The answer form, mentions as offsets; each relation and region once."""
        return self.answered(
            [
                {"id": chain.id, "type": chain.type, "mentions": [offsets(mention) for mention in chain.mentions]}
                for chain in self.chains
            ],
            [{"head": r.head, "tail": r.tail, "type": r.type} for r in dict.fromkeys(self.relations)],
            [{"frame": r.frame, "type": r.type, "box": list(r.box)} for r in dict.fromkeys(self.regions)],
        )

    def _records(self, reply: Reply, form: Form) -> list[tuple[str, Record]]:
        """(place, record) of each record of a reply; malformed ones are noted."""
        where = self.turn(reply)
        records, malformed = read(reply.text, form)
        for text in malformed:
            self.note("bad_shape", where, f"{text[:80]!r} is not a record")
        return [(f"{where}.{n}", record) for n, record in enumerate(records)]
