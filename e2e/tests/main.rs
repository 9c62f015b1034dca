//! Everything from the outside: one program, since each links all of the clients.

mod bad_input;
mod bootstrap;
mod chaos;
mod cluster;
mod cluster_failures;
mod clustering;
mod damage;
mod etcd_client;
mod etcdctl;
mod gateway;
mod harness;
mod keelsonctl;
mod keelsonctl_live;
mod kills;
mod kubernetes;
mod kubernetes_cluster;
mod lists;
mod locks_and_elections;
mod node;
mod oracle;
mod power_cuts;
mod quota;
mod removal_crash;
mod snapshots;
mod tls;
mod users;
