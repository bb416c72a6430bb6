#!/usr/bin/env bash
# Builds a release into a folder: static binaries for each platform, what they are made of (CycloneDX), checksums.
#
#   deploy/release.sh VERSION FOLDER [PLATFORM...]     # v1.2.3 dist linux/amd64 linux/arm64
#   deploy/release.sh --twice VERSION                  # two builds, in two folders with two caches: the same sums?
#
# The same commit and the same Go make the same bytes wherever it is built. SLUICE_SBOM names a cyclonedx-gomod; without
# it the one that deploy/packaging pins is built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root="$PWD"

platforms=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64)

# What would change the bytes is not taken from whoever calls this.
export CGO_ENABLED=0 GOFLAGS='' GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT=''

# build SOURCE VERSION FOLDER PLATFORM: both programs, packed with what goes with them.
build() {
    local source="$1" version="$2" folder="$3" os="${4%/*}" arch="${4#*/}" name time
    name="sluice-$version-$os-$arch"
    mkdir -p "$folder/$name"
    (cd "$source" && GOOS="$os" GOARCH="$arch" go build -trimpath -buildvcs=false \
        -ldflags "-s -w -buildid= -X main.version=$version" -o "$folder/$name/sluice" ./cmd/sluice)
    (cd "$source/cmd/sluice-dtm" && GOOS="$os" GOARCH="$arch" go build -trimpath -buildvcs=false \
        -ldflags "-s -w -buildid=" -o "$folder/$name/sluice-dtm" .)
    cp "$source/LICENSE" "$source/README.md" "$source/CHANGELOG.md" "$folder/$name/"
    mkdir -p "$folder/$name/systemd"
    cp "$source"/deploy/systemd/* "$source"/deploy/coordinator/sluice-dtm.{service,env} "$folder/$name/systemd/"
    time="$(git -C "$source" log -1 --format=%ct)"
    for program in sluice sluice-dtm; do
        "$sbom" bin -json -std -noserial -notimestamp -version "$version" \
            -output "$folder/$program-$version-$os-$arch.cdx.json" "$folder/$name/$program"
    done
    tar --create --directory "$folder" --format=ustar --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner \
        --mode=u=rwX,go=rX "$name" | gzip -n -9 > "$folder/$name.tar.gz"
    rm -r "${folder:?}/$name"
}

# release SOURCE VERSION FOLDER PLATFORM...
release() {
    local source="$1" version="$2" folder="$3"
    shift 3
    for platform in "$@"; do
        echo "release: $version $platform" >&2
        build "$source" "$version" "$folder" "$platform"
    done
    (cd "$folder" && sha256sum -- *.tar.gz *.cdx.json > SHA256SUMS)
}

find_sbom() {
    sbom="${SLUICE_SBOM:-$root/bin/cyclonedx-gomod}"
    [ -x "$sbom" ] ||
        (cd deploy/packaging && go build -o "$sbom" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)
}

# twice VERSION: one build of the commit as this folder has it, one in a folder of another name with nothing cached.
twice() {
    local version="$1" work
    work="$(mktemp -d)"
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$work'" EXIT
    mkdir -p "$work/one" "$work/two/with a longer name"
    for folder in "$work/one/source" "$work/two/with a longer name/source"; do
        git clone --quiet --no-hardlinks "$root" "$folder"
    done
    release "$work/one/source" "$version" "$work/one/out" linux/amd64
    GOCACHE="$work/cache" release "$work/two/with a longer name/source" "$version" "$work/two/out" linux/amd64
    diff "$work/one/out/SHA256SUMS" "$work/two/out/SHA256SUMS"
    cat "$work/one/out/SHA256SUMS"
    echo "release: both builds have the same sums"
}

case "${1:-}" in
--twice)
    find_sbom
    twice "${2:?VERSION is missing}"
    ;;
v*)
    version="$1" folder="$(realpath -m "${2:?FOLDER is missing}")"
    shift 2
    [ $# -gt 0 ] || set -- "${platforms[@]}"
    if [ -n "$(git status --porcelain)" ]; then
        echo "release: there are changes that are not committed; nobody could build this again" >&2
        exit 1
    fi
    if ! grep -Eq "^## ${version#v} \([0-9]{4}-[0-9]{2}-[0-9]{2}\)$" CHANGELOG.md; then
        echo "release: CHANGELOG.md has no section \"## ${version#v} (YYYY-MM-DD)\"" >&2
        exit 1
    fi
    mkdir -p "$folder"
    find_sbom
    release "$root" "$version" "$folder" "$@"
    ;;
*)
    echo "usage: $0 VERSION FOLDER [PLATFORM...] | --twice VERSION; a version begins with v" >&2
    exit 2
    ;;
esac
