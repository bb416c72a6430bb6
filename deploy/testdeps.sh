#!/usr/bin/env bash
# Installs what `make test` needs beside Go, git and make: redis-server (the tests start their own, on free ports), gcc (the race
# detector links against C), curl (a test runs the lines that the demo prints), nginx and haproxy (`sluice bench proxy` measures
# against them), node and npm (one of the WebSocket programs), MariaDB and PostgreSQL (what services keep their effects in; where the tests
# run as root the two run as the users mysql and postgres, which the packages make). Does nothing when all is there. The tests start their
# own servers; services that the packages would start on their usual ports are neither needed nor started.
set -euo pipefail

PATH="$PATH:/usr/sbin" # where nginx and haproxy are, and which not every user searches
missing=()
command -v redis-server >/dev/null 2>&1 || missing+=(redis-server)
command -v "${CC:-gcc}" >/dev/null 2>&1 || missing+=(gcc libc6-dev)
command -v curl >/dev/null 2>&1 || missing+=(curl)
command -v nginx >/dev/null 2>&1 || missing+=(nginx)
command -v haproxy >/dev/null 2>&1 || missing+=(haproxy)
command -v node >/dev/null 2>&1 || missing+=(nodejs)
command -v npm >/dev/null 2>&1 || missing+=(npm)
command -v mariadbd >/dev/null 2>&1 || missing+=(mariadb-server)
# Debian keeps PostgreSQL's own programs out of the PATH, in a folder for each major version.
{ command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 || missing+=(postgresql)
if [ ${#missing[@]} -eq 0 ]; then
    echo "testdeps: redis-server, ${CC:-gcc}, curl, nginx, haproxy, node, npm, MariaDB and PostgreSQL are there"
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

# Debian's hook (see invoke-rc.d(8)): 101 means that no service is started. One that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
fi

echo "testdeps: installing ${missing[*]} from the distribution"
# Without package lists, or with old ones, the first try fails; then they are fetched.
if ! install; then
    "${root[@]}" apt-get update
    install
fi
