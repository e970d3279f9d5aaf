# Seven verbs. Each sees to .venv first, which takes no time when it is ready.
.PHONY: demo serve test check fix bench soak
python := .venv/bin/python
pytest := $(python) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

demo: ## A server with a scripted model, and a first conversation with it.
	@scripts/bootstrap demo sandbox
	@.venv/bin/understudy demo

serve: ## The server; settings in docs/settings.md.
	@scripts/bootstrap demo
	@.venv/bin/understudy serve

test: ## Every test; then the engine on PostgreSQL, and an SDK on several nodes with PostgreSQL and S3.
	@scripts/bootstrap acceptance sandbox
	$(pytest) tests
	UNDERSTUDY_TEST_DATABASE=postgres $(pytest) tests/engine
	UNDERSTUDY_TEST_DATABASE=fleet $(pytest) tests/acceptance/test_sdks.py -k python-3

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

soak: ## Crashes, generated happenings and requests, hostile code, and mixed load, for longer; and
      ## everything that can be on PostgreSQL, on one server and on several.
	@scripts/bootstrap acceptance sandbox
	SOAK=1 $(python) -m pytest --timeout 3600 \
	  tests/crash tests/fuzz tests/machine tests/sandbox tests/soak tests/fleet tests/blobs
	UNDERSTUDY_TEST_DATABASE=postgres $(pytest) tests/engine tests/api tests/conformance
	UNDERSTUDY_TEST_DATABASE=postgres UNDERSTUDY_TEST_POSTGRES=pgvector $(pytest) \
	  tests/engine tests/conformance
	UNDERSTUDY_TEST_DATABASE=fleet $(pytest) tests/api tests/acceptance/test_sdks.py
