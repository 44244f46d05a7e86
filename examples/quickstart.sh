#!/bin/bash
# Three MariaDB nodes under lictor on a real Consul, on this machine's loopback: see examples/quickstart/main.rs.
#
#   examples/quickstart.sh [--rounds N] [--keep] [--json FILE]
#
# For Debian 12 with cargo, as root. Says what it installs before it does.
set -euo pipefail

usage() { sed -n 's/^# \{0,1\}//; 2,6p' "$0"; }
say() { echo "quickstart: $*"; }
die() { echo "quickstart: $*" >&2; exit 1; }

for arg in "$@"; do
    case $arg in
        -h | --help) usage; exit 0 ;;
    esac
done

root=$(cd "$(dirname "$0")/.." && pwd)
(( EUID == 0 )) || die 'must run as root: nodes run hooks and servers as the user mysql'
command -v cargo >/dev/null || die 'needs cargo (https://rustup.rs)'
command -v cc >/dev/null || die 'needs a C compiler: apt-get install gcc'

packages=()
[[ -x /usr/sbin/mariadbd ]] || command -v mariadbd >/dev/null || packages+=(mariadb-server)
command -v mariadb-backup >/dev/null || packages+=(mariadb-backup)
consul=$root/.tools/consul

say 'this needs:'
if (( ${#packages[@]} )); then
    say "  MariaDB: installs ${packages[*]} with apt-get; its own service is not started"
else
    say "  MariaDB: $(mariadbd --version 2>/dev/null | sed 's/^.*Ver //; s/ for .*//') is here"
fi
if [[ -x $consul ]]; then
    say "  Consul: $consul is here"
elif command -v consul >/dev/null; then
    say "  Consul: $(command -v consul) is here"
else
    say "  Consul: unpacks the package of Debian bullseye into $root/.tools, installs nothing"
fi
say "  lictor: builds it in $root/target"
say 'and starts three Consul servers and three nodes on 127.0.0.1, in a directory of their own under /tmp.'

if (( ${#packages[@]} )); then
    # The package starts its server where it may; these nodes bring their own.
    policy=/usr/sbin/policy-rc.d made=
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
"$root/tests/get-consul.sh" "$consul" >/dev/null || die 'no Consul: see above'

cd "$root"
say 'building'
cargo build --release --quiet --bin lictor --example quickstart || die 'the build failed'
target=${CARGO_TARGET_DIR:-$root/target}
export PATH=$PATH:/usr/sbin:/sbin
exec "$target/release/examples/quickstart" --consul "$consul" --lictor "$target/release/lictor" "$@"
