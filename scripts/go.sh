#!/usr/bin/env bash
# Puts the pinned Go into the cache, from the module proxy that the peers' sources come from as well. Checked against what
# Go's checksum database says of it: the hash of the names and hashes of all files.
set -euo pipefail
: "${KEELSON_CACHE:?set by the Makefile}"
version=1.26.8
case $(uname -m) in
x86_64) target=linux-amd64 sum=64e9867b53a77d110330875bd508b81bd252b833c12c613164c4389e2b354573 ;;
aarch64) target=linux-arm64 sum=b182ff3ba32a4baf0c2f4923b10dfa5a8608a49aa4c3ad13c62cd651850a40c7 ;;
*) echo "setup: no Go is pinned for $(uname -m): install Go $version yourself (https://go.dev/dl)" >&2; exit 1 ;;
esac
dir=$KEELSON_CACHE/go
if [ "$(head -1 "$dir/VERSION" 2>/dev/null)" = "go$version" ]; then exit 0; fi

proxy=${GOPROXY:-} proxy=${proxy%%[,|]*}
case $proxy in '' | direct | off) proxy=https://proxy.golang.org ;; esac
name=toolchain@v0.0.1-go$version.$target
echo "setup: fetching Go $version into $dir"
mkdir -p "$KEELSON_CACHE"
work=$(mktemp -d "$KEELSON_CACHE/go.XXXXXX")
trap 'rm -rf "$work"' EXIT
curl -fsSL --retry 3 "$proxy/golang.org/toolchain/@v/${name#*@}.zip" -o "$work/go.zip"
unzip -q "$work/go.zip" -d "$work"
found=$(cd "$work" && find golang.org -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum | cut -d' ' -f1)
if [ "$found" != "$sum" ]; then
  echo "setup: what $proxy gave for Go $version is not what was pinned ($found, not $sum): set GOPROXY to another one, or install Go yourself" >&2
  exit 1
fi
# As the go command does it with what it fetches: a module holds no other go.mod, and nothing that can be run.
tree=$work/golang.org/$name
find "$tree" -name _go.mod -execdir cp {} go.mod ';'
chmod +x "$tree"/bin/* "$tree"/pkg/tool/*/*
rm -rf "$dir"
mv "$tree" "$dir"
