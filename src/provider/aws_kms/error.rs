//! What AWS's answers mean: from the SDK's errors to [`ProviderError`], with what to do, and whether to try again.
//!
//! AWS names an error by a code; the service model lacks some of them (`ThrottlingException`), so codes are matched as
//! text. Invariant: a message never holds credentials. AWS repeats the signed request in the message of a wrong
//! signature, session token and all, so that message is dropped.

use std::error::Error;

use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use super::operation::Operation;
use crate::provider::{ErrorKind, ProviderError};

/// An error of one attempt.
#[derive(Debug)]
pub(super) struct Failure {
    /// What it means.
    pub error: ProviderError,
    /// When another attempt helps.
    pub again: Again,
}

/// When another attempt helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The same answer will come.
    Never,
    /// As long as the call may take: the quota fills up again.
    Throttled,
    /// A few times: a server in trouble, a lost connection.
    Trouble,
    /// As long as the call may take, if what it names was made just now: KMS is eventually consistent.
    Settling,
}

impl Failure {
    /// An error that another attempt does not mend.
    pub(super) fn new(kind: ErrorKind, operation: Operation, message: impl Into<String>) -> Self {
        Self { error: ProviderError::new(kind, operation.name(), message), again: Again::Never }
    }

    /// With what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.error = self.error.help(help);
        self
    }

    fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    /// Because nobody answered.
    pub(super) fn out_of_reach(mut self) -> Self {
        self.error = self.error.out_of_reach();
        self
    }

    /// No answer within the time.
    pub(super) fn no_answer(operation: Operation) -> Self {
        Self::new(ErrorKind::Unknown, operation, "no answer within the time of a call")
            .help(
                "check the network and the endpoint; `operation_timeout` under providers.aws_kms is the time of a call",
            )
            .again(Again::Trouble)
            .out_of_reach()
    }

    /// It was not sent: nobody answers there.
    pub(super) fn behind_silence(operation: Operation) -> Self {
        let message = "not sent: while it waited for its turn, no answer came to the requests before it";
        Self::new(ErrorKind::Unreachable, operation, message).help("check the network and the endpoint").out_of_reach()
    }

    /// It was not sent: an interrupt came first.
    pub(super) fn interrupted(operation: Operation) -> Self {
        Self::new(ErrorKind::Unreachable, operation, "not sent: it was stopped, as asked")
    }

    /// An answer without something that AWS always sends.
    pub(super) fn incomplete(operation: Operation, lacking: &str) -> Self {
        Self::new(ErrorKind::Malformed, operation, format!("the answer lacks {lacking}")).help(NOT_AWS)
    }

    /// A proof that failed.
    pub(super) fn unproven(operation: Operation, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ProofFailed, operation, message)
    }

    /// Something that a change just made did not reach yet.
    pub(super) fn settling(operation: Operation, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, operation, message).again(Again::Settling)
    }

    pub(super) fn kind(&self) -> ErrorKind {
        self.error.kind
    }
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// What to do where something else than AWS answers.
pub(super) const NOT_AWS: &str = "something else answers at this endpoint: check endpoint_url (providers.aws_kms, AWS_ENDPOINT_URL, \
                       AWS_ENDPOINT_URL_KMS) and proxies";

/// What an error of the SDK means.
pub(super) fn classify<E>(operation: Operation, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            answered(operation, context.err().code(), context.err().message(), context.raw().status().as_u16())
        }
        SdkError::ResponseError(context) if context.raw().status().is_server_error() => {
            trouble(operation, context.raw().status().as_u16())
        }
        SdkError::ResponseError(_) => {
            Failure::new(ErrorKind::Malformed, operation, "the answer cannot be read").help(NOT_AWS)
        }
        SdkError::TimeoutError(_) => Failure::no_answer(operation),
        SdkError::DispatchFailure(context) => undelivered(operation, error, context.is_user() || context.is_other()),
        _ => Failure::new(ErrorKind::Refused, operation, chain(error)),
    }
}

/// What an error of the credentials means; `profile` is the one that the settings name.
pub(super) fn credentials(operation: Operation, profile: Option<&str>, error: &dyn Error) -> Failure {
    let text = match profile {
        Some(profile) => format!("profile {profile}: {}", chain(error)),
        None => chain(error),
    };
    if let Some(failure) = connection(operation, &text) {
        return failure;
    }
    let help = if text.contains("AccessDenied") {
        "allow the caller sts:AssumeRole on role_arn, and the role to trust the caller"
    } else if text.contains("ExpiredToken") || text.contains("expired") {
        EXPIRED
    } else {
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or `profile` or `role_arn` under providers.aws_kms"
    };
    Failure::new(ErrorKind::Denied, operation, format!("no usable AWS credentials: {text}")).help(help)
}

const EXPIRED: &str =
    "the credentials have expired: get new ones (aws sso login, or a new session token), and try again";

/// The service answered with an error.
fn answered(operation: Operation, code: Option<&str>, message: Option<&str>, status: u16) -> Failure {
    if status == 501 {
        return Failure::new(ErrorKind::Refused, operation, "this endpoint does not have the operation");
    }
    let Some(code) = code else {
        return if status >= 500 {
            trouble(operation, status)
        } else {
            Failure::new(ErrorKind::Malformed, operation, format!("HTTP status {status} without an AWS error code"))
                .help(NOT_AWS)
        };
    };
    let (kind, again, help) = meaning(operation, code, status);
    let text = match message {
        Some(message) if !repeats_the_request(code, message) => format!("{}: {}", one_line(code), one_line(message)),
        _ => one_line(code),
    };
    let failure = Failure::new(kind, operation, text).again(again);
    match help {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// Codes whose message repeats the signed request.
const SIGNATURE: &[&str] = &["InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature"];

/// Is the signed request in the message? AWS repeats it with some codes, and what stands between AWS and us with any.
fn repeats_the_request(code: &str, message: &str) -> bool {
    const MARKS: [&str; 3] = ["x-amz-security-token", "authorization:", "aws4-hmac-sha256"];
    let message = message.to_ascii_lowercase();
    SIGNATURE.contains(&code) || MARKS.iter().any(|mark| message.contains(mark))
}

/// The table of codes. Which of them are worth another attempt is said in each operation's page of the AWS KMS API
/// Reference; `ThrottlingException` is in "Throttling AWS KMS requests" of the Developer Guide.
fn meaning(operation: Operation, code: &str, status: u16) -> (ErrorKind, Again, Option<String>) {
    let settled = |kind, help: &str| (kind, Again::Never, Some(help.to_owned()));
    match code {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException" => (
            ErrorKind::Throttled,
            Again::Throttled,
            Some(format!(
                "another client uses up the account's quota of {} requests: try later, or lower max_concurrent",
                operation.name()
            )),
        ),
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => (
            ErrorKind::Denied,
            Again::Never,
            Some(format!("allow {} in the caller's IAM policy and in the key policy", operation.iam_action())),
        ),
        "ExpiredTokenException" | "ExpiredToken" => settled(ErrorKind::Denied, EXPIRED),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired" => settled(
            ErrorKind::Denied,
            "AWS does not know these credentials: check the account, the profile and the region",
        ),
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "RequestInTheFuture" => settled(ErrorKind::Denied, "check the secret access key, and this machine's clock"),
        "NotFoundException" => (ErrorKind::NotFound, Again::Settling, None),
        "KMSInvalidStateException" => (
            ErrorKind::Refused,
            Again::Settling,
            Some(
                "look at the key's state at AWS: a deletion that is scheduled can be cancelled, and the key is disabled then"
                    .to_owned(),
            ),
        ),
        "AlreadyExistsException" | "ConflictException" => (ErrorKind::Conflict, Again::Never, None),
        "DisabledException" => settled(ErrorKind::Refused, "the key is disabled: enable it at AWS first"),
        "LimitExceededException" => {
            settled(ErrorKind::Refused, "a resource quota of AWS KMS is used up: see Service Quotas")
        }
        "MalformedPolicyDocumentException" => settled(
            ErrorKind::Refused,
            "the key policy must let the caller go on managing the key (kms:PutKeyPolicy), and name principals that exist",
        ),
        // Not an error of this request: of the service, or of what it depends on.
        "KMSInternalException"
        | "DependencyTimeoutException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalServiceException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => (ErrorKind::Unknown, Again::Trouble, None),
        _ if status >= 500 => (ErrorKind::Unknown, Again::Trouble, None),
        _ => (ErrorKind::Refused, Again::Never, None),
    }
}

fn trouble(operation: Operation, status: u16) -> Failure {
    Failure::new(ErrorKind::Unknown, operation, format!("HTTP status {status}")).again(Again::Trouble).out_of_reach()
}

/// The request got no answer. Only what is known never to have been sent is [`ErrorKind::Unreachable`].
fn undelivered<E>(operation: Operation, error: &SdkError<E, HttpResponse>, before_sending: bool) -> Failure
where
    E: Error + 'static,
{
    let text = chain(error);
    if let Some(failure) = connection(operation, &text) {
        return failure;
    }
    if before_sending && text.contains("credential") {
        return credentials(operation, None, error);
    }
    let failure = Failure::new(ErrorKind::Unknown, operation, format!("the connection broke: {text}"));
    failure.again(Again::Trouble).out_of_reach()
}

/// A connection that was never made. The HTTP client says so in its own words alone; if they ever change, the error
/// counts as one whose effect is unknown, which is the safe side.
fn connection(operation: Operation, text: &str) -> Option<Failure> {
    if !text.contains("client error (Connect)") {
        return None;
    }
    let help = if text.contains("certificate") || text.contains("handshake") || text.contains("TLS") {
        "the TLS connection was refused: check endpoint_url (http or https) and the certificates that this machine trusts"
    } else {
        "nothing answers there: check the network, proxies, the region and endpoint_url (providers.aws_kms, AWS_ENDPOINT_URL)"
    };
    let failure = Failure::new(ErrorKind::Unreachable, operation, format!("no connection: {text}"));
    Some(failure.help(help).again(Again::Trouble).out_of_reach())
}

/// An error and its sources in one line, each text once.
fn chain(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    one_line(&parts.join(": "))
}

/// Longest message that is passed on: AWS's own are shorter, a proxy's page is not.
const LONGEST: usize = 400;

fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, status: u16) -> (ErrorKind, Again) {
        let failure = answered(Operation::DescribeKey, Some(code), None, status);
        (failure.kind(), failure.again)
    }

    #[test]
    fn a_code_decides_what_an_answer_means() {
        assert_eq!(kind("ThrottlingException", 400), (ErrorKind::Throttled, Again::Throttled));
        assert_eq!(kind("NotFoundException", 400), (ErrorKind::NotFound, Again::Settling));
        assert_eq!(kind("KMSInvalidStateException", 400), (ErrorKind::Refused, Again::Settling));
        assert_eq!(kind("KMSInternalException", 500), (ErrorKind::Unknown, Again::Trouble));
        assert_eq!(kind("ExpiredTokenException", 400), (ErrorKind::Denied, Again::Never));
        assert_eq!(kind("TagException", 400), (ErrorKind::Refused, Again::Never));
        assert_eq!(kind("SomethingNew", 400), (ErrorKind::Refused, Again::Never));
        assert_eq!(kind("SomethingNew", 503), (ErrorKind::Unknown, Again::Trouble));
    }

    #[test]
    fn denied_access_names_the_action_to_allow() {
        let failure = answered(Operation::CreateKey, Some("AccessDeniedException"), Some("no"), 400);
        assert_eq!(failure.error.message, "AccessDeniedException: no");
        assert!(failure.error.help.unwrap().contains("kms:CreateKey"));
        let failure = answered(Operation::GetResources, Some("AccessDeniedException"), None, 400);
        assert!(failure.error.help.unwrap().contains("tag:GetResources"));
    }

    #[test]
    fn the_message_of_a_wrong_signature_is_dropped() {
        let message = "The Canonical String should have been 'POST x-amz-security-token:canary'";
        let failure = answered(Operation::DescribeKey, Some("InvalidSignatureException"), Some(message), 403);
        assert_eq!(failure.error.message, "InvalidSignatureException");
        assert!(!format!("{failure:?}").contains("canary"));
    }

    #[test]
    fn trouble_with_one_key_is_told_from_trouble_with_aws() {
        let coded = |code| answered(Operation::DescribeKey, Some(code), None, 500).error.concerns_every_key();
        assert!(!coded("KeyUnavailableException"));
        assert!(!coded("KMSInternalException"));
        assert!(coded("ThrottlingException"));
        assert!(Failure::no_answer(Operation::DescribeKey).error.concerns_every_key());
        assert!(answered(Operation::DescribeKey, None, None, 502).error.concerns_every_key());
    }

    #[test]
    fn an_error_without_a_code_is_not_aws_speaking() {
        assert_eq!(answered(Operation::DescribeKey, None, None, 403).kind(), ErrorKind::Malformed);
        assert_eq!(answered(Operation::DescribeKey, None, None, 502).kind(), ErrorKind::Unknown);
    }

    #[test]
    fn a_message_that_repeats_the_signed_request_is_dropped_whatever_its_code() {
        let message = "not with POST / HTTP/1.1 X-Amz-Security-Token: s3cret-token";
        let failure = answered(Operation::DescribeKey, Some("AccessDeniedException"), Some(message), 400);
        assert_eq!(failure.error.message, "AccessDeniedException");
    }

    #[test]
    fn nothing_of_an_answer_moves_the_cursor() {
        let failure = answered(Operation::DescribeKey, Some("\u{1b}[2J"), Some("a\u{1b}[31m\nb"), 400);
        assert_eq!(failure.error.message, "[2J: a [31m b");
    }

    #[test]
    fn a_long_message_becomes_one_short_line() {
        let line = one_line(&"a\nb ".repeat(1000));
        assert!(line.starts_with("a b a b") && line.ends_with("..."));
        assert_eq!(line.chars().count(), LONGEST + 3);
    }
}
