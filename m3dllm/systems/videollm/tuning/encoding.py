"""Encoded training items: the prompt as in prediction, followed by the answer; and batches of them.

The loss is on the answer only, including its end token. Rows are left-padded, so that all answers end
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from m3dllm.systems.videollm.tuning.conversations import TrainingItem

if TYPE_CHECKING:
    from m3dllm.systems.videollm.engines.local.model import LocalModel
    from m3dllm.systems.videollm.engines.transformers import TransformersEngine


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An item as model inputs. `inputs` are those of the prompt followed by the answer, (1, tokens) each, except for
    positions of three parts, (3, 1, tokens), and inputs of images. The last `target_tokens` are the answer."""

    inputs: Mapping[str, Tensor]
    target_tokens: int

    @property
    def tokens(self) -> int:
        return int(self.inputs["input_ids"].shape[1])

    @property
    def bytes(self) -> int:
        return sum(value.nbytes for value in self.inputs.values())


def answer_ids(local: LocalModel, answer: str) -> list[int]:
    """The tokens of an answer and its end token. The answer's text never becomes a special token."""
    ids = local.tokenizer.encode(answer, add_special_tokens=False, split_special_tokens=True)
    return [*ids, local.stops[0]]


def encode(engine: TransformersEngine, item: TrainingItem) -> Encoded:
    """The encoded item, with the pixels of its images."""
    prompt = engine.local.encode(item.request.messages)
    answer = torch.tensor([answer_ids(engine.local, item.answer)])
    inputs: dict[str, Tensor] = {}
    length = prompt["input_ids"].shape[1]
    for name, value in prompt.items():
        if name == "input_ids":
            inputs[name] = torch.cat([value, answer], 1)
        elif _is_by_token(value, length):  # such as the mask, or token types: text
            fill = torch.full_like(answer, 1 if name == "attention_mask" else 0, dtype=value.dtype)
            inputs[name] = torch.cat([value, fill], 1)
        else:
            inputs[name] = value
    inputs["position_ids"] = engine.positions(inputs)
    return Encoded({name: value for name, value in inputs.items() if name in engine.accepted}, answer.shape[1])


def collate(rows: Sequence[Encoded], *, padding: int) -> tuple[dict[str, Tensor], Tensor]:
    """(the batch, the targets): the latter (rows, longest answer), with IGNORED on padding."""
    longest = max(row.tokens for row in rows)
    batch: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for row in rows for name in row.inputs):
        found = [(row.inputs[name], row.tokens) for row in rows if name in row.inputs]
        if name == "position_ids" or _is_by_token(*found[0]):
            fill = padding if name == "input_ids" else 0
            padded = [torch.nn.functional.pad(value, (longest - tokens, 0), value=fill) for value, tokens in found]
            batch[name] = torch.cat(padded, dim=padded[0].ndim - 2)
        else:
            batch[name] = torch.cat([value for value, _ in found])
    most = max(row.target_tokens for row in rows)
    targets = torch.full((len(rows), most), IGNORED)
    for i, row in enumerate(rows):
        targets[i, most - row.target_tokens :] = row.inputs["input_ids"][0, -row.target_tokens :]
    return batch, targets


IGNORED = -100
"""The target of tokens without a loss."""


def _is_by_token(value: Any, tokens: int) -> bool:
    """Whether a tensor has one value per token of its row."""
    return isinstance(value, Tensor) and value.ndim == 2 and value.shape == (1, tokens)


def loss_sum(model: Any, batch: Mapping[str, Tensor], targets: Tensor) -> Tensor:
    """The negative log-likelihood of all target tokens, summed. Logits are computed only for the ends of rows."""
    keep = targets.shape[1] + 1
    logits = model(**batch, use_cache=False, logits_to_keep=keep).logits[:, -keep:-1]  # (rows, longest answer, tokens)
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
