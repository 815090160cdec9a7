//! What thieves and strangers write wherever AWS lets them, from the log line to the user agent, is text in the report of
//! the incident and nothing else: the page is read as a browser reads it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_iam::types::Tag;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};
use serde_json::json;

use super::*;

/// What runs or is fetched where text is taken for markup, in every place that text can stand in.
fn hostile(from: &str) -> String {
    format!(
        "{from}<script>boom()</script>\"'><img src=//e.example/{from} onerror=boom()></style></title><!--<a href=x>"
    )
}

/// A page as a browser takes it apart.
#[derive(Default)]
struct Seen {
    elements: RefCell<BTreeSet<String>>,
    attributes: RefCell<BTreeSet<String>>,
    text: RefCell<String>,
    style: RefCell<String>,
    comments: Cell<usize>,
    in_style: Cell<bool>,
}

impl TokenSink for Seen {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) => {
                let name = tag.name.to_string();
                self.in_style.set(tag.kind == TagKind::StartTag && name == "style");
                for attribute in &tag.attrs {
                    self.attributes.borrow_mut().insert(attribute.name.local.to_string());
                }
                self.elements.borrow_mut().insert(name.clone());
                if tag.kind == TagKind::StartTag {
                    return match name.as_str() {
                        "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
                        "style" | "xmp" | "iframe" | "noembed" | "noframes" => {
                            TokenSinkResult::RawData(RawKind::Rawtext)
                        }
                        _ => TokenSinkResult::Continue,
                    };
                }
            }
            Token::CharacterTokens(text) => {
                let place = if self.in_style.get() { &self.style } else { &self.text };
                place.borrow_mut().push_str(&text);
            }
            Token::CommentToken(_) => self.comments.set(self.comments.get() + 1),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

fn seen(page: &str) -> Seen {
    let tokenizer = Tokenizer::new(Seen::default(), TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(page));
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink
}

/// What there is in a page that runs, fetches, or is none of ours.
fn alive(page: &str) -> Vec<String> {
    const ELEMENTS: &str = "html head meta title style body header main footer section h1 h2 h3 p span small time code pre br \
                            dl dt dd ol ul li table thead tbody tr th td details summary";
    const ATTRIBUTES: &str = "lang charset http-equiv content name class data-is scope datetime";
    let seen = seen(page);
    let of = |all: &str| all.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let mut found: Vec<String> = seen.elements.borrow().difference(&of(ELEMENTS)).map(|e| format!("<{e}>")).collect();
    found.extend(seen.attributes.borrow().difference(&of(ATTRIBUTES)).map(|a| format!("{a}=")));
    let style = seen.style.borrow().to_ascii_lowercase();
    found.extend(
        ["url(", "@import", "expression"].iter().filter(|word| style.contains(**word)).map(|w| (*w).to_owned()),
    );
    if seen.comments.get() > 0 {
        found.push("a comment".to_owned());
    }
    found
}

#[test]
fn what_is_looked_for_in_a_page_is_found() {
    for (page, what) in [
        ("<p>a<script>x</script>", "<script>"),
        ("<p onclick=x>a", "onclick="),
        ("<p>a<a href='//e.example'>", "href="),
        ("<style>p { background: url(//e.example) }</style>", "url("),
        ("<title>a</title><svg/onload=x>", "<svg>"),
        ("<p><!--x", "a comment"),
    ] {
        assert!(alive(page).iter().any(|found| found == what), "{page}: {:?}", alive(page));
    }
    let text = hostile("x").replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let page = format!("<title>{text}</title><style>p {{}}</style><p class=\"{text}\">{text}");
    assert!(alive(&page).is_empty(), "{:?}", alive(&page));
    assert_eq!(seen(&page).text.borrow().matches(&hostile("x")).count(), 2);
}

/// The report of the last collection for this purpose.
async fn report(aws: &Aws, bucket: &str, run: &EvidenceRun, extension: &str) -> String {
    let key = format!("{}/report/report.{extension}", run.prefix());
    let body = aws.s3.get_object().bucket(bucket).key(key).send().await.unwrap().body;
    String::from_utf8(body.collect().await.unwrap().to_vec()).unwrap()
}

/// All that lies in the bucket of an incident in lines, one object behind the other.
async fn kept(aws: &Aws, bucket: &str, id: &str) -> String {
    let mut all = String::new();
    let mut objects = aws.s3.list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = objects.next().await {
        let of_it = |key: &&str| key.contains(id) && key.contains(".jsonl.");
        for key in page.unwrap().contents().iter().filter_map(|object| object.key()).filter(of_it) {
            let body = aws.s3.get_object().bucket(bucket).key(key).send().await.unwrap().body.collect().await.unwrap();
            all.push_str(&String::from_utf8(zstd::decode_all(body.into_bytes().as_ref()).unwrap()).unwrap());
        }
    }
    all
}

#[test]
fn hostile_text_from_anywhere_is_text_in_the_report_and_nothing_else() {
    common::in_the_theatre(|theatre: &Theatre| async {
        let (stack, _) = theatre.enforcing().await.unwrap();
        let aws = &theatre.aws;
        let suffix = random_hex(6);
        let victim = Victim::set_up(aws, &suffix, "").await.unwrap();
        let (role, id) = (&victim.role, victim.role.incident().unwrap());
        let rights = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
            "Action": ["iam:CreateRole", "iam:TagRole", "lambda:TagResource", "kms:CreateKey", "logs:CreateLogStream", "logs:PutLogEvents",
                       "lambda:UpdateFunctionConfiguration"]}]});
        let put = aws.iam.put_role_policy().role_name(&role.name).policy_name("more");
        put.policy_document(rights.to_string()).send().await.unwrap();
        let stolen = role.steal_session(aws, &victim.function).await.unwrap();
        let thief = aws.as_identity(stolen.clone());
        let agent = hostile("from-the-agent");

        // The function is described by the thief; so are a key and a role that it leaves behind.
        let group = format!("/aws/lambda/{}", victim.function);
        let stream = hostile("from-a-stream").replace(['*', ':'], "");
        let create = thief.logs.create_log_stream().log_group_name(&group).log_stream_name(&stream);
        create.send().await.unwrap();
        let line = InputLogEvent::builder().timestamp(firebreak_shared::clock::now().as_millisecond());
        let line = line.message(hostile("from-a-line")).build().unwrap();
        let put = thief.logs.put_log_events().log_group_name(&group).log_stream_name(&stream).log_events(line);
        put.send().await.unwrap();
        let update = thief.lambda.update_function_configuration().function_name(&victim.function);
        update.description(hostile("from-a-description")).send().await.unwrap();
        // AWS takes no markup in a role's tags, and any text in a function's.
        let tag = Tag::builder().key("owner").value(hostile("from-a-tag-of-the-role")).build().unwrap();
        thief.iam.tag_role().role_name(&role.name).tags(tag).send().await.unwrap();
        let tag = thief.lambda.tag_resource().resource(&victim.function_arn);
        tag.tags("owner", hostile("from-a-tag-of-the-function")).send().await.unwrap();
        thief.kms.create_key().description(hostile("from-a-key")).send().await.unwrap();
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Sid": "x", "Effect": "Allow",
            "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": hostile("from-a-trust")}}}]});
        let create = thief.iam.create_role().role_name(format!("left-{suffix}")).description(hostile("from-a-role"));
        create.assume_role_policy_document(trust.to_string()).send().await.unwrap();
        // A call that is refused, by a program that says what it likes of itself; its error says what was asked for.
        let denied = thief.iam.create_user().user_name(hostile("from-an-error")).customize();
        let denied = denied.mutate_request({
            let agent = agent.clone();
            move |request| {
                request.headers_mut().insert("user-agent", agent.clone());
            }
        });
        assert_eq!(code(&denied.send().await.unwrap_err()), "AccessDenied");

        let session = RoleSession {
            role: &role.name,
            role_id: &role.id,
            session: &victim.function,
            access_key: stolen.access_key_id(),
        };
        let mut finding = gameday::findings::access_key_of_role(aws, &session).unwrap();
        for (at, from) in [
            ("/title", "from-the-title"),
            ("/description", "from-the-finding"),
            ("/service/action/awsApiCallAction/api", "from-the-api"),
            ("/service/action/awsApiCallAction/remoteIpDetails/country/countryName", "from-a-country"),
        ] {
            *finding.pointer_mut(at).unwrap_or_else(|| panic!("{at}")) = json!(hostile(from));
        }
        let entry = aws_sdk_eventbridge::types::PutEventsRequestEntry::builder().source("firebreak.drill");
        let entry = entry.detail_type("GuardDuty Finding").detail(finding.to_string()).build();
        aws.events.put_events().entries(entry).send().await.unwrap();
        collected(theatre, stack, &id, Purpose::FollowUp).await;

        // Whoever asks for something says who they are, and why.
        let release = json!({"firebreak": "release", "incident_id": id, "reason": hostile("from-the-reason"),
            "requested_by": hostile("from-a-person")});
        let invoke = aws.lambda.invoke().function_name(stack.function(FunctionName::ReleaseContainment));
        let answer = invoke.payload(release.to_string().into_bytes().into()).send().await.unwrap();
        assert_eq!(answer.function_error, None, "{:?}", answer.payload);
        let told = |run: &&EvidenceRun| run.purpose != Purpose::Snapshot;
        let mut shown = BTreeSet::new();
        for _ in 0..600 {
            let runs = collected(theatre, stack, &id, Purpose::Report).await;
            let bucket = stack.output("EvidenceBucketName").unwrap();
            for run in runs.iter().filter(told) {
                let page = report(aws, bucket, run, "html").await;
                assert!(alive(&page).is_empty(), "{:?}\n{page}", alive(&page));
                let text = seen(&page).text.take();
                shown.extend(FROM.iter().copied().filter(|(from, _)| text.contains(from)));
                for from in FROM.iter().filter(|(from, _)| page.contains(from)) {
                    assert!(text.contains(&hostile(from.0)[..40]), "{from:?} is shown, and not as it was written");
                }
                let markdown = report(aws, bucket, run, "md").await;
                let bare = markdown.split('`').step_by(2).any(|part| part.replace("\\<", "").contains('<'));
                assert!(!bare, "{markdown}");
            }
            if shown.contains(&("from-the-reason", true)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let expected = FROM.iter().copied().filter(|(_, shown)| *shown).collect();
        assert_eq!(shown, expected, "what is shown is escaped; the rest is not shown at all");
        let kept = kept(aws, stack.output("EvidenceBucketName").unwrap(), id.as_str()).await;
        let missing: Vec<&str> = FROM.iter().map(|(from, _)| *from).filter(|from| !kept.contains(from)).collect();
        assert!(missing.is_empty(), "it came nowhere, so that nothing was tried with it: {missing:?}");
        aws.iam.delete_role_policy().role_name(&role.name).policy_name("more").send().await.unwrap();
    });
}

/// Where hostile text comes from, and whether the report shows it: the rest is in the evidence beside it.
const FROM: [(&str, bool); 16] = [
    ("from-a-tag-of-the-role", false),
    ("from-a-tag-of-the-function", false),
    ("from-a-stream", false),
    ("from-a-line", false),
    ("from-a-description", false),
    ("from-a-key", false),
    ("from-a-trust", false),
    ("from-a-role", false),
    ("from-an-error", true),
    ("from-the-agent", true),
    ("from-the-title", false),
    ("from-the-finding", false),
    ("from-the-api", false),
    ("from-a-country", false),
    ("from-the-reason", true),
    ("from-a-person", true),
];
