//! Tells systemd that the process is ready, if it was started as a service that waits for that (`Type=notify`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Names the socket on which systemd listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Says so once; the process goes on if nobody hears it.
pub fn ready() {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    match say(socket.as_bytes(), "READY=1") {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(e) => tracing::error!(error = %e, "failed to notify systemd for readiness"),
    }
}

/// A name that begins with @ is no path.
fn say(socket: &[u8], what: &str) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_with_a_path_and_without_one_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let name = format!("keelson-notify-{}", std::process::id());
        let with_path = UnixDatagram::bind(&path).unwrap();
        let without = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        say(path.as_os_str().as_bytes(), "READY=1").unwrap();
        say(format!("@{name}").as_bytes(), "READY=1").unwrap();
        for listener in [with_path, without] {
            let mut received = [0; 16];
            let length = listener.recv(&mut received).unwrap();
            assert_eq!(&received[..length], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(say(path.as_os_str().as_bytes(), "READY=1").is_err(), "nobody listens");
    }
}
