//! Who a restored member is: one of a new cluster, with ids by etcd's rule, as flags name it.

use keelson_api::identity;
use keelson_api::initial_cluster::{own_urls, parse_cluster};
use keelson_state::Member;

/// A member of a cluster that begins with a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMember {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// All members.
    pub members: Vec<Member>,
}

impl NewMember {
    /// The member `name` of `initial_cluster`, which advertises `peer_urls`. Refused as etcdutl refuses it.
    pub fn new(name: &str, initial_cluster: &str, token: &str, peer_urls: &str) -> Result<Self, String> {
        let cluster = parse_cluster(initial_cluster, |url| parse_urls([url]))?;
        let advertised = parse_urls(peer_urls.split(','))?;
        let member_id = identity::member_id(own_urls(&cluster, name, &advertised)?, token);
        let member = |(name, urls): (String, Vec<String>)| Member {
            id: identity::member_id(&urls, token),
            name,
            peer_urls: urls,
            ..Member::default()
        };
        let members: Vec<Member> = cluster.into_iter().map(member).collect();
        let ids: Vec<u64> = members.iter().map(|m| m.id).collect();
        Ok(Self { cluster_id: identity::cluster_id(&ids), member_id, members })
    }
}

fn parse_urls<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let mut parsed = Vec::new();
    for text in urls {
        let url = text.trim().trim_end_matches('/');
        match url.split_once("://") {
            Some(("http" | "https", place)) => {
                if place.contains('/') {
                    return Err(format!("URL must not contain a path: {text}"));
                }
                if place.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                    return Err(format!("URL address does not have the form \"host:port\": {text}"));
                }
            }
            Some(("unix" | "unixs", _)) => {}
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        }
        parsed.push(url.to_owned());
    }
    parsed.sort();
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_member_has_etcds_well_known_ids_and_all_members_agree_on_the_cluster() {
        let one = NewMember::new("default", "default=http://localhost:2380", "etcd-cluster", "http://localhost:2380").unwrap();
        assert_eq!((one.member_id, one.cluster_id), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
        assert_eq!((one.members.len(), one.members[0].name.as_str()), (1, "default"));

        let cluster = "a=http://a:1,b=https://b:2,a=http://a:0";
        let a = NewMember::new("a", cluster, "t", "http://a:1,http://a:0/").unwrap();
        let b = NewMember::new("b", cluster, "t", "https://b:2").unwrap();
        assert_eq!((a.cluster_id, &a.members), (b.cluster_id, &b.members));
        assert_eq!(a.members[0].peer_urls, ["http://a:0", "http://a:1"]);
        assert!(a.member_id != b.member_id && a.members.iter().any(|m| m.id == a.member_id));
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_what_is_wrong() {
        for (name, cluster, urls, wrong) in [
            ("x", "a=http://a:1", "http://a:1", "couldn't find local name"),
            ("a", "a=http://a:1", "http://a:2", "missing from --initial-advertise-peer-urls"),
            ("a", "a=http://a:1,b=http://a:1", "http://a:1", "duplicate URL"),
            ("a", "http://a:1", "http://a:1", "is not NAME=URL"),
            ("a", "a=a:1", "http://a:1", "URL scheme"),
            ("a", "a=http://a", "http://a", "host:port"),
            ("a", "a=http://a:1/x", "http://a:1", "must not contain a path"),
            ("a", "", "http://a:1", "couldn't find local name"),
        ] {
            let refused = NewMember::new(name, cluster, "t", urls).unwrap_err();
            assert!(refused.contains(wrong), "{refused}");
        }
    }
}
