# Needs Python >= 3.10 (with pip), make and git. Everything else goes into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo street fashionnet docs test test-browser test-lowest lint format venv clean

venv: $(STAMP)

$(STAMP): setup.py requirements/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else "match_rcnn needs Python >= 3.10, this is %d.%d; run: make PYTHON=/path/to/python3.10" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python tools/demo.py --output output/demo

# The model for street photos that comes with the package; about two hours. CCP: a clone of
# github.com/bearpaw/clothing-co-parsing; CLOTHING, if you have it: one of
# github.com/alexeygrigorev/clothing-dataset.
street: $(STAMP)
	$(BIN)/python -m match_rcnn street --ccp "$(CCP)" $(if $(CLOTHING),--clothing "$(CLOTHING)") \
		--output output/street

fashionnet: $(STAMP)
	$(BIN)/python tools/fashionnet.py --output output/fashionnet --rows FashionNet --seeds 1

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 10

# The page in a browser; Debian's Chromium, unless there is one.
test-browser: $(STAMP)
	command -v chromium chromium-browser google-chrome >/dev/null || apt-get install -y chromium
	$(BIN)/python -m pip install --quiet --constraint requirements/constraints.txt --editable '.[browser]'
	MATCH_RCNN_BROWSER=1 $(BIN)/python -m pytest tests/serving/test_page.py

# Once more with the oldest versions that setup.py allows; LOWEST_PYTHON: one they are built for.
LOWEST_PYTHON ?= python3.11
test-lowest:
	$(LOWEST_PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/lowest.txt --editable .
	$(VENV)-lowest/bin/python -m pytest -n 2 --dist worksteal

# Every warning, such as a link that leads nowhere, ends it.
docs: $(STAMP)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html -c docs/site . output/site
	@echo "output/site/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-lowest output build *.egg-info .mypy_cache .ruff_cache .pytest_cache
