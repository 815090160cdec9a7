//! Findings of GuardDuty: shapes that are none, names that nobody has, principals that must stay as they are.

use gameday::aws::{ACCOUNT, REGION};
use serde_json::{Value, json};

use super::bait::Bait;
use super::cases::{Case, End, Way, case, envelope, finding, guardduty, hostile_names, of, with};

/// What is no finding, or hardly one.
pub(crate) fn shapes(bait: &Bait) -> Vec<Case> {
    let role = of("AssumedRole", &json!(bait.role.name));
    let good = || finding(&role);
    let nobody = "no role, user or function";
    let reason = "the payload cannot be read";
    let deep = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    let raw = |name: &str, detail: &str, reason: &str| {
        let text = guardduty(&json!("@")).to_string().replace("\"@\"", detail);
        let end = End::Recorded("malformed", reason.to_owned());
        Case { name: name.to_owned(), way: Way::Invoke, payload: text, end }
    };
    let nulls =
        json!({"id": null, "type": null, "severity": null, "accountId": null, "resource": null, "service": null});
    let hollow = json!({"userType": null, "userName": null, "principalId": null, "accessKeyId": null});
    let mut cases = vec![
        case(
            "truncated: a detail that is half a text",
            &guardduty(&json!(&good().to_string()[..200])),
            "malformed",
            "no object",
        ),
        case("nulls for everything", &guardduty(&nulls), "malformed", "no `type`"),
        case("nulls for the principal", &guardduty(&finding(&hollow)), "noted", "user or a role"),
        case("null for the resource", &guardduty(&with(good(), "/resource", json!(null))), "noted", nobody),
        case("a detail that is a list", &guardduty(&json!([good()])), "malformed", "no object"),
        case("a detail that is a number", &guardduty(&json!(1)), "malformed", "no object"),
        case("no detail", &with(guardduty(&json!({})), "/detail", json!(null)), "malformed", "no object"),
        case("a type that is a number", &guardduty(&with(good(), "/type", json!(7))), "malformed", "no `type`"),
        case("a severity that is a list", &guardduty(&with(good(), "/severity", json!([8]))), "noted", "no severity"),
        case("a severity off the scale", &guardduty(&with(good(), "/severity", json!(11))), "noted", "no severity"),
        case("a severity next to nothing", &guardduty(&with(good(), "/severity", json!("1e-300"))), "noted", "no rule"),
        case(
            "a resource that is a text",
            &guardduty(&with(good(), "/resource", json!(bait.role.name))),
            "noted",
            nobody,
        ),
        case("details that are a list", &guardduty(&finding(&json!([role.clone()]))), "noted", nobody),
        case(
            "a name that is a list",
            &guardduty(&finding(&of("AssumedRole", &json!([bait.role.name])))),
            "noted",
            "does not name the role",
        ),
        case(
            "a name that is a number",
            &guardduty(&finding(&of("IAMUser", &json!(12345)))),
            "noted",
            "does not name the user",
        ),
        case(
            "a user type that is an object",
            &guardduty(&finding(&with(role.clone(), "/userType", json!({"a": 1})))),
            "noted",
            "user or a role",
        ),
        case(
            "numbers as texts, texts as numbers",
            &guardduty(&with(
                with(finding(&of("AssumedRole", &json!(format!("gone-{}", bait.suffix)))), "/severity", json!("8.0")),
                "/accountId",
                json!(111_122_223_333_u64),
            )),
            "withheld",
            "does not exist",
        ),
        case("an account that is none", &guardduty(&with(good(), "/accountId", json!("12345"))), "noted", "no account"),
        case(
            "an account of thirteen digits",
            &guardduty(&with(good(), "/accountId", json!("1111222233334"))),
            "noted",
            "no account",
        ),
        case(
            "a sender that is not AWS",
            &with(guardduty(&good()), "/source", json!("my.guardduty")),
            "malformed",
            "my.guardduty",
        ),
        case(
            "a sender with a line break",
            &with(guardduty(&good()), "/source", json!("aws.guardduty\n")),
            "malformed",
            "is none that this function reads",
        ),
        case(
            "an event that says it is a request",
            &with(with(guardduty(&good()), "/firebreak", json!("contain")), "/detail-type", json!("x")),
            "malformed",
            "is none that this function reads",
        ),
        case(
            "the account of another",
            &with(guardduty(&good()), "/account", json!("444455556666")),
            "malformed",
            "444455556666",
        ),
        case(
            "no account in the envelope",
            &with(guardduty(&good()), "/account", json!(null)),
            "malformed",
            "comes from account",
        ),
        case("a replay", &with(guardduty(&good()), "/replay-name", json!("again")), "malformed", "replay"),
        case(
            "an id of a megabyte",
            &guardduty(&with(with(good(), "/id", json!("i".repeat(1_000_000))), "/resource", json!({}))),
            "noted",
            nobody,
        ),
        case(
            "a type of a megabyte",
            &guardduty(&with(good(), "/type", json!("t".repeat(1_000_000)))),
            "noted",
            "no rule",
        ),
        case(
            "a megabyte of padding",
            &guardduty(&with(finding(&of("Root", &json!("root"))), "/padding", json!("\u{e9}".repeat(500_000)))),
            "noted",
            "root user",
        ),
        case(
            "a megabyte of NULs",
            &guardduty(&with(finding(&of("Root", &json!("root"))), "/padding", json!("\0".repeat(170_000)))),
            "noted",
            "root user",
        ),
        case(
            "nested as deep as can be read",
            &guardduty(&with(
                finding(&of("Root", &json!("root"))),
                "/padding",
                serde_json::from_str(&deep(100)).unwrap(),
            )),
            "noted",
            "root user",
        ),
        raw("nested deeper than can be read", &format!(r#"{{"id": "x", "type": "t", "a": {}}}"#, deep(200)), reason),
        raw("nested a few hundred deep", &deep(800), reason),
        raw("half a surrogate pair", r#"{"id": "x", "type": "\ud800"}"#, reason),
        raw("the same name twice, the last one hostile", &twice(&good(), "*", &bait.role.name), "@"),
    ];
    // The last of two members counts: nobody is called `*`.
    if let Some(last) = cases.last_mut() {
        last.end = End::Recorded("noted", "no role name".to_owned());
    }
    let drill = |name: &str, detail: &Value, outcome, reason: &str| Case {
        way: Way::Bus,
        ..case(name, &envelope("firebreak.drill", "GuardDuty Finding", detail), outcome, reason)
    };
    cases.push(drill("over the bus: no type", &json!({"id": "x"}), "malformed", "no `type`"));
    cases.push(drill(
        "over the bus: a quarter of a megabyte",
        &with(finding(&of("Root", &json!("root"))), "/padding", json!("a".repeat(250_000))),
        "noted",
        "root user",
    ));
    cases.push(drill(
        "over the bus: a homoglyph",
        &finding(&of("AssumedRole", &json!(bait.role.name.replacen('o', "\u{43e}", 1)))),
        "noted",
        "no role name",
    ));
    cases.push(drill(
        "over the bus: a drill outside its path",
        &good(),
        "withheld",
        "acts under `/firebreak-drill/` only",
    ));
    cases
}

/// The finding with a name before the one that counts.
fn twice(good: &Value, last: &str, first: &str) -> String {
    let name = format!("\"userName\":{}", json!(first));
    good.to_string().replace(&name, &format!("{name},\"userName\":{}", json!(last)))
}

/// Names that nobody has, in each place where a name stands.
pub(crate) fn names(bait: &Bait) -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, name) in hostile_names(&bait.role.name) {
        let detail = finding(&of("AssumedRole", &json!(name)));
        cases.push(case(&format!("GuardDuty, a role named by {what}"), &guardduty(&detail), "noted", "no role name"));
    }
    for (what, name) in hostile_names(&bait.user.name) {
        let detail = finding(&with(of("IAMUser", &json!(name)), "/principalId", json!(bait.user.id)));
        cases.push(case(&format!("GuardDuty, a user named by {what}"), &guardduty(&detail), "noted", "no user name"));
    }
    for (what, arn) in [
        ("an ARN with more colons", format!("{}:more:colons", bait.role.arn)),
        ("an ARN with a policy variable", format!("arn:aws:iam::{ACCOUNT}:role/${{aws:username}}")),
        ("an ARN with a NUL", format!("{}\0", bait.role.arn)),
        ("an ARN of no partition", bait.role.arn.replacen("aws", "aws-evil", 1)),
        ("an ARN with a Region", bait.role.arn.replacen("::", ":us-east-1:", 1)),
    ] {
        let actors = json!({"sequence": {"actors": [{"id": "a", "session": {"issuer": arn}, "user": {"type": "AssumedRole",
            "name": "*", "uid": "AROA:x"}}]}});
        let detail = with(finding(&json!(null)), "/type", json!("AttackSequence:IAM/CompromisedCredentials"));
        let detail = with(detail, "/service/detection", actors);
        cases.push(case(&format!("attack sequence, {what}"), &guardduty(&detail), "noted", "no role name"));
    }
    for (what, arn) in [
        ("a star", format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:*")),
        ("a NUL", format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:orders\0")),
        ("two qualifiers", format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:orders:a:b")),
        ("a host in place of a Region", format!("arn:aws:lambda:evil.example/:{ACCOUNT}:function:orders")),
        ("nothing", String::new()),
    ] {
        let detail = with(finding(&json!(null)), "/type", json!("Backdoor:Lambda/C&CActivity.B"));
        let detail = with(
            detail,
            "/resource/lambdaDetails",
            json!({"functionArn": arn, "functionName": "orders", "role": bait.role.arn}),
        );
        cases.push(case(
            &format!("Lambda, a function named by {what}"),
            &guardduty(&detail),
            "noted",
            "no function ARN",
        ));
    }
    cases
}

/// Principals that are there, and must stay as they are.
pub(crate) fn principals(bait: &Bait) -> Vec<Case> {
    let named = |what: &str, user_type: &str, name: &str, outcome, reason: &str| {
        case(what, &guardduty(&finding(&of(user_type, &json!(name)))), outcome, reason)
    };
    let issued = |what: &str, arn: &str, outcome, reason: &str| {
        let actors = json!({"sequence": {"actors": [{"session": {"issuer": arn}, "user": {"type": "AssumedRole"}}]}});
        let detail = with(finding(&json!(null)), "/type", json!("AttackSequence:IAM/CompromisedCredentials"));
        case(what, &guardduty(&with(detail, "/service/detection", actors)), outcome, reason)
    };
    let again = with(of("AssumedRole", &json!(bait.role.name)), "/principalId", json!("AROAEXAMPLE00000GONE:s"));
    let elsewhere = with(finding(&of("AssumedRole", &json!(bait.role.name))), "/accountId", json!("444455556666"));
    let function = |arn: &str| {
        let detail = with(finding(&json!(null)), "/type", json!("Backdoor:Lambda/C&CActivity.B"));
        guardduty(&with(detail, "/resource/lambdaDetails", json!({"functionArn": arn})))
    };
    let own = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}-quarantine-principal", bait.stack);
    let own_role = format!("{}-quarantine-principal", bait.stack);
    vec![
        named("root", "Root", "root", "noted", "root user"),
        named("root with the name of a user", "Root", &bait.user.name, "noted", "root user"),
        named("a service", "AWSService", "ec2.amazonaws.com", "noted", "AWS service"),
        named("another account", "AWSAccount", "444455556666", "noted", "another account"),
        named(
            "a federated session with the name of a user",
            "FederatedUser",
            &bait.user.name,
            "noted",
            "leads to nobody",
        ),
        named("a user of Identity Center", "IdentityCenterUser", &bait.user.name, "noted", "Identity Center"),
        named("an unknown type of principal", "${aws:PrincipalType}", &bait.user.name, "noted", "cannot be contained"),
        named("no type of principal", "", &bait.user.name, "noted", "user or a role"),
        named("a role that has the name of a user", "AssumedRole", &bait.user.name, "withheld", "does not exist"),
        named("a user that has the name of a role", "IAMUser", &bait.role.name, "withheld", "does not exist"),
        named(
            "a protected role, without its path",
            "AssumedRole",
            &bait.protected.name,
            "withheld",
            "the playbook protects",
        ),
        named("a service-linked role, by name", "AssumedRole", &bait.service_linked.name, "noted", "service-linked"),
        named("a role under the path of services", "AssumedRole", &bait.of_service.name, "withheld", "service-linked"),
        named("a role of Identity Center, by name", "AssumedRole", &bait.sso.name, "noted", "Identity Center"),
        named(
            "a role under the path of Identity Center",
            "AssumedRole",
            &bait.of_sso.name,
            "withheld",
            "Identity Center",
        ),
        named("Firebreak's own role", "AssumedRole", &own_role, "withheld", "Firebreak's own"),
        issued("a protected role, with its path", &bait.protected.arn, "noted", "the playbook protects"),
        issued(
            "a protected role, under a path that is not its own",
            &format!("arn:aws:iam::{ACCOUNT}:role/harmless/{}", bait.protected.name),
            "withheld",
            "the playbook protects",
        ),
        issued("a service-linked role, with its path", &bait.of_service.arn, "noted", "service-linked"),
        issued("a role of Identity Center, with its path", &bait.of_sso.arn, "noted", "Identity Center"),
        issued(
            "Firebreak's own role, with its path",
            &format!("arn:aws:iam::{ACCOUNT}:role/firebreak/{own_role}"),
            "noted",
            "Firebreak's own",
        ),
        issued(
            "a role of another account",
            &bait.role.arn.replace(ACCOUNT, "444455556666"),
            "noted",
            "in account 444455556666",
        ),
        issued(
            "a role of another partition",
            &bait.role.arn.replacen("aws", "aws-cn", 1),
            "noted",
            "in partition aws-cn",
        ),
        case(
            "a role of the account that the finding is about",
            &guardduty(&elsewhere),
            "noted",
            "in account 444455556666",
        ),
        case(
            "a role that was deleted and made again",
            &guardduty(&finding(&again)),
            "withheld",
            "deleted and made again",
        ),
        case("one of Firebreak's own functions", &function(&own), "noted", "Firebreak's own"),
        case(
            "a function of another account",
            &function(&own.replace(ACCOUNT, "444455556666")),
            "noted",
            "in account 444455556666",
        ),
        case(
            "a function that is not there",
            &function(&own.replace("-quarantine", "-gone")),
            "noted",
            "does not exist",
        ),
    ]
}
