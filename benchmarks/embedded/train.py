"""The training loop: small enough to read, the same from the same seed, and resumable after a kill.

The loss is on the answers only. Documents come from shelves, mixed by stage; a pool of them is sorted by length and cut
into batches of about as many tokens. Matrices inside the layers are learned by Muon, all else by AdamW; the rate is
constant after a warm-up and falls to a tenth over the last part.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.embedded.architecture import MERGE, PATCH, make_model
from benchmarks.embedded.shelves import SIZE, Item, Shelf, collate, exchanged, patches

STAGES: tuple[tuple[float, Mapping[str, float]], ...] = (
    (0.25e6, {"tiny": 6, "short": 2, "single": 6}),
    (0.8e6, {"short": 5, "single": 6, "frames": 0.5, "medium": 2}),
    (1.5e6, {"short": 1, "single": 3, "medium": 3, "full": 3}),
    (math.inf, {"short": 0.5, "single": 0.5, "medium": 0.5, "full": 9, "frames": 0.2}),
)
"""Until how many tokens: how often each kind of document is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training is. `tokens` counts those of prompts and answers, without padding."""

    tokens: float = 17e6
    batch: int = 2560
    rate: float = 2e-3
    matrix_rate: float = 0.015
    warmup: int = 60
    decay: float = 0.3
    seed: int = 0
    ordinary: bool = False
    muon: bool = True


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal (Newton-Schulz, in float32)."""

    def __init__(self, parameters: Sequence[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                mean = state["mean"]
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                step = parameter.grad.lerp(mean, group["momentum"])
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(orthogonal(step), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About the nearest matrix with singular values near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Library:
    """All shelves of a folder; batches drawn from them depend on the seed and their number alone."""

    def __init__(self, folder: Path, surnames: np.ndarray) -> None:
        """`surnames`: tokens to exchange for one another in Chinese, see `shelves.exchanged`."""
        self.surnames = surnames
        self.shelves: dict[str, list[Shelf]] = {}
        for path in sorted(folder.iterdir()):
            if (path / "rows.npy").exists():
                self.shelves.setdefault(path.name.partition("-")[0], []).append(Shelf(path))

    def pool(self, weights: Mapping[str, float], number: int, seed: int, *, size: int = 512) -> list[tuple[Shelf, int]]:
        """Documents of a pool; each kind's share is its weight."""
        rng = np.random.default_rng([seed, number])
        kinds = [kind for kind in weights if kind in self.shelves]
        shares = np.array([weights[kind] for kind in kinds])
        found = []
        for k in rng.choice(len(kinds), size, p=shares / shares.sum()):
            shelves = self.shelves[kinds[k]]
            lengths = np.array([len(shelf) for shelf in shelves])
            shelf = shelves[rng.choice(len(shelves), p=lengths / lengths.sum())]
            found.append((shelf, int(rng.integers(len(shelf)))))
        return found

    def batches(self, weights: Mapping[str, float], number: int, seed: int, tokens: int) -> list[list[Item]]:
        """The batches of a pool, in an order of their own."""
        rows = sorted(self.pool(weights, number, seed), key=lambda one: one[0].length(one[1]))
        found: list[list[tuple[Shelf, int]]] = [[]]
        for shelf, i in rows:
            if found[-1] and (len(found[-1]) + 1) * shelf.length(i) > tokens:
                found.append([])
            found[-1].append((shelf, i))
        order = np.random.default_rng([seed, number, 1]).permutation(len(found))
        return [[self._item(shelf, i, [seed, number, 2, i]) for shelf, i in found[k]] for k in order]

    def _item(self, shelf: Shelf, i: int, seed: list[int]) -> Item:
        return exchanged(shelf[i], self.surnames, np.random.default_rng(seed)) if shelf.chinese else shelf[i]


def answer_loss(model: Any, batch: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """(mean loss of the answers' tokens, whether each is the likeliest, what they are)."""
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
    loss = torch.nn.functional.cross_entropy(logits, targets)
    return loss, logits.detach().argmax(-1) == targets, targets


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


def rate_at(part: float, step: int, recipe: Recipe) -> float:
    """What the rates are multiplied with, `part` of all tokens seen."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    return warm * (min(1.0, 0.05 + 0.95 * max(0.0, 1 - part) / recipe.decay) if part > 1 - recipe.decay else 1.0)


def train(
    shelves: Path,
    folder: Path,
    tokenizer: Any,
    recipe: Recipe,
    *,
    every: float = 240.0,
    until: float = math.inf,
    surnames: np.ndarray,
) -> Any:
    """Train, or go on where `folder` stopped; `until`: stop after so many tokens."""
    library = Library(shelves, surnames)
    model = make_model(tokenizer, seed=recipe.seed, ordinary=recipe.ordinary)
    optimizers = make_optimizers(model, recipe)
    state: dict[str, Any] = {"step": 0, "tokens": 0, "pool": 0, "place": 0, "seconds": 0.0}
    kept = folder / "state.pt"
    folder.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        saved = torch.load(kept, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        state = saved["state"]
        drop_later(folder / "log.jsonl", state["step"])
    started, base = time.perf_counter(), state["seconds"]
    last_save = time.perf_counter()
    sums = {"loss": 0.0, "right": 0, "n": 0}
    model.train()
    for at, items in _stream(library, state, recipe):
        batch = collate(items, image=model.config.image_token_id, pad=tokenizer.pad_token_id)
        factor = rate_at(state["tokens"] / recipe.tokens, state["step"], recipe)
        for optimizer, rate in zip(optimizers, (recipe.rate, recipe.matrix_rate), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        loss, right, _ = answer_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        state["pool"], state["place"] = at
        state["step"] += 1
        state["tokens"] += sum(len(item.ids) for item in items)
        state["seconds"] = base + time.perf_counter() - started
        sums["loss"] += loss.item() * len(right)
        sums["right"] += int(right.sum())
        sums["n"] += len(right)
        if state["step"] % 25 == 0:
            row = {**state, "rate": factor, "loss": sums["loss"] / sums["n"], "right": sums["right"] / sums["n"]}
            with (folder / "log.jsonl").open("a") as file:
                file.write(json.dumps({k: round(v, 4) for k, v in row.items()}) + "\n")
            sums = {"loss": 0.0, "right": 0, "n": 0}
        finished = state["tokens"] >= min(recipe.tokens, until)
        if finished or time.perf_counter() - last_save > every:
            values = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "state": state}
            torch.save(values | {"recipe": asdict(recipe)}, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
            last_save = time.perf_counter()
        if finished:
            break
    return model


def drop_later(log: Path, step: int) -> None:
    """Take out of the log what was learned after `step`, and lost."""
    if log.exists():
        rows = log.read_text().splitlines(keepends=True)
        log.write_text("".join(row for row in rows if json.loads(row)["step"] <= step))


def _stream(library: Library, state: Mapping[str, Any], recipe: Recipe) -> Iterator[tuple[tuple[int, int], list[Item]]]:
    """Batches from where the state says; each with where the next one is."""
    number, place = state["pool"], state["place"]
    while True:
        weights = next(mix for end, mix in STAGES if state["tokens"] < end)
        batches = library.batches(weights, number, recipe.seed, recipe.batch)
        for i in range(place, len(batches)):
            yield ((number, i + 1) if i + 1 < len(batches) else (number + 1, 0)), batches[i]
        number, place = number + 1, 0
