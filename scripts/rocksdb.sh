#!/usr/bin/env bash
# Compiles RocksDB once into the cache, as a static library that every build links. Cargo alone
# would compile it again for each set of features and each profile, which takes 12 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${KEELSON_CACHE:?set by the Makefile}"
version=$(awk '/^name = "librocksdb-sys"/{getline; gsub(/[^0-9A-Za-z.+-]/, "", $3); print $3}' Cargo.lock)
dir=$KEELSON_CACHE/rocksdb/$version
if [ -f "$dir/librocksdb.a" ]; then
  echo "$dir"
  exit 0
fi
echo "Compiling RocksDB ($version) into $dir: about 12 minutes, once." >&2
build=$KEELSON_CACHE/rocksdb-build
env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_TARGET_DIR="$build" cargo build --release --locked -p keelson-storage >&2
mkdir -p "$dir"
cp "$build"/release/build/librocksdb-sys-*/out/librocksdb.a "$dir/librocksdb.a.tmp"
mv "$dir/librocksdb.a.tmp" "$dir/librocksdb.a"
rm -rf "$build"
echo "$dir"
