use chrono::TimeDelta;
use serde_json::json;

use crate::{
    auth::{
        jwt::Jwts,
        testing::{Bench, Signer, claims, issuer, set, start, with},
    },
    clock::Clock,
    error::{Reason, Result},
};

#[tokio::test]
async fn p49_an_unknown_key_id_has_the_keys_read_again_at_most_every_30_seconds() {
    let bench = Bench::new().await;
    let second = Signer::new("second");
    let token = second.sign(&with("iat", json!(start().timestamp() + 1)));
    assert!(
        bench
            .jwts
            .verify(&bench.signer.sign(&claims()))
            .await
            .is_ok()
    );
    bench.clock.advance(TimeDelta::seconds(1));
    // The issuer may have introduced the key after the keys were read.
    for _ in 0..5 {
        assert_eq!(bench.reason(&token).await, Reason::AuthBackendUnavailable);
    }
    // A key that was in use before would have been in the set.
    assert_eq!(
        bench.reason(&second.sign(&claims())).await,
        Reason::TokenInvalid
    );
    assert_eq!(bench.server.asked(), 1);

    bench.server.serves(&[bench.signer.jwk(), second.jwk()]);
    bench.clock.advance(TimeDelta::seconds(28));
    assert_eq!(bench.reason(&token).await, Reason::AuthBackendUnavailable);
    bench.clock.advance(TimeDelta::seconds(1));
    assert!(bench.jwts.verify(&token).await.is_ok());
    assert!(
        bench
            .jwts
            .verify(&bench.signer.sign(&claims()))
            .await
            .is_ok()
    );
    assert_eq!(bench.server.asked(), 2);
    bench.clock.advance(TimeDelta::seconds(30));
    assert_eq!(
        bench.reason(&Signer::new("never").sign(&claims())).await,
        Reason::TokenInvalid
    );
}

#[tokio::test]
async fn p49_a_wrong_signature_without_a_key_id_is_invalid_at_once() {
    let bench = Bench::new().await;
    assert!(
        bench
            .jwts
            .verify(&bench.signer.sign(&claims()))
            .await
            .is_ok()
    );
    let nameless = Signer::new("second").sign_with(r#"{"alg":"EdDSA"}"#, &claims().to_string());
    assert_eq!(bench.reason(&nameless).await, Reason::TokenInvalid);
}

#[tokio::test]
async fn p50_the_last_keys_stay_while_their_source_has_none() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    assert!(bench.jwts.verify(&token).await.is_ok());
    let broken = [
        set(&[]),
        set(&[json!({"kty": "oct", "k": "AAAA"})]),
        "{}".to_owned(),
        "<html>".to_owned(),
    ];
    for (number, document) in (2..).zip(broken) {
        bench.server.serves_text(document.clone());
        bench.clock.advance(TimeDelta::seconds(31));
        let unknown = Signer::new("second").sign(&claims());
        assert_eq!(
            bench.reason(&unknown).await,
            Reason::AuthBackendUnavailable,
            "{document}"
        );
        assert_eq!(bench.server.asked(), number);
        assert!(bench.jwts.verify(&token).await.is_ok(), "{document}");
    }
}

#[tokio::test]
async fn p49_a_wrong_signature_of_a_known_key_reads_nothing() {
    let bench = Bench::new().await;
    assert!(
        bench
            .jwts
            .verify(&bench.signer.sign(&claims()))
            .await
            .is_ok()
    );
    bench.clock.advance(TimeDelta::seconds(60));
    assert_eq!(
        bench.reason(&Signer::new("first").sign(&claims())).await,
        Reason::TokenInvalid
    );
    assert_eq!(bench.server.asked(), 1);
}

#[tokio::test]
async fn p49_many_at_once_cause_one_reading() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    let all = futures_util::future::join_all((0..20).map(|_| bench.jwts.verify(&token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(bench.server.asked(), 1);
}

#[tokio::test]
async fn p50_the_last_keys_stay_while_their_source_is_down() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    assert!(bench.jwts.verify(&token).await.is_ok());
    bench.server.is_down();
    bench.clock.advance(TimeDelta::seconds(60));
    // A key that could not be looked up is not reported as invalid.
    assert_eq!(
        bench.reason(&Signer::new("second").sign(&claims())).await,
        Reason::AuthBackendUnavailable
    );
    assert_eq!(
        bench.reason(&Signer::new("third").sign(&claims())).await,
        Reason::AuthBackendUnavailable
    );
    assert_eq!(bench.server.asked(), 2);
    assert!(bench.jwts.verify(&token).await.is_ok());
}

#[tokio::test]
async fn p50_without_any_keys_the_verifier_is_unavailable() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    bench.server.is_down();
    assert_eq!(bench.reason(&token).await, Reason::AuthBackendUnavailable);
    bench.server.serves(&[bench.signer.jwk()]);
    assert_eq!(bench.reason(&token).await, Reason::AuthBackendUnavailable);
    bench.clock.advance(TimeDelta::seconds(2));
    assert!(bench.jwts.verify(&token).await.is_ok());

    let gone = Jwts::new(
        &[issuer("/no/such/file")],
        Clock::Manual(bench.clock.clone()),
    )
    .unwrap();
    assert_eq!(
        gone.verify(&token).await.unwrap_err().reason(),
        Reason::AuthBackendUnavailable
    );
}

#[tokio::test]
async fn p49_a_withdrawn_key_counts_no_more_after_minutes() {
    let bench = Bench::new().await;
    let token = bench.signer.sign(&claims());
    assert!(bench.jwts.verify(&token).await.is_ok());
    bench.server.serves(&[Signer::new("second").jwk()]);
    bench.clock.advance(TimeDelta::minutes(6));
    let refused = async {
        while bench.jwts.verify(&token).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), refused)
        .await
        .unwrap();
    assert_eq!(bench.server.asked(), 2);
}
