//! What becomes of an AWS that is away, silent, overloaded, somebody else, or cut off.

use futures::future::join_all;
use keywheel::document::AwsKmsConfig;
use keywheel::model::Observation;
use keywheel::provider::aws_kms::AwsKms;
use keywheel::provider::{ErrorKind, KeyManager, Observe, ProviderError};

use super::{config, connect, new_key, request};
use crate::support::hostile::{Hostile, Reply, Request, nobody};
use crate::support::{moto, rerun};

const CREDENTIALS: &[(&str, &str)] =
    &[("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000"), ("AWS_SECRET_ACCESS_KEY", "canary-secret")];

/// Runs the test against an endpoint that behaves so.
fn against<F: Future<Output = ()>>(
    name: &str,
    behave: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    test: impl FnOnce(Hostile) -> F,
) {
    if rerun::is_child(name) {
        rerun::block_on(test(Hostile::start(behave)));
    } else {
        rerun::with_variables(name, CREDENTIALS);
    }
}

/// What asking and making come to.
async fn both(manager: &AwsKms) -> (ProviderError, ProviderError) {
    let key = new_key("patient-data");
    (manager.primary(&key).await.unwrap_err(), manager.create_version(&request(&key)).await.unwrap_err())
}

#[test]
fn an_aws_that_is_away_was_sent_nothing() {
    let name = "aws_kms::hostile::an_aws_that_is_away_was_sent_nothing";
    against(
        name,
        |_| Reply::Hangup,
        |_| async {
            let manager = connect(&nobody()).await;
            let (asking, making) = both(&manager).await;
            assert_eq!((asking.kind, making.kind), (ErrorKind::Unreachable, ErrorKind::Unreachable));
            assert!(!making.is_unknown(), "nothing was made, and nothing needs to be looked for");
            assert!(asking.help.unwrap().contains("endpoint_url"));

            let keys: Vec<_> = (0..1000).map(|number| new_key(&format!("key-{number}"))).collect();
            let observed = manager.observe(&keys).await;
            assert_eq!(observed.len(), keys.len(), "each has an answer, without waiting for each");
            assert!(
                observed.iter().all(|one| matches!(one, Observation::Unknown { why } if why.contains("endpoint_url")))
            );
        },
    );
}

#[test]
fn a_key_that_is_not_available_hides_no_other() {
    let name = "aws_kms::hostile::a_key_that_is_not_available_hides_no_other";
    let behave = |request: &Request| match request.earlier {
        // Its attempts, one after the other: the keys are asked for one at a time.
        0..3 => Reply::error(500, "KeyUnavailableException"),
        _ => Reply::error(400, "NotFoundException"),
    };
    against(name, behave, |hostile| async move {
        let one_at_a_time = AwsKmsConfig { max_concurrent: 1, ..config(hostile.endpoint()) };
        let manager = AwsKms::connect(&one_at_a_time, None, None).await.unwrap();
        let observed = manager.observe(&[new_key("first"), new_key("second")]).await;
        assert!(
            matches!(&observed[..], [Observation::Unknown { why }, Observation::Missing] if why.contains("KeyUnavail")),
            "{observed:?}"
        );
    });
}

#[test]
fn silence_leaves_it_open_whether_a_key_was_made() {
    let name = "aws_kms::hostile::silence_leaves_it_open_whether_a_key_was_made";
    against(
        name,
        |_| Reply::Never,
        |hostile| async move {
            let (asking, making) = both(&connect(hostile.endpoint()).await).await;
            assert_eq!((asking.kind, making.kind), (ErrorKind::Unknown, ErrorKind::Unknown));
            assert!(hostile.count("DescribeKey") > 1, "a question may be asked again");
            assert_eq!(hostile.count("CreateKey"), 1, "a key is asked for once");
        },
    );
}

#[test]
fn nobody_waits_behind_requests_without_an_answer_for_the_same_once_more() {
    let name = "aws_kms::hostile::nobody_waits_behind_requests_without_an_answer_for_the_same_once_more";
    against(
        name,
        |_| Reply::Never,
        |hostile| async move {
            let settings = AwsKmsConfig { max_concurrent: 2, ..config(hostile.endpoint()) };
            let manager = AwsKms::connect(&settings, None, None).await.unwrap();
            let keys: Vec<_> = (0..40).map(|number| new_key(&format!("key-{number}"))).collect();
            let errors = join_all(keys.iter().map(|key| manager.primary(key))).await;
            assert!(errors.into_iter().all(|answer| answer.unwrap_err().out_of_reach));
            // The attempts of the two that were first, and of those that came between these.
            assert!(hostile.count("DescribeKey") <= 2 * 6, "{} requests", hostile.count("DescribeKey"));
        },
    );
}

#[test]
fn a_broken_connection_leaves_it_open_whether_a_key_was_made() {
    let name = "aws_kms::hostile::a_broken_connection_leaves_it_open_whether_a_key_was_made";
    against(
        name,
        |_| Reply::Hangup,
        |hostile| async move {
            let (asking, making) = both(&connect(hostile.endpoint()).await).await;
            assert_eq!((asking.kind, making.kind), (ErrorKind::Unknown, ErrorKind::Unknown));
            assert_eq!(hostile.count("CreateKey"), 1);
        },
    );
}

#[test]
fn throttling_for_ever_ends_as_throttled() {
    let name = "aws_kms::hostile::throttling_for_ever_ends_as_throttled";
    against(
        name,
        |_| Reply::error(400, "ThrottlingException"),
        |hostile| async move {
            let (asking, making) = both(&connect(hostile.endpoint()).await).await;
            assert_eq!((asking.kind, making.kind), (ErrorKind::Throttled, ErrorKind::Throttled));
            assert!(hostile.count("DescribeKey") > 3, "it is asked again for as long as a call may take");
            assert_eq!(hostile.count("CreateKey"), 1);
            assert!(!making.is_unknown(), "a throttled request has had no effect");
        },
    );
}

#[test]
fn trouble_that_passes_is_waited_out() {
    let name = "aws_kms::hostile::trouble_that_passes_is_waited_out";
    let behave = |request: &Request| match request.earlier {
        0 => Reply::error(400, "ThrottlingException"),
        1 => Reply::error(500, "KMSInternalException"),
        _ => Reply::error(400, "NotFoundException"),
    };
    against(name, behave, |hostile| async move {
        assert_eq!(connect(hostile.endpoint()).await.primary(&new_key("patient-data")).await, Ok(None));
        assert_eq!(hostile.count("DescribeKey"), 3);
    });
}

#[test]
fn a_page_of_a_portal_is_not_taken_for_aws() {
    let name = "aws_kms::hostile::a_page_of_a_portal_is_not_taken_for_aws";
    let behave = |request: &Request| Reply::page(if request.earlier == 0 { 200 } else { 403 });
    against(name, behave, |hostile| async move {
        let manager = connect(hostile.endpoint()).await;
        for _ in ["200", "403"] {
            let (asking, making) = both(&manager).await;
            assert_eq!((asking.kind, making.kind), (ErrorKind::Malformed, ErrorKind::Unknown));
            assert!(asking.help.unwrap().contains("something else answers"));
        }
        assert_eq!(hostile.count("CreateKey"), 2, "once for each version that was asked for");
    });
}

#[test]
fn an_answer_that_is_cut_off_is_no_answer() {
    let name = "aws_kms::hostile::an_answer_that_is_cut_off_is_no_answer";
    against(
        name,
        |_| Reply::Truncated,
        |hostile| async move {
            let (asking, making) = both(&connect(hostile.endpoint()).await).await;
            assert!(asking.is_transient(), "{asking:?}");
            assert_eq!(making.kind, ErrorKind::Unknown);
            assert_eq!(hostile.count("CreateKey"), 1);
        },
    );
}

#[test]
fn an_answer_without_a_key_is_no_answer() {
    let name = "aws_kms::hostile::an_answer_without_a_key_is_no_answer";
    let behave = |_: &Request| Reply::Answer(200, "application/x-amz-json-1.1", "{}".to_owned());
    against(name, behave, |hostile| async move {
        let (asking, making) = both(&connect(hostile.endpoint()).await).await;
        assert_eq!((asking.kind, making.kind), (ErrorKind::Malformed, ErrorKind::Unknown));
    });
}

#[test]
fn a_plain_server_behind_https_is_out_of_reach() {
    let name = "aws_kms::hostile::a_plain_server_behind_https_is_out_of_reach";
    against(
        name,
        |_| Reply::Hangup,
        |hostile| async move {
            let manager = connect(&hostile.endpoint().replace("http://", "https://")).await;
            let (asking, making) = both(&manager).await;
            assert_eq!((asking.kind, making.kind), (ErrorKind::Unreachable, ErrorKind::Unreachable));
        },
    );
}

#[test]
fn refusals_name_what_to_do_and_no_secret() {
    let name = "aws_kms::hostile::refusals_name_what_to_do_and_no_secret";
    let behave = |request: &Request| match request.earlier {
        0 => Reply::error(400, "AccessDeniedException"),
        1 => Reply::error(400, "ExpiredTokenException"),
        _ => Reply::error(400, "UnrecognizedClientException"),
    };
    against(name, behave, |hostile| async move {
        let manager = connect(hostile.endpoint()).await;
        for help in ["kms:DescribeKey", "expired", "does not know these credentials"] {
            let (asking, making) = both(&manager).await;
            assert_eq!((asking.kind, making.kind), (ErrorKind::Denied, ErrorKind::Denied));
            assert!(asking.help.as_ref().unwrap().contains(help), "{asking:?}");
            assert!(!format!("{asking:?}{making:?}").contains("canary"));
        }
    });
}

#[test]
fn a_question_before_the_creation_that_fails_leaves_nothing_open() {
    let name = "aws_kms::hostile::a_question_before_the_creation_that_fails_leaves_nothing_open";
    against(
        name,
        |_| Reply::Hangup,
        |hostile| async move {
            let mut key = new_key("patient-data");
            key.primary = Some("arn:aws:kms:us-east-1:123456789012:key/0f1e2d3c".to_owned());
            let error = connect(hostile.endpoint()).await.create_version(&request(&key)).await.unwrap_err();
            assert!(!error.is_unknown(), "{error:?}");
            assert_eq!(hostile.count("CreateKey"), 0);
        },
    );
}

#[test]
fn a_key_whose_making_was_not_answered_is_found_by_its_mark() {
    let name = "aws_kms::hostile::a_key_whose_making_was_not_answered_is_found_by_its_mark";
    moto::test(name, |endpoint| async move {
        let upstream = endpoint.clone();
        let hostile = Hostile::start(move |request| match request.operation.as_str() {
            "CreateKey" => Reply::ActAndHangup(upstream.clone()),
            _ => Reply::Forward(upstream.clone()),
        });
        let manager = AwsKms::connect(&config(hostile.endpoint()), None, None).await.unwrap();
        let wanted = request(&new_key("patient-data"));
        assert_eq!(manager.find_created(&wanted).await, Ok(vec![]));

        let error = manager.create_version(&wanted).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unknown);
        assert_eq!(hostile.count("CreateKey"), 1, "the request is not sent again behind our back");
        let twin = manager.find_created(&wanted).await.unwrap();
        assert_eq!(twin.len(), 1);

        manager.create_version(&wanted).await.unwrap_err();
        let twins = manager.find_created(&wanted).await.unwrap();
        assert_eq!(twins.len(), 2);
        assert_eq!(twins[0], twin[0], "the oldest comes first");

        let own = super::aws(&endpoint, super::REGION).await;
        super::schedule_deletion(&own, &twin[0].provider_ref).await;
        assert_eq!(manager.find_created(&wanted).await, Ok(vec![twins[1].clone()]), "what goes away is no version");
    });
}

#[test]
fn a_key_that_is_named_and_not_found_is_neither_there_nor_absent() {
    let name = "aws_kms::hostile::a_key_that_is_named_and_not_found_is_neither_there_nor_absent";
    moto::test(name, |endpoint| async move {
        let wanted = request(&new_key("patient-data"));
        let made = super::connect(&endpoint).await.create_version(&wanted).await.unwrap();
        // AWS KMS knows a new key in one place sooner than in another.
        for operation in ["DescribeKey", "ListResourceTags"] {
            let not_found = |times: usize| {
                let upstream = endpoint.clone();
                Hostile::start(move |request| {
                    let unknown = request.operation == operation && request.earlier < times;
                    if unknown { Reply::error(400, "NotFoundException") } else { Reply::Forward(upstream.clone()) }
                })
            };
            let hostile = not_found(2);
            let manager = super::connect(hostile.endpoint()).await;
            assert_eq!(manager.find_created(&wanted).await, Ok(vec![made.clone()]), "{operation} caught up");

            let hostile = not_found(usize::MAX);
            let manager = super::connect(hostile.endpoint()).await;
            let error = manager.find_created(&wanted).await.unwrap_err();
            assert!(error.is_unknown() && error.message.contains(&made.provider_ref), "{operation}: {error:?}");
        }
    });
}
