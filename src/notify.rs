//! The way out: one message to one receiver, over HTTPS.
//!
//! [`webhook`] and [`slack`] say what is sent; [`Sender`] sends it, and tells by a [`Failure`] whether to try again. An
//! address may hold a token: it is shown as its host alone, by every trait that could show it.
//!
//! Must not know: the outbox, the environment (but for a proxy's address, which is the machine's), when to try again.

pub mod slack;
pub mod webhook;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

/// The longest that a receiver may ask to be left alone.
const LONGEST_REST: Duration = Duration::from_hours(24);

/// Where a receiver is.
#[derive(Clone)]
pub struct Address(Uri);

/// What a receiver gets.
pub struct Outgoing {
    /// The headers, beside those of every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The content type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a receiver did not take a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened, without the address.
    pub message: String,
    /// Is it of use to try again?
    pub again: Again,
}

/// Whether a message that was not taken is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After a while.
    Later,
    /// After what the receiver asked for.
    After(Duration),
    /// The receiver will never take this message; it may take others.
    NotThis,
    /// The receiver takes nothing.
    Nothing,
}

impl Failure {
    /// Something that may pass.
    #[must_use]
    pub fn later(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: Again::Later }
    }

    /// Something that stays until a person changes it.
    #[must_use]
    pub fn nothing(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: Again::Nothing }
    }
}

impl Address {
    /// Reads an address: `https://`, or `http://` to this machine itself.
    ///
    /// # Errors
    /// It is neither, or holds a user's name. The text is not in the error.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let uri: Uri = text.trim().parse().map_err(|_| Failure::nothing("it holds no URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| Failure::nothing("its URL has no host"))?;
        let allowed = uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && is_loopback(host));
        if !allowed {
            return Err(Failure::nothing("its URL is not https://, which everything but this machine itself must be"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Failure::nothing("its URL holds a user name, which is not sent"));
        }
        Ok(Self(uri))
    }

    /// The host, which is all that may be shown.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.host())
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Sends messages, each over a connection of its own.
pub struct Sender {
    http: HttpConnector,
    tls: Arc<ClientConfig>,
    proxies: Matcher,
}

impl Sender {
    /// With the machine's certificates and proxies.
    ///
    /// # Errors
    /// The versions of TLS are not to be had.
    pub fn new() -> Result<Self, Failure> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let tls = || {
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| Failure::later(format!("TLS cannot be set up: {error}")))
        };
        // A machine without certificates trusts nobody, and can still reach itself.
        let trusting = match tls()?.with_native_roots() {
            Ok(trusting) => trusting,
            Err(_) => tls()?.with_root_certificates(RootCertStore::empty()),
        };
        Ok(Self { http, tls: Arc::new(trusting.with_no_client_auth()), proxies: Matcher::from_env() })
    }

    /// Sends to a receiver, and waits for its answer for at most so long. A redirection is not followed: it could lead
    /// what is sent anywhere.
    ///
    /// # Errors
    /// The receiver did not take it, or nobody knows whether it did.
    pub async fn send(&self, to: &Address, what: Outgoing, within: Duration) -> Result<(), Failure> {
        let request = request(to, what)?;
        let proxy = self.proxies.intercept(&to.0).filter(|_| to.0.scheme_str() == Some("https"));
        let answer = async {
            match proxy {
                None => exchange(HttpsConnector::from((self.http.clone(), self.tls.clone())), request).await,
                Some(proxy) => {
                    let tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
                    let tunnel = proxy.basic_auth().cloned().into_iter().fold(tunnel, Tunnel::with_auth);
                    exchange(HttpsConnector::from((tunnel, self.tls.clone())), request).await
                }
            }
        };
        match timeout(within, answer).await {
            Ok(answer) => judge(&answer?),
            Err(_) => Err(Failure::later(format!("no answer within {:.0} s", within.as_secs_f32()))),
        }
    }
}

fn request(to: &Address, what: Outgoing) -> Result<Request<Full<Bytes>>, Failure> {
    let Outgoing { headers, content_type, body } = what;
    let request = Request::post(&to.0)
        .header(USER_AGENT, concat!("keywheel/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, content_type);
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(Full::new(body.into())).map_err(|_| Failure::nothing("its URL cannot be asked for"))
}

async fn exchange<C>(connector: C, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    client.request(request).await.map_err(|error| {
        let what = if error.is_connect() { "it cannot be reached" } else { "the connection ended without an answer" };
        // The words of the cause name no more than a host.
        Failure::later(innermost(&error).map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}")))
    })
}

fn innermost<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause)
}

/// What an answer means. Its body says nothing that counts, and is not read.
fn judge(answer: &Response<Incoming>) -> Result<(), Failure> {
    let status = answer.status();
    let failure = |again| Err(Failure { message: format!("it answered {}", status.as_u16()), again });
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => failure(Again::Later),
        _ if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            failure(rest(header(RETRY_AFTER), header(DATE)).map_or(Again::Later, Again::After))
        }
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            failure(Again::NotThis)
        }
        _ if status.is_redirection() => {
            let message = format!("it answered {}, and redirections are not followed", status.as_u16());
            Err(Failure::nothing(message))
        }
        _ => failure(Again::Nothing),
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date, which counts from the answer's own `Date`.
fn rest(retry_after: Option<&str>, date: Option<&str>) -> Option<Duration> {
    let instant = |text: &str| DateTime::parse_from_rfc2822(text.trim()).ok();
    let rest = match retry_after?.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (instant(retry_after?)? - instant(date?)?).to_std().ok()?,
    };
    Some(rest.min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_this_machine_itself() {
        for text in [
            "https://example.org/a?b=c",
            "http://127.0.0.1:80/",
            "http://localhost/x",
            "http://[::1]:8080/x",
            " https://a ",
        ] {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "example.org",
            "http://example.org/",
            "http://127.0.0.1.example.org/",
            "ftp://localhost/",
            "https://",
            "https://user:pass@example.org/",
            "file:///etc/passwd",
            "http://localhost.example.org/",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_shows_its_host_alone() {
        let address = Address::parse("https://hooks.slack.com/services/T0/B0/secret?token=secret").unwrap();
        assert_eq!(format!("{address:?}"), "Address(hooks.slack.com)");
        for text in ["http://example.org/secret", "https://secret:secret@example.org/", "secret"] {
            assert!(!Address::parse(text).unwrap_err().message.contains("secret"));
        }
    }

    #[test]
    fn a_rest_is_in_seconds_or_until_a_date_and_bounded() {
        let date = Some("Wed, 21 Oct 2026 07:27:00 GMT");
        let rest_of = |text| rest(Some(text), date);
        assert_eq!(rest_of("120"), Some(Duration::from_mins(2)));
        assert_eq!(rest_of("99999999999"), Some(LONGEST_REST));
        assert_eq!(rest_of("Wed, 21 Oct 2026 07:28:00 GMT"), Some(Duration::from_mins(1)));
        for text in ["-1", "soon", "", "Wed, 21 Oct 2026 07:26:00 GMT"] {
            assert_eq!(rest_of(text), None, "{text}");
        }
        assert_eq!((rest(None, date), rest(date, None)), (None, None));
    }
}
