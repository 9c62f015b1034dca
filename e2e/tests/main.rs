//! Everything from the outside: one program, since each links all of the clients.

mod backups;
mod bad_input;
mod bootstrap;
mod chaos;
mod cluster;
mod cluster_failures;
mod clustering;
mod cold_reads;
mod compaction_crash;
mod config_file;
mod damage;
mod damaged_state;
mod etcd_client;
mod etcdctl;
mod gateway;
mod grpc_health;
mod harness;
mod keelsonctl;
mod keelsonctl_live;
mod kills;
mod kubernetes;
mod kubernetes_cluster;
mod lists;
mod locks_and_elections;
mod logs;
mod metrics;
mod node;
mod oracle;
mod power_cuts;
mod process;
mod proxy;
mod quota;
mod removal_crash;
mod slow_calls;
mod snapshots;
mod tls;
mod traces;
mod unix_sockets;
mod users;

/// Tests that measure time, or shake whole clusters, take turns: each wants the machine for itself.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
