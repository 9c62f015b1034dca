#!/usr/bin/env bash
# Removes what up.sh made, all of it. --keep-logs leaves the logs in a folder beside it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "${1:-}" = --keep-logs ] && [ -e "$run" ]; then
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
