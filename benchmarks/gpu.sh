#!/usr/bin/env bash
# What a GPU makes of it, in about ten minutes: documents a minute by engine and batch, the share of the memory's bandwidth,
# memory, the same answers as on a CPU, and training in bf16 beside float32. Ends with a table in Markdown.
#   benchmarks/gpu.sh OUT                       from the project's folder, in its environment
#   DEVICE=cpu MODEL=qwen2_5_vl LIMIT=2 benchmarks/gpu.sh OUT    the same on a CPU with a tiny model, to see that it works
# The same command continues where it was stopped.
set -euo pipefail
out=${1:?where to put the runs} device=${DEVICE:-cuda} limit=${LIMIT:-32}
model=$(python -m benchmarks.gpu model "${MODEL:-qwen2.5-vl-3b}" "$out")

predict() { # NAME OPTION…
  m3dllm predict --system video-llm --out "$out/$1" "${@:2}"
}

with="--model $model --family qwen2.5-vl --limit $limit --context 16384 --max-tokens 128"
for batch in 1 8 ''; do
  predict "transformers-batch-${batch:-auto}" $with --device "$device" ${batch:+--batch "$batch"}
done
if python -c 'import vllm' 2>/dev/null; then
  for batch in 1 32 ''; do
    predict "vllm-batch-${batch:-auto}" $with --engine vllm ${batch:+--batch "$batch"}
  done
fi

# Parity: the embedded model in float32, on the CPU and here.
predict parity-cpu --limit 8 --dtype float32 --device cpu
predict parity-transformers --limit 8 --dtype float32 --device "$device"
if python -c 'import vllm' 2>/dev/null; then
  predict parity-vllm --limit 8 --dtype float32 --engine vllm
fi

for precision in fp32 bf16; do
  if [ "$device" = cpu ] && [ "$precision" = bf16 ]; then continue; fi
  m3dllm fit --system dffm --limit-train 64 --epochs 2 --device "$device" --precision "$precision" --out "$out/fit-$precision"
done

python -m benchmarks.gpu table "$out"
