//! Roles, users and functions as they come: with and without a boundary, a path, policies up to the quota, keys of both
//! states, URLs of both kinds, mappings on and off, statements, destinations, versions, aliases, and what is provisioned
//! for them.

use anyhow::{Context as _, Result};
use aws_sdk_iam::types::StatusType;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    DeadLetterConfig, DestinationConfig, FunctionCode, FunctionUrlAuthType, OnFailure, OnSuccess, Runtime,
};
use firebreak_model::ids::IncidentId;
use gameday::archive;
use gameday::aws::{ACCOUNT, Aws};
use gameday::pages::queue_arn;
use gameday::scene::{Role, User, random_hex, until_active};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a scene is made of.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) who: Who,
    pub(crate) path: &'static str,
    pub(crate) boundary: bool,
    pub(crate) inline: usize,
    pub(crate) attached: usize,
    /// It is contained a second time before it is released.
    pub(crate) twice: bool,
}

/// Whose scene it is.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    Role(Vec<Function>),
    User(Vec<Key>),
}

/// An access key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    active: bool,
    /// A finding names it.
    named: bool,
    /// The release names it.
    reactivated: bool,
}

/// A function.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each door is there or not, by itself")]
pub(crate) struct Function {
    reserved: Option<i32>,
    description: &'static str,
    alias: bool,
    /// One environment is provisioned for the alias.
    provisioned: bool,
    url: Option<Auth>,
    alias_url: Option<Auth>,
    public: bool,
    public_alias: bool,
    ours: bool,
    success: bool,
    failure: bool,
    alias_failure: bool,
    dead_letter: bool,
    mapping: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
enum Auth {
    None,
    Iam,
}

impl From<Auth> for FunctionUrlAuthType {
    fn from(auth: Auth) -> Self {
        match auth {
            Auth::None => Self::None,
            Auth::Iam => Self::AwsIam,
        }
    }
}

fn functions() -> impl Strategy<Value = Function> {
    let auth = || prop::option::of(prop_oneof![Just(Auth::None), Just(Auth::Iam)]);
    let figures = prop::option::of(prop_oneof![Just(0), Just(1), Just(7)]);
    let descriptions = prop_oneof![Just(""), Just("Takes orders."), Just("it ends in [firebreak: recycled 9]")];
    let doors = (auth(), auth(), any::<bool>(), any::<bool>(), any::<bool>());
    let reports = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let sources = prop::option::of(any::<bool>());
    let aliases = (any::<bool>(), any::<bool>());
    (figures, descriptions, aliases, doors, reports, sources).prop_map(
        |(reserved, description, (alias, provisioned), doors, reports, mapping)| {
            let (url, alias_url, public, public_alias, ours) = doors;
            let (success, failure, alias_failure, dead_letter) = reports;
            Function {
                reserved,
                description,
                alias,
                // No more is provisioned than is reserved.
                provisioned: provisioned && alias && reserved != Some(0),
                url,
                alias_url: alias_url.filter(|_| alias),
                public,
                public_alias: public_alias && alias,
                ours,
                success,
                failure,
                alias_failure: alias_failure && alias,
                dead_letter,
                mapping,
            }
        },
    )
}

/// Scenes. The smallest is a user without a key.
pub(crate) fn scenes() -> impl Strategy<Value = Scene> {
    let keys = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(active, named, reactivated)| Key {
        active,
        named,
        reactivated: reactivated && named,
    });
    let who = prop_oneof![
        prop::collection::vec(keys, 0..=2).prop_map(Who::User),
        prop::collection::vec(functions(), 0..=2).prop_map(Who::Role),
    ];
    let paths = prop_oneof![Just("/"), Just("/team/"), Just("/a/b/c/")];
    // Ten policies are the quota: with all of them the deny finds no room and a boundary takes its place.
    (who, paths, any::<bool>(), 0..3_usize, prop_oneof![0..3_usize, Just(9), Just(10)], any::<bool>()).prop_map(
        |(who, path, boundary, inline, attached, twice)| Scene { who, path, boundary, inline, attached, twice },
    )
}

impl Scene {
    fn keys(&self) -> &[Key] {
        if let Who::User(keys) = &self.who { keys } else { &[] }
    }

    fn functions(&self) -> &[Function] {
        if let Who::Role(functions) = &self.who { functions } else { &[] }
    }
}

/// Says whether a scene is of a kind.
type Kind = fn(&Scene) -> bool;

/// What there must be a scene of.
pub(crate) const KINDS: [Kind; 20] = [
    // Access keys that a finding names and nobody, or somebody, wants back; and one that was Inactive.
    |s| s.keys().iter().any(|k| k.active && k.named && !k.reactivated),
    |s| s.keys().iter().any(|k| k.active && k.reactivated),
    |s| s.keys().iter().any(|k| !k.active),
    |s| s.path != "/",
    // With the quota full the deny finds no room, and a boundary takes its place.
    |s| s.attached == 10 && s.boundary,
    |s| s.attached == 10 && !s.boundary,
    |s| s.attached < 10 && s.boundary,
    |s| s.twice,
    |s| s.functions().iter().any(|f| f.reserved.is_some_and(|figure| figure > 0)),
    |s| s.functions().iter().any(|f| f.reserved.is_none()),
    |s| s.functions().iter().any(|f| matches!(f.url, Some(Auth::None))),
    |s| s.functions().iter().any(|f| matches!(f.url, Some(Auth::Iam))),
    |s| s.functions().iter().any(|f| matches!(f.alias_url, Some(Auth::None))),
    |s| s.functions().iter().any(|f| f.public && f.public_alias && f.ours),
    |s| s.functions().iter().any(|f| f.success && f.alias_failure),
    |s| s.functions().iter().any(|f| f.dead_letter),
    |s| s.functions().iter().any(|f| f.mapping == Some(true)),
    |s| s.functions().iter().any(|f| f.mapping == Some(false)),
    |s| s.functions().iter().any(|f| f.provisioned),
    |s| s.functions().len() > 1,
];

/// What stands there.
#[derive(Debug)]
pub(crate) struct Stood {
    pub(crate) incident: IncidentId,
    /// `role/NAME`, `user/NAME`.
    pub(crate) principal: String,
    functions: Vec<String>,
    keys: Vec<String>,
    /// A session of it that was stolen before it is contained.
    stolen: Aws,
}

impl Stood {
    pub(crate) async fn set_up(aws: &Aws, scene: &Scene) -> Result<Self> {
        let suffix = random_hex(6);
        let name = format!("any-{suffix}");
        match &scene.who {
            Who::Role(functions) => {
                let role = Role::create(aws, &name, scene.path).await?;
                for policy in policies(aws, scene, &suffix).await? {
                    aws.iam.attach_role_policy().role_name(&name).policy_arn(policy).send().await?;
                }
                for n in 0..scene.inline {
                    let put = aws.iam.put_role_policy().role_name(&name).policy_name(format!("inline-{n}"));
                    put.policy_document(document(&format!("s3:Get{n}*"))).send().await?;
                }
                if scene.boundary {
                    let boundary = policy(aws, &format!("boundary-{suffix}"), "*").await?;
                    let put = aws.iam.put_role_permissions_boundary().role_name(&name);
                    put.permissions_boundary(boundary).send().await?;
                }
                let mut arns = Vec::new();
                for (n, function) in functions.iter().enumerate() {
                    arns.push(stand(aws, &format!("{name}-{n}"), &role, function).await?);
                }
                let incident = role.incident()?;
                let stolen = aws.as_identity(role.steal_session(aws, "thief").await?);
                Ok(Self { incident, principal: format!("role/{name}"), functions: arns, keys: Vec::new(), stolen })
            }
            Who::User(keys) => {
                let user = User::create(aws, &name, scene.path).await?;
                let key = user.keys.first().context("the new user has no key")?;
                let stolen = aws.as_identity(user.session_of(aws, key).await?);
                for key in &user.keys {
                    aws.iam.delete_access_key().user_name(&name).access_key_id(key.access_key_id()).send().await?;
                }
                for policy in policies(aws, scene, &suffix).await? {
                    aws.iam.attach_user_policy().user_name(&name).policy_arn(policy).send().await?;
                }
                for n in 0..scene.inline {
                    let put = aws.iam.put_user_policy().user_name(&name).policy_name(format!("inline-{n}"));
                    put.policy_document(document(&format!("s3:Get{n}*"))).send().await?;
                }
                if scene.boundary {
                    let boundary = policy(aws, &format!("boundary-{suffix}"), "*").await?;
                    let put = aws.iam.put_user_permissions_boundary().user_name(&name);
                    put.permissions_boundary(boundary).send().await?;
                }
                let mut ids = Vec::new();
                for key in keys {
                    let made = aws.iam.create_access_key().user_name(&name).send().await?;
                    let id = made.access_key().context("the new key is not shown")?.access_key_id().to_owned();
                    if !key.active {
                        let update = aws.iam.update_access_key().user_name(&name).access_key_id(&id);
                        update.status(StatusType::Inactive).send().await?;
                    }
                    ids.push(id);
                }
                let incident = user.incident()?;
                Ok(Self { incident, principal: format!("user/{name}"), functions: Vec::new(), keys: ids, stolen })
            }
        }
    }

    /// What the stolen session may still do of a call or two that the scene's policies allow.
    pub(crate) async fn still_does(&self) -> Option<&'static str> {
        if self.stolen.sqs.list_queues().send().await.is_ok() {
            return Some("sqs:ListQueues");
        }
        self.stolen.iam.list_roles().send().await.is_ok().then_some("iam:ListRoles")
    }

    /// A person's request to contain it.
    pub(crate) fn request(&self, scene: &Scene) -> Value {
        let name = self.principal.split('/').next_back().unwrap_or_default();
        match scene.who {
            Who::Role(_) => json!({"role": name, "functions": self.functions}),
            Who::User(_) => json!({"user": name, "access_keys": self.named(scene, false)}),
        }
    }

    /// The keys that the finding names, or of those the ones that the release names.
    pub(crate) fn named(&self, scene: &Scene, reactivated: bool) -> Vec<String> {
        let Who::User(keys) = &scene.who else { return Vec::new() };
        let both = self.keys.iter().zip(keys);
        both.filter(|(_, key)| key.named && (key.reactivated || !reactivated)).map(|(id, _)| id.clone()).collect()
    }

    /// What stays different for the keys that were Active, that a finding names, and that nobody wants back.
    pub(crate) fn stays_inactive(&self, scene: &Scene) -> Vec<String> {
        let Who::User(keys) = &scene.who else { return Vec::new() };
        let stays = self.keys.iter().zip(keys).filter(|(_, key)| key.active && key.named && !key.reactivated);
        stays.map(|(id, _)| format!("`{} access key {id}` was Active, is Inactive", self.principal)).collect()
    }
}

fn document(action: &str) -> String {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}).to_string()
}

async fn policy(aws: &Aws, name: &str, action: &str) -> Result<String> {
    let answer = aws.iam.create_policy().policy_name(name).policy_document(document(action)).send().await?;
    Ok(answer.policy().and_then(|policy| policy.arn()).context("the new policy has no ARN")?.to_owned())
}

async fn policies(aws: &Aws, scene: &Scene, suffix: &str) -> Result<Vec<String>> {
    let mut arns = Vec::new();
    for n in 0..scene.attached {
        arns.push(policy(aws, &format!("attached-{n}-{suffix}"), "s3:GetObject").await?);
    }
    Ok(arns)
}

async fn queue(aws: &Aws, name: &str) -> Result<String> {
    let made = aws.sqs.create_queue().queue_name(name).send().await?;
    queue_arn(aws, made.queue_url().unwrap_or_default()).await
}

async fn stand(aws: &Aws, name: &str, role: &Role, wanted: &Function) -> Result<String> {
    let lambda = &aws.lambda;
    let zip = archive::of_one_file("index.py", "def lambda_handler(event, context):\n    return {}\n")?;
    let mut create = lambda.create_function().function_name(name).runtime(Runtime::Python312);
    if wanted.dead_letter {
        let target = queue(aws, &format!("{name}-dead")).await?;
        create = create.dead_letter_config(DeadLetterConfig::builder().target_arn(target).build());
    }
    let code = FunctionCode::builder().zip_file(Blob::new(zip)).build();
    let create = create.handler("index.lambda_handler").role(&role.arn).description(wanted.description).code(code);
    let arn = create.send().await?.function_arn().context("the new function has no ARN")?.to_owned();
    until_active(aws, name).await?;
    if let Some(figure) = wanted.reserved {
        lambda.put_function_concurrency().function_name(name).reserved_concurrent_executions(figure).send().await?;
    }
    if wanted.alias {
        let version = lambda.publish_version().function_name(name).send().await?.version.context("no version")?;
        lambda.create_alias().function_name(name).name("live").function_version(version).send().await?;
    }
    if wanted.provisioned {
        let put = lambda.put_provisioned_concurrency_config().function_name(name).qualifier("live");
        put.provisioned_concurrent_executions(1).send().await?;
    }
    let qualified = |alias: bool| alias.then(|| "live".to_owned());
    for (auth, alias) in [(wanted.url, false), (wanted.alias_url, true)] {
        if let Some(auth) = auth {
            let url = lambda.create_function_url_config().function_name(name).auth_type(auth.into());
            url.set_qualifier(qualified(alias)).send().await?;
        }
    }
    for (public, alias) in [(wanted.public, false), (wanted.public_alias, true)] {
        if public {
            let add = lambda.add_permission().function_name(name).statement_id("everyone").principal("*");
            let add = add.action("lambda:InvokeFunctionUrl").function_url_auth_type(FunctionUrlAuthType::None);
            add.set_qualifier(qualified(alias)).send().await?;
        }
    }
    if wanted.ours {
        let add = lambda.add_permission().function_name(name).statement_id("our-rules").source_account(ACCOUNT);
        add.action("lambda:InvokeFunction").principal("events.amazonaws.com").send().await?;
    }
    let results = queue(aws, &format!("{name}-results")).await?;
    for (success, failure, alias) in [(wanted.success, wanted.failure, false), (false, wanted.alias_failure, true)] {
        if success || failure {
            let mut to = DestinationConfig::builder();
            if success {
                to = to.on_success(OnSuccess::builder().destination(&results).build());
            }
            if failure {
                to = to.on_failure(OnFailure::builder().destination(&results).build());
            }
            let put = lambda.put_function_event_invoke_config().function_name(name).maximum_retry_attempts(1);
            put.set_qualifier(qualified(alias)).destination_config(to.build()).send().await?;
        }
    }
    if let Some(enabled) = wanted.mapping {
        let source = queue(aws, &format!("{name}-source")).await?;
        let create = lambda.create_event_source_mapping().function_name(name).event_source_arn(source);
        create.enabled(enabled).send().await?;
    }
    Ok(arn)
}
