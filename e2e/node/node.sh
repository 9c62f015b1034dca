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
    end_node "$i"
    rm -f "$run/$i/holder.pid"
}

join() {
    [ ! -e "$run/$i/holder.pid" ] || fail "node$i is there"
    remove_cgroups "keelson-node$i"
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
