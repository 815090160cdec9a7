//! The page about a record of the ledger that was refused: somebody writes there who must not.

use firebreak_model::ledger::ForgeryRecord;

use super::text::{Command, clean};
use super::{Draft, Page, Setting};

pub(super) fn page(forgery: &ForgeryRecord, setting: &Setting) -> Page {
    let mut draft = Draft::default();
    draft.line("A record of the ledger is not as Firebreak wrote it. Nothing is done on it.");
    draft.line("What is contained stays contained. A deny that a finding asks for is still put in place.");
    draft.section("What was found");
    draft.field("Incident", forgery.incident_id.as_str());
    draft.field("Record", &clean(&forgery.record, 400));
    draft.field("Problem", &clean(&forgery.problem, 200));
    draft.field("Found", &forgery.found_at.to_string());
    draft.section("Next step");
    draft.line("1. Find out who wrote it: CloudTrail's data events of the table, if they are recorded; else who may");
    draft.line("   write items there, and past the table's resource policy. Contain whoever it was.");
    draft.line("2. Look at the record, and at what it was before (point-in-time recovery into another table):");
    draft.command(&get(forgery, setting));
    draft.line(
        "3. Put back what it was, seal included. Where it never was, delete it. Then ask again for what was refused.",
    );
    draft.line("Or undo by hand, with the commands of the pages about the incident.");
    draft.page(&format!("FORGED RECORD refused: {}", clean(&forgery.record, 60)))
}

fn get(forgery: &ForgeryRecord, setting: &Setting) -> String {
    let (pk, sk) = forgery.record.split_once(' ').unwrap_or((&forgery.record, ""));
    let keys = serde_json::json!({"pk": {"S": pk}, "sk": {"S": sk}}).to_string();
    Command::aws("dynamodb get-item")
        .option("table-name", &setting.table)
        .option("region", &setting.region)
        .option("key", &keys)
        .line()
        .unwrap_or_else(|| "(the keys hold what no command can: look with the console)".to_owned())
}
