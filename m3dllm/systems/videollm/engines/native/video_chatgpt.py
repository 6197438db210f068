"""Video-ChatGPT without its weights: its parts, its chat format, the size of a clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

from m3dllm.systems.videollm.engines.native.local import NativeLocal, Piece, clip_of, text_of
from m3dllm.systems.videollm.engines.native.parts import Part
from m3dllm.systems.videollm.messages import Message


class VideoChatGPTLocal(NativeLocal):
    """Video-ChatGPT without its weights."""

    engine: ClassVar = "video-chatgpt"
    language: ClassVar = Part("mmaaz60/LLaVA-7B-Lightening-v1-1", "language")
    vision: ClassVar = Part("openai/clip-vit-large-patch14", "vision")
    own: ClassVar = Part("MBZUAI/Video-ChatGPT-7B", "")
    files: ClassVar = ("video_chatgpt-7B.safetensors", "video_chatgpt-7B.bin")
    most_frames: ClassVar = 100
    marks_of_chat: ClassVar = ("<video>", "<vid_patch>", "<vid_start>", "<vid_end>")

    def tiny_language(self) -> Any:
        return self.tiny_llama(2048)

    @cached_property
    def vision_config(self) -> Any:
        """The configuration of the CLIP encoder."""
        from transformers import CLIPVisionConfig

        if self.is_tiny:
            return CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                image_size=56,
                patch_size=14,
            )
        return self.configuration(CLIPVisionConfig, self.vision)

    @property
    def rows(self) -> int:
        return self.most_frames + int(self.vision_config.image_size // self.vision_config.patch_size) ** 2

    @property
    def side(self) -> int:
        return int(self.vision_config.image_size)

    @property
    def placeholder(self) -> int:
        return len(self.tokenizer)

    @property
    def tokens(self) -> int:
        """The number of input tokens: the tokenizer's, then placeholder, start and end of a clip."""
        return len(self.tokenizer) + 3

    def clip_tokens(self) -> list[int]:
        start, end = self.placeholder + 1, self.placeholder + 2
        return [start, *super().clip_tokens(), end]

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        for message in messages:
            if message.role == "system":
                yield f"{text_of(message)} "
            elif message.role == "assistant":
                yield f"ASSISTANT: {text_of(message)}{self.tokenizer.eos_token}"
            else:
                clip = clip_of(message)
                yield f"USER: {text_of(message)}" + ("\n" if clip else "")
                yield from [clip] if clip else []
                yield " "
        yield "ASSISTANT:"
