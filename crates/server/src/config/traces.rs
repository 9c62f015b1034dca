//! `--enable-distributed-tracing`: where calls are told of, and how many.

/// Of so many calls it is said how many are told.
pub const MILLION: u32 = 1_000_000;
/// A prefix that addresses may have which are looked up as names, as Go's library has it.
const BY_NAME: &str = "dns:///";

/// Settings of tracing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Host and port of the collector.
    pub address: String,
    /// What the service is called.
    pub service: String,
    /// What this member is called; nothing if that is not told.
    pub instance: String,
    /// Calls of a million that are told, of those that no trace brings along.
    pub per_million: u32,
}

/// Reads the settings.
pub fn read(address: &str, service: String, instance: String, rate: i64) -> Result<Traces, String> {
    let address = address.strip_prefix(BY_NAME).unwrap_or(address);
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let is_bare = !address.contains(['/', '@', '?', '#']);
    if !has_port || !is_bare || url::Url::parse(&format!("http://{address}/")).is_err() {
        return Err(format!("--distributed-tracing-address: {address:?} is not HOST:PORT"));
    }
    let per_million = u32::try_from(rate).ok().filter(|rate| *rate <= MILLION);
    let per_million =
        per_million.ok_or_else(|| format!("--distributed-tracing-sampling-rate must be from 0 to {MILLION} (set to {rate})"))?;
    Ok(Traces { address: address.to_owned(), service, instance, per_million })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_have_a_host_and_a_port() {
        let address = |text: &str| read(text, "s".into(), String::new(), 1).map(|traces| traces.address);
        for good in ["localhost:4317", "10.0.0.1:1", "[::1]:4317"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        assert_eq!(address("dns:///collector:4317").as_deref(), Ok("collector:4317"));
        for bad in ["", "localhost", ":4317", "localhost:x", "http://localhost:4317", "a b:1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
