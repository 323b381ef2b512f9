//! The connection to AWS: whose credentials, which region and endpoint, and how a call is sent.
//!
//! An [`Account`] holds credentials and settings, and makes one [`Regional`] client for each region that is asked for.
//! Every request goes through [`Regional::call`].
//!
//! Invariants: each attempt, a repeated one too, keeps to the quota of its operation, and no more than `max_concurrent`
//! are under way in a region. The SDK's own retries are off, so that there is one place that repeats a call, it knows
//! which calls must never be repeated ([`Repeat::Never`]), and the last answer, not a timeout, decides the kind of error.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use governor::{DefaultDirectRateLimiter, Jitter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{self, Again, Failure};
use super::operation::Operation;
use crate::document::{AwsKmsAccount, AwsKmsConfig, parse_duration};
use crate::model::Name;
use crate::provider::{ErrorKind, ProviderError};

/// May a call be repeated?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice is not once: one attempt, whatever becomes of it.
    Never,
    /// Twice is once.
    Safe,
    /// As `Safe`; and what it names was made or changed just now, so that KMS may not know it everywhere yet.
    Settling,
}

/// Attempts at a server in trouble or out of reach.
const ATTEMPTS: u32 = 3;
/// Pauses between attempts: the first at most, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How soon a wait ends when an interrupt comes.
const LOOK_AROUND: Duration = Duration::from_millis(250);
/// A call without an answer that took so long is what others must not wait for as well.
const LONG: Duration = Duration::from_secs(1);

/// The account of one tenant, or of every tenant without one of its own.
pub(super) struct Account {
    sdk: SdkConfig,
    /// An endpoint of AWS KMS alone, in the home region: a VPC endpoint.
    kms_endpoint: Option<String>,
    /// Does something other than AWS stand for it?
    pub emulated: bool,
    region: String,
    /// How long one call may take, with its retries.
    pub patience: Duration,
    pub max_concurrent: usize,
    keeps_quotas: bool,
    /// Set once nothing more is to be sent.
    pub interrupt: Arc<AtomicBool>,
    regions: Mutex<BTreeMap<String, Arc<Regional>>>,
}

/// The client of one region.
#[derive(Clone)]
pub(super) struct Regional {
    pub region: String,
    pub kms: aws_sdk_kms::Client,
    pub patience: Duration,
    keeps_quotas: bool,
    interrupt: Arc<AtomicBool>,
    limits: Arc<Mutex<HashMap<Operation, Arc<DefaultDirectRateLimiter>>>>,
    permits: Arc<Semaphore>,
    answers: Arc<Mutex<Answers>>,
}

/// When a region was heard of.
#[derive(Debug, Default)]
struct Answers {
    /// When its last answer came.
    last: Option<Instant>,
    /// When a call ended without one, if none has come since to anybody.
    none_until: Option<Instant>,
}

impl Account {
    /// Finds the region and the credentials, and checks that there are some. Sends nothing to AWS KMS.
    pub(super) async fn connect(
        config: &AwsKmsConfig,
        tenant: Option<&Name>,
        region: Option<&str>,
    ) -> Result<Self, ProviderError> {
        let settings = settings(config, tenant);
        let patience = duration("operation_timeout", &config.operation_timeout)?;
        let connect_timeout = duration("connect_timeout", &config.connect_timeout)?;
        let region = match region.or(settings.region.as_deref()) {
            Some(region) => region.to_owned(),
            None => environment_region(settings.profile.as_deref()).await.ok_or_else(no_region)?,
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(connect_timeout).build())
            .credentials_provider(own_credentials(settings.profile.as_deref(), &region).await);
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        // An emulator serves every service at one endpoint; an endpoint at AWS itself is that of AWS KMS alone.
        let (kms_endpoint, other_endpoint) = match settings.endpoint_url {
            Some(endpoint) if is_aws(&endpoint) => (Some(endpoint), None),
            other => (None, other),
        };
        if let Some(endpoint) = &other_endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let mut sdk = loader.load().await;
        if let Some(role) = &settings.role_arn {
            // STS answers at once or not at all, and asking it twice does no harm.
            let base = sdk.to_builder().retry_config(RetryConfig::standard()).build();
            let provider = AssumeRoleProvider::builder(role).session_name("keywheel").configure(&base).build().await;
            sdk = sdk.to_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build();
        }
        if let Some(provider) = sdk.credentials_provider() {
            let answer = timeout(patience, provider.provide_credentials()).await;
            let answer = answer.map_err(|_| {
                let message = "no answer to the request for credentials";
                Failure::new(ErrorKind::Unreachable, Operation::Connect, message).out_of_reach()
            })?;
            let profile = settings.profile.as_deref();
            answer.map_err(|error| error::credentials(Operation::Connect, profile, &error))?;
        }
        let environment = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"].map(|name| std::env::var(name).ok());
        let mut endpoints = environment.into_iter().flatten().chain(sdk.endpoint_url().map(str::to_owned));
        let own_tagging = std::env::var_os("AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API").is_some();
        Ok(Self {
            emulated: endpoints.any(|endpoint| !is_aws(&endpoint)) && !own_tagging,
            sdk,
            kms_endpoint,
            region,
            patience,
            max_concurrent: usize::try_from(config.max_concurrent).unwrap_or(1).max(1),
            keeps_quotas: true,
            interrupt: Arc::default(),
            regions: Mutex::default(),
        })
    }

    /// See [`super::AwsKms::through`].
    pub(super) fn through(sdk: SdkConfig, patience: Duration) -> Self {
        let region = sdk.region().map(|region| region.as_ref().to_owned()).unwrap_or_default();
        Self {
            sdk,
            kms_endpoint: None,
            emulated: false,
            region,
            patience,
            max_concurrent: 1,
            keeps_quotas: false,
            interrupt: Arc::default(),
            regions: Mutex::default(),
        }
    }

    /// The client of the place's own region.
    pub(super) fn home(&self) -> Arc<Regional> {
        self.region(&self.region)
    }

    /// The client of a region.
    pub(super) fn region(&self, region: &str) -> Arc<Regional> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let made = regions.entry(region.to_owned()).or_insert_with(|| {
            let sdk = self.sdk.to_builder().region(Region::new(region.to_owned())).build();
            let mut kms = aws_sdk_kms::config::Builder::from(&sdk);
            if let Some(endpoint) = self.kms_endpoint.as_ref().filter(|_| region == self.region) {
                kms.set_endpoint_url(Some(endpoint.clone()));
            }
            Arc::new(Regional {
                region: region.to_owned(),
                kms: aws_sdk_kms::Client::from_conf(kms.build()),
                patience: self.patience,
                keeps_quotas: self.keeps_quotas,
                interrupt: self.interrupt.clone(),
                limits: Arc::default(),
                permits: Arc::new(Semaphore::new(self.max_concurrent)),
                answers: Arc::default(),
            })
        });
        made.clone()
    }

    /// The client of the tagging API, in the home region. It is seldom needed, and so made when it is.
    pub(super) fn tagging(&self) -> aws_sdk_resourcegroupstagging::Client {
        aws_sdk_resourcegroupstagging::Client::new(&self.sdk)
    }
}

impl Regional {
    /// The same, whose waits no interrupt ends: for what must not be left half done.
    pub(super) fn determined(&self) -> Self {
        Self { interrupt: Arc::default(), ..self.clone() }
    }

    /// Sends a request, again where that helps and does no harm, for as long as one call may take.
    pub(super) async fn call<T, E, F>(
        &self,
        operation: Operation,
        repeat: Repeat,
        send: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (mut deadline, mut attempt, mut last) = (None, 0, None);
        loop {
            let turn = match self.turn(operation, deadline).await {
                Ok(turn) => turn,
                // What an attempt before was told says more.
                Err(unsent) => return Err(self.ended(last.unwrap_or(unsent), deadline)),
            };
            // The time of a call begins when its first attempt is sent, not while it waits for its turn.
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.patience);
            let failure = match self.attempt(operation, repeat, deadline, &send).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => outcome(repeat, failure),
            };
            drop(turn);
            attempt += 1;
            if !worth_another(repeat, failure.again, attempt) || !self.pause(attempt, deadline).await {
                return Err(self.ended(failure, Some(deadline)));
            }
            tracing::debug!(operation = operation.name(), attempt, "{}; trying again", failure.error);
            last = Some(failure);
        }
    }

    /// A call has come to nothing. Where others got answers meanwhile nobody is out of reach.
    fn ended(&self, mut failure: Failure, deadline: Option<Instant>) -> Failure {
        let Some(begin) = deadline.and_then(|deadline| deadline.checked_sub(self.patience)) else { return failure };
        let mut answers = self.answers();
        if answers.last.is_some_and(|last| last >= begin) {
            failure.error.out_of_reach = false;
        } else if failure.error.out_of_reach && begin.elapsed() >= LONG {
            answers.none_until = Some(Instant::now());
        }
        failure
    }

    /// Lets some time pass before another attempt. False where there is none left before the deadline, or an interrupt
    /// comes.
    pub(super) async fn pause(&self, attempt: u32, deadline: Instant) -> bool {
        let pause = pause(attempt);
        let in_time = Instant::now() + pause < deadline;
        in_time && self.unless_interrupted(sleep(pause)).await.is_some()
    }

    /// Waits for something as long as no interrupt comes; what needs no wait is not held up by one.
    async fn unless_interrupted<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let interrupted = async {
            while !self.interrupt.load(Ordering::Relaxed) {
                sleep(LOOK_AROUND).await;
            }
        };
        tokio::select! {
            biased;
            done = wait => Some(done),
            () = interrupted => None,
        }
    }

    /// Waits for the turn of an attempt, until the deadline of its call. Whoever waits behind a call that gets no answer
    /// does not wait for the same once more.
    async fn turn(
        &self,
        operation: Operation,
        deadline: Option<Instant>,
    ) -> Result<Option<SemaphorePermit<'_>>, Failure> {
        let came = Instant::now();
        let turn = async {
            let permit = self.permits.acquire().await.ok();
            if self.keeps_quotas {
                self.limit(operation).until_ready().await;
            }
            permit
        };
        let in_time = async {
            match deadline {
                Some(deadline) => timeout_at(deadline, turn).await.ok(),
                None => Some(turn.await),
            }
        };
        let turn = self.unless_interrupted(in_time).await.ok_or_else(|| Failure::interrupted(operation))?;
        match turn {
            Some(permit) if self.answers().none_until.is_none_or(|until| until <= came) => Ok(permit),
            _ => Err(Failure::behind_silence(operation)),
        }
    }

    async fn attempt<T, E, F>(
        &self,
        operation: Operation,
        repeat: Repeat,
        deadline: Instant,
        send: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let left = deadline.duration_since(Instant::now());
        // A lost answer must leave time to ask again.
        let time = if repeat == Repeat::Never { left } else { left.min(self.patience / ATTEMPTS) };
        let answer = match timeout(time, send()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error::classify(operation, &error)),
            Err(_) => Err(Failure::no_answer(operation)),
        };
        if !answer.as_ref().is_err_and(|failure| failure.error.out_of_reach) {
            *self.answers() = Answers { last: Some(Instant::now()), none_until: None };
        }
        answer
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self, operation: Operation) -> Arc<DefaultDirectRateLimiter> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let limit =
            limits.entry(operation).or_insert_with(|| Arc::new(RateLimiter::direct(pace(operation.per_second()))));
        limit.clone()
    }
}

/// How fast requests may be sent. What is let through at once and what is let through within the second after it stay
/// below the quota together: a `CreateKey` that AWS throttles is not sent again.
fn pace(quota: u32) -> Quota {
    let at_once = (quota / 10).max(1);
    let each_second = quota.saturating_sub(at_once).max(1);
    let count = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(count(each_second)).allow_burst(count(at_once))
}

fn worth_another(repeat: Repeat, again: Again, attempts: u32) -> bool {
    match (repeat, again) {
        (Repeat::Never, _) | (_, Again::Never) | (Repeat::Safe, Again::Settling) => false,
        (_, Again::Throttled) | (Repeat::Settling, Again::Settling) => true,
        (_, Again::Trouble) => attempts < ATTEMPTS,
    }
}

/// After an answer that is not AWS's, nobody knows what became of a request that must not be repeated.
fn outcome(repeat: Repeat, mut failure: Failure) -> Failure {
    if repeat == Repeat::Never && failure.kind() == ErrorKind::Malformed {
        failure.error.kind = ErrorKind::Unknown;
    }
    failure
}

/// How long to wait before the next attempt: longer each time, and never the same for two clients.
fn pause(attempt: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(8)).min(LONGEST_PAUSE);
    Jitter::up_to(longest / 2) + longest / 2
}

/// The tenant's settings, and the common ones where it has none.
fn settings(config: &AwsKmsConfig, tenant: Option<&Name>) -> AwsKmsAccount {
    let own = tenant.and_then(|tenant| config.tenants.get(tenant)).cloned().unwrap_or_default();
    AwsKmsAccount {
        region: own.region.or_else(|| config.region.clone()),
        endpoint_url: own.endpoint_url.or_else(|| config.endpoint_url.clone()),
        profile: own.profile.or_else(|| config.profile.clone()),
        role_arn: own.role_arn.or_else(|| config.role_arn.clone()),
    }
}

/// A profile that the settings name is the only source: credentials that lie about in the environment must not decide
/// which account a tenant's keys are in. Without one it is the standard chain.
async fn own_credentials(profile: Option<&str>, region: &str) -> SharedCredentialsProvider {
    if let Some(profile) = profile {
        return SharedCredentialsProvider::new(ProfileFileCredentialsProvider::builder().profile_name(profile).build());
    }
    let chain = DefaultCredentialsChain::builder().region(Region::new(region.to_owned())).imds_client(imds_client());
    SharedCredentialsProvider::new(chain.build().await)
}

async fn environment_region(profile: Option<&str>) -> Option<String> {
    let mut of_profile = ProfileFileRegionProvider::builder();
    if let Some(profile) = profile {
        of_profile = of_profile.profile_name(profile);
    }
    let machine = imds::region::ImdsRegionProvider::builder().imds_client(imds_client()).build();
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
    let region = chain.or_else(of_profile.build()).or_else(machine).region().await;
    region.map(|region| region.as_ref().to_owned())
}

/// The instance metadata service answers from the same machine's host within milliseconds, or there is none: whoever
/// has forgotten their credentials must hear so at once.
fn imds_client() -> imds::Client {
    const QUICK: Duration = Duration::from_secs(1);
    imds::Client::builder().max_attempts(1).connect_timeout(QUICK).read_timeout(QUICK).build()
}

fn no_region() -> ProviderError {
    ProviderError::new(ErrorKind::Refused, Operation::Connect.name(), "no AWS region is set").help(
        "write `kms_region` in the key's document, `region` under providers.aws_kms in keywheel.yaml, or set AWS_REGION",
    )
}

/// Is it an endpoint of AWS itself, in one of its partitions?
fn is_aws(endpoint: &str) -> bool {
    const DOMAINS: &[&str] = &[".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonwebservices.com.cn"];
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    DOMAINS.iter().any(|domain| host.ends_with(domain))
}

/// A duration of `keywheel.yaml`, which its schema has checked.
fn duration(field: &str, text: &str) -> Result<Duration, ProviderError> {
    let Some(time) = parse_duration(text).filter(|time| !time.is_zero()) else {
        let message = format!("{field} under providers.aws_kms is {text:?}, which is no time that a call could take");
        return Err(ProviderError::new(ErrorKind::Refused, Operation::Connect.name(), message)
            .help("write a number above zero and a unit, as `60s`"));
    };
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_aws_are_told_from_others() {
        for aws in [
            "https://kms.eu-west-1.amazonaws.com",
            "https://vpce-1.kms.us-east-1.vpce.amazonaws.com:443/",
            "https://kms.cn-north-1.amazonaws.com.cn",
        ] {
            assert!(is_aws(aws), "{aws}");
        }
        for other in
            ["http://127.0.0.1:5000", "https://amazonaws.com.example.org", "https://x.amazonaws.com@evil.example"]
        {
            assert!(!is_aws(other), "{other}");
        }
    }

    #[test]
    fn a_tenant_takes_what_it_does_not_set_from_the_common_settings() {
        let tenant: Name = "clinic".parse().unwrap();
        let own = AwsKmsAccount { role_arn: Some("arn:own".to_owned()), ..AwsKmsAccount::default() };
        let config = AwsKmsConfig {
            region: Some("eu-west-1".to_owned()),
            role_arn: Some("arn:common".to_owned()),
            tenants: BTreeMap::from([(tenant.clone(), own)]),
            ..AwsKmsConfig::default()
        };
        assert_eq!(settings(&config, Some(&tenant)).role_arn.as_deref(), Some("arn:own"));
        assert_eq!(settings(&config, Some(&tenant)).region.as_deref(), Some("eu-west-1"));
        assert_eq!(settings(&config, None).role_arn.as_deref(), Some("arn:common"));
    }

    #[test]
    fn a_call_that_must_not_be_repeated_never_is() {
        for again in [Again::Never, Again::Throttled, Again::Trouble, Again::Settling] {
            assert!(!worth_another(Repeat::Never, again, 1));
        }
        assert!(worth_another(Repeat::Safe, Again::Throttled, 1_000));
        assert!(!worth_another(Repeat::Safe, Again::Trouble, ATTEMPTS));
        assert!(!worth_another(Repeat::Safe, Again::Settling, 1));
        assert!(worth_another(Repeat::Settling, Again::Settling, 1_000));
    }

    #[test]
    fn a_burst_and_the_second_after_it_keep_to_the_quota() {
        for quota in [2, 5, 10, 15, 50, 100, 500, 1_000, 2_000] {
            let pace = pace(quota);
            let refilled = 1_000_000_000 / pace.replenish_interval().as_nanos();
            assert!(u128::from(pace.burst_size().get()) + refilled <= u128::from(quota), "{quota}: {pace:?}");
        }
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert!(pause(1) <= FIRST_PAUSE);
        assert!(pause(1) >= FIRST_PAUSE / 2);
        assert!(pause(u32::MAX) <= LONGEST_PAUSE);
    }
}
