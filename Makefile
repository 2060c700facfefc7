# Every word here is one of ./dev; arguments for it go in ARGS: make run ARGS="--port 9000"
ARGS ?=

.PHONY: help setup run test lint migrate bench profile figures prove prove-full chaos clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what uv.lock names into .venv
	@./dev setup $(ARGS)

run: ## API, worker and PostgreSQL; with no account configured, the sandbox CRMs too
	@./dev run $(ARGS)

test: ## the tests, on a real PostgreSQL of their own
	@./dev test $(ARGS)

lint: ## everything that reads the code without running it
	@./dev lint $(ARGS)

migrate: ## bring the database's schema up to date
	@./dev migrate $(ARGS)

bench: ## all measurements beside what others do, in ten minutes; ARGS="resync" for one
	@./dev bench $(ARGS)

profile: ## flame graphs of worker and API during a resync
	@./dev profile $(ARGS)

figures: ## the plots of docs/performance.md; ARGS=FILE with measurements
	@./dev figures $(ARGS)

prove: ## N random histories over the pure core, with an oracle; the seed of any failure
	@./dev prove $(N) $(ARGS)

prove-full: ## N random histories through the whole service and the sandbox
	@./dev prove-full $(N) $(ARGS)

chaos: ## kills, lost answers, outages and an upgrade, all against the sandbox; prints one table
	@./dev chaos $(ARGS)

clean: ## remove .venv and caches; your data stays
	@./dev clean $(ARGS)
