//! Which pages are due, and sending each once. What is due follows from the ledger alone: an event that
//! somebody forged can at most have a page sent that is due anyway.

use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use firebreak_model::SCHEMA;
use firebreak_model::decision::Decision;
use firebreak_model::ids::{FindingKey, IncidentId, shown};
use firebreak_model::ledger::{Incident, IncidentState, PageRecord, StepRecord, StepState};
use firebreak_model::outcome::{self, OutcomeKind};
use serde_json::Value;
use tracing::{Instrument, info, info_span, warn};

use super::{Occasion, Page, Setting, incident, of_finding, of_incident, of_pause, plan_digest};
use crate::answer::Answer;
use crate::clock;
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::telemetry::chain;

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
}

impl Due {
    fn new(subject: &str, episode: u32, occasion: String, page: Page) -> Self {
        let record =
            PageRecord { schema: SCHEMA, subject: subject.to_owned(), episode, occasion, sent_at: clock::now() };
        Self { record, page }
    }
}

impl Notifier {
    /// With clients of this configuration.
    pub fn new(config: &SdkConfig, table: String, topic_arn: String, stack: String, deny_policy_arn: String) -> Self {
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        Self {
            ledger: Ledger::new(aws_sdk_dynamodb::Client::new(config), table),
            sns: Client::new(config),
            topic_arn,
            setting: Setting { stack, region, deny_policy_arn },
        }
    }

    /// Sends the pages that are due on what an outcome event points at.
    pub async fn handle(&self, event: &Value) -> Result<Answer, Failure> {
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
                async { self.send_all(self.about_findings(&subject, key.as_ref()).await?).await }.instrument(span).await
            }
            OutcomeKind::ContainmentPaused | OutcomeKind::ContainmentResumed => {
                let due = self.about_the_pause(kind, event).await?;
                self.send_all(due.into_iter().collect()).await
            }
            _ => {
                let id = outcome::incident_id(event)
                    .ok_or_else(|| Failure::Malformed("the event holds no well-formed incident id".to_owned()))?;
                let span = info_span!("page", incident.id = %id);
                let pages = async {
                    let answer = self.send_all(self.about_incident(&id).await?).await?;
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
        let due = |occasion: Occasion| {
            let page = of_incident(&occasion, &incident, &steps, &findings, &self.setting);
            Due::new(id.as_str(), incident.episode, occasion.name(&plan), page)
        };
        Ok(occasions.into_iter().map(due).collect())
    }

    async fn about_findings(&self, subject: &str, key: Option<&FindingKey>) -> Result<Vec<Due>, Failure> {
        let findings = self.ledger.findings(subject).await?;
        let noted = findings.iter().filter(|f| f.effective == Decision::Notify);
        let noted = noted.filter(|f| key.is_none_or(|key| f.finding_key == *key));
        Ok(noted
            .map(|finding| {
                let occasion = Occasion::Finding(finding.finding_key.clone());
                Due::new(subject, 0, occasion.name(""), of_finding(finding, &self.setting))
            })
            .collect())
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
    async fn send_all(&self, due: Vec<Due>) -> Result<Answer, Failure> {
        let mut sent = Vec::new();
        let mut failure = None;
        for one in due {
            match self.send(&one).await {
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

    async fn send(&self, due: &Due) -> Result<bool, Failure> {
        if !self.ledger.page(&due.record).await? {
            return Ok(false);
        }
        let Page { subject, body } = &due.page;
        let publish = self.sns.publish().topic_arn(&self.topic_arn).subject(subject).message(body);
        let Err(error) = publish.send().await else {
            info!(page.occasion = %due.record.occasion, "paged");
            return Ok(true);
        };
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
        let refused = ["AuthorizationError", "NotFound", "InvalidParameter", "KMSAccessDenied", "KMSDisabled"];
        let end = if refused.contains(&code) { Failure::Permanent } else { Failure::Transient };
        let failure = end(format!("the page `{}` could not be sent: {}", due.record.occasion, chain(&error)));
        // The next try sends it.
        self.ledger.unpage(&due.record).await?;
        Err(failure)
    }
}

/// The subject of a finding: an incident's id, or `unattributed-` and the finding's key.
fn finding_subject(text: &str) -> Option<String> {
    let well_formed = match text.strip_prefix("unattributed-") {
        Some(key) => key.parse::<FindingKey>().is_ok(),
        None => text.parse::<IncidentId>().is_ok(),
    };
    well_formed.then(|| text.to_owned())
}

/// What there is to page about an incident as it stands.
fn occasions(incident: &Incident, steps: &[StepRecord]) -> Vec<Occasion> {
    match incident.state {
        IncidentState::Ordered => {
            let ended_badly = steps.iter().filter(|r| matches!(r.state, StepState::Failed | StepState::Withheld));
            let mut occasions = vec![Occasion::Ordered];
            occasions.extend(ended_badly.map(|record| Occasion::Step(record.step.clone(), record.state)));
            occasions.extend(incident::verdict(incident, steps).map(Occasion::Complete));
            occasions
        }
        IncidentState::AwaitingApproval => vec![Occasion::Approval],
        IncidentState::Withheld => vec![Occasion::Withheld],
        IncidentState::Releasing => vec![Occasion::Releasing],
        IncidentState::Released => vec![Occasion::Released],
    }
}
