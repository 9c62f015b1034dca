# Sourced by the scripts beside it: where things are, and how to run something inside a node.
#
# A node is one process with network, mounts, processes and host name of its own. What is started in it, pods included,
# ends with that process, and what it mounts or writes to /run, /var/lib and /var/log is gone with it too.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
export KEELSON_CACHE=${KEELSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keelson}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$KEELSON_CACHE/target}
peers=$KEELSON_CACHE/peers/bin
run=$KEELSON_CACHE/node
kubeconfig=$run/kubeconfig

# Addresses: nodes, pods of node I, Services. The host has one among the nodes, so that all of them can be reached from it.
node_ip() { echo "10.99.0.$1"; }
pods_of() { echo "10.244.$1.0/24"; }
host_ip=10.99.0.254 all_pods=10.244.0.0/16 services=10.96.0.0/16 dns_ip=10.96.0.10
host_link=keelson-host

fail() { echo "node: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "namespaces, mounts and cgroups need root: run this with sudo"
case $run/ in
/run/* | /var/lib/* | /var/log/*) fail "KEELSON_CACHE is below a folder that nodes have their own of: set it to another" ;;
esac

# The process that is node I, by its id here.
holder() { cat "$run/$1/holder.pid"; }

in_node() {
    local i=$1
    shift
    nsenter --target "$(holder "$i")" --mount --net --pid --uts -- "$@"
}

# Starts a program in node I that goes on after this script; its output goes to a log named NAME.
start() {
    local i=$1 name=$2
    shift 2
    setsid nsenter --target "$(holder "$i")" --mount --net --pid --uts -- "$@" \
        </dev/null >"$run/$i/log/$name.log" 2>&1 &
    disown
}

kubectl() { "$peers/kubectl" --kubeconfig "$kubeconfig" "$@"; }

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
    local limit=$1 what=$2 end=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what: not within $limit s; logs are in $run/*/log"
        sleep 0.2
    done
}

# Ends node I: ending its first process ends everything in it.
end_node() {
    local pid=$run/$1/holder.pid id
    [ -e "$pid" ] || return 0
    id=$(cat "$pid")
    # The number may have gone to another process since.
    grep -qa "$here/holder.sh" "/proc/$id/cmdline" 2>/dev/null || return 0
    kill -9 "$id"
    ended() {
        case $(awk '/^State:/ { print $2 }' "/proc/$id/status" 2>/dev/null) in '' | Z | X) ;; *) return 1 ;; esac
    }
    await 20 "the processes of node$1 end" ended
}

# Removes the cgroups of the nodes whose names fit. A cgroup is busy for a moment after its last process.
remove_cgroups() {
    local names=$1
    no_cgroups() {
        local left
        left=$(find /sys/fs/cgroup -maxdepth 2 -type d -name "$names" 2>/dev/null)
        [ -n "$left" ] || return 0
        # shellcheck disable=SC2086
        find $left -depth -type d -exec rmdir {} + 2>/dev/null
    }
    await 20 "the cgroups of $names are removed" no_cgroups
}
