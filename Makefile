# Seven verbs. Each sees to .venv first, which takes no time when it is ready.
.PHONY: demo serve test check fix bench soak
python := .venv/bin/python

demo: ## A server with a scripted model, and a first conversation with it.
	@scripts/bootstrap demo sandbox
	@.venv/bin/understudy demo

serve: ## The server; settings in docs/settings.md.
	@scripts/bootstrap demo
	@.venv/bin/understudy serve

test: ## Every test, the acceptance tests included.
	@scripts/bootstrap acceptance sandbox
	$(python) -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests

check: ## Format, lint, types, imports, pins and the house style; nothing is changed.
	@scripts/bootstrap
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(python) scripts/lock.py --check
	$(python) -m pytest -q tests/test_tidy.py

fix: ## Format, and mend what the linter can.
	@scripts/bootstrap
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

bench: ## Measure; the figures go to benchmarks/RESULTS.md, the plots to docs/plots.
	@scripts/bootstrap sandbox bench
	$(python) -m benchmarks

soak: ## Crashes, generated happenings and requests, hostile code, and mixed load, for longer.
	@scripts/bootstrap acceptance sandbox
	SOAK=1 $(python) -m pytest --timeout 3600 tests/crash tests/fuzz tests/machine tests/sandbox tests/soak
