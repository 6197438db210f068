"""The places of the parts of a native model, on the hub or in a folder. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from m3dllm.errors import UserError

PUBLISHED = "published"
"""The value of --model for the authors' weights on the hub."""
TINY = "tiny"
"""The value of --model for a small model with random weights, for tests."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model: its hub id, perhaps with a subfolder, and its name in a local folder."""

    hub: str
    name: str
    subfolder: str = ""

    def at(self, model: str) -> dict[str, str]:
        """Its place, as arguments of transformers. Raises UserError if the folder `model` lacks it."""
        if model == PUBLISHED:
            return {"pretrained_model_name_or_path": self.hub, "subfolder": self.subfolder}
        if not (folder := Path(model) / self.name).is_dir():
            raise UserError.at(folder, f"is not a folder: expected there what {self.hub} has on the hub")
        return {"pretrained_model_name_or_path": str(folder)}

    def file(self, model: str, *names: str) -> Path:
        """The first of these files that the part has. Raises UserError if it has none."""
        place = self.at(model)
        for name in names:
            if (found := _file(place, name)) is not None:
                return found
        where = "/".join(filter(None, place.values()))
        raise UserError(f"{where} has no {' or '.join(names)}, or cannot be reached")


def _file(place: Mapping[str, str], name: str) -> Path | None:
    """The file of that name in a folder or on the hub; None if there is none."""
    source, inner = place["pretrained_model_name_or_path"], place.get("subfolder", "")
    if Path(source).is_dir():
        return path if (path := Path(source) / name).is_file() else None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, name, subfolder=inner or None))
    except (OSError, ValueError):  # missing, or no network
        return None
