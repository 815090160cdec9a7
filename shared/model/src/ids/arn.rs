//! ARNs of roles, users and functions, in every partition.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AccountId, InstanceProfileName, InvalidId, Region, RoleName, UserName, all, is_iam_name_byte};

/// An AWS partition. Every ARN says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Partition {
    /// The commercial Regions.
    #[serde(rename = "aws")]
    Aws,
    /// China.
    #[serde(rename = "aws-cn")]
    AwsCn,
    /// GovCloud (US).
    #[serde(rename = "aws-us-gov")]
    AwsUsGov,
}

impl Partition {
    /// The second field of an ARN.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
        }
    }
}

impl FromStr for Partition {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "aws" => Ok(Self::Aws),
            "aws-cn" => Ok(Self::AwsCn),
            "aws-us-gov" => Ok(Self::AwsUsGov),
            _ => Err(InvalidId::new("partition", "aws, aws-cn or aws-us-gov", text)),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The fields of `arn:partition:service:region:account:resource`.
struct ArnFields<'a> {
    partition: Partition,
    service: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

fn arn_fields(text: &str) -> Option<ArnFields<'_>> {
    let mut fields = text.splitn(6, ':');
    if fields.next()? != "arn" {
        return None;
    }
    Some(ArnFields {
        partition: fields.next()?.parse().ok()?,
        service: fields.next()?,
        region: fields.next()?,
        account: fields.next()?,
        resource: fields.next()?,
    })
}

/// An IAM path: begins and ends with `/`, at most 512 printable characters.
fn is_iam_path(path: &str) -> bool {
    path.starts_with('/') && path.ends_with('/') && all(path, 1..=512, |b| b.is_ascii_graphic())
}

/// An ARN goes in and out of records as its text.
macro_rules! goes_as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(arn: $name) -> String {
                arn.to_string()
            }
        }
    };
}

macro_rules! iam_arn {
    ($(#[$doc:meta])* $name:ident, $resource:literal, $entity:ty, $what:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            partition: Partition,
            account: AccountId,
            path: String,
            name: $entity,
        }

        impl $name {
            /// The partition.
            pub fn partition(&self) -> Partition {
                self.partition
            }

            /// The owning account.
            pub fn account(&self) -> &AccountId {
                &self.account
            }

            /// The path, with its slashes: `/` when there is none.
            pub fn path(&self) -> &str {
                &self.path
            }

            /// The name, without its path.
            pub fn name(&self) -> &$entity {
                &self.name
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let parse = || {
                    let fields = arn_fields(text)?;
                    if fields.service != "iam" || !fields.region.is_empty() {
                        return None;
                    }
                    let rest = fields.resource.strip_prefix($resource)?;
                    let cut = rest.rfind('/')? + 1;
                    let (path, name) = (rest.get(..cut)?, rest.get(cut..)?);
                    if !is_iam_path(path) {
                        return None;
                    }
                    Some(Self {
                        partition: fields.partition,
                        account: fields.account.parse().ok()?,
                        path: path.to_owned(),
                        name: name.parse().ok()?,
                    })
                };
                parse().ok_or_else(|| InvalidId::new($what, $expected, text))
            }
        }

        goes_as_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "arn:{}:iam::{}:{}{}{}",
                    self.partition, self.account, $resource, self.path, self.name
                )
            }
        }
    };
}

iam_arn!(
    /// The ARN of a role, path included.
    RoleArn, "role", RoleName, "role ARN", "arn:PARTITION:iam::ACCOUNT:role/PATH/NAME"
);
iam_arn!(
    /// The ARN of a user, path included.
    UserArn, "user", UserName, "user ARN", "arn:PARTITION:iam::ACCOUNT:user/PATH/NAME"
);

iam_arn!(
    /// The ARN of an instance profile, path included.
    InstanceProfileArn, "instance-profile", InstanceProfileName, "instance profile ARN",
    "arn:PARTITION:iam::ACCOUNT:instance-profile/PATH/NAME"
);

/// The ARN of a managed policy, path included: an account's own, or one that AWS keeps for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyArn {
    partition: Partition,
    /// `None` for one of AWS's own.
    account: Option<AccountId>,
    path: String,
    name: String,
}

/// What stands in place of an account in the ARN of a policy of AWS's own.
const BY_AWS: &str = "aws";

impl PolicyArn {
    /// The policy of AWS's own that denies everything. Nobody in an account can edit or delete it.
    pub fn deny_all(partition: Partition) -> Self {
        Self { partition, account: None, path: "/".to_owned(), name: "AWSDenyAll".to_owned() }
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The owning account; `None` for one of AWS's own.
    pub fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }
}

impl FromStr for PolicyArn {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let fields = arn_fields(text)?;
            if fields.service != "iam" || !fields.region.is_empty() {
                return None;
            }
            let rest = fields.resource.strip_prefix("policy")?;
            let cut = rest.rfind('/')? + 1;
            let (path, name) = (rest.get(..cut)?, rest.get(cut..)?);
            if !is_iam_path(path) || !all(name, 1..=128, is_iam_name_byte) {
                return None;
            }
            let account = if fields.account == BY_AWS { None } else { Some(fields.account.parse().ok()?) };
            Some(Self { partition: fields.partition, account, path: path.to_owned(), name: name.to_owned() })
        };
        parse().ok_or_else(|| InvalidId::new("policy ARN", "arn:PARTITION:iam::ACCOUNT:policy/PATH/NAME", text))
    }
}

goes_as_text!(PolicyArn);

impl fmt::Display for PolicyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.account.as_ref().map_or(BY_AWS, AccountId::as_str);
        write!(f, "arn:{}:iam::{account}:policy{}{}", self.partition, self.path, self.name)
    }
}

macro_rules! ecs_arn {
    ($(#[$doc:meta])* $name:ident, $resource:literal, $valid:expr, $what:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            partition: Partition,
            region: Region,
            account: AccountId,
            resource: String,
        }

        impl $name {
            /// The Region: ECS clients take theirs from here.
            pub fn region(&self) -> &Region {
                &self.region
            }

            /// The owning account.
            pub fn account(&self) -> &AccountId {
                &self.account
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                let parse = || {
                    let fields = arn_fields(text)?;
                    let resource = fields.resource.strip_prefix($resource)?;
                    let ok = fields.service == "ecs" && valid(resource);
                    ok.then_some(Self {
                        partition: fields.partition,
                        region: fields.region.parse().ok()?,
                        account: fields.account.parse().ok()?,
                        resource: resource.to_owned(),
                    })
                };
                parse().ok_or_else(|| InvalidId::new($what, $expected, text))
            }
        }

        goes_as_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self { partition, region, account, resource } = self;
                write!(f, concat!("arn:{}:ecs:{}:{}:", $resource, "{}"), partition, region, account, resource)
            }
        }
    };
}

fn is_ecs_name(text: &str) -> bool {
    all(text, 1..=255, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

ecs_arn!(
    /// The ARN of an ECS task, with the name of its cluster (the long form) or without.
    TaskArn, "task/", |t| t.splitn(2, '/').all(is_ecs_name), "task ARN",
    "arn:PARTITION:ecs:REGION:ACCOUNT:task/[CLUSTER/]ID"
);
ecs_arn!(
    /// The ARN of a task definition, with its revision or without.
    TaskDefinitionArn, "task-definition/",
    |t| match t.split_once(':') {
        Some((family, revision)) => is_ecs_name(family) && all(revision, 1..=10, |b| b.is_ascii_digit()),
        None => is_ecs_name(t),
    },
    "task definition ARN", "arn:PARTITION:ecs:REGION:ACCOUNT:task-definition/FAMILY[:REVISION]"
);

impl TaskArn {
    /// The cluster that the task runs in; the default cluster where the ARN is of the short form.
    pub fn cluster(&self) -> &str {
        self.resource.split_once('/').map_or("default", |(cluster, _)| cluster)
    }
}

/// The ARN of a Lambda function, with or without a qualifier (a version or alias).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionArn {
    partition: Partition,
    region: Region,
    account: AccountId,
    name: String,
    qualifier: Option<String>,
}

impl FunctionArn {
    /// The ARN of a function by its parts.
    pub fn new(partition: Partition, region: &Region, account: &AccountId, name: &str) -> Result<Self, InvalidId> {
        format!("arn:{partition}:lambda:{region}:{account}:function:{name}").parse()
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The Region the function lives in: Lambda clients take theirs from here.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The owning account.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version or alias, where the ARN names one.
    pub fn qualifier(&self) -> Option<&str> {
        self.qualifier.as_deref()
    }

    /// The same function without a qualifier: what is contained.
    #[must_use]
    pub fn unqualified(&self) -> Self {
        Self { qualifier: None, ..self.clone() }
    }

    /// Whether a text is the ARN of the same function, with whichever qualifier or none.
    pub fn is_of(&self, text: &str) -> bool {
        text.parse::<Self>().is_ok_and(|arn| arn.unqualified() == self.unqualified())
    }
}

impl FromStr for FunctionArn {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let name_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let parse = || {
            let fields = arn_fields(text)?;
            if fields.service != "lambda" {
                return None;
            }
            let rest = fields.resource.strip_prefix("function:")?;
            let (name, qualifier) = match rest.split_once(':') {
                Some((name, qualifier)) => (name, Some(qualifier)),
                None => (rest, None),
            };
            let qualifier_ok =
                |q: &str| q == "$LATEST" || (!q.is_empty() && q.len() <= 128 && q.bytes().all(name_byte));
            if name.is_empty() || name.len() > 64 || !name.bytes().all(name_byte) || !qualifier.is_none_or(qualifier_ok)
            {
                return None;
            }
            Some(Self {
                partition: fields.partition,
                region: fields.region.parse().ok()?,
                account: fields.account.parse().ok()?,
                name: name.to_owned(),
                qualifier: qualifier.map(str::to_owned),
            })
        };
        parse().ok_or_else(|| {
            InvalidId::new("function ARN", "arn:PARTITION:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]", text)
        })
    }
}

goes_as_text!(FunctionArn);

impl fmt::Display for FunctionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, region, account, name, qualifier } = self;
        write!(f, "arn:{partition}:lambda:{region}:{account}:function:{name}")?;
        qualifier.as_ref().map_or(Ok(()), |q| write!(f, ":{q}"))
    }
}
