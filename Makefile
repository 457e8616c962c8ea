# Every command sets up .venv by itself when that is needed.
PYTHON ?= python3
STUDY ?= synthetic_houses
BIN := .venv/bin
READY := .venv/.ready
# the marks of pyproject.toml
SLOW := kill or browser or server or engine or slow
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 15 --nbval

.PHONY: help run test test-slow test-all lab teach tag serve new publish clean engines lock check-lock
.DEFAULT_GOAL := help

help:  ## the commands, a line each
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY)  ## pictures -> report, headless; STUDY=<name in configs/, or a path>, RUN=<name>
	$(BIN)/imgsearch run "$(STUDY)" $(if $(RUN),--run "$(RUN)")

test: $(READY)  ## lint, quick tests, and notebooks 01 to 04 against their outputs: 7 minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not ($(SLOW))" tests notebooks

test-slow: $(READY)  ## what `make test` leaves out: kills, browsers, servers, engines; the other notebooks
	$(PYTEST) -m "$(SLOW)" tests notebooks

test-all: test test-slow  ## both

lab: $(READY)  ## JupyterLab on this machine only
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks

teach: $(READY)  ## teach a run what you mean by similar, on a page that shows what it learns: STUDY=<name>, RUN=<name>
	$(BIN)/imgsearch teach "$(STUDY)" $(if $(RUN),--run "$(RUN)") $(if $(PORT),--port "$(PORT)")

tag: $(READY)  ## grade a study's pairs on a page of its own: STUDY=<name>, ROUND=<number>, QUEUE=<name>
	$(BIN)/imgsearch tag "$(STUDY)" $(if $(ROUND),--round "$(ROUND)") $(if $(QUEUE),--queue "$(QUEUE)")

serve: $(READY)  ## search by picture on a page of its own: STUDY=<name>, RUN=<name>, PORT=<number>
	$(BIN)/imgsearch serve --study "$(STUDY)" $(if $(RUN),--run "$(RUN)") $(if $(PORT),--port "$(PORT)")

new: $(READY)  ## a study of your own pictures: STUDY=<name> IMAGES=<folder>
	$(BIN)/imgsearch new "$(STUDY)" "$(IMAGES)"

publish: $(READY)  ## the run that is kept in git, and the notebooks' committed outputs
	$(BIN)/imgsearch publish "$(STUDY)"

# uv installs in a third of pip's time; where it is not on the PATH, its wheel goes into .venv first.
# make INSTALL="$(BIN)/python -m pip install" does without it.
UV := $(shell command -v uv)
UV_HERE := VIRTUAL_ENV=.venv $(or $(UV),$(BIN)/uv)
INSTALL ?= $(UV_HERE) pip install --quiet --system-certs

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(if $(UV),,$(BIN)/python -m pip install --quiet --disable-pip-version-check uv)
	$(INSTALL) -c constraints.txt -e ".[cpu,dev]"
	touch $@

engines: $(READY)  ## Ray, LanceDB, PostgreSQL, Milvus, ScaNN: their tests run too
	$(INSTALL) -c constraints.txt -e ".[cpu,dev,engines]"

PYTHONS := 3.11.2 3.12 3.13 3.14
lock: $(READY)  ## constraints.txt anew from pyproject.toml: kept versions stay
	$(UV_HERE) pip compile --quiet --system-certs --universal --python-version 3.11.2 --all-extras \
		--no-annotate --custom-compile-command "make lock" -o constraints.txt pyproject.toml

check-lock: $(READY)  ## whether constraints.txt can be installed with every Python that is supported
	for version in $(PYTHONS); do \
		$(UV_HERE) pip compile --quiet --system-certs --python-version $$version -c constraints.txt \
			--extra cpu --extra dev --extra engines -o /dev/null pyproject.toml || exit 1; \
		echo "resolves for Python $$version"; \
	done

clean:  ## the environment and working runs; data sets and published runs stay
	rm -rf .venv *.egg-info
