//! The keys of a campaign, and their documents.

/// What a key does, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the keystore: a rotation makes a new version of the same key.
    Local,
    /// In AWS KMS, as all that follow: a rotation makes a new key behind the same alias.
    Symmetric,
    Mac,
    Signing,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub kind: Kind,
    pub region: &'static str,
    /// The key that somebody had made before.
    pub adopted: Option<String>,
}

pub const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "ap-southeast-2"];

impl Member {
    pub fn new(name: &str, kind: Kind, region: &'static str) -> Self {
        Self { name: name.to_owned(), kind, region, adopted: None }
    }

    pub fn alias(&self) -> String {
        format!("alias/{}", self.name)
    }

    fn document(&self) -> String {
        let key = format!(
            "---\napiVersion: keywheel/v1\nkind: EncryptionKey\ntenant_id: acme\nkey_name: {}\nkey_type: phi_data\n",
            self.name
        );
        let kind = match self.kind {
            Kind::Local => return key + "rotation_policy: Local\n",
            Kind::Symmetric => "",
            Kind::Mac => "key_spec: HMAC_256\nkey_usage: GENERATE_VERIFY_MAC\n",
            Kind::Signing => "key_spec: ECC_NIST_P256\nkey_usage: SIGN_VERIFY\n",
        };
        let adopted = self.adopted.as_ref().map(|arn| format!("kms_key_id: {arn}\ndescription: of patients\n"));
        let adopted = adopted.unwrap_or_default();
        let (alias, region) = (self.alias(), self.region);
        format!(
            "{key}kms_provider: aws_kms\nkms_region: {region}\nkms_alias: {alias}\nrotation_policy: Nightly\n{kind}{adopted}"
        )
    }
}

/// Documents of these keys, due at two in the night every so many days.
pub fn documents(fleet: &[Member], days: u32) -> String {
    with_terms(fleet, days, "")
}

/// The same, with more fields of their policies.
pub fn with_terms(fleet: &[Member], days: u32, terms: &str) -> String {
    let policy = |name: &str, provider: &str| {
        format!(
            "apiVersion: keywheel/v1\nkind: RotationPolicy\ntenant_id: acme\npolicy_name: {name}\n\
             kms_provider: {provider}\nkey_type: phi_data\nrotation_interval_days: {days}\nrotation_time_of_day: \"02:00:00\"\n\
             {terms}"
        )
    };
    let policies = format!("{}---\n{}", policy("Nightly", "aws_kms"), policy("Local", "local"));
    fleet.iter().fold(policies, |documents, member| documents + &member.document())
}
