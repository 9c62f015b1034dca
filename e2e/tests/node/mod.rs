//! Clusters on a whole Kubernetes, made and removed by `make e2e-node`: real kubelets, volumes, Services and DNS, the
//! operator installed by Helm. One file per behaviour, each under load from clients that check what they were told.

mod on_a_node {
    mod apiserver;
    mod certificates;
    mod chart;
    mod damaged;
    mod drains;
    mod grows;
    mod halts;
    mod heals;
    mod issues;
    mod loses;
    mod neighbours;
    mod pauses;
    mod quorum;
    mod replaces;
    mod returns;
    mod rolls;
    mod scales;
    mod shrinks;
}
