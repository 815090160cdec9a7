//! Roles with attached and inline policies. A role of any name is there.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{ACCOUNT, Answer, ROLE_PATH, World};
use crate::call::Call;

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const DENY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
const CREATED: &str = "2026-01-12T08:00:00Z";

fn encoded(document: &str) -> String {
    utf8_percent_encode(document, NON_ALPHANUMERIC).to_string()
}

fn role(name: &str) -> String {
    format!(
        "<Role><Path>{ROLE_PATH}</Path><RoleName>{name}</RoleName><RoleId>AROAEXAMPLEROLE00001</RoleId>\
         <Arn>arn:aws:iam::{ACCOUNT}:role{ROLE_PATH}{name}</Arn><CreateDate>{CREATED}</CreateDate>\
         <AssumeRolePolicyDocument>{}</AssumeRolePolicyDocument><MaxSessionDuration>3600</MaxSessionDuration>\
         <RoleLastUsed><LastUsedDate>2026-11-21T03:00:00Z</LastUsedDate><Region>eu-west-1</Region></RoleLastUsed></Role>",
        encoded(TRUST)
    )
}

fn last_accessed(service: &str) -> String {
    format!(
        "<member><ServiceName>{service}</ServiceName><ServiceNamespace>{service}</ServiceNamespace>\
         <LastAuthenticated>{CREATED}</LastAuthenticated><TotalAuthenticatedEntities>1</TotalAuthenticatedEntities></member>"
    )
}

impl World {
    pub(super) fn iam(&mut self, call: &Call) -> Option<Answer> {
        let operation = call.operation.as_str();
        let name = call.text("RoleName").to_owned();
        let policy = call.text("PolicyName").to_owned();
        let arn = call.text("PolicyArn").to_owned();
        let result = match operation {
            "GetRole" => role(&name),
            "AttachRolePolicy" => {
                self.attached.insert((name, arn));
                String::new()
            }
            "DetachRolePolicy" => {
                self.attached.remove(&(name, arn));
                String::new()
            }
            "ListAttachedRolePolicies" => {
                let basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
                let own = self.attached.iter().filter(|(role, _)| *role == name).map(|(_, arn)| arn.as_str());
                let mut members = String::new();
                for arn in [basic].into_iter().chain(own) {
                    let name = arn.rsplit('/').next().unwrap_or_default();
                    let _ =
                        write!(members, "<member><PolicyName>{name}</PolicyName><PolicyArn>{arn}</PolicyArn></member>");
                }
                format!("<AttachedPolicies>{members}</AttachedPolicies><IsTruncated>false</IsTruncated>")
            }
            "ListRolePolicies" => {
                let own = self.inline.keys().filter(|(role, _)| *role == name);
                let mut members = String::new();
                for (_, policy) in own {
                    let _ = write!(members, "<member>{policy}</member>");
                }
                format!("<PolicyNames>{members}</PolicyNames><IsTruncated>false</IsTruncated>")
            }
            "GetRolePolicy" => match self.inline.get(&(name.clone(), policy.clone())) {
                None => return Some(Answer::xml_error(404, "NoSuchEntity")),
                Some(document) => format!(
                    "<RoleName>{name}</RoleName><PolicyName>{policy}</PolicyName><PolicyDocument>{}</PolicyDocument>",
                    encoded(document)
                ),
            },
            "PutRolePolicy" => {
                self.inline.insert((name, policy), call.text("PolicyDocument").to_owned());
                String::new()
            }
            "DeleteRolePolicy" => {
                self.inline.remove(&(name, policy));
                String::new()
            }
            "GetPolicy" => format!(
                "<Policy><PolicyName>p</PolicyName><PolicyId>ANPAEXAMPLEPOLICY0001</PolicyId><Arn>{arn}</Arn>\
                 <DefaultVersionId>v1</DefaultVersionId><CreateDate>{CREATED}</CreateDate>\
                 <UpdateDate>{CREATED}</UpdateDate></Policy>"
            ),
            "ListPolicyVersions" => format!(
                "<Versions><member><VersionId>v1</VersionId><IsDefaultVersion>true</IsDefaultVersion>\
                 <CreateDate>{CREATED}</CreateDate></member></Versions><IsTruncated>false</IsTruncated>"
            ),
            "GenerateServiceLastAccessedDetails" => "<JobId>0a7b1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3</JobId>".to_owned(),
            "GetServiceLastAccessedDetails" => format!(
                "<JobStatus>COMPLETED</JobStatus><JobCreationDate>{CREATED}</JobCreationDate>\
                 <JobCompletionDate>{CREATED}</JobCompletionDate><IsTruncated>false</IsTruncated><ServicesLastAccessed>\
                 {}</ServicesLastAccessed>",
                ["s3", "sqs", "dynamodb", "logs"].map(last_accessed).concat()
            ),
            "GetPolicyVersion" => format!(
                "<PolicyVersion><Document>{}</Document><VersionId>v1</VersionId>\
                 <IsDefaultVersion>true</IsDefaultVersion><CreateDate>{CREATED}</CreateDate></PolicyVersion>",
                encoded(if arn.contains("deny") { DENY } else { TRUST })
            ),
            _ => return None,
        };
        Some(Answer::xml(operation, &result))
    }
}
