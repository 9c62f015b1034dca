#!/usr/bin/env bash
# Says why this machine cannot have a whole Kubernetes on it; nothing if it can.
[ "$(id -u)" = 0 ] || { echo "it needs root"; exit; }
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! unshare --net --mount --pid --fork true 2>/dev/null; then
    echo "this machine does not let root make namespaces"
elif ! find /sys/fs/cgroup -maxdepth 1 -type d -writable 2>/dev/null | grep -q .; then
    echo "it needs control groups, at /sys/fs/cgroup, and to write there"
elif [ -e "$run" ] || ip link show $host_link >/dev/null 2>&1; then
    echo "there is one already ('make down' removes it)"
fi
