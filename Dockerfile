# m3dllm on a CPU:   docker build -t m3dllm .
#                    docker run --rm -v "$PWD:/work" m3dllm run --system video-llm --out runs/first
# With vLLM, a GPU:  docker build -t m3dllm-vllm --build-arg BASE=vllm/vllm-openai:v0.32.0 --build-arg EXTRAS=supervised,llm,server,video .
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG EXTRAS=supervised,llm,server,video
COPY pyproject.toml README.md LICENSE /src/
COPY m3dllm /src/m3dllm
COPY prompts /src/prompts
COPY adapters /src/adapters
COPY checkpoints /src/checkpoints
COPY benchmarks/experiments /src/benchmarks/experiments
# Where the base brings torch, that torch stays. For a small image without CUDA, name pip an index of CPU builds of torch:
# --build-arg PIP_EXTRA_INDEX_URL=…
ARG PIP_EXTRA_INDEX_URL=
RUN python3 -m pip install --no-cache-dir "/src[${EXTRAS}]" && useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
ENTRYPOINT ["m3dllm"]
