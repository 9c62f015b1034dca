#!/usr/bin/env bash
# After up.sh: installs the operator with Helm, asks it for a cluster of three, and says what to do with it.
# example.sh --remove takes that cluster away again, with its data.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export KUBECONFIG=$kubeconfig
cd "$repo"

if [ "${1:-}" = --remove ]; then
    kubectl delete -f manifests/samples/minimal.yaml
    kubectl wait pods --selector keelson.dev/cluster=example --for=delete --timeout=2m
    kubectl delete persistentvolumeclaims --selector keelson.dev/cluster=example
    exit
fi
echo "Installing the operator"
"$peers/helm" upgrade --install keelson-operator charts/keelson-operator --namespace keelson-system --create-namespace \
    --wait --timeout 2m >/dev/null
echo "Asking for a cluster of three: manifests/samples/minimal.yaml"
kubectl apply -f manifests/samples/minimal.yaml >/dev/null
kubectl wait etcdcluster/example --for=condition=Available --timeout=3m >/dev/null
kubectl wait etcdcluster/example --for=jsonpath='{.status.quorum.healthy}'=3 --timeout=3m >/dev/null
kubectl wait etcdcluster/example --for=condition=Progressing=False --timeout=1m >/dev/null
kubectl get etcdclusters
endpoint=http://$(kubectl get service example -o jsonpath='{.spec.clusterIP}'):2379
"$peers/etcdctl" --endpoints "$endpoint" put hello world >/dev/null
cat <<EOT

It runs, and etcdctl has put a key into it. In a shell of your own:

  export KUBECONFIG=$kubeconfig PATH=$peers:\$PATH
  kubectl get etcdclusters,etcdmembers,pods
  etcdctl --endpoints $endpoint get hello

Then try what it is for:

  kubectl delete \$(kubectl get pods --output name | head -n 1)
  kubectl scale etcdcluster example --replicas 5
  kubectl get events --watch

make down removes all of it.
EOT
