#!/usr/bin/env bash
# Installs what a new Debian machine lacks for building and testing. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."
export KEELSON_CACHE=${KEELSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keelson}
rust=1.95 go=1.26.6

# Whether version $2 is $1 or later.
reaches() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -1)" = "$1" ]; }
has_go() { local here; here=$(go env GOVERSION 2>/dev/null) && reaches "$go" "${here#go}"; }

PATH=$KEELSON_CACHE/go/bin:$PATH
missing=()
ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 && ls /usr/lib/llvm-*/lib/libclang.so >/dev/null 2>&1 || missing+=(libclang-dev)
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
command -v curl >/dev/null || missing+=(curl)
command -v cc >/dev/null || missing+=(gcc)
command -v ip >/dev/null || missing+=(iproute2)
needs_go=
if [ "${SETUP_WITHOUT_GO:-}" != 1 ] && ! has_go; then
  needs_go=1
  command -v unzip >/dev/null || missing+=(unzip)
fi
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
here=$(rustc --version | cut -d' ' -f2)
if ! reaches "$rust" "$here"; then
  echo "setup: Rust $rust or later is needed, and this is $here; get it with 'rustup update stable', then run this again" >&2
  exit 1
fi
# It builds the real etcd and Kubernetes that the tests compare with.
if [ -n "$needs_go" ]; then scripts/go.sh; fi
echo "setup: everything needed is here"
