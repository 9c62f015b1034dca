# Sourced by up.sh: the control plane, in the first node. It stores in keelson.

make_control_plane() {
    local ip
    ip=$(node_ip 1)
    issue apiserver /CN=kube-apiserver \
        "IP:$ip,IP:127.0.0.1,IP:10.96.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost"
    issue admin /O=system:masters/CN=admin DNS:admin
    user admin "$kubeconfig"

    start 1 store "$repo/bin/keelson" --data-dir "$run/store" \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
    start 1 kube-apiserver "$peers/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
        --service-cluster-ip-range=$services --advertise-address="$ip" --secure-port=6443 \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
        --service-account-issuer=https://kubernetes.default.svc --kubelet-preferred-address-types=InternalIP \
        --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
        --kubelet-certificate-authority="$pki/ca.crt"
    await 60 "the API server answers" kubectl get --raw /readyz
    start 1 kube-controller-manager "$peers/kube-controller-manager" --kubeconfig="$kubeconfig" --leader-elect=false \
        --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/sa.key" --use-service-account-credentials
    start 1 kube-scheduler "$peers/kube-scheduler" --kubeconfig="$kubeconfig" --leader-elect=false
}
