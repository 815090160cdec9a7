//! The calls that the policy for identities is about.

use super::{Call, May};

const MAKERS: May = May::Only(&["makers", "deployer"]);
const COLLECTOR: May = May::Only(&["collector"]);

/// Who changes the roles that make others: themselves, the deployers, and Firebreak, which must be able to contain them.
const WHO_CHANGES_MAKERS: May = May::Only(&[
    "makers",
    "deployer",
    "a longer name",
    "quarantine",
    "revoke",
    "isolate",
    "snapshot",
    "publish",
    "notify",
    "release",
    "guard",
]);

/// What makes a credential, a principal, or a way in.
const MINTING: &[Call<'_>] = &[
    ("iam:CreateUser", "iam::A:user/firebreak-drill/minted", &[], MAKERS),
    ("iam:CreateAccessKey", "iam::A:user/ops/ben", &[], MAKERS),
    ("iam:CreateLoginProfile", "iam::A:user/ops/ben", &[], MAKERS),
    ("iam:UpdateLoginProfile", "iam::A:user/ops/ben", &[], MAKERS),
    ("iam:CreateServiceSpecificCredential", "iam::A:user/ops/ben", &[], MAKERS),
    ("iam:ResetServiceSpecificCredential", "iam::A:user/ops/ben", &[], MAKERS),
    ("iam:UploadSigningCertificate", "iam::A:user/ops/ben", &[], MAKERS),
    ("iam:UploadSSHPublicKey", "iam::A:user/ops/ben", &[], MAKERS),
    ("iam:CreateRole", "iam::A:role/orders", &[], MAKERS),
    // A role of a name that is exempt from something here.
    ("iam:CreateRole", "iam::A:role/apps/collector", &[], MAKERS),
    ("iam:UpdateAssumeRolePolicy", "iam::A:role/orders", &[], MAKERS),
    ("iam:CreateSAMLProvider", "iam::A:saml-provider/mine", &[], MAKERS),
    ("iam:UpdateSAMLProvider", "iam::A:saml-provider/theirs", &[], MAKERS),
    ("iam:CreateOpenIDConnectProvider", "iam::A:oidc-provider/mine.example", &[], MAKERS),
    ("iam:AddClientIDToOpenIDConnectProvider", "iam::A:oidc-provider/theirs.example", &[], MAKERS),
    ("iam:UpdateOpenIDConnectProviderThumbprint", "iam::A:oidc-provider/theirs.example", &[], MAKERS),
    ("iam:AcceptDelegationRequest", "iam::A:delegation-request/0a1b", &[], MAKERS),
    ("iam:SendDelegationToken", "iam::A:delegation-request/0a1b", &[], MAKERS),
    ("rolesanywhere:CreateTrustAnchor", "*", &[], MAKERS),
    ("rolesanywhere:UpdateTrustAnchor", "rolesanywhere:R:A:trust-anchor/0a1b", &[], MAKERS),
    ("ssm:CreateActivation", "*", &[], MAKERS),
    ("sts:GetFederationToken", "sts:R:A:federated-user/ben", &[], MAKERS),
    ("sts:AssumeRole", "iam::A:role/orders", &[], COLLECTOR),
    ("sts:AssumeRole", "iam::444455556666:role/orders", &[], COLLECTOR),
    // Who may go on may go on into these too.
    ("sts:AssumeRole", "iam::A:role/ci/makers-eu", &[], COLLECTOR),
];

/// The roles that make others.
const OF_THE_MAKERS: &[Call<'_>] = &[
    ("iam:PassRole", "iam::A:role/ci/makers-eu", &[], WHO_CHANGES_MAKERS),
    ("iam:AttachRolePolicy", "iam::A:role/ci/makers-eu", &[], WHO_CHANGES_MAKERS),
    ("iam:DetachRolePolicy", "iam::A:role/ci/makers-eu", &[], WHO_CHANGES_MAKERS),
    ("iam:PutRolePolicy", "iam::A:role/ci/makers-eu", &[], WHO_CHANGES_MAKERS),
    ("iam:PutRolePermissionsBoundary", "iam::A:role/ci/makers-eu", &[], WHO_CHANGES_MAKERS),
    ("iam:DeleteRole", "iam::A:role/ci/makers-eu", &[], WHO_CHANGES_MAKERS),
    // Not even Firebreak makes one, or has one trust somebody else.
    ("iam:CreateRole", "iam::A:role/ci/makers-mine", &[], MAKERS),
    ("iam:UpdateAssumeRolePolicy", "iam::A:role/ci/makers-eu", &[], MAKERS),
    ("iam:GetRole", "iam::A:role/ci/makers-eu", &[], May::Everyone),
    ("iam:ListRolePolicies", "iam::A:role/ci/makers-eu", &[], May::Everyone),
    ("iam:SimulatePrincipalPolicy", "iam::A:role/ci/makers-eu", &[], May::Everyone),
    ("iam:GenerateServiceLastAccessedDetails", "iam::A:role/ci/makers-eu", &[], May::Everyone),
    ("sts:TagSession", "iam::A:role/ci/makers-eu", &[], May::Everyone),
];

/// What the policy is not about: what makes no credential, what a response needs, and production.
const OTHER: &[Call<'_>] = &[
    ("iam:PassRole", "iam::A:role/orders", &[], May::Everyone),
    ("iam:PassRole", "iam::A:role/apps/collector", &[], May::Everyone),
    ("iam:AttachRolePolicy", "iam::A:role/orders", &[], May::Everyone),
    ("iam:AttachUserPolicy", "iam::A:user/ops/ben", &[], May::Everyone),
    ("iam:PutRolePolicy", "iam::A:role/makers-eu", &[], May::Everyone),
    ("iam:PutRolePolicy", "iam::A:role/other/ci/makers-eu", &[], May::Everyone),
    ("iam:PutUserPolicy", "iam::A:user/ci/makers-eu", &[], May::Everyone),
    ("iam:DeleteRole", "iam::A:role/orders", &[], May::Everyone),
    ("iam:UpdateAccessKey", "iam::A:user/ops/ben", &[], May::Everyone),
    ("iam:DeleteAccessKey", "iam::A:user/ops/ben", &[], May::Everyone),
    ("iam:DeleteLoginProfile", "iam::A:user/ops/ben", &[], May::Everyone),
    ("iam:ChangePassword", "iam::A:user/ops/ben", &[], May::Everyone),
    ("iam:AddUserToGroup", "iam::A:group/ops", &[], May::Everyone),
    ("iam:CreatePolicyVersion", "iam::A:policy/developers", &[], May::Everyone),
    ("iam:CreateServiceLinkedRole", "iam::A:role/aws-service-role/x.amazonaws.com/X", &[], May::Everyone),
    ("iam:GetRole", "iam::A:role/orders", &[], May::Everyone),
    ("sts:GetCallerIdentity", "*", &[], May::Everyone),
    ("sts:TagSession", "iam::A:role/orders", &[], May::Everyone),
    ("sts:DecodeAuthorizationMessage", "*", &[], May::Everyone),
    ("lambda:PutFunctionConcurrency", "lambda:R:A:function:orders", &[], May::Everyone),
    ("lambda:UpdateFunctionCode", "lambda:R:A:function:orders", &[], May::Everyone),
    ("lambda:InvokeFunction", "lambda:R:A:function:orders", &[], May::Everyone),
    ("s3:GetObject", "s3:::orders/x", &[], May::Everyone),
    ("ec2:RunInstances", "*", &[], May::Everyone),
];

/// All of them.
pub(super) fn calls() -> Vec<Call<'static>> {
    [MINTING, OF_THE_MAKERS, OTHER].concat()
}
