//! AWS KMS as another program sees it: requests as its API reference writes them, sent without keywheel and without the SDK.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A client of an emulator.
#[derive(Clone)]
pub struct Kms {
    address: String,
    access_key: String,
    region: &'static str,
}

impl Kms {
    /// A client of the emulator at `http://HOST:PORT`.
    pub fn new(endpoint: &str) -> Self {
        Self::of_account(endpoint, "AKIAKEYWHEELTESTS000")
    }

    /// The same in the account that an access key belongs to.
    pub fn of_account(endpoint: &str, access_key: &str) -> Self {
        Self {
            address: endpoint.trim_start_matches("http://").to_owned(),
            access_key: access_key.to_owned(),
            region: "us-east-1",
        }
    }

    /// The same account in another region.
    pub fn in_region(&self, region: &'static str) -> Self {
        Self { region, ..self.clone() }
    }

    /// Sends a request, which must succeed.
    pub fn call(&self, operation: &str, body: &Value) -> Value {
        let (status, answer) = self.send(operation, body);
        assert_eq!(status, 200, "{operation} {body}: {answer}");
        answer
    }

    /// Sends a request: the answer's status and content.
    pub fn send(&self, operation: &str, body: &Value) -> (u16, Value) {
        let Self { address, access_key, region } = self;
        let body = body.to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        // Emulators check no signature; they read the region and the service out of the credential.
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: TrentService.{operation}\r\nX-Amz-Date: 20260301T120000Z\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={access_key}/20260301/{region}/kms/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let Some((head, content)) = answer.split_once("\r\n\r\n") else { return (0, Value::Null) };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(content).unwrap_or_default())
    }

    /// Makes a key with an alias; gives its ARN.
    pub fn create(&self, alias: &str, request: &Value) -> String {
        let key = self.call("CreateKey", request)["KeyMetadata"].clone();
        self.call("CreateAlias", &json!({"AliasName": alias, "TargetKeyId": key["KeyId"]}));
        key["Arn"].as_str().unwrap().to_owned()
    }

    /// The ciphertext, and the ARN of the key that made it.
    pub fn encrypt(&self, key: &str, plaintext: &str) -> (String, String) {
        let answer = self.call("Encrypt", &json!({"KeyId": key, "Plaintext": STANDARD.encode(plaintext)}));
        let text = |field: &str| answer[field].as_str().unwrap().to_owned();
        (text("CiphertextBlob"), text("KeyId"))
    }

    /// The plaintext: AWS KMS finds the key by itself.
    pub fn decrypt(&self, ciphertext: &str) -> String {
        let answer = self.call("Decrypt", &json!({"CiphertextBlob": ciphertext}));
        String::from_utf8(STANDARD.decode(answer["Plaintext"].as_str().unwrap()).unwrap()).unwrap()
    }

    /// What AWS KMS says of a key, by id, ARN or alias.
    pub fn describe(&self, key: &str) -> Value {
        self.call("DescribeKey", &json!({"KeyId": key}))["KeyMetadata"].clone()
    }

    /// The ARNs of all keys, in order.
    pub fn keys(&self) -> Vec<String> {
        let mut arns = Vec::new();
        let mut request = json!({"Limit": 1000});
        loop {
            let page = self.call("ListKeys", &request);
            let keys = page["Keys"].as_array().unwrap();
            arns.extend(keys.iter().map(|key| key["KeyArn"].as_str().unwrap().to_owned()));
            if page["Truncated"] != true {
                arns.sort();
                return arns;
            }
            request["Marker"] = page["NextMarker"].clone();
        }
    }

    /// The tags of a key.
    pub fn tags(&self, key: &str) -> Vec<(String, String)> {
        let id = key.rsplit('/').next().unwrap();
        let answer = self.call("ListResourceTags", &json!({"KeyId": id}));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let tags = answer["Tags"].as_array().unwrap();
        let mut tags: Vec<_> = tags.iter().map(|tag| (text(&tag["TagKey"]), text(&tag["TagValue"]))).collect();
        tags.sort();
        tags
    }
}
