"""The options of `video-llm`: those of prediction, and those of tuning. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from m3dllm import config
from m3dllm.config import ADVANCED, FIT, INCIDENTAL, AtLeast0, AtLeast1, NotNegative, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(config.Options):
    """The options of prediction, which identify a run."""

    model: str | None = None
    """A model folder or hub id, or its name on a server; default: the embedded model, or the one the server serves."""
    entailment_model: Annotated[str | None, ADVANCED] = None
    """Another model for the entailment questions of a strategy; default: --model."""
    grounding_model: Annotated[str | None, ADVANCED] = None
    """Another model for the grounding questions of a strategy; default: --model."""
    engine: str = "transformers"
    """The inference engine: transformers or vllm on this machine, or openai for a server."""
    base_url: Annotated[str | None, INCIDENTAL] = None
    """The server's address, for --engine openai."""
    api_key_env: Annotated[str, INCIDENTAL] = "OPENAI_API_KEY"
    """The environment variable that holds the server's key; if it is not set, no key is sent."""
    header: Annotated[tuple[str, ...], INCIDENTAL, ADVANCED] = ()
    """A header for every request, 'Name: value'; $VARIABLE is replaced by an environment variable; repeatable. Only the
    name is recorded."""
    query: Annotated[tuple[str, ...], INCIDENTAL, ADVANCED] = ()
    """A query parameter of the server's address, name=value, such as api-version=… of an Azure deployment; likewise."""
    extra_body: Annotated[str | None, ADVANCED] = None
    """A JSON object added to every request to a server, such as '{"provider": {"sort": "price"}}'."""
    omit: Annotated[tuple[str, ...], ADVANCED] = ()
    """Parameters not to send to a server, such as temperature,seed; those it rejects by name are omitted
    automatically."""
    reasoning_effort: Annotated[str | None, ADVANCED] = None
    """The reasoning effort of a server's model: low, medium, high, or another value that the server accepts."""
    thinking: AtLeast0 | None = None
    """The maximum number of reasoning tokens before the answer; only the answer is constrained; 0: none. Default: none;
    for a server, its own default."""
    rpm: Annotated[AtLeast0, INCIDENTAL, ADVANCED] = 0
    """The maximum number of requests per minute to a server; 0: no limit."""
    tpm: Annotated[AtLeast0, INCIDENTAL, ADVANCED] = 0
    """The maximum number of tokens per minute, prompts plus maximum answers by our estimate; 0: no limit."""
    max_wait: Annotated[NotNegative, INCIDENTAL, ADVANCED] = 600.0
    """The total time in seconds that a request waits when the server reports a rate limit."""
    batch_file: Annotated[str | None, INCIDENTAL, ADVANCED] = None
    """With --engine openai, write the requests to this file, for a batch interface, instead of sending them."""
    batch_answers: Annotated[tuple[str, ...], INCIDENTAL, ADVANCED] = ()
    """The files returned by the batch; requests without an answer in them are written to --batch-file."""
    strategy: str = "joint"
    """The prompting strategy: joint (one answer), staged (entities, chains, relations, grounding), framewise (as
    staged, but grounding frame by frame), mqa (spans, then multiple choice), or another of docs/systems."""
    gate: Annotated[Share | None, ADVANCED] = None
    """A threshold on entropy, from 0 to 1: gem asks again about types that are less certain (default 0.2); verify only
    asks about parts that are (default 0: about all)."""
    shots: AtLeast0 = 0
    """The number of few-shot examples from the train split in a prompt."""
    shot_choice: Literal["random", "fixed", "similar"] = "random"
    """How examples are chosen: random, fixed (the same for all documents, so that a server caches them), or similar
    (the most similar texts)."""
    shot_frames: Annotated[AtLeast0, ADVANCED] = 0
    """The number of annotated frames shown per example; needs prompts of version 2 or later."""
    retriever: Annotated[str, ADVANCED] = "lexical"
    """The similarity of --shot-choice similar: lexical (shared words), minilm (English), or a text encoder's folder or
    hub id."""
    frames: AtLeast0 = 8
    """The maximum number of frames shown per document."""
    frame_choice: Literal["uniform", "subtitles", "annotated"] = "uniform"
    """How frames are chosen: uniform (evenly spaced), subtitles (one per stretch of subtitles), or annotated."""
    longest_side: Annotated[int, Meta(ge=28), ADVANCED] = 640
    """The longest side of a frame as shown to the model, in pixels."""
    video: bool = False
    """Show the frames as one video instead of separate, labelled images; no regions are predicted then."""
    fps: Annotated[NotNegative, ADVANCED] = 24.0
    """The frame rate of the clips, to compute a frame's time from its number; 0: frames are shown without times."""
    family: str | None = None
    """The model family, if the name does not tell it: it determines how boxes are read and images prepared."""
    box_convention: Annotated[str | None, ADVANCED] = None
    """The unit of box coordinates (fraction, permille, pixels, …), if it differs from that of the family."""
    unconstrained: bool = False
    """Decode freely and repair the answer: the control for constrained decoding."""
    schema_only: bool = False
    """Constrain only to the JSON schema, for servers without grammars: mentions and references stay free."""
    max_tokens: Annotated[int, Meta(ge=16)] = 2048
    """The maximum length of an answer, in tokens."""
    context: AtLeast1 | None = None
    """The maximum length of prompt plus answer, in tokens; default: the model's limit, with vLLM at most 32768."""
    max_chains: Annotated[AtLeast1, ADVANCED] = 48
    """The maximum number of chains in an answer."""
    max_mentions: Annotated[AtLeast1, ADVANCED] = 24
    """The maximum number of mentions per chain, or per type."""
    max_relations: Annotated[AtLeast0, ADVANCED] = 64
    """The maximum number of relations in an answer."""
    max_regions: Annotated[AtLeast0, ADVANCED] = 8
    """The maximum number of regions per frame; an answer has at most this times the number of frames."""
    max_mention_characters: Annotated[int, Meta(ge=2), ADVANCED] = 120
    """The maximum length of a mention, in characters."""
    temperature: NotNegative = 0.0
    """The sampling temperature; 0: greedy decoding."""
    batch: Annotated[AtLeast1 | None, INCIDENTAL] = None
    """The number of documents processed at once; default: with transformers 4 on a CPU and as many as fit on a GPU,
    with vLLM as many as fit in its cache, with a server 16 requests."""
    prompts: Annotated[str | None, ADVANCED] = None
    """A folder with your own prompts, which replace those of the model; 'm3dllm prompts copy DIR' creates one to start
    from."""
    prompt_version: Annotated[AtLeast1 | None, ADVANCED] = None
    """The version of the prompts; default: the one the adapter was tuned for; 1 for the embedded model without
    examples; the newest of your own prompts; else 2."""
    prompt_form: Literal["full", "compact"] = "full"
    """How detailed the prompts are: full, or compact (labels only, for tuned models); needs version 2 or later."""
    guidelines: Annotated[str | None, INCIDENTAL] = None
    """A file with annotation guidelines, or a folder with guidelines.en.md and guidelines.zh.md; default: those of the
    corpus. Needs prompts of version 2 or later."""
    revision: Annotated[str | None, ADVANCED] = None
    """The revision of a model on the hub."""
    trust_remote_code: Annotated[bool, ADVANCED] = False
    """Run code that comes with the model."""
    tensor_parallel: Annotated[AtLeast1, INCIDENTAL] = 1
    """The number of GPUs over which vLLM spreads a model."""
    engine_args: Annotated[tuple[str, ...], ADVANCED] = ()
    """Arguments of vLLM's engine, separated by commas, such as gpu_memory_utilization=0.8,quantization=fp8."""
    retries: Annotated[AtLeast0, INCIDENTAL, ADVANCED] = 5
    """The number of retries of a failed request to a server, with growing waits."""
    timeout: Annotated[float, Meta(gt=0), INCIDENTAL, ADVANCED] = 600.0
    """The maximum time in seconds to wait for a server's answer."""
    device: Annotated[str, INCIDENTAL] = "auto"
    """The device: cuda, cuda:1, cpu, mps; auto: a GPU if there is one."""
    dtype: Annotated[str, ADVANCED] = "auto"
    """The precision: bfloat16, float16, float32; auto: the one the model was saved in."""
    seed: int = 0
    """Random seed."""
    adapter: str | None = None
    """A LoRA adapter: a name from 'm3dllm adapters', its folder, or the run that trained it; with --engine openai, its
    name on the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOptions(Options):
    """The options of tuning a model to the gold answers of these prompts. Only training depends on them."""

    tune: Annotated[Literal["lora", "full"], FIT] = "lora"
    """What 'm3dllm fit' trains: lora (an adapter), or full (all weights of the language model)."""
    rank: Annotated[AtLeast1, FIT] = 16
    """LoRA: the rank of the adapter."""
    alpha: Annotated[AtLeast1, FIT] = 32
    """LoRA: the adapter's output is scaled by alpha / rank."""
    dropout: Annotated[float, Meta(ge=0, lt=1), FIT] = 0.05
    """LoRA: dropout on the adapter's inputs in training."""
    targets: Annotated[tuple[str, ...], FIT] = ()
    """LoRA: the linear layers to adapt, by name suffix; default: all in the language model."""
    train_fully: Annotated[tuple[str, ...], FIT] = ()
    """Modules to train with all their weights, by name suffix, such as lm_head or visual."""
    four_bit: Annotated[Literal["auto", "yes", "no"], FIT] = "auto"
    """LoRA: load the model in 4 bits for training; auto: if bitsandbytes and a GPU are available."""
    epochs: Annotated[AtLeast1, FIT] = 3
    """The maximum number of training epochs."""
    lr: Annotated[Annotated[float, Meta(gt=0)] | None, FIT] = None
    """The learning rate; default: 2e-4 for lora, 2e-5 for full."""
    warmup: Annotated[float, Meta(ge=0, lt=1), FIT] = 0.03
    """The share of steps with linear warm-up; the learning rate then decays to 0."""
    weight_decay: Annotated[NotNegative, FIT] = 0.0
    """AdamW's weight decay."""
    clip: Annotated[float, Meta(gt=0), FIT] = 1.0
    """The maximum gradient norm."""
    step_size: Annotated[AtLeast1, FIT] = 16
    """The number of answers per training step, over all devices together."""
    micro_batch: Annotated[AtLeast1, FIT, INCIDENTAL] = 1
    """The number of them that go through the model at once."""
    checkpointing: Annotated[bool, FIT, INCIDENTAL] = True
    """Use gradient checkpointing, which saves memory and costs time."""
    group_by_length: Annotated[bool, FIT] = True
    """Group answers of similar length into a step."""
    patience: Annotated[AtLeast0, FIT] = 2
    """Stop after this many epochs without a better dev score; 0: never."""
    dev_limit: Annotated[AtLeast0, FIT] = 0
    """Select the best epoch on N random documents of the dev split; 0: on all."""
    save_every: Annotated[AtLeast1, FIT, INCIDENTAL] = 200
    """Save the state after this many steps, and at the end of each epoch."""
    box_step: Annotated[AtLeast1, FIT] = 1
    """Round box coordinates to multiples of this many units of the last digit: coarser boxes need less training."""
    box_jitter: Annotated[float, Meta(ge=0, lt=0.5), FIT] = 0.0
    """Shift and resize a box by at most this share of its side each time it is trained on; E2E-GMNER: 0.1."""
    exclude_unfit: Annotated[bool, FIT] = False
    """Skip train documents whose prompt and answer exceed the context or --max-tokens; default: an error."""
    save_as: Annotated[str | None, FIT, INCIDENTAL] = None
    """Also save the adapter as adapters/NAME."""
