#!/bin/bash
# Three MariaDB nodes under lictor on a real Consul, on this machine's loopback: see examples/quickstart/main.rs.
#
#   examples/quickstart.sh [--rounds N] [--keep] [--json FILE] [--dev]
#
# Where no Consul can be had, or with --dev, lictor dev stands in for it.
# For Debian 12 with cargo, as root. Says what it installs before it does.
set -euo pipefail

# shellcheck disable=SC2034 # setup.sh says it
me=quickstart
# shellcheck source=examples/lab/setup.sh
. "$(dirname "$0")/lab/setup.sh"

may_stand_in=1
args=()
for arg in "$@"; do
    case $arg in
        -h | --help) sed -n 's/^# \{0,1\}//; 2,7p' "$0"; exit 0 ;;
        --dev) dev=1 ;;
        *) args+=("$arg") ;;
    esac
done
need_rust
need mariadbd mariadb-server
need mariadb-backup mariadb-backup
tell_needs
say 'and starts Consul and three nodes on 127.0.0.1, in a directory of their own under /tmp.'
install_needs
build_and_run quickstart "${args[@]}"
