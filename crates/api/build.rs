//! Compiles the wire contracts under `proto/` with protox, so that no `protoc` is needed.

use std::path::Path;

const FILES: &[&str] = &[
    "etcd/mvccpb.proto",
    "etcd/authpb.proto",
    "etcd/etcdserverpb.proto",
    "etcd/v3electionpb.proto",
    "etcd/v3lockpb.proto",
    "grpc/health.proto",
    "keelson/command.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES.iter().map(|f| root.join(f)), [&root])?;
    let services = "#[cfg(feature = \"services\")]";
    tonic_prost_build::configure()
        .bytes(".")
        .client_mod_attribute(".", services)
        .server_mod_attribute(".", services)
        .compile_fds(descriptors)?;
    Ok(())
}
