#!/usr/bin/env bash
# Builds the pinned peers into a cache folder outside the checkout.
#
#   build.sh [name ...]      the default set without names; see README.md
#   build.sh node            what a whole Kubernetes node needs
#
# Binaries go to ${KEELSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keelson}/peers/bin.
# One that was already built from the same inputs is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${KEELSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keelson}/peers
defaults=(etcd etcdctl etcdutl benchmark kube-apiserver kubectl helm linearizable versitygw)
node=(etcdctl kube-apiserver kubectl kubelet kube-controller-manager kube-scheduler kube-proxy
    containerd containerd-shim-runc-v2 ctr coredns local-path-provisioner helm)

# Not what the caller's own Go settings say. (An empty GOFLAGS would not override them.)
export GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0

# Sets for $1: dir (the wrapper module), pkg (the main package), tags, ldflags.
describe() {
    tags='' ldflags='-s -w'
    case $1 in
    etcd)              dir=etcd  pkg=go.etcd.io/etcd/server/v3 ;;
    etcdctl | etcdutl) dir=etcd  pkg=go.etcd.io/etcd/$1/v3 ;;
    benchmark)         dir=bench pkg=go.etcd.io/etcd/v3/tools/benchmark ;;
    coredns)           dir=coredns pkg=. ;;
    helm)              dir=helm  pkg=helm.sh/helm/v4/cmd/helm ;;
    local-path-provisioner)
        dir=provisioner pkg=github.com/rancher/local-path-provisioner ;;
    containerd | containerd-shim-runc-v2 | ctr)
        dir=containerd pkg=github.com/containerd/containerd/v2/cmd/$1 tags=no_btrfs,no_zfs,no_devmapper ;;
    linearizable)      dir=porcupine pkg=. ;;
    versitygw)         dir=versitygw pkg=github.com/versity/versitygw/cmd/versitygw ;;
    kube-apiserver | kubectl | kubelet | kube-controller-manager | kube-scheduler | kube-proxy)
        dir=kubernetes pkg=k8s.io/kubernetes/cmd/$1
        local version major minor p
        version=$(awk '{ for (i = 1; i < NF; i++) if ($i == "k8s.io/kubernetes") { print $(i + 1); exit } }' "$here/$dir/go.mod")
        IFS=. read -r major minor _ <<<"${version#v}"
        for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
            ldflags+=" -X $p.gitVersion=$version -X $p.gitMajor=$major -X $p.gitMinor=$minor"
        done
        ;;
    *)
        echo "build.sh: no peer is called '$1'" >&2
        return 1
        ;;
    esac
}

build() {
    local name=$1 dir pkg tags ldflags stamp log start
    describe "$name"
    cd "$here/$dir"
    local cmd=(go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$work/$name" ${tags:+-tags "$tags"} "$pkg")

    # The inputs: Go's version and target, the flags, and the pinned modules.
    stamp=$({ go env GOVERSION GOOS GOARCH; echo "${cmd[*]/#$work*/}"; cat go.mod go.sum; [[ $pkg != . ]] || cat ./*.go; } | sha256sum | cut -d' ' -f1)
    if [[ -x $out/bin/$name && $(cat "$out/stamp/$name" 2>/dev/null) == "$stamp" ]]; then
        echo "$name: up to date"
        return
    fi

    printf '%s: building ... ' "$name"
    start=$SECONDS log=$work/$name.log
    if ! "${cmd[@]}" >"$log" 2>&1; then
        echo failed
        cat "$log" >&2
        return 1
    fi
    # Never leave a stamp beside a binary that it does not describe.
    rm -f "$out/stamp/$name"
    mv -f "$work/$name" "$out/bin/$name"
    echo "$stamp" >"$work/stamp"
    mv -f "$work/stamp" "$out/stamp/$name"
    echo "done in $((SECONDS - start)) s"
}

(($#)) || set -- "${defaults[@]}"
[[ $* != node ]] || set -- "${node[@]}"
for name; do describe "$name"; done

mkdir -p "$out/bin" "$out/stamp"
out=$(cd "$out" && pwd)
# One that make setup has fetched, where there was none.
PATH=$(dirname "$out")/go/bin:$PATH
command -v go >/dev/null || { echo "build.sh: needs Go on the PATH, or make setup before" >&2; exit 1; }
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
for name; do build "$name"; done
