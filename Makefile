# Every command sets up .venv by itself when that is needed.
PYTHON ?= python3
STUDY ?= synthetic_houses
BIN := .venv/bin
READY := .venv/.ready
# the marks of pyproject.toml
SLOW := kill or browser or server or engine or slow
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations 15 --nbval

.PHONY: help run test test-slow test-all lab teach tag serve new publish clean
.DEFAULT_GOAL := help

help:  ## the commands, a line each
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY)  ## pictures -> report, headless; STUDY=<name in configs/, or a path>, RUN=<name>
	$(BIN)/imgsearch run "$(STUDY)" $(if $(RUN),--run "$(RUN)")

test: $(READY)  ## lint, quick tests, and notebooks 01 to 04 against their outputs; some minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not ($(SLOW))" tests notebooks

test-slow: $(READY)  ## the tests that `make test` leaves out: kills, browsers, servers, engines; the other notebooks
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

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cpu,dev]"
	touch $@

clean:  ## the environment and working runs; data sets and published runs stay
	rm -rf .venv *.egg-info
