//! The release that a page asks for, held to what the stack takes.

use super::*;

/// The payload of the release that a page asks for.
fn release_in(page: &Page) -> serde_json::Value {
    let from = page.body.find(r#"'{"firebreak": "release""#).unwrap() + 1;
    let text = page.body.split_at(from).1;
    serde_json::from_str(text.split('\'').next().unwrap()).unwrap()
}

#[tokio::test]
async fn the_release_on_a_page_is_one_that_the_stack_takes() {
    use crate::release::tests::releasing;
    use crate::testing::Wire;
    let incident = incident();
    let with = setting();
    let without = Setting { revokes: false, ..setting() };
    let pages = |setting: &Setting| {
        [Occasion::Ordered, Occasion::Approval, Occasion::Complete(Verdict::Contained), Occasion::Releasing]
            .map(|occasion| of_incident(&occasion, &incident, &[], &[], setting))
    };
    for (setting, function) in [(&with, Some("revoke")), (&without, None)] {
        for page in pages(setting) {
            let mut payload = release_in(&page);
            payload["requested_by"] = "ana".into();
            let wire = Wire::answering([]);
            // It comes as far as the ledger: it is not turned away by what it says.
            let end = releasing(&wire, function).handle(&payload, "i").await.unwrap_err();
            assert!(matches!(end, crate::failure::Failure::Transient(_)), "{payload}: {end}");
            assert_eq!(wire.requests().len(), 1, "{end}");
            let costs = "stolen sessions that are still alive work\nagain as soon as it is released";
            assert_eq!(page.body.contains(costs), !setting.revokes, "{}", page.body);
            // Twelve hours after the order.
            assert_eq!(page.body.contains("is alive after 2026-11-21T15:00:00Z."), !setting.revokes, "{}", page.body);
        }
    }
    // What was never in force gives nobody anything back.
    let waiting = Incident { ordered_at: None, state: IncidentState::AwaitingApproval, ..incident.clone() };
    let page = of_incident(&Occasion::Approval, &waiting, &[], &[], &without);
    assert_eq!(release_in(&page)["without_revocation"], true);
    assert!(!page.body.contains("work\nagain"), "{}", page.body);
}
