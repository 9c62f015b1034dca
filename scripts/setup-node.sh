#!/usr/bin/env bash
# Installs what a Debian machine lacks for running a whole Kubernetes node. Safe to repeat.
set -euo pipefail
missing=()
needs() { [ -e "$1" ] || command -v "$1" >/dev/null || missing+=("$2"); }
needs runc runc
needs /usr/lib/cni/ptp containernetworking-plugins
needs nft nftables
needs ip iproute2
needs ps procps
needs nsenter util-linux
needs openssl openssl
needs /bin/busybox busybox-static
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing ${missing[*]}"
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
