#!/usr/bin/env bash
# Looks for known vulnerabilities that the code of each module reaches:
#
#   deploy/vulncheck.sh GOVULNCHECK MODULE...
#
# GOVULNCHECK is the program, MODULE a folder with a go.mod. The database is https://vuln.go.dev, or
# the one that GOVULNDB names (file:///folder, where the network has none). Where it cannot be had,
# that is said and nothing fails: a machine without the network can still run make lint.
set -euo pipefail

check=$1
shift
database=${GOVULNDB:-https://vuln.go.dev}

# The program says when the database was updated if, and only if, it could read it.
said="$("$check" -db "$database" -version 2>&1 || true)"
if ! grep -q '^DB updated' <<<"$said"; then
    echo "vulncheck: NOT CHECKED: the vulnerability database $database cannot be had from here" >&2
    exit 0
fi
grep '^DB' <<<"$said"
for module in "$@"; do
    echo "== vulnerabilities of module $module"
    (cd "$module" && "$check" -db "$database" ./...)
done
