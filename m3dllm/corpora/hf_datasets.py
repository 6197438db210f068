"""Hugging Face datasets: a folder written by `save_to_disk`, with the native fields."""

from __future__ import annotations

from pathlib import Path

from m3dllm.corpora.hub import from_datasets, load_datasets
from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError


def read_hf_datasets(path: Path) -> Imported:
    """The dataset, or the splits of the DatasetDict, saved at `path`; images are at the paths in the rows.

    Raises UserError if `datasets` is not installed, nothing is saved there, or a row is not a document.
    """
    datasets = load_datasets()
    if not path.is_dir():
        raise UserError.at(path, "is not a folder; expected one that 'save_to_disk' of Hugging Face datasets wrote")
    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())[:160]
        raise UserError.at(path, f"is not a readable saved Hugging Face dataset ({why})") from error
    return from_datasets(found)


IMPORTER = read_hf_datasets
