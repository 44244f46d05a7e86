#!/bin/bash
# The fault table: what can happen to three MariaDB nodes under lictor, and what it costs; see examples/faults/main.rs.
#
#   examples/faults.sh [--rounds N] [--only ROW,..] [--mode sync|async|both] [--short] [--json FILE] [--logs DIR] [--keep]
#
# For Debian 12 with cargo, as root. Says what it installs before it does. A round of all rows takes about 10 minutes
# per mode, with --short about 2.
set -euo pipefail

# shellcheck disable=SC2034 # setup.sh says it
me=faults
# shellcheck source=examples/lab/setup.sh
. "$(dirname "$0")/lab/setup.sh"

for arg in "$@"; do
    case $arg in
        -h | --help) sed -n 's/^# \{0,1\}//; 2,7p' "$0"; exit 0 ;;
    esac
done
need_rust
need mariadbd mariadb-server
need mariadb-backup mariadb-backup
need mkfs.ext4 e2fsprogs
tell_needs
say 'and starts three Consul servers, three agents and three nodes on 127.0.0.1, in a directory of their own under /tmp,'
say 'each volume on a file system of 1 GiB that is mounted there.'
install_needs
build_and_run faults "$@"
