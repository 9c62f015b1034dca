//! Endpoints from SRV records: `_etcd-client-ssl._tcp.DOMAIN` has those with https, `_etcd-client._tcp.DOMAIN` those with http.

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::exit::Failure;

/// Both kinds. Without `take_insecure` those with http are left out, and told.
pub async fn find(domain: &str, suffix: &str, take_insecure: bool) -> Result<Vec<String>, Failure> {
    let suffix = if suffix.is_empty() { String::new() } else { format!("-{suffix}") };
    let mut found = Vec::new();
    let mut why = Vec::new();
    for (scheme, service) in [("https", "etcd-client-ssl"), ("http", "etcd-client")] {
        let record = format!("_{service}{suffix}._tcp.{domain}");
        match targets(&record).await {
            Ok(targets) => found.extend(targets.into_iter().map(|target| format!("{scheme}://{target}"))),
            Err(e) => why.push(format!("{record}: {e}")),
        }
    }
    if why.len() == 2 {
        return Err(Failure::error(format!("dns lookup errors: {}", why.join(" and "))));
    }
    if !take_insecure {
        found.retain(|endpoint| {
            let kept = endpoint.starts_with("https://");
            if !kept {
                eprintln!("ignoring discovered insecure endpoint {endpoint:?}");
            }
            kept
        });
    }
    Ok(found)
}

async fn targets(record: &str) -> Result<Vec<String>, String> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(|e| e.to_string())?;
    let answer = resolver.srv_lookup(format!("{record}.")).await.map_err(|e| e.to_string())?;
    let targets = answer.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(format!("{}:{}", srv.target.to_string().trim_end_matches('.'), srv.port)),
        _ => None,
    });
    Ok(targets.collect())
}
