"""The guidelines of a corpus: what its annotators mark and what they do not, a text for each language.

They lie beside its label set, as `guidelines.en.md` and `guidelines.zh.md`; systems with prompts include them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from m3dllm.errors import UserError
from m3dllm.files import read_text
from m3dllm.types import Lang

FILES: Mapping[Lang, str] = {"en": "guidelines.en.md", "zh": "guidelines.zh.md"}


def guideline_files(folder: Path) -> dict[Lang, Path]:
    """The files of guidelines in a folder; none where it has none."""
    return {lang: folder / name for lang, name in FILES.items() if (folder / name).is_file()}


def read_guidelines(path: Path) -> dict[Lang, str]:
    """The guidelines in a folder, or in a file, which then serves every language.

    Raises UserError if there are none, or a file is empty or not text.
    """
    files = guideline_files(path) if path.is_dir() else dict.fromkeys(FILES, path)
    if not files:
        raise UserError.at(path, f"has no guidelines; expected a file, or a folder with {' or '.join(FILES.values())}")
    found = {lang: read_text(file).strip() for lang, file in files.items()}
    for lang, text in found.items():
        if not text:
            raise UserError.at(files[lang], "is empty; expected what is annotated and what is not, in words")
    return found
