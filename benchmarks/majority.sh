#!/usr/bin/env bash
# The heuristic baselines as a system on every corpus at hand, with both pair protocols, and one report over the runs.
#   benchmarks/majority.sh DATA [OUT]      DATA holds m3d/ and mdocre_samples/
set -euo pipefail
data=$1 out=${2:-runs/majority}
mkdir -p "$out"

m3dllm import m3d "$data/m3d" --out "$out/corpora/m3d-dev"
m3dllm check "$out/corpora/m3d-dev"
m3dllm split "$out/corpora/m3d-dev" --ratio 8:1:1 --seed 0 --out "$out/corpora/m3d"

samples=$data/mdocre_samples/samples
m3dllm import brat "$samples/text_label" --text "$samples/text" --split-languages --coreference same_mention \
  --frames "$samples/video" --boxes "$samples/video_label" --out "$out/corpora/mdocre-all"
m3dllm check "$out/corpora/mdocre-all"
m3dllm split "$out/corpora/mdocre-all" --ratio 3:0:2 --seed 0 --out "$out/corpora/mdocre"

m3dllm run --system majority --pairs both --out "$out/demo"
m3dllm run --system majority --pairs both --corpus "$out/corpora/m3d" --out "$out/m3d"
m3dllm run --system majority --pairs both --corpus "$out/corpora/mdocre" --out "$out/mdocre"
m3dllm report "$out/demo" "$out/m3d" "$out/mdocre" --out "$out/report"
