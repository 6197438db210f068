"""Whether an adapter may be used: it was tuned for these prompts, this label set and this model."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.adapters.card import MODEL, Adapter, find_adapter
from m3dllm.systems.videollm.options import Options
from m3dllm.wire import check_labels

log = logging.getLogger("m3dllm")

AnyOptions = TypeVar("AnyOptions", bound=Options)

BOUND = ("box_convention", "video", "prompt_form")
"""The options that change prompts, or the meaning of answers."""
USUAL = (*BOUND, "frames", "frame_choice", "longest_side", "fps", "shots")
"""The options that should be the same as in tuning."""


def tuned(
    options: AnyOptions, checkpoint: Path | None, *, local: bool, quiet: bool = False
) -> tuple[AnyOptions, Adapter | None]:
    """(the options with the model and prompts filled in, the adapter or None).

    `checkpoint` is the result of a fit: an adapter, or a whole model. By default the model and prompt version are the
    adapter's. `local`: whether the engine's models are on this machine; a server's adapter may be unknown here
    (`quiet`: without a warning). Raises UserError.
    """
    if checkpoint is not None and options.adapter:
        raise UserError("--checkpoint and --adapter are two adapters: give one of them")
    given = str(checkpoint) if checkpoint is not None else options.adapter
    if given is None:
        return options, None
    if not local:
        if checkpoint is not None:
            raise UserError("--checkpoint: a server loads its adapters itself: give the name it has there as --adapter")
        try:
            found = find_adapter(given)
        except UserError:
            if not quiet:
                log.warning("adapter '%s' is not known here: its prompts and label set cannot be checked", given)
            return options, None
        return replace(options, prompt_version=options.prompt_version or found.card.asked.version), found
    found = find_adapter(given)
    options = replace(options, prompt_version=options.prompt_version or found.card.asked.version)
    if found.card.shape.tune == "full":
        if checkpoint is None:
            raise UserError.at(found.folder, f"is a whole model, not an adapter: give --model {found.folder / MODEL}")
        return replace(options, model=str(found.folder / MODEL)), found
    base = found.card.base
    if options.model is None:
        options = replace(options, model=base.model or None, revision=options.revision or base.revision or None)
    return replace(options, adapter=str(found.folder)), found


def check_use(adapter: Adapter, options: Options, labels: LabelSet, prompts_sha256: str) -> None:
    """Raises UserError if the adapter was tuned for other prompts or another label set."""
    asked = adapter.card.asked
    if asked.strategy != options.strategy:
        raise adapter.refusal(f"was tuned with --strategy {asked.strategy}, not {options.strategy}")
    if asked.version != options.prompt_version:
        wanted = f"version {asked.version} of the prompts, not {options.prompt_version}"
        raise adapter.refusal(f"was tuned for {wanted}: give --prompt-version {asked.version}, or tune another")
    check_labels(asked.labels_sha256, labels, adapter.folder, what=f"adapter '{adapter.name}' was tuned")
    if asked.sha256 != prompts_sha256:
        raise adapter.refusal("was tuned with other prompts: give the same --prompts, or tune another adapter")
    usual = Options()
    for name in USUAL:
        given, trained = getattr(options, name), adapter.card.training.get(name, getattr(usual, name))
        what = f"was tuned with --{name.replace('_', '-')} {trained}, and is prompted with {given}"
        if given != trained and name in BOUND:
            raise adapter.refusal(f"{what}: its answers mean something else then")
        if given != trained:
            log.warning("adapter '%s' %s", adapter.name, what)
