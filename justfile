# The index of commands. Each is one line that can be typed without `just` as well.

# List these commands.
default:
    @just --list

# A network of four organisations on this machine, kept in ./waybill-data.
dev *options:
    cargo run --release -- dev {{options}}

# Everything that a change must pass.
ci:
    .ci/run

# All tests; it installs kcat where it is missing.
test:
    cargo test --workspace

# Everything, whole: every client and all of every suite, and docs/compatibility-results.md from what came of it. An hour or more.
full:
    #!/usr/bin/env bash
    set -u
    cargo build --release || exit
    WAYBILL_BIN="$PWD/target/release/waybill" WAYBILL_COMPAT=all WAYBILL_COMPAT_FULL=1 cargo test --workspace --no-fail-fast
    tested=$?
    cargo run -p waybill-compat-tests --bin compatibility-results && exit $tested

# One client of the matrix: `just client franz-go`.
client name:
    cargo test -p waybill-compat-tests --test matrix -- {{name}}::

# The tests of one crate whose names contain a word: `just one waybill-ledger journal`.
one crate *words:
    cargo test -p {{crate}} {{words}}

# The stories that real clients tell, with their output: `just story clients kcat`.
story suite *words:
    cargo test -p waybill-compat-tests --test {{suite}} {{words}} -- --nocapture

# Formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The documentation of all crates, as it is checked.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Replay one run of the PBFT simulator, a line per transition: `just seed 42`.
seed number n="4":
    cargo run --release -p waybill-pbft --features simulator --bin pbft-sim -- --seed {{number}} --n {{n}}

# Throughput and latency on this machine: `just bench --seconds 10 --json results.json`.
bench *options:
    cargo run --release -p waybill-compat-tests --bin bench -- {{options}}
