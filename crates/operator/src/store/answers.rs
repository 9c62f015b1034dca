//! Asking all members of a cluster at once.

use std::collections::BTreeMap;

use futures::future::join_all;
use keelson_api::etcdserverpb::{Member as Listed, StatusResponse};

use super::client::Member;
use crate::api::Side;
use crate::plan::ids::{ClusterId, MemberId};

/// What the members said, by name; who is missing was silent.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub statuses: BTreeMap<String, StatusResponse>,
    /// The membership as a quorum confirms it, or why there is none.
    pub list: Option<(ClusterId, Vec<Listed>)>,
    pub why_silent: String,
    /// Members that followed the step in which the authority of a port is being replaced.
    pub followed: BTreeMap<Side, Vec<String>>,
}

impl Answers {
    /// The name of the member that says it leads.
    pub fn leader(&self) -> Option<&str> {
        let own = |status: &StatusResponse| status.header.as_ref().is_some_and(|header| header.member_id == status.leader);
        self.statuses.iter().find(|(_, status)| status.leader != 0 && own(status)).map(|(name, _)| name.as_str())
    }

    /// Voters that know a leader, those first that follow the one most name: a process that leads itself alone must not be
    /// heard before a majority.
    fn led(&self) -> Vec<String> {
        let named = |leader| self.statuses.values().filter(|status| status.leader == leader).count();
        let mut led: Vec<_> = self.statuses.iter().filter(|(_, status)| status.leader != 0 && !status.is_learner).collect();
        led.sort_by_key(|(_, status)| std::cmp::Reverse(named(status.leader)));
        led.into_iter().map(|(name, _)| name.clone()).collect()
    }

    pub fn name_of(&self, id: MemberId) -> Option<&str> {
        let is = |status: &StatusResponse| status.header.as_ref().is_some_and(|header| header.member_id == id.0);
        self.statuses.iter().find(|(_, status)| is(status)).map(|(name, _)| name.as_str())
    }
}

/// Asks everybody for their status at once, then those who know a leader for the list until one is confirmed.
pub async fn ask(members: &BTreeMap<String, Member>) -> Answers {
    let asked = members.iter().map(async |(name, member)| (name.clone(), member.status().await));
    let mut answers = Answers { why_silent: "no member can be reached".into(), ..Answers::default() };
    for (name, answer) in join_all(asked).await {
        match answer {
            Ok(status) => {
                answers.statuses.insert(name, status);
            }
            Err(error) => answers.why_silent = format!("{name}: {error}"),
        }
    }
    if !answers.statuses.is_empty() {
        answers.why_silent = "no member knows a leader".into();
    }
    for name in answers.led() {
        match members[&name].list().await {
            Ok(list) => {
                answers.list = Some(list);
                break;
            }
            Err(error) => answers.why_silent = format!("{name} could not confirm the membership: {error}"),
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_heard_before_one_that_leads_itself() {
        let led_by = |leader| StatusResponse { leader, ..StatusResponse::default() };
        let statuses = [("a", 1), ("b", 2), ("c", 2), ("d", 0)].map(|(name, leader)| (name.to_string(), led_by(leader)));
        let answers = Answers { statuses: statuses.into(), ..Answers::default() };
        assert_eq!(answers.led(), ["b", "c", "a"]);
    }
}
