//! Reads that are gathered into one statement are still each caller's own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use user_service::convert::pb::{self, get_profile_request::Key};

use crate::support::{TestApp, fault};

#[tokio::test]
async fn everyone_in_a_batch_gets_their_own_answer() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let mut person = crate::support::person(&format!("reader {number}"));
        person.profile.as_mut().unwrap().openid = Some(format!("open-{number}"));
        ids.push(client.create(person).await.unwrap().user_id);
    }

    let reads = (0..400_usize).map(|number| {
        let (mut client, ids) = (client.clone(), ids.clone());
        async move {
            let place = number % ids.len();
            match number % 4 {
                0 => assert_eq!(
                    fault(client.get(1_000_000 + number as i64).await).reason,
                    "USER_NOT_FOUND"
                ),
                1 => {
                    let found = client
                        .get_by(Key::Openid(format!("open-{place}")))
                        .await
                        .unwrap();
                    assert_eq!(found.user_id, ids[place]);
                }
                // The same one many times over.
                2 => assert_eq!(client.get(ids[0]).await.unwrap().user_id, ids[0]),
                _ => assert_eq!(
                    client.get(ids[place]).await.unwrap().nickname,
                    format!("reader {place}")
                ),
            }
        }
    });
    join_all(reads).await;
}

#[tokio::test]
async fn caller_who_leaves_harms_nobody_else() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await;

    let reads = (0..30).map(|number| {
        let mut client = client.clone();
        async move {
            let read = client.get(ann.user_id);
            if number % 2 == 0 {
                // Given up at its first pause, when it is on its way.
                futures_util::future::select(Box::pin(read), Box::pin(tokio::task::yield_now()))
                    .await;
                return None;
            }
            Some(read.await.unwrap())
        }
    });
    let answers = join_all(reads).await;

    assert_eq!(answers.into_iter().flatten().count(), 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_read_after_a_write_is_never_old_ten_thousand_times_under_load() {
    const WRITERS: usize = 20;
    const ROUNDS: usize = 500;
    let here = TestApp::new().await;
    let there = here.replica().await;
    let mut client = here.service().await;
    let reader = there.service().await;
    let mut ids = Vec::new();
    for number in 0..WRITERS {
        ids.push(
            client
                .create_named(&format!("writer {number}"))
                .await
                .user_id,
        );
    }
    // Others read the same users all the while, so that every read shares its statement.
    let done = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = (0..20)
        .map(|number| {
            let (mut reader, ids, done) = (reader.clone(), ids.clone(), done.clone());
            tokio::spawn(async move {
                let mut turn = number;
                while !done.load(Ordering::Relaxed) {
                    turn += 1;
                    reader.get(ids[turn % ids.len()]).await.unwrap();
                }
            })
        })
        .collect();

    let writers = ids.iter().map(|user_id| {
        let (mut client, mut reader, user_id) = (client.clone(), reader.clone(), *user_id);
        async move {
            for round in 0..ROUNDS {
                let nickname = format!("round {round}");
                let request = pb::UpdateProfileRequest {
                    user_id,
                    profile: Some(pb::Profile {
                        nickname: nickname.clone(),
                        ..Default::default()
                    }),
                    update_mask: Some(prost_types::FieldMask {
                        paths: vec!["nickname".to_owned()],
                    }),
                    ..Default::default()
                };
                client.users.update_profile(request).await.unwrap();
                assert_eq!(reader.get(user_id).await.unwrap().nickname, nickname);
            }
        }
    });
    join_all(writers).await;
    done.store(true, Ordering::Relaxed);
    for reader in crowd {
        reader.await.unwrap();
    }
}
