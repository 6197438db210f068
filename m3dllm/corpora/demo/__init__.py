"""The demo corpus: invented biographies with drawn frames, in English and Chinese.

`generate_demo` makes it, `demo_corpus` keeps it in the user's cache. Who is in a clip and what happens is decided in
`plan`, written with the words of `prose_en` and `prose_zh` by `writing`, and drawn by `pictures`. At least 15 % of the
relations are only in frames, not in the text: `frame_only_facts` names them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Literal

from m3dllm.corpora.demo.clip import WRITERS, Clip, make_clip
from m3dllm.corpora.demo.names import SHARES, names_of
from m3dllm.corpora.demo.plan import new_story
from m3dllm.corpora.demo.register import register_guidelines, register_labels, registered
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import m3d_guidelines, m3d_labels
from m3dllm.corpora.native import write_corpus
from m3dllm.errors import UserError
from m3dllm.files import read_bytes, write_atomic
from m3dllm.progress import progress
from m3dllm.types import Lang, Subset

VERSION = 1
"""Grows with every change of the documents that a seed gives."""
DOCUMENTS: Mapping[str, int] = {"train": 120, "dev": 24, "test": 36}
"""Documents of each split, in each language."""
EVIDENCE = "evidence.json"
"""Beside the splits: which relations only the frames show, as {"format": 1, "frames_only": {document: [positions]}}."""


Variant = Literal["plain", "register"]
"""The annotation: as in M3D, or as in `register`."""


def generate_demo(
    seed: int = 0,
    *,
    documents: Mapping[str, int] = DOCUMENTS,
    languages: Sequence[Lang] = ("en", "zh"),
    names_salt: str = "",
    variant: Variant = "plain",
) -> Imported:
    """The demo corpus of a seed: the same arguments give the same examples.

    `documents` counts the documents of "train", "dev" and "test" in each language. No two splits share a name of a
    person, place or organization, and no corpus with a `names_salt` shares one with a corpus without. A `variant` has
    the same texts and frames. Raises ValueError for other splits or a negative count.
    """
    plain = variant == "plain"
    imported = Imported(m3d_labels() if plain else register_labels())
    frames_only: dict[str, list[int]] = {}
    for split, n in documents.items():
        if split not in SHARES or n < 0:
            raise ValueError(f"{n} documents of {split!r}: expected 0 or more of {', '.join(SHARES)}")
        part = imported.split(split)
        for lang in languages:
            for clip in _clips(seed, names_salt, lang, split, n):
                clip = clip if plain else registered(clip)
                part.append(clip.example)
                imported.images |= clip.images
                if clip.frames_only:
                    frames_only[clip.example.document.id] = list(clip.frames_only)
    evidence = {"format": 1, "frames_only": frames_only}
    imported.images |= m3d_guidelines() if plain else register_guidelines()
    imported.images[EVIDENCE] = json.dumps(evidence, ensure_ascii=False).encode() + b"\n"
    return imported


def frame_only_facts(corpus: Path | Imported) -> frozenset[tuple[str, int]]:
    """(document id, position in its relations) of every relation that only frames show.

    `corpus` is a generated corpus, or the folder of one. Raises UserError where the folder has no evidence file.
    """
    data = read_bytes(corpus / EVIDENCE) if isinstance(corpus, Path) else corpus.images[EVIDENCE]
    assert isinstance(data, bytes)
    found: dict[str, list[int]] = json.loads(data)["frames_only"]
    return frozenset((name, i) for name, positions in found.items() for i in positions)


def demo_corpus(seed: int = 0) -> Path:
    """The folder of the demo corpus in the cache ($M3DLLM_CACHE, else $XDG_CACHE_HOME/m3dllm); generated if missing."""
    folder = _cache() / f"demo-v{VERSION}-seed{seed}"
    if not (folder / "labels.json").is_file():
        try:
            with progress("drawing the demo corpus"):
                write_corpus(folder, generate_demo(seed))
        except UserError:
            # another process may have been faster: its corpus is the same
            if not (folder / "labels.json").is_file():
                raise
    for name, data in m3d_guidelines().items():  # a version before this one kept none; a cache may be read-only
        if not (folder / name).is_file():
            with suppress(UserError):
                write_atomic(folder / name, data)
    return folder


def _cache() -> Path:
    if own := os.environ.get("M3DLLM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m3dllm"


def _clips(seed: int, salt: str, lang: Lang, split: str, n: int) -> Iterator[Clip]:
    """`n` clips, one to three of each story."""
    stream = f"{seed}|{salt}|{lang}|{split}"
    names = names_of(lang, split, salted=bool(salt))
    subsets = _subsets(Random(f"{stream}|subsets"), split, n)
    made = 0
    for video in count(1):
        if made == n:
            return
        rng = Random(f"{stream}|{video}")
        group = f"demo{seed}{salt and '-'}{salt}-{lang}-{split}-{video:03}"
        story = new_story(rng, lang, split, names, WRITERS[lang].abbreviation, salted=bool(salt))
        for number in range(min(rng.choice((1, 1, 2, 2, 3)), n - made)):
            yield make_clip(rng, story, f"{group}-{number + 1}", group, subset=subsets[made])
            made += 1


def _subsets(rng: Random, split: str, n: int) -> list[Subset | None]:
    """The missing modality of each document: about 3 % lack text, 3 % frames; one test document lacks both."""
    few = max(1, round(0.03 * n))
    shares: tuple[tuple[Subset | None, int], ...] = (("no_text", few), ("no_video", few), (None, split == "test"))
    odd = [subset for subset, share in shares for _ in range(share)][: n // 3]
    full: Subset = "full"
    subsets = [*odd, *[full] * (n - len(odd))]
    rng.shuffle(subsets)
    return subsets


def import_demo(*, seed: int = 0, variant: Variant = "plain") -> Imported:
    """The demo corpus as the command line makes it.

    - `seed`: random seed.
    - `variant`: how it is annotated: "plain", by the guidelines and types of M3D; "register", the same texts and frames
      by others, which no model was pretrained on.
    """
    return generate_demo(seed, variant=variant)


IMPORTER = import_demo
