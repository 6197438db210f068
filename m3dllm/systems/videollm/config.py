"""The options of `video-llm`: their dependencies, the files that they name, and their checks.

Light to import: no model library is loaded here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3dllm.config import takes_gpu
from m3dllm.errors import UserError
from m3dllm.files import sha256, sha256_file
from m3dllm.guidelines import guideline_files, read_guidelines
from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.adapters.card import CARD, find_adapter
from m3dllm.systems.videollm.engines import engine_names, find_engine
from m3dllm.systems.videollm.options import Options, TuningOptions
from m3dllm.systems.videollm.strategies import check_strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TuningOptions):
    """The options of `video-llm`. Raises UserError, when made, for an unknown engine or strategy."""

    def check(self) -> None:
        find_engine(self.engine)
        check_strategy(self.strategy)

    def settled(self, corpus: Path, checkpoint: Path | None) -> Config:
        from m3dllm.systems.videollm.adapters.use import tuned
        from m3dllm.systems.videollm.prompts import default_version

        local = "local" in find_engine(self.engine).supports
        version = self.prompt_version
        if version is None:
            version = tuned(self, checkpoint, local=local, quiet=True)[0].prompt_version
        if version is None:
            version = default_version(self, embedded_model=local and self.model is None)
        shown = version > 1 and self.prompt_form == "full"
        if self.guidelines and not shown:
            what = "the compact form of the prompts" if version > 1 else f"version {version} of the prompts"
            raise UserError(f"--guidelines: {what} shows none: omit it")
        there = str(corpus) if shown and guideline_files(corpus) else None
        return replace(self, prompt_version=version, guidelines=self.guidelines or there)

    def public(self) -> dict[str, Any]:
        """The options that may hold secrets, without them: the bare address, names of headers and parameters."""
        from m3dllm.systems.videollm.address import without_secrets

        return {
            "base_url": self.base_url and without_secrets(self.base_url),
            "header": [f"{word.partition(':')[0].strip()}: …" for word in self.header if ":" in word],
            "query": [f"{word.partition('=')[0].strip()}=…" for word in self.query if "=" in word],
        }

    @property
    def needs(self) -> tuple[str, tuple[str, ...]]:
        """The extra with the engine's dependencies, and its modules."""
        kind = find_engine(self.engine)
        return kind.extra, kind.needs

    def gpus(self, *, there: bool) -> int:
        local = "local" in find_engine(self.engine).supports
        return self.tensor_parallel if local and takes_gpu(self.device, there=there) else 0

    def sources(self) -> dict[str, str]:
        """The hashes of the named adapter and prompts.

        Raises UserError if the adapter is missing, unless it may be on a server.
        """
        found = {}
        if self.adapter:
            try:
                found["adapter"] = sha256_file(find_adapter(self.adapter).folder / CARD)
            except UserError:
                if "local" in find_engine(self.engine).supports:
                    raise
        if self.guidelines:
            found["guidelines"] = sha256(repr(sorted(read_guidelines(Path(self.guidelines)).items())).encode())
        if self.prompts:
            folder = Path(self.prompts)
            files = sorted(folder.rglob("*.jinja")) if folder.is_dir() else []
            listed = [(path.relative_to(folder).as_posix(), sha256_file(path)) for path in files]
            found["prompts"] = sha256(repr(listed).encode())
        return found


def check(options: Options, labels: LabelSet) -> None:
    """Raises UserError for impossible options, before a model is loaded."""
    kind = find_engine(options.engine)
    if options.unconstrained and options.schema_only:
        raise UserError("--unconstrained and --schema-only exclude each other: give one of them")
    if options.engine_args and options.engine != "vllm":
        raise UserError("--engine-args: these are arguments of vLLM's engine: add --engine vllm, or omit them")
    if options.tensor_parallel > 1 and "tensor_parallel" not in kind.supports:
        able = " or ".join(f"--engine {name}" for name in engine_names() if "tensor_parallel" in _supports(name))
        raise UserError(f"--tensor-parallel: only {able} spreads a model over GPUs")
    if options.video and "video" not in kind.supports:
        raise UserError("--video: a server is given frames as images; omit --video, or use another engine")
    if options.schema_only and "schema" not in kind.supports:
        raise UserError(f"--schema-only: --engine {options.engine} takes only grammars; --unconstrained disables both")
    if options.prompt_version == 1 and (options.prompt_form != "full" or options.shot_frames):
        raise UserError("--prompt-form and --shot-frames: version 1 of the prompts has one form, and examples of text")
    if not labels.mentions and not labels.regions:
        raise UserError("the label set has no types of mentions or regions: there is nothing to ask for")


def _supports(name: str) -> frozenset[str]:
    return find_engine(name).supports
