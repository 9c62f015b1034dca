#!/usr/bin/env bash
# up.sh [NODES]: a real Kubernetes of one or more nodes on this machine, and its kubeconfig. down.sh removes it.
#
# Every node has containerd, kubelet and kube-proxy; the first also has the control plane, which stores in keelson. There
# are cluster DNS and a default StorageClass. No registry, no container engine: images are packed here.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$here/pki.sh"
source "$here/worker.sh"
source "$here/control-plane.sh"
source "$here/images.sh"

nodes=${1:-1}
[[ $nodes =~ ^[1-9]$ ]] || fail "the number of nodes is from 1 to 9, not '$nodes'"
[ ! -e "$run" ] || fail "there is one already, in $run: run 'make down' first"
! ip link show $host_link >/dev/null 2>&1 || fail "the link $host_link exists: run 'make down' first"
! ip route show | grep -qE '^10\.(99\.0|96|244)\.' || fail "this machine has routes to 10.99.0.0/24, 10.96.0.0/16 or 10.244.0.0/16"
for program in keelson keelson-operator; do
    [ -x "$repo/bin/$program" ] || fail "bin/$program is missing: run 'make build'"
done

trap '[ $? = 0 ] || { echo "node: what was started is being removed; logs: $run-logs" >&2; "$here/down.sh" --keep-logs; }' EXIT
mkdir -p "$run"
echo "Packing images"
pack_images
echo "Starting the control plane"
authority
make_node 1
make_control_plane
for ((i = 1; i <= nodes; i++)); do
    echo "Starting node$i"
    [ "$i" = 1 ] || make_node "$i"
    make_worker "$i"
    give_images "$i"
done
all_ready() { [ "$(kubectl get nodes --no-headers | grep -cw Ready)" = "$nodes" ]; }
await 60 "every node is ready" all_ready
sed "s#@DNS@#$dns_ip#; s#@VOLUMES@#$run/volumes#" "$here/addons.yaml" | kubectl apply -f - >/dev/null
kubectl -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null
kubectl -n local-path-storage rollout status deployment/local-path-provisioner --timeout=60s >/dev/null
kubectl get nodes
