# Everything that a contributor runs. Needs Rust; RabbitMQ and Redis are installed from Debian's
# packages if they are missing, for `test` Python, Node and Go too; no system service is started.
.PHONY: help demo test check check-deploy lanes soak soak-selftest bench bench-quick fmt clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## the order desk with real processes, killed and recovered; ends with a table
	@deploy/dev/install.sh
	cargo build --locked -p counterfoil -p counterfoil-order-desk -p counterfoil-demo
	@target/debug/counterfoil-demo

test: ## every test, on private nodes
	@deploy/dev/install.sh python node go strace
	cargo test --locked --workspace --no-run
	cargo build --locked -p counterfoil -p counterfoil-order-desk
	RUST_TEST_THREADS=6 cargo test --locked --workspace # they mostly wait: for leases, for nodes

check: ## format, lints, documentation
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --quiet

check-deploy: ## deploy/, AsyncAPI and schemas by their validators, on broken copies too; a job; the image
	@set -e; for what in check check-broken check-job check-image; do deploy/$$what.sh; done

lanes: ## every test and a short campaign on RabbitMQ 4 with Redis 8 and with Valkey 8, from Debian 13
	@deploy/dev/lanes.sh

soak: ## the crash campaign: 15 minutes of faults; SOAK_SECONDS, SOAK_JOBS, SOAK_SEED; large searches
	@deploy/dev/install.sh strace
	cargo build --locked --profile campaign -p counterfoil -p counterfoil-soak
	@target/campaign/counterfoil-soak run
	cargo run --locked --release -p counterfoil-protocol-model
	COUNTERFOIL_DIFFERENTIAL_SEQUENCES=20000 cargo test --locked -q -p counterfoil-it --test it -- differential

soak-selftest: ## whether the campaign notices every mistake that is made on purpose
	@deploy/dev/install.sh strace
	cargo build --locked --profile campaign -p counterfoil -p counterfoil-soak
	@target/campaign/counterfoil-soak selftest

bench: ## what a job costs, against a floor and against other job queues
bench-quick: ## the same in short, against Celery alone
bench bench-quick:
	@deploy/dev/install.sh peers
	@tests/bench/peers/install.sh target/peers
	cargo build --locked --release -p counterfoil -p counterfoil-bench
	@target/release/counterfoil-bench $(if $(filter bench,$@),full,quick)

fmt: ## format
	cargo fmt --all

clean: ## remove what was built
	cargo clean
