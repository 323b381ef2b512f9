//! The operations of AWS that keywheel calls: their names, what allows them, and how often they may be called.

/// One operation of AWS KMS, or of a service beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Operation {
    /// Not a call: finding credentials and a region.
    Connect,
    CancelKeyDeletion,
    CreateAlias,
    CreateGrant,
    CreateKey,
    Decapsulate,
    Decrypt,
    DeriveSharedSecret,
    DescribeKey,
    DisableKey,
    EnableKey,
    Encapsulate,
    Encrypt,
    GenerateMac,
    GetKeyLastUsage,
    GetKeyPolicy,
    GetPublicKey,
    GetResources,
    ListGrants,
    ListKeys,
    ListResourceTags,
    ReplicateKey,
    ScheduleKeyDeletion,
    Sign,
    TagResource,
    UntagResource,
    UpdateAlias,
    UpdateKeyDescription,
    Verify,
    VerifyMac,
}

impl Operation {
    /// Its name, as AWS writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::CancelKeyDeletion => "CancelKeyDeletion",
            Self::CreateAlias => "CreateAlias",
            Self::CreateGrant => "CreateGrant",
            Self::CreateKey => "CreateKey",
            Self::Decapsulate => "Decapsulate",
            Self::Decrypt => "Decrypt",
            Self::DeriveSharedSecret => "DeriveSharedSecret",
            Self::DescribeKey => "DescribeKey",
            Self::DisableKey => "DisableKey",
            Self::EnableKey => "EnableKey",
            Self::Encapsulate => "Encapsulate",
            Self::Encrypt => "Encrypt",
            Self::GenerateMac => "GenerateMac",
            Self::GetKeyLastUsage => "GetKeyLastUsage",
            Self::GetKeyPolicy => "GetKeyPolicy",
            Self::GetPublicKey => "GetPublicKey",
            Self::GetResources => "GetResources",
            Self::ListGrants => "ListGrants",
            Self::ListKeys => "ListKeys",
            Self::ListResourceTags => "ListResourceTags",
            Self::ReplicateKey => "ReplicateKey",
            Self::ScheduleKeyDeletion => "ScheduleKeyDeletion",
            Self::Sign => "Sign",
            Self::TagResource => "TagResource",
            Self::UntagResource => "UntagResource",
            Self::UpdateAlias => "UpdateAlias",
            Self::UpdateKeyDescription => "UpdateKeyDescription",
            Self::Verify => "Verify",
            Self::VerifyMac => "VerifyMac",
        }
    }

    /// What an IAM policy calls it.
    pub(super) fn iam_action(self) -> String {
        match self {
            Self::Connect => "sts:AssumeRole".to_owned(),
            Self::GetResources => "tag:GetResources".to_owned(),
            // CreateKey and ReplicateKey with tags need both.
            Self::CreateKey | Self::ReplicateKey => format!("kms:{} and kms:TagResource", self.name()),
            _ => format!("kms:{}", self.name()),
        }
    }

    /// Requests a second that AWS allows in an account and region: the default "Request quotas" of the AWS KMS Developer
    /// Guide. Cryptographic operations have a shared quota of 500 (RSA, ECC) or 10,000 (symmetric) and more.
    pub(super) fn per_second(self) -> u32 {
        match self {
            Self::CancelKeyDeletion
            | Self::CreateAlias
            | Self::CreateKey
            | Self::DisableKey
            | Self::EnableKey
            | Self::GetKeyLastUsage
            | Self::UntagResource
            | Self::UpdateAlias
            | Self::UpdateKeyDescription => 5,
            // One counts as two CreateKey in the replica's region.
            Self::ReplicateKey => 2,
            Self::TagResource => 10,
            // Of another service, whose quota is not in that guide: kept low.
            Self::GetResources | Self::ScheduleKeyDeletion => 15,
            Self::CreateGrant => 50,
            Self::ListGrants => 100,
            Self::Connect
            | Self::ListKeys
            | Self::Decapsulate
            | Self::Decrypt
            | Self::DeriveSharedSecret
            | Self::Encapsulate
            | Self::Encrypt
            | Self::GenerateMac
            | Self::Sign
            | Self::Verify
            | Self::VerifyMac => 500,
            Self::GetKeyPolicy | Self::GetPublicKey => 1_000,
            Self::DescribeKey | Self::ListResourceTags => 2_000,
        }
    }
}
