//! Attack sequences: several signals that GuardDuty has put together. `resource` holds only its kind; who acted and
//! what was taken over stands in `service.detection.sequence`. Some copies lack that block.

use serde_json::Value;

use super::{Owner, instance_profile};
use crate::actor::Actor;
use crate::finding::{Lookup, Subject};
use crate::foreign::{account, at, list, text};
use crate::ids::AccountId;

/// The sequences about workloads: there the resources are what was taken over, elsewhere what was touched.
const OF_WORKLOADS: [&str; 3] = ["AttackSequence:EC2/", "AttackSequence:ECS/", "AttackSequence:EKS/"];

fn is_sequence(detail: &Value) -> bool {
    text(detail, &["type"]).is_some_and(|t| t.starts_with("AttackSequence:"))
}

/// Whether a sequence came without its actors and resources: it is read again from GuardDuty.
pub(super) fn is_missing(detail: &Value) -> bool {
    let there = at(detail, &["service", "detection", "sequence"]).is_some_and(|sequence| {
        list(sequence, &["actors"]).next().is_some() || list(sequence, &["resources"]).next().is_some()
    });
    is_sequence(detail) && !there
}

/// Whom a sequence points at.
pub(super) fn subjects(detail: &Value, owner: &Owner) -> Vec<Subject> {
    if is_missing(detail) {
        let reason = "this copy of the finding lacks its sequence: GuardDuty's `GetFindings` has the whole";
        return vec![Subject::not_containable(None, "the attack sequence", reason)];
    }
    let sequence = at(detail, &["service", "detection", "sequence"]).unwrap_or(&Value::Null);
    let mut found: Vec<Subject> = super::actors_of_sequence(sequence, &owner.account);
    let about = text(detail, &["type"]).unwrap_or_default();
    if OF_WORKLOADS.iter().any(|prefix| about.starts_with(prefix)) {
        found.extend(list(sequence, &["resources"]).filter_map(of_resource));
    }
    if found.is_empty() && is_sequence(detail) {
        let reason = "the sequence names processes, no role or user";
        found.push(Subject::not_containable(None, "the attack sequence", reason));
    }
    found
}

/// One of `actors`. An actor without a user is a process: it names no principal.
pub(super) fn of_actor(actor: &Value, owner: &AccountId) -> Option<Subject> {
    let user = at(actor, &["user"]).filter(|v| v.is_object());
    let issuer = text(actor, &["session", "issuer"]);
    if user.is_none() && issuer.is_none() {
        return None;
    }
    let user = user.unwrap_or(&Value::Null);
    let account = account(user, &["account", "uid"]).unwrap_or_else(|| owner.clone());
    let actor = Actor {
        user_type: text(user, &["type"]).unwrap_or_default(),
        name: text(user, &["name"]),
        principal_id: text(user, &["uid"]).unwrap_or_default(),
        issuer,
        account: &account,
    };
    Some(actor.subject(text(user, &["credentialUid"]).and_then(|t| t.parse().ok())))
}

/// One of `resources`: an instance or a task.
fn of_resource(resource: &Value) -> Option<Subject> {
    if let Some(instance) = at(resource, &["data", "ec2Instance"]).filter(|v| v.is_object()) {
        return Some(instance_profile(text(instance, &["iamInstanceProfile", "arn"]), text(resource, &["uid"])));
    }
    let details = at(resource, &["data", "ecsTask"]).filter(|v| v.is_object())?;
    let task = text(resource, &["uid"]).and_then(|t| t.parse().ok());
    let definition = text(details, &["taskDefinitionArn"]).and_then(|t| t.parse().ok());
    if task.is_none() && definition.is_none() {
        return None;
    }
    Some(Subject::Lookup { lookup: Lookup::Task { task, definition }, access_key: None })
}
