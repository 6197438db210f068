"""Video-LLaMA without its weights: its parts, its chat format, the size of a clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

from m3dllm.systems.videollm.engines.native.local import NativeLocal, Piece, clip_of, text_of
from m3dllm.systems.videollm.engines.native.parts import Part
from m3dllm.systems.videollm.messages import Clip, Message


class VideoLlamaLocal(NativeLocal):
    """Video-LLaMA without its weights."""

    engine: ClassVar = "video-llama-2"
    language: ClassVar = Part("DAMO-NLP-SG/Video-LLaMA-2-7B-Finetuned", "llama-2-7b-chat-hf", "llama-2-7b-chat-hf")
    vision: ClassVar = Part("Salesforce/blip2-flan-t5-xxl", "blip2")
    own: ClassVar = Part("DAMO-NLP-SG/Video-LLaMA-2-7B-Finetuned", "")
    files: ClassVar = ("VL_LLaMA_2_7B_Finetuned.safetensors", "VL_LLaMA_2_7B_Finetuned.pth")
    most_frames: ClassVar = 32
    marks_of_chat: ClassVar = ("<Video>", "</Video>", "<ImageHere>", "<<SYS>>", "<</SYS>>")

    def tiny_language(self) -> Any:
        return self.tiny_llama(4096)

    @cached_property
    def blip2_config(self) -> Any:
        """The configuration of BLIP-2, whose vision encoder, queries and Q-Former are used."""
        from transformers import Blip2Config

        if not self.is_tiny:
            return self.configuration(Blip2Config, self.vision)
        layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        vision = layers | {"hidden_size": 32, "image_size": 56, "initializer_range": 0.02}
        qformer = layers | {"hidden_size": 48, "encoder_hidden_size": 32}
        return Blip2Config(vision_config=vision, qformer_config=qformer, num_query_tokens=32)

    @property
    def rows(self) -> int:
        return int(self.blip2_config.num_query_tokens)

    @property
    def side(self) -> int:
        return int(self.blip2_config.vision_config.image_size)

    @property
    def placeholder(self) -> int:
        return self.vocabulary

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        begun = "[INST] "
        for message in messages:
            if message.role == "system":
                begun += f"<<SYS>>\n{text_of(message)}\n<</SYS>>\n\n"
            elif message.role == "assistant":
                yield f" {text_of(message)} {self.tokenizer.eos_token}"
                begun = f"{self.tokenizer.bos_token}[INST] "
            elif (clip := clip_of(message)) is not None:
                yield f"{begun}<Video>"
                yield clip
                yield f"</Video> {_clip_note(clip)} {text_of(message)} [/INST]"
            else:
                yield f"{begun}{text_of(message)} [/INST]"


def _clip_note(clip: Clip) -> str:
    """The number of frames and their times, as text of the prompt."""
    at = ", ".join(f"{second:.1f}" for second in clip.seconds)
    return f"These are {len(clip.stills)} frames of a video, seen at {at} seconds."
