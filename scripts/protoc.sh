#!/usr/bin/env bash
# Stands in for protoc: protox, the compiler that crates/api uses, built once into the cache. So
# nobody has to install protoc for the one dependency that asks for it.
set -euo pipefail
cache=${KEELSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keelson}
version=0.10.0
protox=$cache/protox/$version/bin/protox
if [ ! -x "$protox" ]; then
  echo "Compiling protox into $cache/protox: about 2 minutes, once." >&2
  mkdir -p "$cache/protox"
  build=$(mktemp -d "$cache/protox/build.XXXXXX")
  trap 'rm -rf "$build"' EXIT
  # The caller may be cargo itself, whose target directory is locked.
  env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS cargo install protox --features bin --version "$version" --locked --quiet \
    --target-dir "$build/target" --root "$build/root" >&2
  mkdir -p "$cache/protox/$version/bin"
  mv -f "$build/root/bin/protox" "$protox"
  rm -rf "$build"
fi
exec "$protox" "$@"
