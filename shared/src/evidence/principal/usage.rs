//! What a principal was used for, and how a person signs in as it.

use std::time::Duration;

use aws_sdk_iam::Client;
use aws_sdk_iam::types::{JobStatusType, ServiceLastAccessed};
use firebreak_model::evidence::ApiCall;
use serde_json::{Value, json};

use super::{Answers, date};
use crate::action::{ActionError, absent_is_none};
use crate::paging::Tokens;

/// How long to wait for what IAM looks up, before each look but the first.
pub(super) const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// When and for what each key of a user was last used.
pub(super) async fn keys(client: &Client, ids: &[String], answers: &mut Answers) {
    for id in ids {
        let used = client.get_access_key_last_used().access_key_id(id).send().await;
        let used = used.map_err(|e| ActionError::of("iam:GetAccessKeyLastUsed", id, e)).map(|answer| {
            let used = answer.access_key_last_used;
            let used = used.map(|u| {
                json!({"LastUsedDate": date(u.last_used_date()), "ServiceName": u.service_name, "Region": u.region})
            });
            json!({"UserName": answer.user_name, "AccessKeyLastUsed": used})
        });
        answers.push(ApiCall::new("iam:GetAccessKeyLastUsed", json!({"AccessKeyId": id})), used);
    }
}

/// Whether a user has a password, and with which devices it proves who it is.
pub(super) async fn sign_in(client: &Client, user: &str, answers: &mut Answers) {
    let profile = client.get_login_profile().user_name(user).send().await;
    let profile = absent_is_none(profile.map_err(|e| ActionError::of("iam:GetLoginProfile", user, e)));
    let profile = profile.map(|answer| match answer.and_then(|answer| answer.login_profile) {
        Some(profile) => json!({"CreateDate": date(Some(&profile.create_date)),
                                "PasswordResetRequired": profile.password_reset_required}),
        None => Value::Null,
    });
    answers.push(ApiCall::new("iam:GetLoginProfile", json!({"UserName": user})), profile);
    let pages = client.list_mfa_devices().user_name(user).into_paginator().items().send();
    let devices = pages.collect::<Result<Vec<_>, _>>().await;
    let devices = devices.map_err(|e| ActionError::of("iam:ListMFADevices", user, e)).map(|devices| {
        let device = |d: &aws_sdk_iam::types::MfaDevice| {
            json!({"SerialNumber": d.serial_number, "EnableDate": date(Some(&d.enable_date))})
        };
        json!({"MFADevices": devices.iter().map(device).collect::<Vec<_>>()})
    });
    answers.push(ApiCall::new("iam:ListMFADevices", json!({"UserName": user})), devices);
}

/// Which services the principal used last, and when. IAM looks it up for itself: where it is not done in a few seconds, it is
/// asked for again like anything that AWS does not give for now. The job that does it is named nowhere, so that the same
/// answer is the same object.
pub(super) async fn last_accessed(client: &Client, arn: Option<&str>, waits: &[Duration], answers: &mut Answers) {
    // Of a principal that is gone, or cannot be read, there is a gap already.
    let Some(arn) = arn else { return };
    let call = ApiCall::new("iam:GetServiceLastAccessedDetails", json!({"Arn": arn}));
    answers.push(call, looked_up(client, arn, waits).await);
}

async fn looked_up(client: &Client, arn: &str, waits: &[Duration]) -> Result<Value, ActionError> {
    let begun = client.generate_service_last_accessed_details().arn(arn).send().await;
    let begun = begun.map_err(|e| ActionError::of("iam:GenerateServiceLastAccessedDetails", arn, e))?;
    let job = begun.job_id.unwrap_or_default();
    let mut waits = waits.iter();
    let (mut services, mut marker, mut tokens) = (Vec::new(), None, Tokens::default());
    loop {
        let page = client.get_service_last_accessed_details().job_id(&job).set_marker(marker.clone()).send().await;
        let page = page.map_err(|e| ActionError::of("iam:GetServiceLastAccessedDetails", arn, e))?;
        match page.job_status {
            JobStatusType::Completed => {
                services.extend(page.services_last_accessed.iter().map(service));
                marker = tokens.next(page.marker.as_deref(), "iam:GetServiceLastAccessedDetails", arn)?;
                if marker.is_none() {
                    return Ok(json!({"ServicesLastAccessed": services}));
                }
            }
            JobStatusType::InProgress => match waits.next() {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => {
                    return Err(ActionError::Busy {
                        call: "iam:GetServiceLastAccessedDetails",
                        target: arn.to_owned(),
                        source: "IAM is still looking it up".into(),
                    });
                }
            },
            _ => {
                let why = page.error.map_or_else(String::new, |error| format!(": {}", error.message));
                let problem = format!("IAM could not look up what it was used for{why}");
                return Err(ActionError::Unreadable { target: arn.to_owned(), problem });
            }
        }
    }
}

fn service(used: &ServiceLastAccessed) -> Value {
    json!({"ServiceName": used.service_name, "ServiceNamespace": used.service_namespace,
           "LastAuthenticated": date(used.last_authenticated()),
           "LastAuthenticatedEntity": used.last_authenticated_entity,
           "LastAuthenticatedRegion": used.last_authenticated_region,
           "TotalAuthenticatedEntities": used.total_authenticated_entities})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, Wire, ok};

    const ARN: &str = "arn:aws:iam::111122223333:role/team/orders";

    fn begun() -> Answer {
        ok("<GenerateServiceLastAccessedDetailsResponse><GenerateServiceLastAccessedDetailsResult><JobId>j1</JobId>\
            </GenerateServiceLastAccessedDetailsResult></GenerateServiceLastAccessedDetailsResponse>")
    }

    fn looked(status: &str, services: &[&str], marker: Option<&str>) -> Answer {
        let service = |name: &&str| {
            format!("<member><ServiceName>{name}</ServiceName><ServiceNamespace>{name}</ServiceNamespace></member>")
        };
        let services: String = services.iter().map(service).collect();
        let marker =
            marker.map_or_else(String::new, |m| format!("<IsTruncated>true</IsTruncated><Marker>{m}</Marker>"));
        ok(format!(
            "<GetServiceLastAccessedDetailsResponse><GetServiceLastAccessedDetailsResult><JobStatus>{status}</JobStatus>\
             <JobCreationDate>2026-11-21T03:00:00Z</JobCreationDate><JobCompletionDate>2026-11-21T03:00:00Z\
             </JobCompletionDate><ServicesLastAccessed>{services}</ServicesLastAccessed>{marker}\
             </GetServiceLastAccessedDetailsResult></GetServiceLastAccessedDetailsResponse>"
        ))
    }

    async fn asked(script: Vec<Answer>) -> (Result<Value, ActionError>, usize) {
        let wire = Wire::answering(script);
        let answer = looked_up(&Client::new(&wire.config()), ARN, &[Duration::ZERO; 3]).await;
        (answer, wire.requests().len())
    }

    #[tokio::test]
    async fn what_iam_looks_up_is_waited_for_and_read_to_its_end() {
        let (answer, calls) = asked(vec![
            begun(),
            looked("IN_PROGRESS", &[], None),
            looked("COMPLETED", &["s3", "iam"], Some("m")),
            looked("COMPLETED", &["sts"], None),
        ])
        .await;
        let names: Vec<Value> =
            answer.iter().filter_map(|a| a["ServicesLastAccessed"].as_array().cloned()).flatten().collect();
        let names: Vec<&str> = names.iter().filter_map(|service| service["ServiceName"].as_str()).collect();
        assert_eq!((names, calls), (vec!["s3", "iam", "sts"], 4));
    }

    #[tokio::test]
    async fn what_iam_does_not_look_up_in_time_is_asked_for_again_and_what_it_cannot_is_a_gap() {
        let under_way = || looked("IN_PROGRESS", &[], None);
        let (answer, calls) = asked(vec![begun(), under_way(), under_way(), under_way(), under_way()]).await;
        assert!(answer.is_err_and(|error| error.is_transient()));
        assert_eq!(calls, 5);
        let (answer, _) = asked(vec![begun(), looked("FAILED", &[], None)]).await;
        assert!(answer.is_err_and(|error| !error.is_transient()));
    }
}
