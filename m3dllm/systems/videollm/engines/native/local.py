"""A native model without its weights: its parts, chat format, and input of frames."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.systems.videollm.embedded import FOLDER
from m3dllm.systems.videollm.engines.local.model import LocalModel, be_quiet
from m3dllm.systems.videollm.engines.native.parts import PUBLISHED, TINY, Part
from m3dllm.systems.videollm.families import Family
from m3dllm.systems.videollm.messages import Clip, Message
from m3dllm.systems.videollm.options import Options

if TYPE_CHECKING:
    from PIL.Image import Image

Piece = str | Clip
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""The standard deviations of red, green and blue in CLIP's training."""


class NativeLocal(LocalModel):
    """A model of parts: a language model, and encoders that turn the frames of a prompt into `rows` vectors."""

    engine: ClassVar[str]
    """Its name for --engine."""
    language: ClassVar[Part]
    own: ClassVar[Part]
    """The part that its authors trained, in the first existing file of `files`."""
    files: ClassVar[tuple[str, ...]]
    most_frames: ClassVar[int]
    marks_of_chat: ClassVar[tuple[str, ...]]
    """The marks of its chat format, besides the tokenizer's special tokens."""
    sees = True
    gguf = None
    most_thoughts = 0

    def __init__(self, options: Options) -> None:
        be_quiet()
        self.name, self.seed = f"{self.engine}, {options.model}", options.seed
        self.source = options.model or ""
        folder = Path(self.source)
        if self.source not in (PUBLISHED, TINY) and not (self.source and folder.is_dir()):
            expected = f"expected {PUBLISHED}, {TINY}, or a folder with its parts as --model"
            raise UserError(
                f"--engine {self.engine}: {options.model or 'no model'} is not one of its models: {expected}"
            )
        if options.frames > self.most_frames:
            raise UserError(f"--frames {options.frames}: {self.engine} sees at most {self.most_frames}")
        if options.prompt_version == 1:
            raise UserError(f"--prompt-version 1 names frames one by one, but {self.engine} sees one clip: omit it")
        family = f"{self.engine}: not trained on boxes, and prompted for fractions: a guess"
        self.family = Family(self.engine, "", (), "fraction", family)
        self.config = self.tiny_language() if self.is_tiny else self._published_language()
        self.tokenizer = self.processor = self._tokenizer()

    @property
    def is_tiny(self) -> bool:
        """Whether it is a small model with random weights."""
        return self.source == TINY

    @abstractmethod
    def tiny_language(self) -> Any:
        """The configuration of the tiny language model."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """The number of vectors of a clip."""

    @property
    @abstractmethod
    def side(self) -> int:
        """The side of an input frame in pixels: frames are resized to a square."""

    @property
    @abstractmethod
    def placeholder(self) -> int:
        """The placeholder token of a vector of a clip, which no text contains."""

    @abstractmethod
    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        """The prompt in the model's chat format: texts, each tokenized separately, and clips."""

    def clip_tokens(self) -> list[int]:
        """The placeholder tokens of a clip."""
        return [self.placeholder] * self.rows

    def tiny_llama(self, context: int) -> Any:
        """The configuration of a small Llama that reads `context` tokens."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=json.loads((FOLDER / "config.json").read_text())["text_config"]["vocab_size"],
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=context,
            bos_token_id=1,
            eos_token_id=2,
        )

    def configuration(self, kind: Any, part: Part) -> Any:
        """The configuration of a part. Raises UserError."""
        try:
            return kind.from_pretrained(**part.at(self.source))
        except (OSError, ValueError) as error:
            raise self.unloadable(error) from error

    # --- its parts ----------------------------------------------------------------------------------------------------

    def _published_language(self) -> Any:
        """The configuration of the language model, which may have the authors' own model type."""
        from transformers import LlamaConfig

        place = self.language.at(self.source)
        try:
            values, _ = LlamaConfig.get_config_dict(**place)
        except (OSError, ValueError) as error:
            raise self.unloadable(error) from error
        return LlamaConfig.from_dict({k: v for k, v in values.items() if k not in ("model_type", "architectures")})

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        if self.is_tiny:
            ends = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
            return AutoTokenizer.from_pretrained(FOLDER, **ends)
        try:
            return AutoTokenizer.from_pretrained(**self.language.at(self.source), config=self.config)
        except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
            raise self.unloadable(error) from error

    def unloadable(self, error: Exception) -> UserError:
        """The error for a part that cannot be loaded."""
        return UserError(f"model '{self.name}' cannot be loaded: {' '.join(str(error).split())[:200]}")

    def own_file(self) -> Path:
        """The file with the weights that its authors trained. Raises UserError if it is missing."""
        return self.own.file(self.source, *self.files)

    # --- what is known of the model -----------------------------------------------------------------------------------

    @property
    def text_config(self) -> Any:
        return self.config

    @property
    def stops(self) -> tuple[int, ...]:  # type: ignore[override]
        return (int(self.tokenizer.eos_token_id),)

    @cached_property
    def specials(self) -> tuple[str, ...]:
        return tuple(sorted({*super().specials, *self.marks_of_chat}))

    @cached_property
    def placeholders(self) -> frozenset[int]:
        return frozenset((self.placeholder,))

    @property
    def identity(self) -> dict[str, str]:
        """The identity by the weights that its authors trained; the card names the other parts."""
        return {"sha256": f"random, seed {self.seed}" if self.is_tiny else sha256_file(self.own_file())}

    # --- frames and prompts -------------------------------------------------------------------------------------------

    def prepare(self, image: Image) -> Image:
        return image.convert("RGB").resize((self.side, self.side))

    def prepare_clip(self, images: Sequence[Image]) -> list[Image]:
        return [self.prepare(image) for image in images]

    def chat(self, messages: Sequence[Message]) -> str:
        shown = (f"[{len(p.stills)} frames]" if isinstance(p, Clip) else p for p in self.pieces(messages))
        return "".join(shown)

    def encode(self, messages: Sequence[Message], thoughts: str = "") -> Any:
        """The prompt as model inputs: `input_ids` (1, tokens), and if it has frames
        `pixel_values_videos` (frames of all clips, 3, side, side) and `clip_lengths` (clips,)."""
        import numpy as np
        import torch

        ids, clips = [int(self.tokenizer.bos_token_id)], []
        for piece in self.pieces(messages):
            if isinstance(piece, Clip):
                clips.append(piece)
                ids += self.clip_tokens()
            else:
                ids += self.tokenizer.encode(piece, add_special_tokens=False)
        inputs = {"input_ids": torch.tensor([ids])}
        if clips:
            stills = [np.asarray(still.image, dtype=np.float32) for clip in clips for still in clip.stills]
            pixels = torch.from_numpy(np.stack(stills)) / 255
            pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
            inputs["pixel_values_videos"] = pixels.permute(0, 3, 1, 2).contiguous()
            inputs["clip_lengths"] = torch.tensor([len(clip.stills) for clip in clips])
        return inputs


def text_of(message: Message) -> str:
    """The texts of a message, without its frames."""
    return "".join(part for part in message.parts if isinstance(part, str)).strip()


def clip_of(message: Message) -> Clip | None:
    """The frames of a message; None if it has none."""
    return next((part for part in message.parts if isinstance(part, Clip)), None)
