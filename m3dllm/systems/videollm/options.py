"""The options of `video-llm`, as values: those of answering, and those of tuning. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from m3dllm import config
from m3dllm.config import ADVANCED, FIT, INCIDENTAL, AtLeast0, AtLeast1, NotNegative, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(config.Options):
    """How documents are answered. They make a run what it is."""

    model: str | None = None
    """A model's folder or hub id, or its name on a server; default: the embedded one, or what is served."""
    entailment_model: Annotated[str | None, ADVANCED] = None
    """Another model for the questions that a strategy puts to an entailment model; default: --model is asked."""
    grounding_model: Annotated[str | None, ADVANCED] = None
    """Another model for the questions that a strategy puts to a grounding model; default: --model is asked."""
    engine: str = "transformers"
    """What generates: transformers or vllm on this machine, or openai: a server."""
    base_url: Annotated[str | None, INCIDENTAL] = None
    """Where the server is, for --engine openai."""
    api_key_env: Annotated[str, INCIDENTAL] = "OPENAI_API_KEY"
    """The environment variable with the server's key; where it is not set, none is sent."""
    header: Annotated[tuple[str, ...], INCIDENTAL, ADVANCED] = ()
    """A header of every request, 'Name: value'; $VARIABLE stands for an environment variable; repeatable. Only its name
    is kept."""
    query: Annotated[tuple[str, ...], INCIDENTAL, ADVANCED] = ()
    """A parameter of the server's address, name=value, as api-version=… of an Azure deployment; likewise."""
    extra_body: Annotated[str | None, ADVANCED] = None
    """A JSON object that is added to every request of a server, such as '{"provider": {"sort": "price"}}'."""
    omit: Annotated[tuple[str, ...], ADVANCED] = ()
    """Parameters that are not sent to a server, such as temperature,seed; what it refuses by name is learned."""
    reasoning_effort: Annotated[str | None, ADVANCED] = None
    """How long a server's model thinks: low, medium, high, or what the server takes."""
    thinking: AtLeast0 | None = None
    """Tokens that a thinking model may think before its answer, which alone is constrained; 0: none. Default: none, and
    of a server what it does by itself."""
    rpm: Annotated[AtLeast0, INCIDENTAL, ADVANCED] = 0
    """The most requests to a server per minute; 0: no limit."""
    tpm: Annotated[AtLeast0, INCIDENTAL, ADVANCED] = 0
    """The most tokens per minute, prompts and longest answers by our estimate; 0: no limit."""
    max_wait: Annotated[NotNegative, INCIDENTAL, ADVANCED] = 600.0
    """How many seconds a request waits in all where a server says that its rate limit is reached."""
    batch_file: Annotated[str | None, INCIDENTAL, ADVANCED] = None
    """With --engine openai, a file to write the requests to in place of asking a server, for a batch interface."""
    batch_answers: Annotated[tuple[str, ...], INCIDENTAL, ADVANCED] = ()
    """The files that the batch gave back; what has no answer there is written to --batch-file."""
    strategy: str = "joint"
    """How to ask: joint (one answer), staged (entities, chains, relations, grounding), framewise (as staged, but
    grounding for a frame at a time), mqa (spans, then choices), or another of docs/systems."""
    gate: Annotated[Share | None, ADVANCED] = None
    """By entropy, from 0 to 1: gem asks again about types that are less sure than this (default 0.2); verify asks only
    about parts that are (default 0: about all)."""
    shots: AtLeast0 = 0
    """Few-shot examples from the train split in a prompt."""
    shot_choice: Literal["random", "fixed", "similar"] = "random"
    """Which examples: any, the same for all documents (a server encodes them once), or those with the most similar
    text."""
    shot_frames: Annotated[AtLeast0, ADVANCED] = 0
    """How many annotated frames of an example are shown; from version 2 of the prompts on."""
    retriever: Annotated[str, ADVANCED] = "lexical"
    """What similar means: lexical (shared words), minilm (English), or a text encoder's folder or hub id."""
    frames: AtLeast0 = 8
    """The most frames of a document that are shown."""
    frame_choice: Literal["uniform", "subtitles", "annotated"] = "uniform"
    """Which frames: spread evenly, one for each stretch of subtitles, or those that were annotated."""
    longest_side: Annotated[int, Meta(ge=28), ADVANCED] = 640
    """The longest side of a frame as shown, in pixels."""
    video: bool = False
    """Show the frames as one video instead of separate, labelled images; regions are not asked for then."""
    fps: Annotated[NotNegative, ADVANCED] = 24.0
    """Frames a second of the clips, by which a frame's number becomes a time; 0: frames are shown without times."""
    family: str | None = None
    """What kind of model it is, where its name does not say: it decides how boxes are read and images prepared."""
    box_convention: Annotated[str | None, ADVANCED] = None
    """What the numbers of a box mean (fraction, permille, pixels, …), where it is not what the family says."""
    unconstrained: bool = False
    """Let the model write freely, and salvage what it wrote: the control experiment."""
    schema_only: bool = False
    """Constrain to the JSON schema only, as for servers that take no grammar: mentions and references stay free."""
    max_tokens: Annotated[int, Meta(ge=16)] = 2048
    """The longest answer, in tokens."""
    context: AtLeast1 | None = None
    """Tokens that prompt and answer may have together; default: what the model allows, in vLLM at most 32768."""
    max_chains: Annotated[AtLeast1, ADVANCED] = 48
    """The most chains of an answer."""
    max_mentions: Annotated[AtLeast1, ADVANCED] = 24
    """The most texts of a chain, or of a type."""
    max_relations: Annotated[AtLeast0, ADVANCED] = 64
    """The most relations of an answer."""
    max_regions: Annotated[AtLeast0, ADVANCED] = 8
    """The most regions of a frame; an answer has at most this many times the number of frames."""
    max_mention_characters: Annotated[int, Meta(ge=2), ADVANCED] = 120
    """The longest mention."""
    temperature: NotNegative = 0.0
    """0: the likeliest token each time; above: sampled, with the seed."""
    batch: Annotated[AtLeast1 | None, INCIDENTAL] = None
    """Documents that are answered at once; default: in transformers 4 on a CPU and what memory allows on a GPU, in vLLM
    what its cache holds, of a server 16 requests."""
    prompts: Annotated[str | None, ADVANCED] = None
    """A folder with prompts of your own, laid over the model's, which 'm3dllm prompts copy DIR' writes for a start."""
    prompt_version: Annotated[AtLeast1 | None, ADVANCED] = None
    """Which version of the prompts; default: what the adapter was tuned for, of the embedded model 1, of your own
    prompts their newest, else 2."""
    prompt_form: Literal["full", "compact"] = "full"
    """How much they say: full, or compact: labels only, for a model that is tuned; from version 2 on."""
    guidelines: Annotated[str | None, INCIDENTAL] = None
    """A file with what is annotated and what is not, or a folder with guidelines.en.md and guidelines.zh.md; default:
    those of the corpus. From version 2 on."""
    revision: Annotated[str | None, ADVANCED] = None
    """The revision of a model of the hub."""
    trust_remote_code: Annotated[bool, ADVANCED] = False
    """Run code that comes with the model."""
    tensor_parallel: Annotated[AtLeast1, INCIDENTAL] = 1
    """Over how many GPUs vLLM spreads a model."""
    engine_args: Annotated[tuple[str, ...], ADVANCED] = ()
    """Arguments of vLLM's engine, separated by commas, such as gpu_memory_utilization=0.8,quantization=fp8."""
    retries: Annotated[AtLeast0, INCIDENTAL, ADVANCED] = 5
    """How often a failed request to a server is retried, with growing waits."""
    timeout: Annotated[float, Meta(gt=0), INCIDENTAL, ADVANCED] = 600.0
    """The longest wait for an answer of a server, in seconds."""
    device: Annotated[str, INCIDENTAL] = "auto"
    """Where the model runs: cuda, cuda:1, cpu, mps; auto: a GPU if there is one."""
    dtype: Annotated[str, ADVANCED] = "auto"
    """The precision that it computes with: bfloat16, float16, float32; auto: what the model was saved in."""
    seed: int = 0
    """The seed of what is chosen at random."""
    adapter: str | None = None
    """A LoRA adapter: a name that 'm3dllm adapters' lists, its folder, or the run of its fit; with --engine openai the
    name under which the server has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOptions(Options):
    """How a model is tuned to the answers that these options ask for. Only a fit depends on them."""

    tune: Annotated[Literal["lora", "full"], FIT] = "lora"
    """What 'm3dllm fit' trains: lora (an adapter), or full (all weights of the language model)."""
    rank: Annotated[AtLeast1, FIT] = 16
    """LoRA: the rank of the adapter."""
    alpha: Annotated[AtLeast1, FIT] = 32
    """LoRA: what the adapter adds is scaled by alpha / rank."""
    dropout: Annotated[float, Meta(ge=0, lt=1), FIT] = 0.05
    """LoRA: the share of an adapter's inputs that is dropped in training."""
    targets: Annotated[tuple[str, ...], FIT] = ()
    """LoRA: the linear layers that are adapted, by the end of their names; default: all of the language model."""
    train_fully: Annotated[tuple[str, ...], FIT] = ()
    """Modules of which all weights are trained besides, by the end of their names, such as lm_head or visual."""
    four_bit: Annotated[Literal["auto", "yes", "no"], FIT] = "auto"
    """LoRA: hold the model in 4 bits while it is trained; auto: where bitsandbytes and a GPU are there."""
    epochs: Annotated[AtLeast1, FIT] = 3
    """The most passes over the train split."""
    lr: Annotated[Annotated[float, Meta(gt=0)] | None, FIT] = None
    """The learning rate; default: 2e-4 for lora, 2e-5 for full."""
    warmup: Annotated[float, Meta(ge=0, lt=1), FIT] = 0.03
    """The share of all steps in which the learning rate rises; it falls to 0 after."""
    weight_decay: Annotated[NotNegative, FIT] = 0.0
    """AdamW's weight decay."""
    clip: Annotated[float, Meta(gt=0), FIT] = 1.0
    """The longest gradient."""
    step_size: Annotated[AtLeast1, FIT] = 16
    """Answers that a step is trained on, however many devices share them."""
    micro_batch: Annotated[AtLeast1, FIT, INCIDENTAL] = 1
    """How many of them go through the model at once."""
    checkpointing: Annotated[bool, FIT, INCIDENTAL] = True
    """Save memory: compute what lies between layers again when it is needed."""
    group_by_length: Annotated[bool, FIT] = True
    """Group answers of similar length into a step."""
    patience: Annotated[AtLeast0, FIT] = 2
    """Stop after this many epochs without a better dev score; 0: never."""
    dev_limit: Annotated[AtLeast0, FIT] = 0
    """Choose the best epoch on N documents of the dev split, drawn by the seed; 0: all."""
    save_every: Annotated[AtLeast1, FIT, INCIDENTAL] = 200
    """After how many steps the state is saved, besides at the end of each epoch."""
    box_step: Annotated[AtLeast1, FIT] = 1
    """Boxes are written in steps of so many units of the last digit: coarser ones take less training."""
    box_jitter: Annotated[float, Meta(ge=0, lt=0.5), FIT] = 0.0
    """Each time a box is trained on, its place and size change by at most this share of its side; E2E-GMNER: 0.1."""
    exclude_unfit: Annotated[bool, FIT] = False
    """Skip train documents whose question and answer do not fit into context and --max-tokens; else an error."""
    save_as: Annotated[str | None, FIT, INCIDENTAL] = None
    """Also keep the adapter as adapters/NAME."""
