#!/bin/bash
# What lictor costs, beside tini in the same run: see examples/footprint/main.rs.
#
#   examples/footprint.sh [--seconds N] [--times N] [--check] [--json FILE]
#
# For Debian 12 with cargo, as root. Says what it installs before it does. Takes about three minutes.
set -euo pipefail

# shellcheck disable=SC2034 # setup.sh says it
me=footprint
# shellcheck source=examples/lab/setup.sh
. "$(dirname "$0")/lab/setup.sh"

for arg in "$@"; do
    case $arg in
        -h | --help) sed -n 's/^# \{0,1\}//; 2,6p' "$0"; exit 0 ;;
    esac
done
need_rust
need tini tini
need openssl openssl
need mariadbd mariadb-server
need mariadb-backup mariadb-backup
tell_needs
say 'and starts three Consul servers and three nodes on 127.0.0.1, in directories of their own under /tmp.'
install_needs
build_and_run footprint "$@"
