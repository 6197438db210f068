"""An adapter on disk: its card, where it is found, and checks of its files. No weights are loaded.

`<folder>/adapter.toml` is its card; `adapter_config.json` and `adapter_model.safetensors` are as peft
writes them; `README.md` is the card for people. The same `adapter.toml` lies beside the weights of a model that was
tuned fully, in `model/`.
"""

from __future__ import annotations

import json
import struct
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from m3dllm.errors import UserError
from m3dllm.files import is_pickle, is_within, pickle_beside, read_bytes, read_text, sha256_file, shipped
from m3dllm.wire import FORMAT, WireError, convert, read_json

CARD, CONFIG, WEIGHTS, MODEL = "adapter.toml", "adapter_config.json", "adapter_model.safetensors", "model"

SHIPPED = shipped("adapters")
"""The adapters that come with the package."""
OWN = Path("adapters")
"""The folder of the user's adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that was tuned. `sha256` is that of its weights, or its revision on the hub."""

    model: str
    sha256: str
    revision: str = ""
    four_bit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The trained part of the model."""

    tune: Literal["lora", "full"]
    rank: int = 0
    alpha: int = 0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    train_fully: tuple[str, ...] = ()
    parameters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """The prompts that it is trained on."""

    strategy: str
    version: int
    sha256: str
    labels_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What it is trained on: the hashes are of the documents with their gold, in order.

    `ceiling` is the score of the gold answers themselves against the gold of train.
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
    """The content of adapter.toml."""

    name: str
    base: Base
    shape: Shape
    asked: Prompting
    data: Data
    best_epoch: int
    effect: float
    """The largest change of a log-probability over three texts."""
    training: dict[str, Any] = field(default_factory=dict)
    """The options of training."""
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
        """Its provenance in a run's record."""
        found = {"name": self.name, "rank": self.card.shape.rank, "sha256": self.card.files.get(WEIGHTS, "")}
        return {"adapter": found}

    @property
    def note(self) -> str:
        """The note about it for readers of scores."""
        how = f"LoRA adapter '{self.name}'" if self.card.shape.tune == "lora" else "tuned fully"
        return f"{how}, tuned on {self.card.data.train_documents} documents"

    def check_files(self) -> None:
        """Raises UserError if a file is missing, pickled, truncated or changed, or has another rank than the card."""
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
            if not is_within(self.folder, name):
                raise UserError.at(self.folder / CARD, f"names '{name}', which is not in the adapter: fit it again")
            if sha256_file(self.folder / name) != expected:
                message = "is not the file that the fit wrote (truncated or changed): fetch or fit the adapter again"
                raise UserError.at(self.folder / name, message)

    def check_base(self, name: str, sha256: str) -> None:
        """Raises UserError if the model of that name and hash is not the one that was tuned."""
        base = self.card.base
        if sha256 != base.sha256:
            named = f"'{base.model}'" if base.model else "an embedded model"
            remedy = "give that model as --model" if base.model else "omit --model, or fetch the adapter again"
            what = f"was tuned on {named} ({base.sha256[:12]}), not on '{name}' ({sha256[:12]})"
            raise self.refusal(f"{what}: {remedy}, or tune another")

    def refusal(self, why: str) -> UserError:
        """The error for why this adapter cannot be used."""
        return UserError.at(self.folder, f"adapter '{self.name}' {why}")


# --- finding ----------------------------------------------------------------------------------------------------------


def find_adapter(given: str | Path) -> Adapter:
    """The adapter of that name, in that folder, or of that run. Raises UserError if there is none."""
    path = Path(given)
    for folder in (path, path / "checkpoint", *(root / given for root in _roots())):
        if (folder / CARD).is_file():
            return open_adapter(folder)
    if path.is_dir():
        raise UserError.at(path, f"has no {CARD}: expected an adapter that 'm3dllm fit' wrote")
    known = ", ".join(sorted({found.name for found in listed() if isinstance(found, Adapter)})) or "none"
    raise UserError(f"--adapter {given}: no such adapter or folder; known: {known} (see 'm3dllm adapters')")


def open_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`. Raises UserError if its adapter.toml cannot be read."""
    path = folder / CARD
    try:
        table = tomllib.loads(read_text(path))
        card = convert(table, Card, strict=False)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError.at(path, f"is not valid TOML ({error}): fetch or fit the adapter again") from error
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
    return [root for root in (OWN, SHIPPED) if root.is_dir()]


# --- files  -------------------------------------------------------------------------------------------------


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a safetensors file, from its header. Raises UserError if it is not one, or truncated."""
    data = read_bytes(path)
    if is_pickle(data):
        raise UserError.at(path, "is a pickle, which is never loaded: expected safetensors; fetch the adapter again")
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = read_json(data[8 : 8 + length])
        rows = {name: row for name, row in header.items() if name != "__metadata__"}
        end = max((row["data_offsets"][1] for row in rows.values()), default=0)
        shapes = {name: tuple(row["shape"]) for name, row in rows.items()}
    except (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise UserError.at(
            path, "is damaged or truncated: expected safetensors; fetch or fit the adapter again"
        ) from error
    if len(data) != 8 + length + end:
        message = f"is truncated: it has {len(data)} of {8 + length + end} bytes; fetch or fit the adapter again"
        raise UserError.at(path, message)
    return shapes


def _rank(path: Path) -> int:
    try:
        return int(read_json(read_bytes(path))["r"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError.at(path, "is not a LoRA adapter configuration: fetch or fit the adapter again") from error


# --- TOML -------------------------------------------------------------------------------------------------------------


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """A table of texts, numbers, lists of them, tables, and lists of tables, as TOML; None is omitted."""
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
