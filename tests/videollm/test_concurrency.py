"""How many documents are under way where --batch is left open, and the arguments that vLLM is given besides."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.systems.videollm.config import Config, check
from m3dllm.systems.videollm.engines.transformers import MOST, fitting
from tests.small import LABELS

SEVEN_B = SimpleNamespace(num_hidden_layers=28, num_key_value_heads=4, num_attention_heads=28, hidden_size=3584)
GB = 1 << 30


def test_on_a_gpu_as_many_documents_as_keys_and_values_have_room():
    a_document = 2 * 28 * 4 * 128 * 2 * 8192
    assert fitting(SEVEN_B, 8192, free=20 * GB, bytes_each=2) == 20 * GB // (2 * a_document) == 22


@pytest.mark.parametrize(("free", "expected"), [(0, 1), (10_000 * GB, MOST)])
def test_there_is_always_one_document_and_never_more_than_the_most(free, expected):
    assert fitting(SEVEN_B, 8192, free=free, bytes_each=2) == expected


def test_arguments_of_vllm_need_vllm():
    with pytest.raises(UserError, match=r"--engine-args: .* add --engine vllm"):
        check(Config(engine_args=("quantization=fp8",)), LABELS)


class TestVllm:
    @pytest.fixture(autouse=True)
    def _vllm(self):
        pytest.importorskip("vllm", reason="needs the extra 'vllm'")

    @pytest.mark.parametrize(
        ("cache", "longest", "expected"), [(None, 4096, 256), (8192, 4096, 4), (1 << 30, 4096, 256), (100, 4096, 1)]
    )
    def test_as_many_documents_as_the_cache_holds(self, cache, longest, expected):
        from m3dllm.systems.videollm.engines.vllm import under_way

        assert under_way(cache, longest, 256) == expected

    def test_an_argument_is_read_as_json_or_as_a_text(self):
        from m3dllm.systems.videollm.engines.vllm import engine_arguments

        words = ("gpu-memory-utilization=0.8", "quantization=fp8", "enable_chunked_prefill=true")
        assert engine_arguments(words) == {
            "gpu_memory_utilization": 0.8,
            "quantization": "fp8",
            "enable_chunked_prefill": True,
        }

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("quantization", "expected name=value"),
            ("gpu_memory_utilisation=0.8", "did you mean gpu_memory_utilization?"),
            ("max_num_seqs=8", "max_num_seqs is given by --batch"),
            ("enable_lora=true", "'enable_lora' is set by this program"),
        ],
    )
    def test_an_argument_that_cannot_be_is_refused(self, word, message):
        from m3dllm.systems.videollm.engines.vllm import engine_arguments

        with pytest.raises(UserError, match=message.replace("?", r"\?")):
            engine_arguments((word,))
