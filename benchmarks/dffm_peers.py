"""Peers of DFFM's entities: a linear-chain CRF with hand-crafted features, and a fine-tuned MiniLM tagger.

They are trained on the same folds, selected on the same part of train, and scored by the same scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.m3d_folds import Fold
from m3dllm.score import score
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Chain, Document, Example, Mention, Prediction

Tags = list[str]
REGULARIZATION = (0.1, 1.0)
"""L2 weights of the CRF that are tried on dev; L1 is 0.05."""
EPOCHS, BATCH, RATE = 10, 8, 2e-4
"""The settings of the fine-tuned tagger: AdamW, linear decay to 0; the best epoch on dev is kept."""
SEEDS = 3
"""The fits of the tagger, of which the mean is told: one seed may lie three points from another."""


def words_of(document: Document) -> list[str]:
    """The texts of the document's tokens."""
    return [document.text[start:end] for start, end in tokenize(document)]


def tags_of(example: Example) -> Tags:
    """The BIO tags of the gold mentions; of overlapping ones the longest."""
    tokens = tokenize(example.document)
    tags = ["O"] * len(tokens)
    for mention in sorted(example.gold.mentions, key=lambda m: m.start - m.end):
        inside = [i for i, (start, end) in enumerate(tokens) if start < mention.end and end > mention.start]
        if inside and all(tags[i] == "O" for i in inside):
            for i in inside:
                tags[i] = f"I-{mention.type}"
            tags[inside[0]] = f"B-{mention.type}"
    return tags


def mentions_of(document: Document, tags: Sequence[str]) -> tuple[Chain, ...]:
    """The mentions of BIO tags, each a chain of one; an I without a tag of its type before it begins one."""
    tokens = tokenize(document)
    found: list[tuple[int, int, str]] = []
    before = "O"
    for (start, end), tag in zip(tokens, tags, strict=True):
        kind = tag[2:]
        if tag.startswith("I-") and before[2:] == kind:
            found[-1] = (found[-1][0], end, kind)
        elif tag != "O":
            found.append((start, end, kind))
        before = tag
    return tuple(Chain(f"m{i}", (Mention(*one),)) for i, one in enumerate(found))


def entity_f1(examples: Sequence[Example], tags: Sequence[Sequence[str]]) -> float:
    """The shared scorer's entity F1."""
    predictions = [
        Prediction(example.document.id, Annotation(mentions_of(example.document, own)))
        for example, own in zip(examples, tags, strict=True)
    ]
    (language,) = score(examples, predictions).languages.values()
    return language.end_to_end.tasks["entity"].f1 or 0.0


# --- a linear-chain CRF -----------------------------------------------------------------------------------------------


def crf(fold: Fold) -> float:
    """Lexical and shape features of a window of five words; the L2 weight is chosen on dev."""
    from sklearn_crfsuite import CRF

    rows = {name: [features(e.document) for e in part] for name, part in fold.parts.items()}
    gold = {name: [tags_of(e) for e in part] for name, part in fold.parts.items()}
    best: tuple[float, Any] = (-1.0, None)
    for weight in REGULARIZATION:
        model = CRF(algorithm="lbfgs", c1=0.05, c2=weight, max_iterations=100, all_possible_transitions=True)
        model.fit(rows["train"], gold["train"])
        best = max(best, (entity_f1(fold.dev, model.predict(rows["dev"])), model), key=lambda pair: pair[0])
    return entity_f1(fold.test, best[1].predict(rows["test"]))


def features(document: Document) -> list[dict[str, Any]]:
    """One row per word: the word and its neighbours, their shapes and affixes."""
    words = words_of(document)
    own = [word_features(word) for word in words]
    small = [word.lower() for word in words]
    rows = []
    for i in range(len(words)):
        row: dict[str, Any] = {"bias": 1.0}
        for k in (-2, -1, 0, 1, 2):
            if 0 <= i + k < len(words):
                row |= {f"{k}:{name}": value for name, value in own[i + k].items() if k == 0 or name in NEAR}
            else:
                row[f"{k}:edge"] = True
        for k in (-1, 0):
            if i + k >= 0 and i + k + 1 < len(words):
                row[f"{k}:pair"] = f"{small[i + k]} {small[i + k + 1]}"
        rows.append(row)
    return rows


NEAR = ("word", "shape", "title", "digit")
"""The features of neighbouring words."""


def word_features(word: str) -> Mapping[str, Any]:
    """The features of a word's letters."""
    shape = "".join("X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else c for c in word)
    squeezed = "".join(c for i, c in enumerate(shape) if i == 0 or c != shape[i - 1])
    affixes = {f"prefix{n}": word[:n].lower() for n in (2, 3)} | {f"suffix{n}": word[-n:].lower() for n in (2, 3)}
    return {
        "word": word.lower(),
        "shape": squeezed,
        "title": word.istitle(),
        "upper": word.isupper(),
        "digit": word.isdigit(),
        **(affixes if len(word) > 1 else {}),
    }


# --- a fine-tuned MiniLM ----------------------------------------------------------------------------------------------


def tagger(fold: Fold) -> float:
    """Token classification with MiniLM: a word's first piece has its tag. The mean of the seeds."""
    return sum(one_tagger(fold, seed) for seed in range(SEEDS)) / SEEDS


def one_tagger(fold: Fold, seed: int) -> float:
    """The entity F1 of one fit."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    from m3dllm.systems.supervised.text import minilm_folder

    torch.manual_seed(seed)
    names = sorted({tag for example in fold.train for tag in tags_of(example)})
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    model = AutoModelForTokenClassification.from_pretrained(
        minilm_folder(), num_labels=len(names), attention_probs_dropout_prob=0.0
    )
    number = {name: i for i, name in enumerate(names)}

    def batch_of(examples: Sequence[Example]) -> tuple[Any, Any, list[list[int]]]:
        """Pieces, tags (-100 where no word begins), and the place of each word's first piece."""
        told = tokenizer(
            [words_of(e.document) for e in examples],
            is_split_into_words=True,
            padding=True,
            truncation=True,
            max_length=model.config.max_position_embeddings,
            return_tensors="pt",
        )
        wanted = torch.full(told["input_ids"].shape, -100)
        places = []
        for row, example in enumerate(examples):
            word_ids = told.word_ids(row)
            first = [i for i, w in enumerate(word_ids) if w is not None and w != word_ids[i - 1]]
            places.append(first)
            tags = tags_of(example)
            wanted[row, first] = torch.tensor([number.get(tags[word_ids[i]], number["O"]) for i in first])
        return told, wanted, places

    @torch.no_grad()
    def predict(examples: Sequence[Example]) -> list[Tags]:
        model.eval()
        found = []
        for i in range(0, len(examples), BATCH):
            told, _, places = batch_of(examples[i : i + BATCH])
            best = model(**told).logits.argmax(-1)
            for row, (example, first) in enumerate(zip(examples[i : i + BATCH], places, strict=True)):
                tags = [names[k] for k in best[row, first].tolist()]
                found.append(tags + ["O"] * (len(tokenize(example.document)) - len(tags)))
        return found

    with_words = [e for e in fold.train if e.document.text]
    steps = EPOCHS * -(-len(with_words) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 10 * step / steps) * (1 - step / steps))
    best, kept = -1.0, {}
    for _ in range(EPOCHS):
        model.train()
        order = torch.randperm(len(with_words)).tolist()
        for i in range(0, len(order), BATCH):
            told, wanted, _ = batch_of([with_words[k] for k in order[i : i + BATCH]])
            logits = model(**told).logits
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if (found := entity_f1(fold.dev, predict(fold.dev))) > best:
            best, kept = found, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return entity_f1(fold.test, predict(fold.test))


PEERS: dict[str, Callable[[Fold], float]] = {"crf": crf, "tagger": tagger}
SPEAKS = {"crf": ("en", "zh"), "tagger": ("en",)}
"""The languages of each peer."""
