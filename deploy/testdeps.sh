#!/usr/bin/env bash
# Installs what `make test` needs beside Go, git and make: redis-server (the tests start their own, on free ports), gcc (the race
# detector links against C) and curl (a test runs the lines that the demo prints). Does nothing when all is there. A redis
# that the package starts on port 6379 is left alone: the tests do not use it.
set -euo pipefail

missing=()
command -v redis-server >/dev/null 2>&1 || missing+=(redis-server)
command -v "${CC:-gcc}" >/dev/null 2>&1 || missing+=(gcc libc6-dev)
command -v curl >/dev/null 2>&1 || missing+=(curl)
if [ ${#missing[@]} -eq 0 ]; then
    echo "testdeps: redis-server, ${CC:-gcc} and curl are there"
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "testdeps: missing: ${missing[*]}. Only Debian and Ubuntu are installed for; install them by hand, then run this again." >&2
    exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "testdeps: missing: ${missing[*]}. Neither root nor sudo here: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
install() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

echo "testdeps: installing ${missing[*]} from the distribution"
# Without package lists, or with old ones, the first try fails; then they are fetched.
if ! install; then
    "${root[@]}" apt-get update
    install
fi
