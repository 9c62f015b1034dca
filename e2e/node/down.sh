#!/usr/bin/env bash
# Removes what up.sh made, all of it, and says so if something is left. --keep-logs leaves the logs in a folder beside it,
# which goes the next time.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "${1:-}" != --keep-logs ]; then
    rm -rf "$run-logs"
elif [ -e "$run" ]; then
    rm -rf "$run-logs"
    mkdir -p "$run-logs"
    (cd "$run" && cp -r --parents ./*/log "$run-logs") || true
fi
for pid in "$run"/*/holder.pid; do
    end_node "$(basename "$(dirname "$pid")")"
done
! ip link show $host_link >/dev/null 2>&1 || ip link delete $host_link 2>/dev/null || true
remove_cgroups 'keelson-node*'
await 20 "$run is removed" rm -rf "$run"

# A link goes a moment after the namespace that has its other end.
no_link() { ! ip link show $host_link; }
await 20 "the link $host_link is removed" no_link
left=$(
    ip route show 2>/dev/null | grep -w $host_link
    find /sys/fs/cgroup -maxdepth 2 -type d -name 'keelson-node*' 2>/dev/null
    find "$run" -maxdepth 0 2>/dev/null
) || true
[ -z "$left" ] || fail "this is left: $left"
