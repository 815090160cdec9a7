//! Which pages are due, and sending each once. What is due follows from the ledger alone: an event that
//! somebody forged can at most have a page sent that is due anyway.

use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::SCHEMA;
use firebreak_model::action::FunctionName;
use firebreak_model::decision::Decision;
use firebreak_model::ids::{FindingKey, IncidentId, digest, shown};
use firebreak_model::ledger::{ForgeryRecord, Incident, IncidentState, PageClaim, PageRecord, StepRecord};
use firebreak_model::outcome::{self, OutcomeKind};
use firebreak_model::tamper;
use firebreak_model::watch::Standing;
use serde_json::Value;
use tracing::{Instrument, info, info_span, warn};

use super::{
    Occasion, Page, Setting, chain, incident, of_chain, of_finding, of_forgery, of_incident, of_pause, plan_digest,
    watched,
};
use crate::answer::Answer;
use crate::clients;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::{Ledger, Seal};
use crate::telemetry::chain as told;

/// Where pages about no incident are remembered.
const CONTROL: &str = "control";

/// Sends pages.
#[derive(Debug)]
pub struct Notifier {
    ledger: Ledger,
    sns: Client,
    topic_arn: String,
    setting: Setting,
}

/// A page that is due, and the record that it was sent.
struct Due {
    record: PageRecord,
    page: Page,
    /// Another occasion, of which this page tells as well.
    also: Option<PageRecord>,
}

impl Due {
    fn new(subject: &str, episode: u32, occasion: String, page: Page) -> Self {
        Self { record: sent(subject, episode, occasion), page, also: None }
    }
}

/// The claim to send a page on this event.
fn claim(page: &PageRecord, on: &str) -> PageClaim {
    let PageRecord { subject, episode, occasion, .. } = page;
    PageClaim {
        schema: SCHEMA,
        subject: subject.clone(),
        episode: *episode,
        occasion: occasion.clone(),
        on: on.to_owned(),
        since: clock::now(),
    }
}

fn sent(subject: &str, episode: u32, occasion: String) -> PageRecord {
    PageRecord { schema: SCHEMA, subject: subject.to_owned(), episode, occasion, sent_at: clock::now() }
}

impl Notifier {
    /// With clients of this configuration.
    pub fn new(config: &SdkConfig, topic_arn: String, setting: Setting) -> Self {
        Self {
            ledger: Ledger::new(clients::dynamodb(config), setting.table.clone(), Seal::none()),
            sns: clients::sns(config),
            topic_arn,
            setting,
        }
    }

    /// Sends the pages that are due on what an outcome event points at.
    pub async fn handle(&self, event: &Value) -> Result<Answer, Failure> {
        // A claim is told from another by the event, which comes again as it is where it failed.
        let on = digest(&[&event.get("id").map(ToString::to_string).unwrap_or_default()]);
        let on = on.as_str();
        let name = event.get("detail-type").and_then(Value::as_str).unwrap_or_default();
        let kind = OutcomeKind::from_name(name)
            .ok_or_else(|| Failure::Malformed(format!("`{}` is no outcome event", shown(name))))?;
        match kind {
            OutcomeKind::FindingNoted => {
                let subject = event.pointer("/detail/subject").and_then(Value::as_str).and_then(finding_subject);
                let subject = subject
                    .ok_or_else(|| Failure::Malformed("the event names no finding that could be there".to_owned()))?;
                let key = event.pointer("/detail/finding_key").and_then(Value::as_str).and_then(|k| k.parse().ok());
                let span = info_span!("page", subject = %subject);
                async { self.send_all(on, self.about_findings(&subject, key.as_ref()).await?).await }
                    .instrument(span)
                    .await
            }
            OutcomeKind::RecordRefused => {
                let id = outcome::incident_id(event)
                    .ok_or_else(|| Failure::Malformed("the event holds no well-formed incident id".to_owned()))?;
                let span = info_span!("page", incident.id = %id);
                async { self.send_all(on, self.about_forgeries(&id).await?).await }.instrument(span).await
            }
            OutcomeKind::ContainmentPaused | OutcomeKind::ContainmentResumed => {
                let due = self.about_the_pause(kind, event).await?;
                self.send_all(on, due.into_iter().collect()).await
            }
            OutcomeKind::ContainmentSettled | OutcomeKind::ContainmentUnsettled => {
                let id = outcome::incident_id(event)
                    .ok_or_else(|| Failure::Malformed("the event holds no well-formed incident id".to_owned()))?;
                let span = info_span!("page", incident.id = %id);
                async { self.send_all(on, self.about_the_watch(&id).await?).await }.instrument(span).await
            }
            OutcomeKind::ContainmentUndone | OutcomeKind::TamperingFound => {
                let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
                let (subject, key) = (text("/detail/subject"), text("/detail/tamper"));
                if !tamper::is_key(key) || (subject != tamper::OWN && subject.parse::<IncidentId>().is_err()) {
                    return Err(Failure::Malformed("the event names no tampering that could be there".to_owned()));
                }
                self.send_all(on, self.about_tampering(subject, key).await?).await
            }
            OutcomeKind::PartsChanged => self.send_all(on, self.about_the_parts().await?).await,
            _ => {
                let id = outcome::incident_id(event)
                    .ok_or_else(|| Failure::Malformed("the event holds no well-formed incident id".to_owned()))?;
                let span = info_span!("page", incident.id = %id);
                let pages = async {
                    let due = match kind {
                        OutcomeKind::SessionsTraced => self.about_the_chain(&id).await?.into_iter().collect(),
                        _ => self.about_incident(&id).await?,
                    };
                    let answer = self.send_all(on, due).await?;
                    Ok(Answer { incident_id: Some(id.clone()), ..answer })
                };
                pages.instrument(span).await
            }
        }
    }

    async fn about_incident(&self, id: &IncidentId) -> Result<Vec<Due>, Failure> {
        let Some(incident) = self.ledger.incident(id).await? else {
            warn!("the ledger knows no such incident");
            return Ok(Vec::new());
        };
        let steps = self.ledger.steps(&incident, incident::owners(&incident)).await?;
        let occasions = occasions(&incident, &steps);
        let findings = self.ledger.findings(id.as_str()).await?;
        let plan = plan_digest(&incident);
        let kept = incident.state == IncidentState::Ordered && incident::is_kept(&incident, &steps);
        let due = |occasion: Occasion| {
            let page = of_incident(&occasion, &incident, &steps, &findings, &self.setting);
            // A page that says how it ended tells of the evidence as well, where that is kept by then.
            let also = (kept && matches!(occasion, Occasion::Complete(_)))
                .then(|| sent(id.as_str(), incident.episode, Occasion::Evidence.name(&plan)));
            Due { also, ..Due::new(id.as_str(), incident.episode, occasion.name(&plan), page) }
        };
        Ok(occasions.into_iter().chain(kept.then_some(Occasion::Evidence)).map(due).collect())
    }

    /// Sessions that were made from what was stolen, where there are any and the incident is not over.
    async fn about_the_chain(&self, id: &IncidentId) -> Result<Option<Due>, Failure> {
        let incident = self.ledger.incident(id).await?.filter(|incident| incident.state == IncidentState::Ordered);
        let Some(incident) = incident else { return Ok(None) };
        let found = self.ledger.chain(&incident).await?.filter(chain::is_worth_a_page);
        let Some(found) = found else { return Ok(None) };
        let steps = self.ledger.steps(&incident, [FunctionName::RevokeSessions]).await?;
        let occasion = Occasion::Traced(chain::told(&found));
        let page = of_chain(&incident, &found, &steps);
        Ok(Some(Due::new(id.as_str(), incident.episode, occasion.name(""), page)))
    }

    async fn about_findings(&self, subject: &str, key: Option<&FindingKey>) -> Result<Vec<Due>, Failure> {
        let findings = self.ledger.findings(subject).await?;
        let noted = findings.iter().filter(|f| f.effective == Decision::Notify);
        let noted = noted.filter(|f| key.is_none_or(|key| f.finding_key == *key));
        Ok(noted
            .map(|finding| {
                // An update of a finding pages again only where something else is said of it.
                let said = format!("{} {}", finding.effective, finding.reason);
                let occasion = Occasion::Finding(FindingKey::of(&finding.finding_id, &said));
                Due::new(subject, 0, occasion.name(""), of_finding(finding, &self.setting))
            })
            .collect())
    }

    async fn about_forgeries(&self, id: &IncidentId) -> Result<Vec<Due>, Failure> {
        let forgeries = self.ledger.forgeries(id).await?;
        let due = |forgery: ForgeryRecord| {
            let page = of_forgery(&forgery, &self.setting);
            Due::new(id.as_str(), 0, Occasion::Forgery(forgery.digest).name(""), page)
        };
        Ok(forgeries.into_iter().map(due).collect())
    }

    /// How a watched containment stands now: an event that was overtaken pages what is true.
    async fn about_the_watch(&self, id: &IncidentId) -> Result<Vec<Due>, Failure> {
        let (Some(incident), Some(watch)) = (self.ledger.incident(id).await?, self.ledger.watch(id).await?) else {
            return Ok(Vec::new());
        };
        let of_this = match watch.standing {
            // Whoever asks for the release again has written the incident anew.
            Standing::Stranded => incident.state == IncidentState::Releasing && incident.updated_at == watch.since,
            _ => incident.state == IncidentState::Ordered,
        };
        if !of_this || watch.episode != incident.episode {
            return Ok(Vec::new());
        }
        // Each time that it is watched anew it may be settled anew; what does not hold is paged once for what it is.
        let found = watch.checks.last().map(|check| check.found.join(" ")).unwrap_or_default();
        let what = match watch.standing {
            Standing::Settled => watch.since.to_string(),
            Standing::Stranded => format!("{} {found}", watch.since),
            _ => found,
        };
        let occasion = format!("{}-{}", watch.standing, tamper::key_of(&[&what]));
        let page = watched::of_watch(&incident, &watch, &self.setting);
        Ok(page.map(|page| Due::new(id.as_str(), incident.episode, occasion, page)).into_iter().collect())
    }

    async fn about_tampering(&self, subject: &str, key: &str) -> Result<Vec<Due>, Failure> {
        let Some(tamper) = self.ledger.tamper(subject, key).await? else {
            warn!("the ledger knows no such tampering");
            return Ok(Vec::new());
        };
        let incident = match &tamper.incident_id {
            Some(id) => self.ledger.incident(id).await?,
            None => None,
        };
        let page = watched::of_tamper(&tamper, incident.as_ref(), &self.setting);
        Ok(vec![Due::new(subject, tamper.episode, tamper.occasion(), page)])
    }

    async fn about_the_parts(&self) -> Result<Vec<Due>, Failure> {
        let Some(parts) = self.ledger.parts().await? else { return Ok(Vec::new()) };
        let what = tamper::key_of(&[&parts.missing.join(" "), &parts.since.to_string()]);
        let page = watched::of_parts(&parts, &self.setting);
        Ok(vec![Due::new(CONTROL, 0, format!("parts-{what}"), page)])
    }

    /// The pause as it is now: an event that was overtaken by the next one pages nothing.
    async fn about_the_pause(&self, kind: OutcomeKind, event: &Value) -> Result<Option<Due>, Failure> {
        let pause = self.ledger.paused().await?;
        let page = || of_pause(pause.as_ref(), &self.setting);
        Ok(match (kind, &pause) {
            (OutcomeKind::ContainmentPaused, Some(pause)) => {
                let occasion = format!("{}-{}", Occasion::Paused.name(""), pause.since);
                Some(Due::new(CONTROL, 0, occasion, page()))
            }
            // Nothing is left in the ledger that would tell one end of a pause from another: the event's id does.
            (OutcomeKind::ContainmentResumed, None) => {
                let id = event.get("id").map(ToString::to_string).unwrap_or_default();
                let id: String = firebreak_model::ids::sha256_hex(id.as_bytes()).chars().take(16).collect();
                Some(Due::new(CONTROL, 0, format!("{}-{id}", Occasion::Resumed.name("")), page()))
            }
            _ => None,
        })
    }

    /// Sends what was not sent before. One page that cannot be sent does not hold back the others.
    async fn send_all(&self, on: &str, due: Vec<Due>) -> Result<Answer, Failure> {
        let mut sent = Vec::new();
        let mut failure = None;
        for one in due {
            match self.send(on, &one).await {
                Ok(true) => sent.push(one.record.occasion),
                Ok(false) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if sent.is_empty() => Ok(Answer::of("nothing to page")),
            None => Ok(Answer::of("paged").saying(sent.join(", "))),
        }
    }

    async fn send(&self, on: &str, due: &Due) -> Result<bool, Failure> {
        if !self.ledger.claim_page(&claim(&due.record, on)).await? {
            return Ok(false);
        }
        if let Some(also) = &due.also {
            self.ledger.claim_page(&claim(also, on)).await?;
        }
        let Page { subject, body } = &due.page;
        let publish = self.sns.publish().topic_arn(&self.topic_arn).subject(subject).message(body);
        let Err(error) = publish.send().await else {
            info!(page.occasion = %due.record.occasion, "paged");
            // Recorded when it is out: a page that is sent twice is better than one that is never sent.
            self.ledger.paged(&PageRecord { sent_at: clock::now(), ..due.record.clone() }).await?;
            if let Some(also) = &due.also {
                self.ledger.paged(also).await?;
            }
            return Ok(true);
        };
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
        let refused = ["AuthorizationError", "NotFound", "InvalidParameter", "KMSAccessDenied", "KMSDisabled"];
        let end = if refused.contains(&code) { Failure::Permanent } else { Failure::Transient };
        Err(end(format!("the page `{}` could not be sent: {}", due.record.occasion, told(&error))))
    }
}

/// The subject of a finding: an incident's id, or `unattributed-` and a digest of the finding's id.
fn finding_subject(text: &str) -> Option<String> {
    let well_formed = match text.strip_prefix("unattributed-") {
        Some(key) => key.parse::<FindingKey>().is_ok(),
        None => text.parse::<IncidentId>().is_ok(),
    };
    well_formed.then(|| text.to_owned())
}

/// What there is to page about an incident as it stands.
fn occasions(incident: &Incident, steps: &[StepRecord]) -> Vec<Occasion> {
    let under_way = matches!(incident.state, IncidentState::Releasing | IncidentState::Released);
    let stopped = incident.stopped.iter().filter(|_| !under_way).map(|stopped| Occasion::Stopped(stopped.at));
    stopped.chain(occasions_of_state(incident, steps)).collect()
}

fn occasions_of_state(incident: &Incident, steps: &[StepRecord]) -> Vec<Occasion> {
    match incident.state {
        IncidentState::Ordered => {
            let mut occasions = vec![Occasion::Ordered];
            occasions.extend(incident::ended_badly(incident, steps));
            occasions.extend(incident::verdict(incident, steps).map(Occasion::Complete));
            occasions
        }
        IncidentState::AwaitingApproval => {
            let mut occasions = vec![Occasion::Approval];
            occasions.extend(incident::in_force_unasked(incident, steps));
            occasions
        }
        IncidentState::Withheld => vec![Occasion::Withheld],
        IncidentState::Releasing => vec![Occasion::Releasing],
        IncidentState::Released => vec![Occasion::Released],
    }
}

#[cfg(test)]
mod tests;
