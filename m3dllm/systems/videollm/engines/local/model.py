"""A local model without its weights: its processor, chat format and image preprocessing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.systems.videollm.embedded import FOLDER, NAME
from m3dllm.systems.videollm.engines.base import Count
from m3dllm.systems.videollm.engines.local.thinking import MARKS, ROOM, Marks, find_marks
from m3dllm.systems.videollm.engines.local.vision import prepare_clip, prepare_frame
from m3dllm.systems.videollm.families import TEXT_ONLY, SmartResize, find_family
from m3dllm.systems.videollm.frames import pad_to_square
from m3dllm.systems.videollm.messages import Clip, Message, Still
from m3dllm.systems.videollm.options import Options

if TYPE_CHECKING:
    from PIL.Image import Image

NEEDS = ("torch", "torchvision", "transformers", "peft", "accelerate", "llguidance", "outlines", "qwen_vl_utils")
"""The modules that local models need."""
SWITCHES = ("enable_thinking", "thinking")
"""The variables of chat templates that turn thinking on or off."""
_VARIABLE = r"(?<![\w.'\"]){}(?![\w'\"])"
KNOWN_SIZES = 1024
"""The number of sets of image sizes whose token counts are cached."""
HASHED_BYTES = 1 << 28
"""Weights up to this size are hashed whole; of larger ones only name, size and first megabyte."""


class LocalModel:
    """The processor of a model in a folder or on the hub, and all that is known without its weights.

    `name` is its name, `source` its place: they differ for the embedded model. Raises UserError if there is no such
    model, if it is neither an image-text-to-text nor a causal language model, and if it has no chat format.
    """

    def __init__(self, options: Options) -> None:
        from transformers import AutoConfig, AutoProcessor, AutoTokenizer

        self.name = options.model or NAME
        self.source = options.model or str(FOLDER)
        self.loading: dict[str, Any] = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
        be_quiet()
        place = Path(self.source)
        self.gguf = place if place.suffix.lower() == ".gguf" else None
        """The file of a model in llama.cpp's format."""
        if self.gguf is not None:
            self._find_gguf(self.gguf)
        elif place.exists() and not (place / "config.json").is_file():
            expected = "expected a folder with a config.json, a GGUF file, or a hub id, as --model"
            raise UserError.at(place, f"is not a model: {expected}")
        try:
            self.config = AutoConfig.from_pretrained(self.source, **self.loading)
            self.sees = self._sees()
            loader = AutoProcessor if self.sees else AutoTokenizer
            self.processor: Any = loader.from_pretrained(self.source, **self.loading)
        except (OSError, ValueError, ImportError, KeyError) as error:
            why = " ".join(str(error).split())[:200]
            message = f"model '{self.name}' cannot be loaded: expected a model's folder or hub id as --model ({why})"
            raise UserError(message) from error
        self.tokenizer: Any = getattr(self.processor, "tokenizer", self.processor)
        if not getattr(self.processor, "chat_template", None) and not getattr(self.tokenizer, "chat_template", None):
            raise UserError(f"model '{self.name}' has no chat format: take its instruct version")
        if options.video and self.sees and getattr(self.processor, "video_processor", None) is None:
            raise UserError(f"--video: model '{self.name}' reads images but no videos: omit it")
        self.most_thoughts = options.thinking or 0
        """The maximum number of thinking tokens."""
        if self.most_thoughts and self.marks is None:
            what = (
                f"is not a thinking model: neither its chat format nor its tokens have marks such as {MARKS[0].closes}"
            )
            raise UserError(f"--thinking {options.thinking}: model '{self.name}' {what}")
        self._sights: dict[tuple[tuple[int, int], ...], int] = {}
        """sizes of images -> the number of their placeholder tokens."""
        known = find_family(self.name, model_type=self.config.model_type, family=options.family)
        self.family = known if self.sees else TEXT_ONLY

    def _find_gguf(self, file: Path) -> None:
        """Make the library load this file. Raises UserError if it, or its reader, is missing."""
        if not file.is_file():
            raise UserError.at(file, "does not exist: expected a GGUF file, a model's folder or a hub id as --model")
        if find_spec("gguf") is None:
            raise UserError(f"--model {file}: GGUF files need 'gguf': pip install 'm3dllm[gguf]'")
        self.source = str(file.parent)
        self.loading["gguf_file"] = file.name

    def _sees(self) -> bool:
        """Whether the model reads images. Raises UserError for one that the library cannot load."""
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_CAUSAL_LM_MAPPING,
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        )

        if getattr(self.config.get_text_config(), "cross_attention_layers", None):  # mllama: Llama 3.2 Vision
            what = "reads images by cross-attention, which engines on this machine do not support"
            raise UserError(f"model '{self.name}' {what}: take a server: --engine openai")
        if type(self.config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            return True
        own = getattr(self.config, "auto_map", None) or {}
        reads = type(self.config) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in own
        if not reads or hasattr(self.config, "vision_config"):
            what = f"is a '{self.config.model_type}' model: expected one that transformers loads as"
            remedy = "for others take a server: --engine openai"
            message = f"{what} AutoModelForImageTextToText, or as AutoModelForCausalLM for texts alone; {remedy}"
            raise UserError(f"model '{self.name}' {message}")
        return False

    # --- thinking -----------------------------------------------------------------------------------------------------

    @cached_property
    def template(self) -> str:
        """The text of the chat template."""
        found = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        return str(found)

    @cached_property
    def marks(self) -> Marks | None:
        """The marks around the model's thinking; None if it does not think."""
        return find_marks(self.template, map(str, self.tokenizer.added_tokens_decoder.values()))

    @property
    def thinking(self) -> int:
        """The maximum number of thinking tokens, including marks."""
        return self.most_thoughts + ROOM if self.most_thoughts else 0

    # --- what is known of the model -----------------------------------------------------------------------------------

    @property
    def text_config(self) -> Any:
        return self.config.get_text_config()

    @property
    def vocabulary(self) -> int:
        """The size of the model's logits; the tokenizer may have fewer tokens."""
        return int(self.text_config.vocab_size)

    @property
    def context(self) -> int:
        return int(getattr(self.text_config, "max_position_embeddings", 0) or 4096)

    @cached_property
    def specials(self) -> tuple[str, ...]:
        """The strings that the tokenizer or processor does not read as text."""
        added = [str(token) for token in self.tokenizer.added_tokens_decoder.values()]
        own = [getattr(self.processor, name, None) for name in ("image_token", "video_token")]
        found = {*self.tokenizer.all_special_tokens, *added, *(token for token in own if isinstance(token, str))}
        return tuple(sorted(token for token in found if len(token) > 2))

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        from transformers import GenerationConfig

        found = [self.tokenizer.eos_token_id]
        try:
            ends = GenerationConfig.from_pretrained(self.source, **self.loading).eos_token_id
        except OSError:
            ends = None
        for end in (ends, getattr(self.text_config, "eos_token_id", None)):
            found += end if isinstance(end, list) else [end]
        return tuple(dict.fromkeys(token for token in found if token is not None and token < self.vocabulary))

    @cached_property
    def grammar_tokenizer(self) -> Any:
        """The tokenizer for llguidance, over the model's whole vocabulary."""
        import llguidance.hf

        try:
            return llguidance.hf.from_tokenizer(self.tokenizer, n_vocab=self.vocabulary, eos_token=list(self.stops))
        except ValueError as error:
            raise UserError(
                f"model '{self.name}': its tokenizer cannot be constrained ({error}): pass --unconstrained"
            ) from error

    @cached_property
    def sha256(self) -> str:
        """The revision of a model of the hub; the hash of a folder's files."""
        folder = Path(self.source)
        if self.gguf is not None:
            return sha256_file(self.gguf)
        if not folder.is_dir():
            return str(getattr(self.config, "_commit_hash", None) or "")
        total = hashlib.sha256()
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
            size = path.stat().st_size
            total.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
            with path.open("rb") as file:
                total.update(
                    hashlib.file_digest(file, "sha256").digest() if size <= HASHED_BYTES else file.read(1 << 20)
                )
        return total.hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """The model's identity in a run's record. The embedded one is identified by its weights alone: beside them
        lies code."""
        if self.source == str(FOLDER):
            return {"weights_sha256": self.weights_sha256}
        return {"sha256": self.sha256}

    @cached_property
    def weights_sha256(self) -> str:
        """The model's revision on the hub; for a folder, the hash of its weights and configuration."""
        folder = Path(self.source)
        if self.gguf is not None or not folder.is_dir():
            return self.sha256
        total = hashlib.sha256()
        for path in sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]):
            if path.is_file():
                total.update(f"{path.name}\0{sha256_file(path)}\0".encode())
        return total.hexdigest()

    # --- images -------------------------------------------------------------------------------------------------------

    @cached_property
    def resize(self) -> SmartResize | None:
        """The processor's own resizing, if it keeps the aspect ratio."""
        images = getattr(self.processor, "image_processor", None)
        size = getattr(images, "size", None)
        if self.family.resize is None or images is None or not hasattr(images, "merge_size") or not size:
            return self.family.resize
        shortest, longest = (int(size[name]) for name in ("shortest_edge", "longest_edge"))
        return SmartResize(images.patch_size * images.merge_size, shortest, longest)

    def prepare(self, image: Image) -> Image:
        """The image in the size that the model gets, or padded to a square, depending on the family."""
        if self.resize is not None:
            return prepare_frame(image, self.resize)
        return pad_to_square(image) if self.family.pads else image

    def prepare_clip(self, images: Sequence[Image]) -> list[Image]:
        """The frames of a clip, all of one size."""
        if self.clip_bounds is not None:
            return prepare_clip(images, self.clip_bounds, self.context)
        return [self.prepare(image.resize(images[0].size)) for image in images]

    @property
    def clip_bounds(self) -> SmartResize | None:
        """The processor's resizing of the frames of a clip, if it keeps the aspect ratio."""
        size = getattr(getattr(self.processor, "video_processor", None), "size", None)
        if self.resize is None or not size:
            return self.resize
        shortest, longest = (int(size[name]) for name in ("shortest_edge", "longest_edge"))
        return SmartResize(self.resize.factor, shortest, longest)

    # --- prompts ------------------------------------------------------------------------------------------------------

    def chat(self, messages: Sequence[Message]) -> str:
        """The prompt in the model's chat format, with a placeholder for each image; thinking is opened or closed."""
        import jinja2

        turns = [{"role": m.role, "content": self._content(m)} for m in messages]
        faults = (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
        try:
            try:
                return self._chat(turns)
            except jinja2.TemplateError:  # some formats have no system message
                if turns[0]["role"] != "system" or len(turns) < 2:
                    raise
                first = {"role": "user", "content": _joined(turns[0]["content"], turns[1]["content"])}
                return self._chat([first, *turns[2:]])
        except (*faults, RecursionError) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise UserError(f"the chat template of '{self.name}' cannot be filled ({why}): fix it") from error

    def _chat(self, turns: list[dict[str, Any]]) -> str:
        switches = {
            name: self.most_thoughts > 0 for name in SWITCHES if re.search(_VARIABLE.format(name), self.template)
        }
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **switches)
        return self.marks.start(str(text), thinks=self.most_thoughts > 0) if self.marks else str(text)

    def _content(self, message: Message) -> Any:
        if not self.sees:
            return "".join(part for part in message.parts if isinstance(part, str))
        if message.role == "system" and all(isinstance(part, str) for part in message.parts):
            return [{"type": "text", "text": "".join(map(str, message.parts))}]
        content = []
        for part in message.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif isinstance(part, Clip):
                content.append({"type": "video"})
            elif self.family.interleaves:
                content.append({"type": "image"})
            else:  # the format would put all images first: put the placeholder into the text instead
                content.append({"type": "text", "text": self.processor.image_token})
        return content

    def encode(self, messages: Sequence[Message], thoughts: str = "") -> Any:
        """The prompt, followed by `thoughts`, as model inputs: tokens, and pixels of images."""
        text = self.chat(messages) + thoughts
        if not self.sees:
            return self.tokenizer([text], return_tensors="pt", add_special_tokens=False)
        images = [part.image for m in messages for part in m.parts if isinstance(part, Still)]
        clips = [part for m in messages for part in m.parts if isinstance(part, Clip)]
        more: dict[str, Any] = {"images": images} if images else {}
        if clips:
            more["videos"] = [[still.image for still in clip.stills] for clip in clips]
            more["videos_kwargs"] = {
                "do_sample_frames": False,
                "video_metadata": [clip_metadata(clip) for clip in clips],
            }
        kwargs = {"add_special_tokens": False} if self.starts_itself(text) else {}
        return self.processor(text=[text], return_tensors="pt", text_kwargs=kwargs, **more)

    def starts_itself(self, text: str) -> bool:
        """Whether a prompt already has the start-of-text token."""
        return self.tokenizer.bos_token is not None and text.startswith(self.tokenizer.bos_token)

    @cached_property
    def placeholders(self) -> frozenset[int]:
        """The tokens that stand for images."""
        found = [getattr(self.config, f"{kind}_token_id", None) for kind in ("image", "video")]
        return frozenset(token for token in found if token is not None)

    def aligned(
        self, text: str, tokens: Sequence[int], logprobs: Sequence[float]
    ) -> tuple[tuple[int, float], ...] | None:
        """(end offset, log-probability) of each of an answer's tokens; None if they do not form its text.

        A token that ends inside a character counts as ending before it.
        """
        ends: list[int] = []
        begun, done = 0, 0  # the first token of an incomplete part, and the number of characters before it
        for i in range(len(tokens)):
            before = self._decoded(tokens[begun - 1 : begun]) if begun else ""
            piece = self._decoded(tokens[max(begun - 1, 0) : i + 1])[len(before) :]
            if not piece.endswith("\N{REPLACEMENT CHARACTER}"):
                begun, done = i + 1, done + len(piece)
            ends.append(done)
        if done > len(text) or self._decoded(tokens)[:done] != text[:done]:
            return None
        return tuple(zip(ends, logprobs, strict=False))

    def _decoded(self, tokens: Sequence[int]) -> str:
        found: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return found

    def first_tokens(self, options: Sequence[str]) -> list[int]:
        """The token with which each of the options begins."""
        return [self.tokenizer.encode(text, add_special_tokens=False)[0] for text in options]

    def vision_tokens(self, inputs: Any) -> int:
        """The number of image tokens of an encoded prompt."""
        ids = inputs["input_ids"]
        return int(sum((ids == token).sum() for token in self.placeholders))

    def count(self, messages: Sequence[Message]) -> Count:
        """The tokens of a prompt. The tokens of images are cached by size, if they are only placeholders."""
        parts = [part for message in messages for part in message.parts]
        sizes = tuple(part.image.size for part in parts if isinstance(part, Still))
        if not sizes or any(isinstance(part, Clip) for part in parts):
            inputs = self.encode(messages)
            return Count(inputs["input_ids"].shape[1], self.vision_tokens(inputs))
        text = self.chat(messages)
        kwargs = {"add_special_tokens": False} if self.starts_itself(text) else {}
        written = len(self.tokenizer([text], **kwargs)["input_ids"][0])
        vision = self._sights.get(sizes)
        if vision is None:
            inputs = self.encode(messages)
            total, vision = inputs["input_ids"].shape[1], self.vision_tokens(inputs)
            if total != written + vision - len(sizes):  # other tokens surround them
                return Count(total, vision)
            if len(self._sights) >= KNOWN_SIZES:
                self._sights.clear()
            self._sights[sizes] = vision
        return Count(written + vision - len(sizes), vision)


def be_quiet() -> None:
    """Silence the libraries' progress bars and retries: errors are one line."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity(CRITICAL)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str):
        return f"{first}\n\n{second}"
    return [*first, {"type": "text", "text": "\n\n"}, *second]


def clip_metadata(clip: Clip) -> dict[str, Any]:
    """The times of the frames of a clip, as metadata for video processors."""
    seconds = clip.seconds
    span = seconds[-1] - seconds[0]
    fps = (len(seconds) - 1) / span if span > 0 else 1.0
    return {
        "fps": fps,
        "total_num_frames": len(seconds),
        "frames_indices": list(range(len(seconds))),
        "duration": len(seconds) / fps,
        "width": clip.stills[0].image.width,
        "height": clip.stills[0].image.height,
    }
