# shellcheck shell=bash
# What the scripts of the examples share: what is there, what is missing, and installing it.
# Sourced; $me names the script in messages.

say() { echo "${me:?}: $*"; }
die() { echo "${me:?}: $*" >&2; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
consul=$root/.tools/consul
packages=()
# Whether `lictor dev` may stand in for Consul, and whether it does.
may_stand_in=''
dev=''

# need PROGRAM PACKAGE
need() { [[ -x /usr/sbin/$1 ]] || command -v "$1" >/dev/null || packages+=("$2"); }

need_rust() {
    (( EUID == 0 )) || die 'must run as root: nodes run hooks and servers as users of their own'
    command -v cargo >/dev/null || die 'needs cargo (https://rustup.rs)'
    command -v cc >/dev/null || die 'needs a C compiler: apt-get install gcc'
}

# What will be installed, before it is.
tell_needs() {
    say 'this needs:'
    if (( ${#packages[@]} )); then
        say "  packages: installs ${packages[*]} with apt-get; no service is started"
    else
        say '  packages: nothing is missing'
    fi
    if [[ -n $dev ]]; then
        say '  Consul: none; lictor dev stands in, which keeps nothing'
    elif [[ -x $consul ]]; then
        say "  Consul: $consul is here"
    elif command -v consul >/dev/null; then
        say "  Consul: $(command -v consul) is here"
    else
        say "  Consul: unpacks the package of Debian bullseye into $root/.tools, installs nothing"
    fi
    say "  lictor: builds it in $root/target"
}

install_needs() {
    if (( ${#packages[@]} )); then
        # A package starts its server where it may; these nodes bring their own.
        local policy=/usr/sbin/policy-rc.d apt
        made=
        if [[ ! -e $policy ]]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
            made=$policy
        fi
        trap '[[ -z $made ]] || rm -f "$made"' EXIT
        apt=(apt-get -q -y -o DPkg::Lock::Timeout=900 -o Acquire::Retries=3)
        DEBIAN_FRONTEND=noninteractive "${apt[@]}" update >/dev/null || die 'apt-get update failed'
        DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "${packages[@]}" >/dev/null \
            || die "apt-get could not install ${packages[*]}"
        [[ -z $made ]] || rm -f "$made"
        made=
    fi
    [[ -z $dev ]] || return 0
    if ! "$root/tests/get-consul.sh" "$consul" >/dev/null; then
        [[ -n $may_stand_in ]] || die 'no Consul: see above'
        dev=1
        say 'no Consul can be had here: lictor dev stands in. It is one process, keeps nothing, and shows lictor, not Consul.'
    fi
}

# build_and_run EXAMPLE [ARG..]: in a release build; does not return.
build_and_run() {
    local example=$1 target=${CARGO_TARGET_DIR:-$root/target}
    shift
    cd "$root" || die "cannot go to $root"
    say 'building'
    cargo build --release --quiet --bin lictor --example "$example" || die 'the build failed'
    export PATH=$PATH:/usr/sbin:/sbin
    local store=(--consul "$consul")
    [[ -z $dev ]] || store=(--dev)
    exec "$target/release/examples/$example" "${store[@]}" --lictor "$target/release/lictor" "$@"
}
