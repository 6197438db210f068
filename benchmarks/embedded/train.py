"""The training loop: short, deterministic for a seed, and resumable after a kill.

The loss is on the answers only. Documents come from shelves, mixed by stage; a pool of them is sorted by length and cut
into batches with similar numbers of tokens. A step has several batches, which several processes may share. Matrices in
the layers are trained with Muon, all else with AdamW; the learning rate is constant after warm-up and decays twice,
then rises for the wide sentences and decays to the end. A second training puts documents after few-shot examples, whose
answers also have a loss.
"""

from __future__ import annotations

import json
import math
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.embedded.architecture import MERGE, PATCH, make_model
from benchmarks.embedded.blur import Blur
from benchmarks.embedded.shelves import SIZE, Shelf, collate, patches
from benchmarks.embedded.tokens import weights
from m3dllm.corpora.m3d import m3d_labels

STAGES: tuple[tuple[float, Mapping[str, float]], ...] = (
    (0.3e6, {"tiny": 6, "short": 2, "single": 6}),
    (1e6, {"short": 5, "single": 6, "marks": 2}),
    (3e6, {"short": 3, "single": 2, "marks": 6, "medium": 2, "full": 1}),
    (30e6, {"short": 2, "single": 0.5, "marks": 2, "medium": 1, "full": 9, "frames": 0.2}),
    (33e6, {"short": 1, "single": 0.3, "marks": 1, "shown": 9}),
    (39e6, {"told": 6, "single": 0.3, "paired": 8, "marked": 4, "wide": 6}),
    (math.inf, {"told": 5, "single": 0.3, "paired": 3, "marked": 4, "wide": 9}),
)
"""(until this many tokens, sampling weight of each kind of document)."""
RATES = ((0.0, 1.0), (21e6, 1.0), (30e6, 0.05), (30e6, 0.3), (33e6, 0.05), (33.4e6, 0.7), (65e6, 0.02))
"""(tokens, factor of the learning rates), interpolated linearly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The settings of a training. `tokens`: those of prompts and answers, without padding; a step has `parts` batches.

    `shots`: how often a document follows 0, 1, 2 and more `examples`, sampled by these weights of their kinds,
    as are the documents `behind` them. From `weighed_from` tokens on, the loss of an answer's tokens is weighted
    (`tokens.weights`), and from `blurred_from` on, words of prompts are replaced at random (`blur`).
    """

    tokens: float = 65e6
    batch: int = 2560
    parts: int = 2
    rate: float = 2e-3
    matrix_rate: float = 0.015
    warmup: int = 60
    seed: int = 0
    ordinary: bool = False
    muon: bool = True
    stages: tuple[tuple[float, Mapping[str, float]], ...] = STAGES
    rates: tuple[tuple[float, float], ...] = RATES
    shots: tuple[float, ...] = (1.0,)
    examples: Mapping[str, float] = field(default_factory=dict)
    behind: Mapping[str, float] = field(default_factory=dict)
    weighed_from: float = 17e6
    blurred_from: float = 33e6


WITH_EXAMPLES = Recipe(
    tokens=13e6,
    parts=1,
    warmup=200,
    stages=((math.inf, {"told": 5, "single": 0.3, "paired": 3, "marked": 4, "wide": 10, "sights": 1}),),
    rates=((0.0, 0.2), (2e6, 0.2), (13e6, 0.0)),
    shots=(0.70, 0.08, 0.08, 0.03, 0.11),
    examples={"unshown": 6, "texts": 3, "wide": 1},
    behind={"wide": 10, "marked": 2, "sights": 2, "told": 1, "paired": 1, "texts": 1},
    weighed_from=0.0,
    blurred_from=0.0,
    seed=1,
)
"""A training that starts from the weights of another."""


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized steps (Newton-Schulz, in float32)."""

    def __init__(self, parameters: Sequence[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                mean = state["mean"]
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                step = parameter.grad.lerp(mean, group["momentum"])
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(orthogonal(step), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximately the nearest matrix with singular values near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


Row = tuple[Shelf, int]
"""A document on a shelf."""
Conversation = tuple[Row, ...]
"""A document after its few-shot examples."""


def length(conversation: Conversation) -> int:
    """Its number of tokens."""
    return sum(shelf.length(i) for shelf, i in conversation)


class Library:
    """All shelves of a folder; batches depend only on the seed and their number."""

    def __init__(self, folder: Path) -> None:
        self.shelves: dict[str, list[Shelf]] = {}
        for path in sorted(folder.iterdir()):
            if (path / "rows.npy").exists():
                shelf = Shelf(path)
                self.shelves.setdefault(shelf.kind, []).append(shelf)

    def drawn(self, weights: Mapping[str, float], n: int, rng: np.random.Generator, *, lang: str = "") -> list[Row]:
        """`n` documents, in one language if given, with the kinds sampled by weight."""
        kinds = [kind for kind in weights if kind in self.shelves]
        shares = np.array([weights[kind] for kind in kinds])
        found = []
        for k in rng.choice(len(kinds), n, p=shares / shares.sum()):
            shelves = [shelf for shelf in self.shelves[kinds[k]] if lang in ("", shelf.lang)]
            lengths = np.array([len(shelf) for shelf in shelves])
            shelf = shelves[rng.choice(len(shelves), p=lengths / lengths.sum())]
            found.append((shelf, int(rng.integers(len(shelf)))))
        return found

    def pool(self, weights: Mapping[str, float], number: int, recipe: Recipe, *, size: int = 512) -> list[Conversation]:
        """Documents of a pool, each after few-shot examples in its language."""
        rng = np.random.default_rng([recipe.seed, number])
        documents = self.drawn(weights, size, rng)
        shots = rng.choice(len(recipe.shots), size, p=recipe.shots) if len(recipe.shots) > 1 else [0] * size
        found: list[Conversation] = []
        for alone, n in zip(documents, shots, strict=True):
            (asked,) = self.drawn(recipe.behind, 1, rng) if n else [alone]
            examples = self.drawn(recipe.examples, n, rng, lang=asked[0].lang) if n else []
            found.append((*examples, asked))
        return found

    def batches(self, weights: Mapping[str, float], number: int, recipe: Recipe) -> list[list[Conversation]]:
        """The batches of a pool, in random order."""
        found: list[list[Conversation]] = [[]]
        for one in sorted(self.pool(weights, number, recipe), key=length):
            if found[-1] and (len(found[-1]) + 1) * length(one) > recipe.batch:
                found.append([])
            found[-1].append(one)
        order = np.random.default_rng([recipe.seed, number, 1]).permutation(len(found))
        return [found[k] for k in order]


def answer_loss(model: Any, batch: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """(loss of each answer token, whether it is the most probable one, the tokens)."""
    core = model.model
    ids = torch.from_numpy(batch["ids"])
    embeds = core.language_model.embed_tokens(ids)
    more: dict[str, Any] = {}
    if len(batch["pixels"]):
        cut = torch.from_numpy(patches(batch["pixels"], PATCH, MERGE))
        grid = torch.tensor([[1, SIZE[1] // PATCH, SIZE[0] // PATCH]] * len(batch["pixels"]))
        seen = core.visual(cut, grid_thw=grid)
        mask = ids == model.config.image_token_id
        embeds = embeds.masked_scatter(mask[..., None], seen.pooler_output)
        more = {"visual_pos_masks": mask, "deepstack_visual_embeds": seen.deepstack_features}
    where = torch.from_numpy(batch["positions"])
    hidden = core.language_model(inputs_embeds=embeds, position_ids=where, use_cache=False, **more).last_hidden_state
    wanted = torch.from_numpy(batch["wanted"])
    logits = model.lm_head(hidden[wanted])
    targets = ids[:, 1:][wanted[:, :-1]]
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return losses, logits.detach().argmax(-1) == targets, targets


def make_optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inside and recipe.muon else others).append(parameter)
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0, eps=1e-9)
    ]
    if matrices:
        found.append(Muon(matrices, lr=recipe.matrix_rate))
    return found


def rate_at(tokens: float, step: int, recipe: Recipe) -> float:
    """The factor of the learning rates after this many tokens and steps."""
    return min(1.0, (step + 1) / recipe.warmup) * float(np.interp(tokens, *zip(*recipe.rates, strict=True)))


def train(
    shelves: Path,
    folder: Path,
    tokenizer: Path,
    recipe: Recipe,
    *,
    every: float = 240.0,
    until: float = math.inf,
    processes: int = 1,
    start: Path | None = None,
) -> None:
    """Train, or resume from `folder`; saved there `every` this many seconds; `until`: stop after this many tokens.

    `processes` share the batches of each step. `start`: a folder with a model whose weights the training starts from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = (shelves, folder, tokenizer, recipe, every, until, start)
    if processes == 1:
        threads = torch.get_num_threads()
        try:
            _train(0, 1, None, *given)
        finally:
            torch.set_flush_denormal(False)
            torch.set_num_threads(threads)
        return
    with tempfile.TemporaryDirectory() as meeting:
        torch.multiprocessing.spawn(_train, (processes, Path(meeting) / "store", *given), nprocs=processes)


def _train(
    rank: int, processes: int, meeting: Path | None, shelves: Path, folder: Path, tokenizer: Path, recipe: Recipe,
    every: float, until: float, start: Path | None,
) -> None:  # fmt: skip
    if processes > 1:  # an orphaned process must be interruptible, whatever this one ignores
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if meeting is not None:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    library = Library(shelves)
    known = AutoTokenizer.from_pretrained(tokenizer)
    model = make_model(known, seed=recipe.seed, ordinary=recipe.ordinary)
    if start is not None:
        model.load_state_dict(type(model).from_pretrained(start, dtype=torch.float32).state_dict())
    image, pad = model.config.image_token_id, known.pad_token_id
    optimizers = make_optimizers(model, recipe)
    gradient = one_gradient(model)
    weighed = weights(known, m3d_labels())
    blur = Blur(known)
    state = restored(folder / "state.pt", model, optimizers)
    if rank == 0:
        drop_later(folder / "log.jsonl", state["step"])
    started, base = time.perf_counter(), state["seconds"]
    last_save = time.perf_counter()
    sums = torch.zeros(3)  # of losses, correct answer tokens, and all answer tokens
    stream = _stream(library, state, recipe)
    model.train()
    while state["tokens"] < min(recipe.tokens, until):
        for number in range(recipe.parts):
            rows = next(stream)
            state["tokens"] += sum(map(length, rows))
            if number % processes == rank:
                conversations = [[shelf[i] for shelf, i in one] for one in rows]
                if state["tokens"] >= recipe.blurred_from:
                    rng = np.random.default_rng([recipe.seed, state["pool"], state["place"]])
                    conversations = [[blur(item, rng) for item in items] for items in conversations]
                batch = collate(conversations, image=image, pad=pad)
                losses, right, said = answer_loss(model, batch)
                weight = weighed[said] if state["tokens"] >= recipe.weighed_from else torch.ones_like(losses)
                ((losses * weight).sum() / weight.sum()).backward()
                sums += torch.tensor([losses.sum().item(), int(right.sum()), len(right)])
        if processes > 1:
            dist.all_reduce(gradient)
        gradient /= recipe.parts
        gradient /= gradient.norm().clamp(min=1.0)
        factor = rate_at(state["tokens"], state["step"], recipe)
        for optimizer, rate in zip(optimizers, (recipe.rate, recipe.matrix_rate), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
        gradient.zero_()
        state["step"] += 1
        state["seconds"] = base + time.perf_counter() - started
        if state["step"] % 25 == 0:
            if processes > 1:
                dist.all_reduce(sums)
            loss_sum, right_sum, n = sums.tolist()
            row = {**state, "rate": factor, "loss": loss_sum / n, "right": right_sum / n}
            if rank == 0:
                with (folder / "log.jsonl").open("a") as file:
                    file.write(json.dumps({k: round(v, 4) for k, v in row.items()}) + "\n")
            sums.zero_()
        finished = state["tokens"] >= min(recipe.tokens, until)
        if rank == 0 and (finished or time.perf_counter() - last_save > every):
            keep(folder / "state.pt", model, optimizers, state, recipe)
            last_save = time.perf_counter()
    if processes > 1:
        dist.destroy_process_group()


def one_gradient(model: torch.nn.Module) -> Tensor:
    """All gradients in one flat tensor, zero at first; those of the parameters are views of it."""
    parameters = list(model.parameters())
    row = torch.zeros(sum(parameter.numel() for parameter in parameters))
    for parameter, part in zip(parameters, row.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
    return row


def restored(kept: Path, model: Any, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Any]:
    """The saved state of the training, with its weights loaded; the initial state if there is none.

    `pool` and `place` give the next batch, `drawn` the number of tokens seen when the pool was drawn.
    """
    if not kept.exists():
        return {"step": 0, "tokens": 0, "pool": 0, "place": 0, "drawn": 0, "seconds": 0.0}
    saved = torch.load(kept, weights_only=True)
    model.load_state_dict(saved["model"])
    for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    return dict(saved["state"])


def keep(
    path: Path, model: Any, optimizers: Sequence[torch.optim.Optimizer], state: Mapping[str, Any], recipe: Recipe
) -> None:
    """Write what `restored` reads, atomically."""
    values = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "state": state}
    torch.save(values | {"recipe": asdict(recipe)}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def drop_later(log: Path, step: int) -> None:
    """Remove log lines after `step`, whose training was lost."""
    if log.exists():
        rows = log.read_text().splitlines(keepends=True)
        log.write_text("".join(row for row in rows if json.loads(row)["step"] <= step))


def _stream(library: Library, state: dict[str, Any], recipe: Recipe) -> Iterator[list[Conversation]]:
    """Batches from the state on, which always gives the next one."""
    while True:
        weights = next(mix for end, mix in recipe.stages if state["drawn"] < end)
        batches = library.batches(weights, state["pool"], recipe)
        while state["place"] < len(batches):
            state["place"] += 1
            yield batches[state["place"] - 1]
        state |= {"pool": state["pool"] + 1, "place": 0, "drawn": state["tokens"]}
