//! Answers as rows of cells: tables have headings and frames around them, the simple format commas between.

use keelson_api::etcdserverpb::{HashKvResponse, MemberListResponse, StatusResponse};
use keelson_snapshot::Status;

use super::{BackupRow, Health};
use crate::go::size::human;

pub type Rows = (&'static [&'static str], Vec<Vec<String>>);

pub fn members(response: &MemberListResponse) -> Rows {
    let row = |member: &keelson_api::etcdserverpb::Member| {
        let status = if member.name.is_empty() { "unstarted" } else { "started" };
        vec![
            format!("{:x}", member.id),
            status.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    let heading = &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
    (heading, response.members.iter().map(row).collect())
}

pub fn health(endpoints: &[Health]) -> Rows {
    let row =
        |health: &Health| vec![health.endpoint.clone(), health.healthy.to_string(), health.took.clone(), health.error.clone()];
    (&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], endpoints.iter().map(row).collect())
}

pub fn hashes(endpoints: &[(String, HashKvResponse)]) -> Rows {
    let row = |(endpoint, response): &(String, HashKvResponse)| {
        vec![endpoint.clone(), response.hash.to_string(), response.hash_revision.to_string()]
    };
    (&["ENDPOINT", "HASH", "HASH REVISION"], endpoints.iter().map(row).collect())
}

pub fn snapshot(status: &Status) -> Rows {
    let row = vec![
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_key.to_string(),
        human(status.total_size),
        status.version.clone(),
    ];
    (&["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"], vec![row])
}

pub fn backups(backups: &[BackupRow]) -> Rows {
    let row = |backup: &BackupRow| {
        let span = |first: &dyn ToString, last: &dyn ToString| match (first.to_string(), last.to_string()) {
            (first, last) if first == last => first,
            (first, last) => format!("{first} to {last}"),
        };
        let is_known = backup.first_revision > 0;
        vec![
            backup.id.clone(),
            backup.state.to_owned(),
            if is_known { span(&backup.first_revision, &backup.last_revision) } else { String::new() },
            span(&backup.first_time, &backup.last_time),
            backup.keys.to_string(),
            human(backup.size),
            backup.trouble.clone(),
        ]
    };
    (&["ID", "STATE", "REVISIONS", "TIMES", "KEYS", "SIZE", "TROUBLE"], backups.iter().map(row).collect())
}

pub fn statuses(endpoints: &[(String, StatusResponse)]) -> Rows {
    let heading = &[
        "ENDPOINT",
        "ID",
        "VERSION",
        "STORAGE VERSION",
        "DB SIZE",
        "IN USE",
        "PERCENTAGE NOT IN USE",
        "QUOTA",
        "IS LEADER",
        "IS LEARNER",
        "RAFT TERM",
        "RAFT INDEX",
        "RAFT APPLIED INDEX",
        "ERRORS",
        "DOWNGRADE TARGET VERSION",
        "DOWNGRADE ENABLED",
    ];
    (heading, endpoints.iter().map(|(endpoint, response)| status(endpoint, response)).collect())
}

fn status(endpoint: &str, r: &StatusResponse) -> Vec<String> {
    let id = r.header.as_ref().map_or(0, |header| header.member_id);
    let downgrade = r.downgrade_info.clone().unwrap_or_default();
    let in_use = r.db_size_in_use.saturating_mul(100).checked_div(r.db_size).unwrap_or_default();
    vec![
        endpoint.to_owned(),
        format!("{id:x}"),
        r.version.clone(),
        r.storage_version.clone(),
        human(r.db_size.cast_unsigned()),
        human(r.db_size_in_use.cast_unsigned()),
        format!("{}%", 100 - in_use),
        human(r.db_size_quota.cast_unsigned()),
        (r.leader == id).to_string(),
        r.is_learner.to_string(),
        r.raft_term.to_string(),
        r.raft_index.to_string(),
        r.raft_applied_index.to_string(),
        r.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::ResponseHeader;

    use super::*;

    #[test]
    fn a_snapshot_is_told_in_etcdutls_order() {
        let status = Status { hash: 0xab, revision: 12, total_key: 3, total_size: 24576, version: "3.7.0".into() };
        let (heading, rows) = snapshot(&status);
        assert_eq!((rows[0].len(), rows[0].join(", ").as_str()), (heading.len(), "ab, 12, 3, 25 kB, 3.7.0"));
    }

    #[test]
    fn a_status_tells_sizes_and_who_leads() {
        let response = StatusResponse {
            header: Some(ResponseHeader { member_id: 0xab, ..ResponseHeader::default() }),
            version: "3.7.3".into(),
            db_size: 20480,
            db_size_in_use: 5120,
            db_size_quota: 2_147_483_648,
            leader: 0xab,
            ..StatusResponse::default()
        };
        let (heading, rows) = statuses(&[("e".into(), response)]);
        assert_eq!(rows[0].len(), heading.len());
        assert_eq!(rows[0].join(", "), "e, ab, 3.7.3, , 20 kB, 5.1 kB, 75%, 2.1 GB, true, false, 0, 0, 0, , , false");
    }
}
