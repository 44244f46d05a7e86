#!/bin/sh
# Puts a real Consul at FILE (default: .tools/consul in this repository) and prints its version.
#
# The one on PATH if there is one, else the package of Debian 11, the last Debian that has it. It comes
# from the mirror this system already uses, checked by Debian's own keys, and is unpacked beside the
# system: nothing is installed and no source is added.
set -eu

release=bullseye
file=${1:-$(dirname "$0")/../.tools/consul}
mkdir -p "$(dirname "$file")"
file=$(cd "$(dirname "$file")" && pwd)/$(basename "$file")

say() { echo "get-consul: $*" >&2; }

# The first line of `consul version`, read to the end so that consul never writes to a closed pipe.
version() { "$file" version | sed -n 1p; }

# The mirror of this system's own Debian suite; security and backports live elsewhere.
mirror() {
    # One-line sources: options in brackets are dropped. Stanzas: the first URI of each.
    {
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -n 's/^deb  *\(\[[^]]*\]  *\)\{0,1\}\([^ ]*\)  *.*/\2/p'
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p'
    } | grep -v security | sed -n 1p
}

if [ -x "$file" ] && version; then exit 0; fi
rm -f "$file"

if found=$(command -v consul); then
    ln -s "$found" "$file"
    version
    exit 0
fi

url=$(mirror)
[ -n "$url" ] || {
    say "apt's sources name no Debian mirror; put a consul binary on PATH and run this again"
    exit 1
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] $url $release main" >"$dir/sources.list"

# State and cache of our own: the system's lists and locks are not touched. An old release's index may
# have passed its date; its signature is checked all the same.
apt() {
    apt-get -qq \
        -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" \
        -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false \
        -o Acquire::Retries=3 "$@"
}

cd "$dir"
if ! apt update || ! apt download consul; then
    say "$url has no consul for $release; put a consul binary on PATH and run this again"
    exit 1
fi
dpkg-deb -x consul_*.deb unpacked
# Moved into place whole: a run that was interrupted leaves no half of a binary.
cp unpacked/usr/bin/consul "$file.part"
mv "$file.part" "$file"
version
