//! Findings of GuardDuty: shapes that are none, names that nobody has, principals that must stay as they are.

use gameday::aws::{ACCOUNT, REGION};
use serde_json::{Value, json};

use super::bait::Bait;
use super::cases::{Case, Way, case, envelope, finding, guardduty, hostile_names, of, with};

/// What is no finding, or hardly one.
pub(crate) fn shapes(bait: &Bait) -> Vec<Case> {
    let role = of("AssumedRole", &json!(bait.role.name));
    let good = || finding(&role);
    let wrong = |pointer: &str, value: Value| guardduty(&with(good(), pointer, value));
    let details = |details: &Value| guardduty(&finding(details));
    let nobody = "no role, user or function";
    let nulls =
        json!({"id": null, "type": null, "severity": null, "accountId": null, "resource": null, "service": null});
    let hollow = json!({"userType": null, "userName": null, "principalId": null, "accessKeyId": null});
    let half = good().to_string()[..200].to_owned();
    let gone = finding(&of("AssumedRole", &json!(format!("gone-{}", bait.suffix))));
    let gone = with(with(gone, "/severity", json!("8.0")), "/accountId", json!(111_122_223_333_u64));
    let listed = of("AssumedRole", &json!([bait.role.name]));
    let typed = with(role.clone(), "/userType", json!({"a": 1}));
    [
        ("truncated: a detail that is half a text", guardduty(&json!(half)), "malformed", "no object"),
        ("nulls for everything", guardduty(&nulls), "malformed", "no `type`"),
        ("nulls for the principal", details(&hollow), "noted", "user or a role"),
        ("null for the resource", wrong("/resource", json!(null)), "noted", nobody),
        ("a detail that is a list", guardduty(&json!([good()])), "malformed", "no object"),
        ("a detail that is a number", guardduty(&json!(1)), "malformed", "no object"),
        ("no detail", guardduty(&json!(null)), "malformed", "no object"),
        ("a type that is a number", wrong("/type", json!(7)), "malformed", "no `type`"),
        ("a severity that is a list", wrong("/severity", json!([8])), "noted", "no severity"),
        ("a severity off the scale", wrong("/severity", json!(11)), "noted", "no severity"),
        ("a severity next to nothing", wrong("/severity", json!("1e-300")), "noted", "no rule"),
        ("a resource that is a text", wrong("/resource", json!(bait.role.name)), "noted", nobody),
        ("details that are a list", details(&json!([role])), "noted", nobody),
        ("a name that is a list", details(&listed), "noted", "does not name the role"),
        ("a name that is a number", details(&of("IAMUser", &json!(12345))), "noted", "does not name the user"),
        ("a user type that is an object", details(&typed), "noted", "user or a role"),
        ("numbers as texts, texts as numbers", guardduty(&gone), "withheld", "does not exist"),
        ("an account that is none", wrong("/accountId", json!("12345")), "noted", "no account"),
        ("an account of thirteen digits", wrong("/accountId", json!("1111222233334")), "noted", "no account"),
    ]
    .map(|(name, event, outcome, reason)| case(name, &event, outcome, reason))
    .into()
}

/// Envelopes that are not those of GuardDuty in this account.
pub(crate) fn envelopes(bait: &Bait) -> Vec<Case> {
    let good = || guardduty(&finding(&of("AssumedRole", &json!(bait.role.name))));
    let request = with(with(good(), "/firebreak", json!("contain")), "/detail-type", json!("x"));
    let strange = "is none that this function reads";
    [
        ("a sender that is not AWS", with(good(), "/source", json!("my.guardduty")), "my.guardduty"),
        ("a sender with a line break", with(good(), "/source", json!("aws.guardduty\n")), strange),
        ("an event that says it is a request", request, strange),
        ("the account of another", with(good(), "/account", json!("444455556666")), "444455556666"),
        ("no account in the envelope", with(good(), "/account", json!(null)), "comes from account"),
        ("a replay", with(good(), "/replay-name", json!("again")), "replay"),
    ]
    .map(|(name, event, reason)| case(name, &event, "malformed", reason))
    .into()
}

/// A megabyte, in several ways; nested without end; members of the same name.
pub(crate) fn sizes(bait: &Bait) -> Vec<Case> {
    let good = || finding(&of("AssumedRole", &json!(bait.role.name)));
    let padded = |padding: Value| guardduty(&with(finding(&of("Root", &json!("root"))), "/padding", padding));
    let id = with(with(good(), "/id", json!("i".repeat(1_000_000))), "/resource", json!({}));
    let finding_type = with(good(), "/type", json!("t".repeat(1_000_000)));
    let deep = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    let readable = serde_json::from_str(&deep(100)).unwrap();
    let mut cases = vec![
        case("an id of a megabyte", &guardduty(&id), "noted", "no role, user or function"),
        case("a type of a megabyte", &guardduty(&finding_type), "noted", "no rule"),
        case("a megabyte of padding", &padded(json!("\u{e9}".repeat(500_000))), "noted", "root user"),
        case("a megabyte of NULs", &padded(json!("\0".repeat(170_000))), "noted", "root user"),
        case("nested as deep as can be read", &padded(readable), "noted", "root user"),
    ];
    // The last of two members counts: nobody is called `*`.
    let name = format!("\"userName\":{}", json!(bait.role.name));
    let twice = good().to_string().replace(&name, &format!("{name},\"userName\":\"*\""));
    let unread = "the payload cannot be read";
    let deeper = format!(r#"{{"id": "x", "type": "t", "a": {}}}"#, deep(200));
    cases.extend(
        [
            ("nested deeper than can be read", deeper, "malformed", unread),
            ("nested a few hundred deep", deep(800), "malformed", unread),
            ("half a surrogate pair", r#"{"id": "x", "type": "\ud800"}"#.to_owned(), "malformed", unread),
            ("the same name twice, the last one hostile", twice, "noted", "no role name"),
        ]
        .map(|(name, detail, outcome, reason)| {
            let payload = guardduty(&json!("@")).to_string().replace("\"@\"", &detail);
            Case { payload, ..case(name, &json!(null), outcome, reason) }
        }),
    );
    cases
}

/// Drills, which anyone may send where they are enabled.
pub(crate) fn over_the_bus(bait: &Bait) -> Vec<Case> {
    let good = finding(&of("AssumedRole", &json!(bait.role.name)));
    let large = with(finding(&of("Root", &json!("root"))), "/padding", json!("a".repeat(250_000)));
    let homoglyph = finding(&of("AssumedRole", &json!(bait.role.name.replacen('o', "\u{43e}", 1))));
    [
        ("over the bus: no type", json!({"id": "x"}), "malformed", "no `type`"),
        ("over the bus: a quarter of a megabyte", large, "noted", "root user"),
        ("over the bus: a homoglyph", homoglyph, "noted", "no role name"),
        ("over the bus: a drill outside its path", good, "withheld", "acts under `/firebreak-drill/` only"),
    ]
    .map(|(name, detail, outcome, reason)| Case {
        way: Way::Bus,
        ..case(name, &envelope("firebreak.drill", "GuardDuty Finding", &detail), outcome, reason)
    })
    .into()
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

/// Principals that are there, by their names, and must stay as they are.
pub(crate) fn principals(bait: &Bait) -> Vec<Case> {
    let own = format!("{}-quarantine-principal", bait.stack);
    let (user, role) = (&bait.user.name, &bait.role.name);
    let session = "a federated session with the name of a user";
    [
        ("root", "Root", "root", "noted", "root user"),
        ("root with the name of a user", "Root", user, "noted", "root user"),
        ("a service", "AWSService", "ec2.amazonaws.com", "noted", "AWS service"),
        ("another account", "AWSAccount", "444455556666", "noted", "another account"),
        (session, "FederatedUser", user, "noted", "leads to nobody"),
        ("a user of Identity Center", "IdentityCenterUser", user, "noted", "Identity Center"),
        ("an unknown type of principal", "${aws:PrincipalType}", user, "noted", "cannot be contained"),
        ("no type of principal", "", user, "noted", "user or a role"),
        ("a role that has the name of a user", "AssumedRole", user, "withheld", "does not exist"),
        ("a user that has the name of a role", "IAMUser", role, "withheld", "does not exist"),
        ("a protected role", "AssumedRole", &bait.protected.name, "withheld", "the playbook protects"),
        ("a service-linked role", "AssumedRole", &bait.service_linked.name, "noted", "service-linked"),
        ("a role under the path of services", "AssumedRole", &bait.of_service.name, "withheld", "service-linked"),
        ("a role of Identity Center", "AssumedRole", &bait.sso.name, "noted", "Identity Center"),
        ("a role under the path of Identity Center", "AssumedRole", &bait.of_sso.name, "withheld", "Identity Center"),
        ("Firebreak's own role", "AssumedRole", &own, "withheld", "Firebreak's own"),
    ]
    .map(|(what, user_type, name, outcome, reason)| {
        case(what, &guardduty(&finding(&of(user_type, &json!(name)))), outcome, reason)
    })
    .into()
}

/// Principals that are there, by their ARNs, and must stay as they are.
pub(crate) fn by_arn(bait: &Bait) -> Vec<Case> {
    let own = format!("arn:aws:iam::{ACCOUNT}:role/firebreak/{}-quarantine-principal", bait.stack);
    let harmless = format!("arn:aws:iam::{ACCOUNT}:role/harmless/{}", bait.protected.name);
    let elsewhere = bait.role.arn.replace(ACCOUNT, "444455556666");
    let in_china = bait.role.arn.replacen("aws", "aws-cn", 1);
    let above = format!("{}/..", bait.role.arn);
    [
        ("a protected role, with its path", &bait.protected.arn, "noted", "the playbook protects"),
        ("a protected role, with another path", &harmless, "withheld", "the playbook protects"),
        ("a service-linked role, with its path", &bait.of_service.arn, "noted", "service-linked"),
        ("a role of Identity Center, with its path", &bait.of_sso.arn, "noted", "Identity Center"),
        ("Firebreak's own role, with its path", &own, "noted", "Firebreak's own"),
        ("a role of another account", &elsewhere, "noted", "in account 444455556666"),
        ("a role of another partition", &in_china, "noted", "in partition aws-cn"),
        ("a role by the name of a folder above", &above, "withheld", "`..` does not exist"),
    ]
    .map(|(what, arn, outcome, reason)| {
        let actors = json!({"sequence": {"actors": [{"session": {"issuer": arn}, "user": {"type": "AssumedRole"}}]}});
        let detail = with(finding(&json!(null)), "/type", json!("AttackSequence:IAM/CompromisedCredentials"));
        case(what, &guardduty(&with(detail, "/service/detection", actors)), outcome, reason)
    })
    .into()
}

/// Functions, and principals that are no longer who they were.
pub(crate) fn functions(bait: &Bait) -> Vec<Case> {
    let own = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}-quarantine-principal", bait.stack);
    let function = |arn: &str| {
        let detail = with(finding(&json!(null)), "/type", json!("Backdoor:Lambda/C&CActivity.B"));
        guardduty(&with(detail, "/resource/lambdaDetails", json!({"functionArn": arn})))
    };
    let elsewhere = "in account 444455556666";
    let role = || of("AssumedRole", &json!(bait.role.name));
    let again = finding(&with(role(), "/principalId", json!("AROAEXAMPLE00000GONE:s")));
    let theirs = with(finding(&role()), "/accountId", json!("444455556666"));
    [
        ("one of Firebreak's own functions", function(&own), "noted", "Firebreak's own"),
        ("a function of another account", function(&own.replace(ACCOUNT, "444455556666")), "noted", elsewhere),
        ("a function that is not there", function(&own.replace("-quarantine", "-gone")), "noted", "does not exist"),
        ("a role of the account that the finding is about", guardduty(&theirs), "noted", elsewhere),
        ("a role that was deleted and made again", guardduty(&again), "withheld", "deleted and made again"),
    ]
    .map(|(what, event, outcome, reason)| case(what, &event, outcome, reason))
    .into()
}
