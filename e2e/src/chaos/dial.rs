//! Connections to members that may be stopped, cut off or dead: they are given up soon, and made anew.

use std::time::Duration;

use anyhow::Result;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A member on the same machine answers a connection at once, or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// A stopped process answers no pings.
const PING: Duration = Duration::from_secs(2);

/// A connection that is made when it is needed.
pub fn lazily(url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    Ok(endpoint.connect_lazy())
}

/// Whether an error proves that the request never left: nobody took the connection.
pub fn was_never_sent(status: &Status) -> bool {
    format!("{status:?}").contains("tcp connect error")
}
