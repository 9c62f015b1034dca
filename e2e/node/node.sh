#!/usr/bin/env bash
# node.sh lose I: node I is gone, as if its power had been cut for good. node.sh join I: an empty machine takes its place.
# Not for the first node, which has the control plane.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$here/pki.sh"
source "$here/worker.sh"
source "$here/images.sh"

what=${1:-} i=${2:-}
[[ $i =~ ^[2-9]$ && -e $run/$i ]] || fail "usage: node.sh lose|join NUMBER, of a node other than the first"

lose() {
    local id
    id=$(holder "$i")
    kill -9 "$id"
    gone() { [ ! -e "/proc/$id" ] || grep -q '^State:.Z' "/proc/$id/status"; }
    await 20 "the processes of node$i end" gone
    rm -f "$run/$i/holder.pid"
}

join() {
    [ ! -e "$run/$i/holder.pid" ] || fail "node$i is there"
    # A cgroup is busy for a moment after its last process.
    no_cgroups() {
        local left
        left=$(find /sys/fs/cgroup -maxdepth 2 -type d -name "keelson-node$i" 2>/dev/null)
        [ -n "$left" ] || return 0
        # shellcheck disable=SC2086
        find $left -depth -type d -exec rmdir {} + 2>/dev/null
    }
    await 20 "the cgroups of node$i are removed" no_cgroups
    # The logs of its former life stay.
    find "$run/$i" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
    make_node "$i"
    make_worker "$i"
    give_images "$i"
    ready() { kubectl get node "node$i" --no-headers | grep -qw Ready; }
    await 60 "node$i is ready" ready
}

case $what in
lose | join) "$what" ;;
*) fail "usage: node.sh lose|join NUMBER" ;;
esac
