"""An adapter on disk: what it is, where it is found, and whether it may be used here. No weights are loaded.

`<folder>/adapter.toml` says what it was made of; `adapter_config.json` and `adapter_model.safetensors` are as peft
writes them; `README.md` is its card for people. The same `adapter.toml` stands beside the weights of a model that was
tuned fully, in `model/`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m3dllm.errors import UserError
from m3dllm.files import is_pickle, pickle_beside, read_bytes, read_text, sha256_file
from m3dllm.labels import LabelSet
from m3dllm.wire import FORMAT, WireError, convert, encode_labels

if TYPE_CHECKING:
    from m3dllm.systems.videollm.config import Config
    from m3dllm.systems.videollm.engines.local import LocalModel
    from m3dllm.systems.videollm.prompts import Prompts

log = logging.getLogger("m3dllm")

CARD, CONFIG, WEIGHTS, MODEL = "adapter.toml", "adapter_config.json", "adapter_model.safetensors", "model"

_PACKAGE = Path(__file__).resolve().parents[3]
SHIPPED = next((folder for folder in (_PACKAGE / "adapters", _PACKAGE.parent / "adapters") if folder.is_dir()), None)
"""The adapters that come with the package, in the wheel or in its checkout."""
OWN = Path("adapters")
"""Where the user's adapters are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that was tuned. `sha256` is that of its weights, or its revision on the hub."""

    model: str
    sha256: str
    revision: str = ""
    four_bit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What was learned of it."""

    tune: Literal["lora", "full"]
    rank: int = 0
    alpha: int = 0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    train_fully: tuple[str, ...] = ()
    parameters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The prompts that it learned to answer."""

    strategy: str
    version: int
    sha256: str
    labels_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What it learned from: the hashes are of the documents with their gold, in order.

    `ceiling` is what the right answers themselves score against the gold of train.
    """

    languages: tuple[str, ...]
    train_documents: int
    train_sha256: str
    dev_documents: int
    dev_sha256: str
    excluded: int = 0
    ceiling: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """adapter.toml."""

    name: str
    base: Base
    shape: Shape
    asked: Asked
    data: Data
    best_epoch: int
    effect: float
    """By how much it changes log-probabilities of three texts, at most."""
    training: dict[str, Any] = field(default_factory=dict)
    """The options of its fit."""
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """The sha256 of each file."""
    epochs: tuple[dict[str, float], ...] = ()
    """Loss and dev scores of each epoch."""
    format: int = FORMAT

    def toml(self) -> str:
        return to_toml({"format": self.format} | asdict(self))


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that was found; its card has been read, its files have not."""

    folder: Path
    card: Card

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def provenance(self) -> dict[str, Any]:
        """What a run's record says of it."""
        found = {"name": self.name, "rank": self.card.shape.rank, "sha256": self.card.files.get(WEIGHTS, "")}
        return {"adapter": found}

    @property
    def note(self) -> str:
        """What whoever reads the scores must know of it."""
        how = f"LoRA adapter '{self.name}'" if self.card.shape.tune == "lora" else "tuned fully"
        return f"{how}, tuned on {self.card.data.train_documents} documents"

    def check_files(self) -> None:
        """Raises UserError where a file is missing, pickled, cut off or changed, or has another rank than it says."""
        weights = self.folder / WEIGHTS
        if not weights.is_file():
            beside = pickle_beside(self.folder)
            raise UserError.at(self.folder, f"has no {WEIGHTS}{beside}: expected an adapter that 'm3dllm fit' wrote")
        shapes = tensor_shapes(weights)
        rank = _rank(self.folder / CONFIG)
        for name, shape in shapes.items():
            side = 0 if ".lora_A." in name else 1 if ".lora_B." in name else None
            found_rank = rank if side is None else shape[side] if len(shape) == 2 else 0
            if found_rank != rank:
                message = f"'{name}' has rank {found_rank}, and {CONFIG} says {rank}: fetch or fit the adapter again"
                raise UserError.at(weights, message)
        for name, expected in self.card.files.items():
            if sha256_file(self.folder / name) != expected:
                message = "is not the file that the fit wrote (cut off or changed): fetch or fit the adapter again"
                raise UserError.at(self.folder / name, message)

    def check_use(self, config: Config, labels: LabelSet, prompts: Prompts) -> None:
        """Raises UserError where the adapter was tuned for other prompts or another label set."""
        asked = self.card.asked
        if asked.strategy != config.strategy:
            self._refuse(f"was tuned to be asked with --strategy {asked.strategy}, not {config.strategy}")
        if asked.version != config.prompt_version:
            wanted = f"version {asked.version} of the prompts, not {config.prompt_version}"
            self._refuse(f"was tuned for {wanted}: give --prompt-version {asked.version}, or tune another")
        if asked.labels_sha256 != labels_sha256(labels):
            self._refuse("was tuned for another label set than that of this corpus: tune another on this corpus")
        if asked.sha256 != prompts_sha256(prompts, config.strategy):
            self._refuse("was tuned for prompts of other words: give the same --prompts, or tune another")
        usual = type(config)()
        for name in ("box_convention", "video", "frames", "frame_choice", "longest_side", "fps", "shots"):
            given, learned = getattr(config, name), self.card.training.get(name, getattr(usual, name))
            what = f"was tuned with --{name.replace('_', '-')} {learned}, and is asked with {given}"
            if given != learned and name in ("box_convention", "video"):
                self._refuse(f"{what}: its answers mean something else then")
            if given != learned:
                log.warning("adapter '%s' %s", self.name, what)

    def check_base(self, local: LocalModel) -> None:
        """Raises UserError where the model is not the one that was tuned."""
        base = self.card.base
        if (found := base_sha256(local)) != base.sha256:
            name = f"'{base.model}'" if base.model else "an embedded model"
            remedy = "give that model as --model" if base.model else "leave --model out, fetch the adapter again"
            what = f"was tuned on {name} ({base.sha256[:12]}), not on '{local.name}' ({found[:12]})"
            self._refuse(f"{what}: {remedy}, or tune another")

    def _refuse(self, why: str) -> None:
        raise UserError.at(self.folder, f"adapter '{self.name}' {why}")


# --- finding ----------------------------------------------------------------------------------------------------------


def find_adapter(given: str | Path) -> Adapter:
    """The adapter of that name, in that folder, or of that run. Raises UserError where there is none."""
    path = Path(given)
    for folder in (path, path / "checkpoint", *(root / given for root in _roots())):
        if (folder / CARD).is_file():
            return open_adapter(folder)
    if path.is_dir():
        raise UserError.at(path, f"has no {CARD}: expected an adapter that 'm3dllm fit' wrote")
    known = ", ".join(sorted({found.name for found in listed() if isinstance(found, Adapter)})) or "none"
    raise UserError(f"--adapter {given}: there is no such adapter or folder; known: {known} (see 'm3dllm adapters')")


def open_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`. Raises UserError where its adapter.toml cannot be read."""
    path = folder / CARD
    try:
        table = tomllib.loads(read_text(path))
        card = convert(table, Card, strict=False)
    except tomllib.TOMLDecodeError as error:
        raise UserError.at(path, f"is no TOML ({error}): fetch or fit the adapter again") from error
    except WireError as error:
        raise error.at(path) from error
    if card.format != FORMAT:
        raise UserError.at(path, f"is of format {card.format}; this version reads {FORMAT}: fit again")
    return Adapter(folder, card)


def listed() -> Iterator[Adapter | UserError]:
    """The adapters in ./adapters and those that come with the package, each name once; broken ones as their errors."""
    seen = set()
    for root in _roots():
        for path in sorted(root.glob(f"*/{CARD}")):
            if path.parent.name not in seen:
                seen.add(path.parent.name)
                try:
                    yield open_adapter(path.parent)
                except UserError as error:
                    yield error


def _roots() -> list[Path]:
    return [root for root in (OWN, SHIPPED) if root is not None and root.is_dir()]


def tuned(config: Config, checkpoint: Path | None) -> tuple[Config, Adapter | None]:
    """(the options with the model that they mean, what was tuned of it or None).

    `checkpoint` is the result of a fit: an adapter, or a whole model. Where no model was named, it is the adapter's.
    A server's adapter may be unknown here. Raises UserError.
    """
    if checkpoint is not None and config.adapter:
        raise UserError("--checkpoint and --adapter name two adapters: give one of them")
    given = str(checkpoint) if checkpoint is not None else config.adapter
    if given is None:
        return config, None
    if config.engine == "openai":
        if checkpoint is not None:
            raise UserError("--checkpoint: a server loads its adapters itself: give the name it has there as --adapter")
        try:
            return config, find_adapter(given)
        except UserError:
            log.warning("adapter '%s' is not known here: its prompts and label set cannot be checked", given)
            return config, None
    found = find_adapter(given)
    if found.card.shape.tune == "full":
        if checkpoint is None:
            raise UserError.at(found.folder, f"is a whole model, no adapter: give --model {found.folder / MODEL}")
        return replace(config, model=str(found.folder / MODEL)), found
    base = found.card.base
    if config.model is None:
        config = replace(config, model=base.model or None, revision=config.revision or base.revision or None)
    return replace(config, adapter=str(found.folder)), found


# --- hashes and files -------------------------------------------------------------------------------------------------


def base_sha256(local: LocalModel) -> str:
    """What tells a model apart: its revision on the hub; in a folder the hash of its weights and configuration."""
    folder = Path(local.source)
    if not folder.is_dir():
        return local.sha256
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]):
        if path.is_file():
            total.update(f"{path.name}\0{sha256_file(path)}\0".encode())
    return total.hexdigest()


def labels_sha256(labels: LabelSet) -> str:
    """The hash of a label set's meaning, glosses too: they stand in the prompts."""
    return hashlib.sha256(encode_labels(labels).encode()).hexdigest()


def prompts_sha256(prompts: Prompts, strategy: str) -> str:
    """The hash of all templates that a strategy asks with."""
    return hashlib.sha256(json.dumps(prompts.hashes(strategy), sort_keys=True).encode()).hexdigest()


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a safetensors file, from its header. Raises UserError where it is none, or cut off."""
    data = read_bytes(path)
    if is_pickle(data):
        raise UserError.at(path, "is a pickle, which is never read: expected safetensors; fetch the adapter again")
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        rows = {name: row for name, row in header.items() if name != "__metadata__"}
        end = max((row["data_offsets"][1] for row in rows.values()), default=0)
        shapes = {name: tuple(row["shape"]) for name, row in rows.items()}
    except (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError.at(
            path, "is damaged or cut off: expected safetensors; fetch or fit the adapter again"
        ) from error
    if len(data) != 8 + length + end:
        message = f"is cut off: it has {len(data)} of {8 + length + end} bytes; fetch or fit the adapter again"
        raise UserError.at(path, message)
    return shapes


def _rank(path: Path) -> int:
    try:
        return int(json.loads(read_bytes(path))["r"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError.at(path, "is no configuration of a LoRA adapter: fetch or fit the adapter again") from error


# --- TOML -------------------------------------------------------------------------------------------------------------


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """A table of texts, numbers, lists of them, tables, and lists of tables, as TOML; None is left out."""
    plain, parts = [], []
    for key, value in table.items():
        name = f"{prefix}{_key(key)}"
        if isinstance(value, Mapping):
            parts.append(f"[{name}]\n{to_toml(value, name + '.')}")
        elif isinstance(value, Sequence) and value and all(isinstance(row, Mapping) for row in value):
            parts += [f"[[{name}]]\n{to_toml(row, name + '.')}" for row in value]
        elif value is not None:
            plain.append(f"{_key(key)} = {_value(value)}\n")
    return "".join(plain) + "".join("\n" + part for part in parts)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isascii() and key.replace("_", "").isalnum() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)
