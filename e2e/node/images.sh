# Sourced by up.sh: images without a registry, packed here and given to every node.

# Every image has its file in $run/images.
pack_images() {
    mkdir -p "$run/images"
    cd "$repo"
    xtask() { "$CARGO_TARGET_DIR/release/xtask" "$@" >/dev/null; }
    xtask image --out "$run/images/keelson.tar"
    # The same again as the next version, for the test that changes from one to the other.
    local version
    version=$(sed -n 's/^appVersion: //p' charts/keelson-operator/Chart.yaml)
    xtask image --name "ghcr.io/keelson/keelson:${version%.*}.$((${version##*.} + 1))" --out "$run/images/keelson-next.tar"
    xtask pack --name localhost/coredns:1 --out "$run/images/coredns.tar" --entrypoint /coredns "$peers/coredns=/coredns"
    xtask pack --name localhost/local-path-provisioner:1 --out "$run/images/provisioner.tar" \
        --entrypoint /local-path-provisioner "$peers/local-path-provisioner=/local-path-provisioner"
    # What keeps a pod's namespaces open while its containers come and go, and the shell of the provisioner.
    xtask pack --name localhost/busybox:1 --out "$run/images/busybox.tar" \
        --entrypoint "/bin/busybox sleep 2147483647" /bin/busybox=/bin/busybox /bin/busybox=/bin/sh
}

# give_images I
give_images() {
    local image
    for image in "$run"/images/*.tar; do
        in_node "$1" "$peers/ctr" --address /run/containerd/containerd.sock --namespace k8s.io images import "$image" \
            >>"$run/$1/log/images.log" 2>&1
    done
}
