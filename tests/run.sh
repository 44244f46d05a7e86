#!/usr/bin/env bash
# Sets up and runs every test, as CI does; see usage below.
set -euo pipefail

usage="usage: tests/run.sh

On Debian 12, as root, with cargo: installs what the tests need and is missing, gets a real Consul,
checks format and lints, runs all tests and the model of the lease. Asks nothing, finishes by itself
and leaves only the installed packages, target/ and .tools/ behind."

# How long apt waits for another apt, in seconds.
apt_patience=900
# How long what runs may take to end when this script is told to stop, in tenths of a second.
stop_patience=50

case "${1-}" in
"") ;;
-h | --help) echo "$usage" && exit 0 ;;
*) echo "$usage" >&2 && exit 64 ;;
esac

cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"
SECONDS=0
running=
policy=
scratch=
consul_leaves=
closing=()
failed=0

say() { printf '\n== %s\n' "$*"; }

die() {
    echo "tests/run.sh: $*" >&2
    exit 1
}

# shellcheck disable=SC2329 # called by the trap
cleanup() {
    if [ -n "$running" ]; then
        kill -TERM -- "-$running" 2>/dev/null || true
        for _ in $(seq "$stop_patience"); do
            kill -0 -- "-$running" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$running" 2>/dev/null || true
    fi
    [ -z "$policy" ] || rm -f "$policy"
    [ -z "$scratch" ] || rm -rf "$scratch"
    [ -z "$consul_leaves" ] || rmdir "$consul_leaves" 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command in a process group of its own, so that a signal to this script ends all of it.
group() {
    local code=0
    set -m
    "$@" </dev/null &
    running=$!
    set +m
    wait "$running" || code=$?
    running=
    return "$code"
}

# Runs one step; its closing lines are shown again at the end. A failure doesn't stop the others.
step() {
    local name=$1 log code=0 began=$SECONDS verdict=ok
    shift
    log=$scratch/log
    say "$name: $*"
    group bash -c 'set -o pipefail; log=$1; shift; "$@" 2>&1 | tee "$log"' - "$log" "$@" || code=$?
    if [ "$code" -ne 0 ]; then
        verdict="FAILED (exit code $code)"
        failed=1
    fi
    closing+=("$name: $verdict, $((SECONDS - began)) s")
    while IFS= read -r line; do
        closing+=("    $line")
    done < <(closing_lines "$log"; if [ "$code" -ne 0 ]; then tail -n 4 "$log"; fi)
}

# Each runner's name, its failed tests and its own last words: the result line of the usual harness,
# else the last line it wrote.
closing_lines() {
    awk '
        function close_section() { if (open && !closed && last != "") print last; open = 0; last = "" }
        /^ *(Running|Doc-tests) / { close_section(); open = 1; closed = 0; print; next }
        /^test result: / { print; closed = 1 }
        /^test .*(FAILED|failed)$/ { print }
        /^error: / { close_section() }
        NF { last = $0 }
        END { close_section() }
    ' "$1"
}

install_missing() {
    local missing=() pair
    for pair in mkfs.ext4:e2fsprogs openssl:openssl mariadbd:mariadb-server \
        mariadb-backup:mariadb-backup ip:iproute2 tini:tini cc:gcc \
        cc:libc6-dev haproxy:haproxy chromium:chromium mandoc:mandoc; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    if [ "${#missing[@]}" -eq 0 ]; then
        say "packages: nothing is missing"
        return
    fi
    command -v apt-get >/dev/null || die "missing: ${missing[*]}, and no apt-get to install them"
    say "packages: installing ${missing[*]}"
    # Packages must not start a server: the tests start their own. An own rule of this system stays.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -q -y -o "DPkg::Lock::Timeout=$apt_patience" -o Acquire::Retries=3)
    # The lists have a lock of their own that apt doesn't wait for.
    local tries=0
    until group "${apt[@]}" update; do
        tries=$((tries + 1))
        [ "$tries" -lt 10 ] || die "apt-get update failed $tries times; see above"
        sleep 5
    done
    group "${apt[@]}" install --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install ${missing[*]}; see above"
    [ -z "$policy" ] || rm -f "$policy"
    policy=
}

# Each recorded seed must end with the violation that stands beside it; any other end is the
# simulator's failure.
planted_faults() {
    local mutant seed what count=0 found
    while read -r mutant seed what; do
        found=$("$1" sim --seed "$seed" --mutant "$mutant" --json || true)
        if ! grep -q "\"what\":\"$what:" <<<"$found"; then
            echo "seed $seed does not show planted fault $mutant ($what); it said: $found"
            return 1
        fi
        count=$((count + 1))
    done < <(grep -v '^#' tests/mutants.txt)
    echo "$count planted faults are found by their seeds"
    [ "$count" -gt 0 ]
}
export -f planted_faults

# A part of the toolchain that isn't everywhere: its step is skipped, and the end says so.
has_tool() {
    if cargo "$1" --version >/dev/null 2>&1; then return 0; fi
    closing+=("$1: SKIPPED, cargo has no $1 here (rustup component add rustfmt clippy)")
    return 1
}

command -v cargo >/dev/null ||
    die "cargo is missing; install Rust 1.85 or newer, then run this again"
[ "$(id -u)" -eq 0 ] ||
    die "this must run as root (sudo tests/run.sh): the tests start databases as their own users"

say "lictor's tests: a few packages (only missing ones), Consul into .tools/, then everything"
scratch=$(mktemp -d /tmp/lictor.XXXXXX)
# Consul 1.8 makes this empty directory at every start, wherever TMPDIR points.
[ -e /tmp/consul-test ] || consul_leaves=/tmp/consul-test
# Databases run as users of their own and must reach their directories below.
chmod 755 "$scratch"
install_missing
say "Consul"
group tests/get-consul.sh .tools/consul
LICTOR_CONSUL=$PWD/.tools/consul
export LICTOR_CONSUL TMPDIR=$scratch CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

# The model has a profile of its own; unoptimized it would take very long.
targets=(--lib --bins --examples)
for file in tests/*.rs tests/*/main.rs; do
    name=${file#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    [ "$name" = lease_model ] || targets+=(--test "$name")
done

if has_tool fmt; then step format cargo fmt --check; fi
if has_tool clippy; then step lints cargo clippy --locked --all-targets -- -D warnings; fi
step tests cargo test --locked --no-fail-fast "${targets[@]}"
# Every row of the fault table once, with short freezes, and what lictor costs. Both are examples,
# which the step before has built.
binaries=(--consul .tools/consul --lictor "${CARGO_TARGET_DIR:-target}/debug/lictor")
examples=${CARGO_TARGET_DIR:-target}/debug/examples
step build cargo build --locked --bins --examples
step faults "$examples/faults" "${binaries[@]}" --short --rounds 1
step footprint "$examples/footprint" "${binaries[@]}" --check --seconds 10 --times 3 --orphans 2000
if [ -d tests/lease_model ]; then
    step model cargo test --locked --profile model --features mutants --test lease_model
fi
# The whole core in virtual time; docs/safety.md.
step simulator cargo run --locked --profile model --features mutants --bin lictor -- \
    sim --seeds 1..300 --jobs 2
# Faults planted in the product: a simulator that finds none of them would say nothing. The model of
# the lease finds each of its own list.
step planted planted_faults "${CARGO_TARGET_DIR:-target}/model/lictor"

say "all steps, $SECONDS s"
printf '%s\n' "${closing[@]}"
if [ "$failed" -ne 0 ]; then
    echo "tests/run.sh: FAILED"
    exit 1
fi
echo "tests/run.sh: ok"
