#!/usr/bin/env bash
# Removes what up.sh made, all of it. --keep-logs leaves the logs in a folder beside it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "${1:-}" = --keep-logs ] && [ -e "$run" ]; then
    rm -rf "$run-logs"
    mkdir -p "$run-logs"
    (cd "$run" && cp -r --parents ./*/log "$run-logs") || true
fi
# Ending the first process of a node ends everything in it.
ended() {
    case $(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) in '' | Z | X) ;; *) return 1 ;; esac
}
for pid in "$run"/*/holder.pid; do
    [ -e "$pid" ] || continue
    id=$(cat "$pid")
    # The number may have gone to another process since.
    grep -qa "$here/holder.sh" "/proc/$id/cmdline" 2>/dev/null || continue
    kill -9 "$id"
    await 20 "the processes of a node end" ended "$id"
done
! ip link show $host_link >/dev/null 2>&1 || ip link delete $host_link 2>/dev/null || true
# A cgroup is busy for a moment after its last process.
no_cgroups() {
    local left
    left=$(find /sys/fs/cgroup -maxdepth 2 -type d -name 'keelson-node*' 2>/dev/null)
    [ -n "$left" ] || return 0
    # shellcheck disable=SC2086
    find $left -depth -type d -exec rmdir {} + 2>/dev/null
}
await 20 "cgroups are removed" no_cgroups
await 20 "$run is removed" rm -rf "$run"
