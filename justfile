# `just` alone lists the recipes. The gate does not need just: ./scripts/test is the same for everyone.

_default:
    @just --list --unsorted

# The fast half of the gate: format, lints, documentation
check:
    ./scripts/test fmt clippy docs

# Formats all code
fmt:
    cargo fmt --all

# Lints all targets; a warning is a failure
lint:
    ./scripts/test clippy

# The whole gate, as it runs before a change is taken
gate:
    ./scripts/test

# All tests, or those whose name contains a word: just test outbox
test *words:
    cargo test --workspace --locked {{ words }}

# One simulated run in detail: just simulate --seed 42
simulate *arguments:
    cargo run --release -p hansa-simulations -- {{ arguments }}

# A sweep of seeds in processes of their own: just seeds 0..1000
seeds range="0..100":
    cargo run --release -p hansa-simulations -- --seeds {{ range }}

# A coordinator and three sites on loopback
dev *arguments:
    cargo run --release -- dev {{ arguments }}

# Runs the program: just run serve --help
run *arguments:
    cargo run --release -- {{ arguments }}

# Benchmarks of one crate beside their floors: just bench storage
bench crate:
    cargo bench -p hansa-{{ crate }}

# Builds the documentation of all crates, private items included
docs:
    ./scripts/test docs

# Licences, bans and sources of all dependencies (cargo install cargo-deny)
deny:
    cargo deny --workspace check licenses bans sources

# Known vulnerabilities of dependencies; fetches the advisory database
advisories:
    cargo deny --workspace check advisories

# Each crate with each of its features alone (cargo install cargo-hack)
hack:
    cargo hack check --workspace --each-feature --no-dev-deps
