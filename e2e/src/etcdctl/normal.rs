//! Replaces what two servers cannot have in common in what etcdctl prints: addresses, ids, terms,
//! log positions, sizes, hashes of the stored form, and times.

use std::sync::LazyLock;

use anyhow::Result;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, StatusRequest, TxnResponse};
use prost::Message;
use regex::Regex;

use crate::oracle::lease_names::LeaseNames;
use crate::oracle::normal;
use crate::server::Server;

/// What one server calls itself and its leases.
pub struct Names {
    /// What to replace, and with what, in this order.
    texts: Vec<(String, String)>,
    leases: Vec<i64>,
}

/// What is left once names are replaced. The order matters: later ones see what earlier ones left.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // The client's own log lines on stderr.
        (r#""ts":"[^"]*""#, r#""ts":TIME"#),
        (r"etcd-endpoints://0x[0-9a-f]+", "etcd-endpoints://POINTER"),
        (r"LocalAddr: '[^']*'", "LocalAddr: LOCAL"),
        // Frames and widths of tables; log positions in their cells.
        ("[─ ]*─[─ ]*", "─"),
        (" +", " "),
        (r"\b\d+(\.\d+)? [kMG]?B\b", "SIZE"),
        (r"│ \d+ ", "│ NUMBER "),
        // JSON, and the fields format.
        (r#"("(?i:raft_?term|raft_?index|raft_?applied_?index|dbSize|dbSizeInUse|hash)" ?: ?)\d+"#, "${1}NUMBER"),
        (r#"("(?i:ttl)" ?: ?)\d+(,"granted-ttl"|\n"GrantedTTL")"#, "${1}REMAINING${2}"),
        (r"remaining\(\d+s\)", "remaining(REMAINING)"),
        (r"(true|false), (true|false), \d+, \d+, \d+,", "${1}, ${2}, TERM, INDEX, APPLIED,"),
        (r"ENDPOINT, \d+, ", "ENDPOINT, HASH, "),
        (r"\b\d+(\.\d+)?(ns|µs|ms)", "TIME"),
        (r"took( = | )\d+(\.\d+)?s", "took${1}TIME"),
        (r"-?\b\d+%", "PERCENT"),
        (r"\b3\.7\.\d+\b", "3.7.PATCH"),
    ]
    .map(|(pattern, text)| (Regex::new(pattern).expect("a valid pattern"), text))
    .into()
});

static GRANTED: LazyLock<Regex> = LazyLock::new(|| Regex::new("lease ([0-9a-f]{16}) granted").expect("a valid pattern"));

impl Names {
    pub async fn of(server: &Server) -> Result<Self> {
        let mut client = MaintenanceClient::connect(server.client_url()).await?;
        let header = client.status(StatusRequest {}).await?.into_inner().header.unwrap_or_default();
        let host = |url: String| url.trim_start_matches("http://").to_owned();
        let mut names = Self { texts: Vec::new(), leases: Vec::new() };
        names.texts.push((server.client_url(), "ENDPOINT".into()));
        names.texts.push((host(server.client_url()), "ENDPOINT".into()));
        names.texts.push((server.peer_url(), "PEER".into()));
        names.add_id(header.cluster_id, "CLUSTER");
        names.add_id(header.member_id, "MEMBER");
        Ok(names)
    }

    fn add_id(&mut self, id: u64, name: &str) {
        self.texts.push((id.to_string(), name.into()));
        self.texts.push((format!("{id:016x}"), name.into()));
        self.texts.push((format!("{id:x}"), name.into()));
    }

    /// Ids of leases come out of the command that granted them.
    pub fn learn_leases(&mut self, printed: &str) {
        for id in GRANTED.captures_iter(printed).filter_map(|found| i64::from_str_radix(&found[1], 16).ok()) {
            self.add_id(id.cast_unsigned(), &format!("LEASE{}", self.leases.len()));
            self.leases.push(id);
        }
    }

    /// `{lease0}` in a command is the first lease that was granted on this server.
    pub fn expand(&self, word: &str) -> String {
        let mut expanded = word.to_owned();
        for (number, id) in self.leases.iter().enumerate() {
            expanded = expanded.replace(&format!("{{lease{number}}}"), &format!("{id:x}"));
        }
        expanded
    }

    pub fn normalise(&self, text: &str) -> String {
        let mut normal = text.to_owned();
        for (text, name) in &self.texts {
            normal = normal.replace(text.as_str(), name);
        }
        for (pattern, text) in PATTERNS.iter() {
            normal = pattern.replace_all(&normal, *text).into_owned();
        }
        normal
    }

    /// Protobuf output is compared as the message that it is.
    pub fn normalise_stdout(&self, args: &str, stdout: &[u8]) -> Result<String> {
        if !args.contains("-w protobuf") {
            return Ok(self.normalise(&String::from_utf8_lossy(stdout)));
        }
        let mut names = LeaseNames::default();
        self.leases.iter().for_each(|&id| names.add(id));
        Ok(match args.split_whitespace().next() {
            Some("get") => {
                let mut response = RangeResponse::decode(stdout)?;
                normal::range(&mut response, &names);
                format!("{response:?}")
            }
            Some("put") => {
                let mut response = PutResponse::decode(stdout)?;
                normal::put(&mut response, &names);
                format!("{response:?}")
            }
            Some("del") => {
                let mut response = DeleteRangeResponse::decode(stdout)?;
                normal::delete_range(&mut response, &names);
                format!("{response:?}")
            }
            Some("txn") => {
                let mut response = TxnResponse::decode(stdout)?;
                normal::txn(&mut response, &names);
                format!("{response:?}")
            }
            // Nothing but the header, and of most not even that.
            Some("lease") => {
                let ResponseHeader { revision, .. } = ResponseHeader::decode(stdout)?;
                format!("revision {revision}")
            }
            _ => self.normalise(&String::from_utf8_lossy(stdout)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names { texts: vec![("http://127.0.0.1:4000".into(), "ENDPOINT".into())], leases: vec![] };
        names.add_id(0x8e9e_05c5_2164_694d, "MEMBER");
        names
    }

    #[test]
    fn status_keeps_what_is_not_the_servers_own() {
        let line =
            "http://127.0.0.1:4000, 8e9e05c52164694d, 3.7.3, 3.7.0, 29 kB, 25 kB, 15%, 2.1 GB, true, false, 2, 7, 9, , , false";
        let normal =
            "ENDPOINT, MEMBER, 3.7.PATCH, 3.7.PATCH, SIZE, SIZE, PERCENT, SIZE, true, false, TERM, INDEX, APPLIED, , , false";
        assert_eq!(names().normalise(line), normal);
        assert_ne!(names().normalise(&line.replace("true", "false")), normal);
        assert_ne!(names().normalise(&line.replace("3.7.3", "3.6.3")), normal);
    }

    #[test]
    fn json_keeps_revisions_and_quotas() {
        let line = r#"{"member_id":10276657743932975437,"revision":12,"raft_term":3,"dbSizeQuota":99}"#;
        let normal = r#"{"member_id":MEMBER,"revision":12,"raft_term":NUMBER,"dbSizeQuota":99}"#;
        assert_eq!(names().normalise(line), normal);
    }

    #[test]
    fn leases_are_named_in_the_order_they_were_granted() {
        let mut names = names();
        names.learn_leases("lease 390da20634f0f004 granted with TTL(3600s)\n");
        assert_eq!(names.expand("--lease={lease0}"), "--lease=390da20634f0f004");
        assert_eq!(names.normalise("390da20634f0f004 4111120182400839684"), "LEASE0 LEASE0");
    }
}
