//! Versions: the API's, because clients parse it, and keelson's own.

/// The etcd release whose API this is.
pub const API: &str = "3.7.3";
/// Version that all members of a cluster speak, and of the stored data as the API reports it. Told with the cluster's
/// format: another version comes with a newer format only, or members of two builds would not agree on it.
pub const CLUSTER: &str = "3.7.0";

/// What `--version` prints: etcd's four lines, as scripts parse them, with keelson's own after.
#[must_use]
pub fn text() -> String {
    let commit = option_env!("KEELSON_COMMIT").unwrap_or("unknown");
    // As Go calls it.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {API}\nGit SHA: {commit}\nGo Version: none (keelson {}, Rust)\nGo OS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        arch,
    )
}
