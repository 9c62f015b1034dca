//! Compiles the wire contracts under `proto/` with protox, so that no `protoc` is needed.

use std::path::Path;

use protox::prost::Message;

const FILES: &[&str] = &[
    "etcd/mvccpb.proto",
    "etcd/authpb.proto",
    "etcd/etcdserverpb.proto",
    "etcd/v3electionpb.proto",
    "etcd/v3lockpb.proto",
    "grpc/health.proto",
    "keelson/command.proto",
    "keelson/peer.proto",
    "opentelemetry/trace.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo runs this in the package's folder. A path fixed at compile time would be another
    // checkout's when checkouts share one target directory.
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES.iter().map(|f| root.join(f)), [root])?;
    // For who reads and writes messages by the names of their fields; comments are of no use there.
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("descriptors.bin"), bare.encode_to_vec())?;
    let services = "#[cfg(feature = \"services\")]";
    tonic_prost_build::configure()
        .bytes(".")
        .client_mod_attribute(".", services)
        .server_mod_attribute(".", services)
        .compile_fds(descriptors)?;
    Ok(())
}
