#!/usr/bin/env bash
# Installs what a new Debian machine lacks for building and testing. Safe to repeat.
set -euo pipefail
missing=()
ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 && ls /usr/lib/llvm-*/lib/libclang.so >/dev/null 2>&1 || missing+=(libclang-dev)
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
command -v curl >/dev/null || missing+=(curl)
command -v cc >/dev/null || missing+=(gcc)
command -v ip >/dev/null || missing+=(iproute2)
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing ${missing[*]}"
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq "${missing[@]}" >/dev/null
fi
if ! command -v cargo >/dev/null; then
  echo "setup: Rust is missing; install it with rustup (https://rustup.rs), then run this again" >&2
  exit 1
fi
if ! command -v go >/dev/null; then
  echo "setup: Go is missing; it builds the real etcd and Kubernetes that the tests compare with: install Go 1.26 (https://go.dev/dl), then run this again" >&2
  [ "${SETUP_WITHOUT_GO:-}" = 1 ] || exit 1
fi
echo "setup: everything needed is here"
