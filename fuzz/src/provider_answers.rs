//! Answers of AWS KMS, through the SDK's own client, with nothing but memory behind it.
//!
//! The first line is what is asked of the provider. A part `=== OPERATION STATUS` answers requests for that operation,
//! one after the other, the last of them again and again; `*` stands for every operation without one of its own. Up to
//! an empty line a part holds headers, then the body. `=== OPERATION cut` is a connection that breaks.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::{Credentials, IdentityCache, SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use keywheel::model::{Address, EncryptionKey, Name};
use keywheel::provider::aws_kms::AwsKms;
use keywheel::provider::{CreateVersion, KeyHandle, KeyManager as _, MAX_PLAINTEXT, Observe as _, ProviderError};
use serde_json::{Value, json};
use uuid::Uuid;

const OLD: &str = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111";
const NEW: &str = "arn:aws:kms:us-east-1:123456789012:key/22222222-2222-2222-2222-222222222222";

/// The longest time of a call: less than the first pause before another attempt, so that nothing here waits.
const PATIENCE: Duration = Duration::from_millis(50);

/// What an error may say of an answer that anybody wrote.
const LONGEST_MESSAGE: usize = 16 << 10;

/// Whatever answers, keywheel comes to an answer of its own, and never takes what may have happened for what did not.
pub fn run(input: &[u8]) -> bool {
    let (question, answers) = input.split_at(input.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let Ok(question) = std::str::from_utf8(question) else { return false };
    let aws = Arc::new(Script::new(answers));
    let manager = AwsKms::through(connection(&aws), PATIENCE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let result = runtime.block_on(ask(&manager, question.trim_end(), &aws));
    if let Err(Some(error)) = &result {
        let length = error.message.len() + error.help.as_ref().map_or(0, String::len);
        assert!(length <= LONGEST_MESSAGE, "{} bytes of an answer in an error", error.message.len());
    }
    result.is_ok()
}

/// Asks, and checks what must hold of the answer. An error without a content: nothing was asked.
async fn ask(manager: &AwsKms, question: &str, aws: &Script) -> Result<(), Option<ProviderError>> {
    let key = handle(Some(OLD));
    let request = CreateVersion {
        key: key.clone(),
        rotation_id: Uuid::from_u128(1),
        lineage: Uuid::from_u128(2),
        predecessor: question.ends_with(" successor").then(|| OLD.to_owned()),
        intent: Value::Null,
    };
    let result = match question.split(' ').next().unwrap_or_default() {
        "observe" => {
            let keys = [key, handle(None)];
            assert_eq!(manager.observe(&keys).await.len(), keys.len());
            Ok(())
        }
        "owned" => manager.owned().await.map(drop),
        "primary" => manager.primary(&key).await.map(drop),
        "find_created" => manager.find_created(&request).await.map(drop),
        "create_version" => {
            let made = manager.create_version(&request).await;
            assert!(aws.asked("CreateKey") <= 1, "CreateKey was sent again");
            if let Err(error) = &made {
                assert!(!aws.has_said_yes_to("CreateKey") || error.is_unknown(), "there is a key now: {error:?}");
            }
            made.map(drop)
        }
        "verify" => manager.verify(&request, NEW).await,
        "promote" => manager.promote(&key, Some(OLD), NEW).await,
        "prove_primary" => manager.prove_primary(&key, Some(OLD), NEW).await,
        "disable" => manager.disable(&key, OLD).await,
        "update_settings" => manager.update_settings(&key, None, OLD).await,
        "encrypt" => manager.encrypt(&key, &[b'x'; MAX_PLAINTEXT]).await.map(drop),
        "decrypt" => manager.decrypt(&key, b"ciphertext").await.map(drop),
        "enable" => manager.enable(&key, OLD).await,
        "schedule_destruction" => manager.schedule_destruction(&key, OLD).await.map(drop),
        "cancel_destruction" => manager.cancel_destruction(&key, OLD).await,
        "destroy" => manager.destroy(&key, OLD).await,
        _ => return Err(None),
    };
    result.map_err(Some)
}

fn handle(version: Option<&str>) -> KeyHandle {
    let document = json!({
        "tenant_id": "acme", "key_name": "patients", "key_type": "phi_data", "kms_provider": "aws_kms",
        "kms_alias": "alias/patients", "description": "of the patients", "tags": {"team": "blue"},
    });
    let key: EncryptionKey = serde_json::from_value(document).expect("a key");
    let address = Address::new(Name::new("acme").expect("a name"), key.key_name.clone());
    let version = version.map(str::to_owned);
    KeyHandle {
        key_id: Some(Uuid::from_u128(3)),
        address,
        key,
        versions: version.clone().into_iter().collect(),
        primary: version,
    }
}

fn connection(aws: &Arc<Script>) -> SdkConfig {
    let credentials = Credentials::new("AKIAKEYWHEELTESTS000", "nobody's", None, None, "fuzz");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .http_client(Canned(Arc::clone(aws)))
        .build()
}

/// The answers, and what was asked.
struct Script {
    answers: HashMap<String, Vec<Answer>>,
    /// For each operation the answers' statuses so far.
    given: Mutex<HashMap<String, Vec<Option<u16>>>>,
}

#[derive(Clone)]
struct Answer {
    /// None: the connection breaks.
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Script {
    fn new(input: &[u8]) -> Self {
        let mut answers: HashMap<String, Vec<Answer>> = HashMap::new();
        for (title, content) in super::parts(input) {
            let Some((operation, status)) = title.split_once(' ') else { continue };
            let status = if status == "cut" { None } else { Some(status.parse().unwrap_or(200)) };
            let (headers, body) = match content.windows(2).position(|pair| pair == b"\n\n") {
                _ if content.starts_with(b"\n") => (&content[..0], &content[1..]),
                Some(at) => (&content[..at], &content[at + 2..]),
                None => (content, &content[..0]),
            };
            let headers = String::from_utf8_lossy(headers);
            let headers = headers.lines().filter_map(|line| line.split_once(": "));
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            answers.entry(operation.to_owned()).or_default().push(Answer { status, headers, body: body.to_vec() });
        }
        Self { answers, given: Mutex::default() }
    }

    fn answer(&self, operation: &str) -> Answer {
        let none = Answer { status: Some(200), headers: Vec::new(), body: b"{}".to_vec() };
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let given = given.entry(operation.to_owned()).or_default();
        let answers = self.answers.get(operation).or_else(|| self.answers.get("*"));
        let answer = answers.and_then(|answers| answers.get(given.len()).or_else(|| answers.last()));
        let answer = answer.cloned().unwrap_or(none);
        given.push(answer.status);
        answer
    }

    fn given(&self, operation: &str) -> Vec<Option<u16>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(operation).cloned().unwrap_or_default()
    }

    fn asked(&self, operation: &str) -> usize {
        self.given(operation).len()
    }

    fn has_said_yes_to(&self, operation: &str) -> bool {
        self.given(operation).iter().flatten().any(|status| (200..300).contains(status))
    }
}

/// The network.
#[derive(Clone)]
struct Canned(Arc<Script>);

impl fmt::Debug for Canned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canned")
    }
}

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // `TrentService.DescribeKey`
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let answer = self.0.answer(target.rsplit('.').next().unwrap_or_default());
        let status = answer.status.and_then(|status| status.try_into().ok());
        HttpConnectorFuture::ready(match status {
            None => Err(ConnectorError::io("the connection broke".into())),
            Some(status) => {
                let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
                for (name, value) in answer.headers {
                    // What is no header never comes out of an HTTP client.
                    let _ = response.headers_mut().try_append(name, value);
                }
                Ok(response)
            }
        })
    }
}
