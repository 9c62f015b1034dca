# Sourced by up.sh: one node, with containerd, kubelet and kube-proxy.

# make_node I: its namespaces and its network.
make_node() {
    local i=$1 at=$run/$1 ip j
    ip=$(node_ip "$i")
    mkdir -p "$at"/{log,cni,kubelet,pods-log}
    setsid unshare --mount --net --pid --uts --fork --kill-child --mount-proc --propagation private \
        bash "$here/holder.sh" "node$i" "$at/ready" </dev/null >"$at/log/holder.log" 2>&1 &
    local parent=$!
    disown
    await 20 "node$i begins" test -e "$at/ready"
    ps -o pid= --ppid $parent | tr -d ' ' >"$at/holder.pid"

    in_node "$i" ip link set lo up
    if [ "$i" = 1 ]; then
        # All nodes and the host meet at a bridge in the first node.
        in_node 1 ip link add nodes type bridge
        in_node 1 ip addr add "$ip/24" dev nodes
        in_node 1 ip link set nodes up
        ip link add $host_link type veth peer name host netns "$(holder 1)"
        in_node 1 ip link set host master nodes up
        ip addr add $host_ip/24 dev $host_link
        ip link set $host_link up
        ip route add $all_pods via "$ip" dev $host_link
        ip route add $services via "$ip" dev $host_link
    else
        ip link add "node$i" type veth peer name eth0 netns "$(holder "$i")"
        ip link set "node$i" netns "$(holder 1)"
        in_node 1 ip link set "node$i" master nodes up
        in_node "$i" ip addr add "$ip/24" dev eth0
        in_node "$i" ip link set eth0 up
        for ((j = 1; j < i; j++)); do
            in_node "$j" ip route replace "$(pods_of "$i")" via "$ip"
            in_node "$i" ip route replace "$(pods_of "$j")" via "$(node_ip "$j")"
        done
    fi
    # Everything beyond: Services, before kube-proxy turns them into pods.
    in_node "$i" ip route add default via $host_ip
    in_node "$i" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
}

# A kubelet removes pod cgroups that it does not know, so each needs a root of its own.
make_cgroup() {
    local root=/sys/fs/cgroup name=keelson-node$1 hierarchy file
    if [ -e $root/cgroup.controllers ]; then
        mkdir -p "$root/$name"
        # One at a time: a kernel that lacks one of them refuses them all together.
        for file in $(cat $root/cgroup.controllers); do
            echo "+$file" >$root/cgroup.subtree_control || true
        done
        return
    fi
    for hierarchy in "$root"/*/; do
        case $hierarchy in */unified/) ;; *) mkdir -p "$hierarchy$name" ;; esac
    done
    for file in cpus mems; do
        cat "$root/cpuset/cpuset.$file" >"$root/cpuset/$name/cpuset.$file"
    done
}

configure() {
    local i=$1 at=$run/$1
    # ptp, not bridge: what one pod of a node sends to another passes the node, where kube-proxy can turn answers back.
    cat >"$at/cni/10-pods.conflist" <<Y
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/run/cni-addresses",
    "ranges": [[{"subnet": "$(pods_of "$i")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
Y
    cat >"$at/containerd.toml" <<Y
version = 3
root = "$at/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "$at/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/busybox:1"
[plugins."io.containerd.cri.v1.runtime"]
# Where lowering a process' oom_score_adj is not permitted, no pod would start.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "$at/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
Y
    cat >"$at/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /keelson-node$i
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [$dns_ip]
clusterDomain: cluster.local
# There is nobody beyond the cluster to ask.
resolvConf: /dev/null
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet$i.crt
tlsPrivateKeyFile: $pki/kubelet$i.key
podLogsDir: $at/pods-log
volumePluginDir: $at/kubelet/plugins
evictionHard: {memory.available: 50Mi}
# Images come from no registry: one that is removed does not come back.
imageGCHighThresholdPercent: 100
enforceNodeAllocatable: []
Y
}

# make_worker I: node I as a member of the Kubernetes cluster.
make_worker() {
    local i=$1 at=$run/$1 ip
    ip=$(node_ip "$i")
    issue "kubelet$i" "/O=system:nodes/CN=system:node:node$i" "IP:$ip,DNS:node$i"
    user "kubelet$i" "$at/kubeconfig"
    make_cgroup "$i"
    configure "$i"
    start "$i" containerd env PATH="$peers:$PATH" "$peers/containerd" -c "$at/containerd.toml"
    await 20 "containerd on node$i" in_node "$i" "$peers/ctr" --address /run/containerd/containerd.sock version
    start "$i" kubelet env PATH="$peers:$PATH" "$peers/kubelet" --config="$at/kubelet.yaml" --kubeconfig="$at/kubeconfig" \
        --hostname-override="node$i" --node-ip="$ip" --root-dir="$at/kubelet" --cert-dir="$at/kubelet/pki"
    start "$i" kube-proxy "$peers/kube-proxy" --kubeconfig="$kubeconfig" --proxy-mode=nftables \
        --hostname-override="node$i" --cluster-cidr=$all_pods --conntrack-max-per-core=0
}
