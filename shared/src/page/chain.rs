//! The page about sessions that a thief made from stolen ones: what is denied, and what a person must deny in another
//! account.

use std::collections::{BTreeMap, BTreeSet};

use firebreak_model::action::ActionId;
use firebreak_model::chain::{Link, OfRole};
use firebreak_model::ids::digest;
use firebreak_model::ledger::{ChainRecord, Incident, StepRecord};
use firebreak_model::plan::Target;
use firebreak_model::policy::{CHAINED_POLICY, ChainedDeny, REVOCATION_AHEAD_SECONDS, chained};
use jiff::{SignedDuration, Timestamp};

use super::text::{Command, clean};
use super::{Draft, Page};

/// The most sessions that are told one by one.
const TOLD: usize = 60;

/// Whether there is anything that a person should know: sessions, or that nobody looked everywhere and nobody will.
pub(super) fn is_worth_a_page(chain: &ChainRecord) -> bool {
    !chain.sessions.is_empty() || (chain.settled_at.is_some() && !chain.gaps.is_empty())
}

/// Twelve hex digits for what the page tells.
pub(super) fn told(chain: &ChainRecord) -> String {
    let sessions = chain.sessions.len().to_string();
    let settled = chain.settled_at.is_some().to_string();
    let parts: Vec<&str> =
        [sessions.as_str(), settled.as_str()].into_iter().chain(chain.gaps.iter().map(String::as_str)).collect();
    digest(&parts).chars().take(12).collect()
}

/// Sessions by the account and the role that they are of.
fn by_role<'a>(links: impl Iterator<Item = (&'a Link, &'a OfRole)>) -> BTreeMap<(&'a str, &'a str), Vec<&'a Link>> {
    let mut roles: BTreeMap<(&str, &str), Vec<&Link>> = BTreeMap::new();
    for (link, role) in links {
        roles.entry((role.account.as_str(), role.name.as_str())).or_default().push(link);
    }
    roles
}

pub(super) fn page(incident: &Incident, chain: &ChainRecord, steps: &[StepRecord]) -> Page {
    let mut draft = Draft::default();
    let who = incident.principal.name.to_string();
    let count = chain.sessions.len();
    if count == 0 {
        draft.line(&format!("Firebreak looked for sessions that were made from what was stolen of {who}, and found"));
        draft.line("none. It could not look everywhere: one that was made there is not denied.");
    } else {
        draft.line(&format!("From what was stolen of {who}, {count} more sessions were made."));
    }
    if incident.drill {
        draft.line("This is a drill: everything named here belongs to a game day.");
    }
    draft.field("Incident", &format!("{}, episode {}", incident.incident_id, incident.episode));
    let of_roles = || chain.sessions.iter().filter_map(|link| Some((link, link.session.role.as_ref()?)));
    let own: Vec<_> = of_roles().filter(|(_, role)| role.account == incident.account).collect();
    let elsewhere: Vec<_> = of_roles().filter(|(_, role)| role.account != incident.account).collect();
    let users = count - own.len() - elsewhere.len();
    if users > 0 {
        draft.line(&format!("{users} of them are sessions of the user itself: what denies the user denies them."));
    }
    draft.section("In this account");
    if own.is_empty() {
        draft.line("None.");
    }
    for ((_, role), links) in by_role(own.into_iter()) {
        draft.line(&format!("role/{role}: {}", state(role, steps)));
        sessions(&mut draft, &links);
    }
    if !elsewhere.is_empty() {
        draft.section("In other accounts: Firebreak cannot act there");
        for ((account, role), links) in by_role(elsewhere.into_iter()) {
            draft.line(&format!("role/{role} in account {account}:"));
            sessions(&mut draft, &links);
            draft.line("Deny these sessions, with credentials of that account:");
            draft.command(&there(incident, role, &links));
        }
    }
    if !chain.gaps.is_empty() {
        draft.section("What was not read or not followed");
        for gap in &chain.gaps {
            draft.line(&format!("  {}", clean(gap, 300)));
        }
    }
    draft.section("Next step");
    if let Some(at) = chain.settled_at {
        draft.line(&format!("CloudTrail was complete up to after the last deny at {at}: the search is over."));
        if !chain.gaps.is_empty() {
            draft.line("What was not read stays unread: look there yourself, in CloudTrail, for `AssumeRole` by the principal.");
        }
    } else {
        draft
            .line(&format!("CloudTrail is complete to about {}. Firebreak looks again until it is", chain.complete_to));
        draft.line("complete up to after the last deny.");
    }
    if count > 0 {
        draft
            .line("Look in CloudTrail for what these sessions did: the roles are as compromised as the first one was.");
    }
    let drill = if incident.drill { "drill: " } else { "" };
    let word = if count == 0 { "not everything was searched" } else { "chained sessions" };
    draft.page(&format!("{drill}{word}: {who}"))
}

/// How the denial of a role's sessions stands.
fn state(role: &str, steps: &[StepRecord]) -> String {
    let of_it = |record: &&StepRecord| {
        record.action == ActionId::RevokeChainedSessions
            && matches!(&record.target, Target::Role(name) if name.as_str() == role)
    };
    steps.iter().find(of_it).map_or_else(
        || "nothing more to deny: ended, or denied with the principal".to_owned(),
        |record| format!("{}: {}", record.state, clean(&record.detail, 300)),
    )
}

fn sessions(draft: &mut Draft, links: &[&Link]) {
    for link in links.iter().take(TOLD) {
        let name = link.session.role.as_ref().map_or("?", |role| role.id.as_str());
        let by = link.by.as_ref().map_or("a caller without a key", |key| key.as_str());
        let place = link.region.as_ref().map_or("?", |region| region.as_str());
        let ends = link.session.ends_at;
        draft.line(&format!("  {name}, {} at {} in {place} by {by}, ends {ends}", link.call, link.at));
    }
    if links.len() > TOLD {
        draft.line(&format!("  and {} more, in the ledger", links.len() - TOLD));
    }
}

/// The command that denies the sessions in their own account.
fn there(incident: &Incident, role: &str, links: &[&Link]) -> String {
    let ids: BTreeSet<_> = links.iter().filter_map(|link| Some(link.session.role.as_ref()?.id.clone())).collect();
    let last = links.iter().map(|link| link.at).max().unwrap_or(Timestamp::MAX);
    let before = last.saturating_add(SignedDuration::from_secs(REVOCATION_AHEAD_SECONDS)).unwrap_or(Timestamp::MAX);
    let deny = ChainedDeny::new(&incident.incident_id, incident.episode, ids, before);
    Command::aws("iam put-role-policy")
        .option("role-name", role)
        .option("policy-name", CHAINED_POLICY)
        .option("policy-document", &chained(&[deny]).to_string())
        .line()
        .unwrap_or_else(|| "(the ledger has the sessions)".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use firebreak_model::SCHEMA;
    use firebreak_model::chain::{Call, Session};
    use firebreak_model::ledger::StepState;
    use firebreak_model::plan::Step;

    use super::*;
    use crate::testing::role_order;

    fn link(account: &str, role: &str, session: &str) -> Link {
        Link {
            call: Call::AssumeRole,
            at: "2026-11-21T02:58:00Z".parse().unwrap(),
            region: Some("eu-west-1".parse().unwrap()),
            by: Some("ASIAEXAMPLE000000001".parse().unwrap()),
            depth: 1,
            session: Session {
                role: Some(OfRole {
                    account: account.parse().unwrap(),
                    name: role.parse().unwrap(),
                    id: format!("AROAEXAMPLE000000002:{session}").parse().unwrap(),
                }),
                access_key: Some("ASIAEXAMPLE000000002".parse().unwrap()),
                ends_at: "2026-11-21T03:58:00Z".parse().unwrap(),
            },
        }
    }

    fn chain(incident: &Incident, sessions: Vec<Link>) -> ChainRecord {
        ChainRecord {
            schema: SCHEMA,
            incident_id: incident.incident_id.clone(),
            episode: 1,
            sessions,
            regions: Vec::new(),
            gaps: vec!["ap-east-1 could not be asked: denied\nforged line".to_owned()],
            rounds: 1,
            complete_to: "2026-11-21T02:46:00Z".parse().unwrap(),
            settled_at: None,
            updated_at: "2026-11-21T03:01:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_lies_in_another_account_comes_with_the_policy_to_apply_there() {
        let (incident, _) = role_order("orders");
        let record =
            chain(&incident, vec![link("111122223333", "billing", "x1"), link("444455556666", "partner", "x2")]);
        let target = Target::Role("billing".parse().unwrap());
        let step = Step { action: ActionId::RevokeChainedSessions, target };
        let mut step = incident.step_record(&step, incident.opened_at);
        step.state = StepState::Applied;
        step.detail = "denied".to_owned();
        let page = page(&incident, &record, &[step]);
        assert_eq!(page.subject, "[Firebreak] chained sessions: role/orders");
        let document = chained(&[ChainedDeny::new(
            &incident.incident_id,
            1,
            BTreeSet::from(["AROAEXAMPLE000000002:x2".parse().unwrap()]),
            "2026-11-21T02:59:00Z".parse().unwrap(),
        )]);
        for expected in [
            "role/billing: applied: denied".to_owned(),
            "AROAEXAMPLE000000002:x1, AssumeRole at 2026-11-21T02:58:00Z in eu-west-1 by ASIAEXAMPLE000000001"
                .to_owned(),
            "role/partner in account 444455556666:".to_owned(),
            format!(
                "    aws iam put-role-policy --role-name 'partner' --policy-name 'firebreak-revoke-chained' \
                 --policy-document '{document}'\n"
            ),
            "ap-east-1 could not be asked: denied?forged line".to_owned(),
            "CloudTrail is complete to about 2026-11-21T02:46:00Z.".to_owned(),
        ] {
            assert!(page.body.contains(&expected), "{expected}\n{}", page.body);
        }
    }

    #[test]
    fn a_search_that_is_over_and_could_not_look_everywhere_is_paged_though_it_found_nothing() {
        let (incident, _) = role_order("orders");
        let open = chain(&incident, Vec::new());
        assert!(!is_worth_a_page(&open), "another look may read more");
        let over = ChainRecord { settled_at: Some(incident.opened_at), ..open };
        assert!(is_worth_a_page(&over));
        assert!(!is_worth_a_page(&ChainRecord { gaps: Vec::new(), ..over.clone() }));
        let page = page(&incident, &over, &[]);
        assert_eq!(page.subject, "[Firebreak] not everything was searched: role/orders");
        for says in
            ["It could not look everywhere", "ap-east-1 could not be asked", "stays unread: look there yourself"]
        {
            assert!(page.body.contains(says), "{says}: {}", page.body);
        }
    }

    #[test]
    fn a_flood_of_sessions_fits_in_a_page_and_only_news_are_another_page() {
        let (incident, _) = role_order("orders");
        let many = (0..400).map(|n| link("444455556666", "partner", &format!("x{n:0>60}"))).collect();
        let record = chain(&incident, many);
        assert!(page(&incident, &record, &[]).body.contains("and 340 more, in the ledger"));
        assert_eq!(told(&record), told(&ChainRecord { rounds: 2, ..record.clone() }));
        assert_ne!(told(&record), told(&ChainRecord { settled_at: Some(incident.opened_at), ..record.clone() }));
        assert_ne!(told(&record), told(&ChainRecord { sessions: Vec::new(), ..record }));
    }
}
