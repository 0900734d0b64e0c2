//! Password hashing, on dedicated threads with the lowest priority: each hash takes tens of
//! milliseconds of CPU time.

mod cost;
mod queue;

use std::{
    error::Error as StdError,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    clock::random_bytes,
    domain::caller::Caller,
    error::{Error, Reason, Result},
    model::{
        password::Secret,
        password_hash::{self, HashKind, HashParameters, PasswordHash},
        password_strength::Blocklist,
    },
    telemetry::metrics,
};
use cost::{Costs, thread_time};
use queue::{Priority, Queue};

/// How many logins, and how many other jobs, may wait per thread: about as many as it can run in
/// the ten seconds that a call may take.
const WAITING_PER_WORKER: usize = 256;
/// How many jobs of each priority a user may have in the queue; a service may have half of the
/// queue.
const WAITING_PER_USER: usize = 8;

/// The result of a password check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password is correct.
    Right,
    /// The password is correct, but the hash has older parameters. Replace it with this one.
    Outdated(Secret),
    /// The password is wrong, or there is no hash.
    Wrong,
}

/// How long the check of a wrong password takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// As long as its own hash.
    OfItsHash,
    /// As long as the slowest kind of hash, so that the time reveals neither the kind nor whether a
    /// hash exists.
    OfTheSlowest,
}

/// The threads that hash, and their queue. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Passwords {
    queue: Arc<OpenQueue>,
    queued: Arc<AtomicUsize>,
    capacity: usize,
    costs: Costs,
    blocklist: Arc<Blocklist>,
    parameters: HashParameters,
}

/// Closes the queue when it is dropped.
struct OpenQueue(Arc<Queue>);

impl Drop for OpenQueue {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Passwords {
    /// Starts this many threads, at least one.
    ///
    /// # Errors
    /// If the system can't start the threads.
    pub fn new(
        workers: usize,
        blocklist: Blocklist,
        parameters: HashParameters,
    ) -> io::Result<Self> {
        let workers = workers.max(1);
        let capacity = workers * WAITING_PER_WORKER;
        let queue = Arc::new(OpenQueue(Arc::new(Queue::new(capacity))));
        for number in 0..workers {
            let queue = Arc::clone(&queue.0);
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || work(&queue))?;
        }
        let costs = Costs::new(HashKind::of(parameters));
        Ok(Self {
            queue,
            queued: Arc::default(),
            capacity,
            costs,
            blocklist: blocklist.into(),
            parameters,
        })
    }

    /// The kind of the hashes that are written now.
    pub fn current_kind(&self) -> HashKind {
        HashKind::of(self.parameters)
    }

    /// The number of jobs that wait for a thread.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Registers kinds of hashes that the database may contain: a wrong password then takes as long
    /// as the slowest of them.
    pub fn know(&self, kinds: impl IntoIterator<Item = HashKind>) {
        kinds.into_iter().for_each(|kind| self.costs.add(kind));
    }

    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// OVERLOADED if the queue, or the caller's part of it, is full.
    pub async fn hash(&self, caller: &Caller, secret: &Secret) -> Result<String> {
        self.hash_at(Priority::Other, caller, secret).await
    }

    /// Rehashes the correct password of a login whose hash is outdated, with a higher priority than
    /// new passwords.
    ///
    /// # Errors
    /// As [`Passwords::hash`].
    pub async fn upgrade(&self, caller: &Caller, secret: &Secret) -> Result<String> {
        self.hash_at(Priority::Login, caller, secret).await
    }

    async fn hash_at(
        &self,
        priority: Priority,
        caller: &Caller,
        secret: &Secret,
    ) -> Result<String> {
        let (secret, parameters) = (secret.clone(), self.parameters);
        self.run(caller, priority, move || {
            Ok(password_hash::hash(&secret, random_bytes(), parameters)?)
        })
        .await
    }

    /// Verifies a password. Without a hash, every password is wrong.
    ///
    /// # Errors
    /// OVERLOADED if the queue, or the caller's part of it, is full; INTERNAL if the hash is
    /// malformed.
    pub async fn verify(
        &self,
        caller: &Caller,
        secret: &Secret,
        hash: Option<&str>,
    ) -> Result<Verdict> {
        self.check(caller, secret, hash, Time::OfItsHash).await
    }

    /// Verifies a password. A wrong password takes as long as the slowest registered kind of hash,
    /// whatever the kind of its hash, and even without one.
    ///
    /// # Errors
    /// As [`Passwords::verify`].
    pub async fn verify_in_equal_time(
        &self,
        caller: &Caller,
        secret: &Secret,
        hash: Option<&str>,
    ) -> Result<Verdict> {
        self.check(caller, secret, hash, Time::OfTheSlowest).await
    }

    async fn check(
        &self,
        caller: &Caller,
        secret: &Secret,
        hash: Option<&str>,
        time: Time,
    ) -> Result<Verdict> {
        let parsed = hash.map(PasswordHash::parse).transpose();
        let parsed = parsed.map_err(|(_, why)| Error::internal(format!("a stored hash {why}")))?;
        let (secret, costs, parameters) = (secret.clone(), self.costs.clone(), self.parameters);
        let job = move || compare(&secret, parsed.as_ref(), parameters, time, &costs);
        self.run(caller, Priority::Login, job).await
    }

    /// Whether a new login password is too easy to guess, by [`Blocklist::rejects`].
    ///
    /// # Errors
    /// OVERLOADED if the queue, or the caller's part of it, is full.
    pub async fn is_rejected(
        &self,
        caller: &Caller,
        secret: &Secret,
        username: Option<&str>,
        email: Option<&str>,
    ) -> Result<bool> {
        let (secret, blocklist) = (secret.clone(), Arc::clone(&self.blocklist));
        let (username, email) = (username.map(str::to_owned), email.map(str::to_owned));
        let job = move || Ok(blocklist.rejects(&secret, username.as_deref(), email.as_deref()));
        self.run(caller, Priority::Other, job).await
    }

    /// Runs the job on one of the threads, unless its caller has left by then.
    async fn run<T: Send + 'static>(
        &self,
        caller: &Caller,
        priority: Priority,
        job: impl FnOnce() -> Result<T, Box<dyn StdError + Send + Sync>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let queued = Arc::clone(&self.queued);
        let since = Instant::now();
        let job = Box::new(move || {
            queued.fetch_sub(1, Ordering::Relaxed);
            metrics::hash_wait(since.elapsed());
            if !reply.is_closed() {
                // A caller that has left needs no response.
                reply.send(job()).ok();
            }
        });
        let most = if caller.user().is_some() {
            WAITING_PER_USER
        } else {
            self.capacity / 2
        };
        self.queued.fetch_add(1, Ordering::Relaxed);
        if !self.queue.0.push(&caller.to_string(), most, priority, job) {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(Reason::Overloaded));
        }
        answer
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)
    }
}

/// Compares every normalized form of a password with a hash.
fn compare(
    secret: &Secret,
    hash: Option<&PasswordHash>,
    parameters: HashParameters,
    time: Time,
    costs: &Costs,
) -> Result<Verdict, Box<dyn StdError + Send + Sync>> {
    let slowest = (time == Time::OfTheSlowest).then(|| costs.slowest());
    let since = thread_time();
    let spellings = secret.spellings();
    let count = u32::try_from(spellings.len()).unwrap_or(1);
    for spelling in spellings {
        let Some(hash) = hash else {
            if let Some(slowest) = &slowest {
                // Its result is ignored.
                slowest.sample().verify(spelling.text())?;
            }
            continue;
        };
        let begun = thread_time();
        let is_right = hash.verify(spelling.text())?;
        costs.observe(hash, thread_time().saturating_sub(begun));
        if is_right {
            let is_upgraded = hash.is_upgraded_by(spelling.text());
            let right = spelling.into_secret();
            let is_as_ours = hash.is_current(parameters) && right == *secret;
            return Ok(if is_as_ours || !is_upgraded {
                Verdict::Right
            } else {
                Verdict::Outdated(right)
            });
        }
    }
    if let Some(slowest) = slowest {
        slowest.fill(since, count);
    }
    Ok(Verdict::Wrong)
}

/// Runs jobs until the queue is closed.
fn work(queue: &Queue) {
    yield_to_others();
    while let Some(job) = queue.pop() {
        // A panic must not end the thread: the other jobs would wait permanently.
        if panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a password hashing job panicked");
        }
    }
}

/// Gives this thread the lowest priority. Only on Linux does a thread have a priority of its own.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "failed to lower the priority of the password hashing threads");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{atomic::AtomicBool, mpsc};

    use futures_util::future::{FutureExt, join_all};

    use super::*;
    use crate::model::{password::parse_attempt, token::Subject};

    const OLD: &str = "$argon2id$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$DFJl3+LYuTnYvEglMJWlNe078oGA5gKVBvWvbqtptz4";

    fn start(workers: usize) -> Passwords {
        Passwords::new(workers, Blocklist::default(), HashParameters::default()).unwrap()
    }

    fn service(name: &str) -> Caller {
        Caller::new(Subject::Service(name.to_owned()), Vec::new())
    }

    async fn run<T: Send + 'static>(
        passwords: &Passwords,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        passwords
            .run(&service("test"), Priority::Login, || Ok(job()))
            .await
    }

    async fn verify(passwords: &Passwords, text: &str, hash: Option<&str>) -> Result<Verdict> {
        passwords
            .verify(&service("test"), &secret(text), hash)
            .await
    }

    fn secret(text: &str) -> Secret {
        parse_attempt(text.into()).unwrap()
    }

    /// Occupies the only thread until the sender is dropped or used.
    async fn block(passwords: &Passwords) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let passwords = passwords.clone();
        tokio::spawn(async move {
            let job = move || {
                started.send(()).unwrap();
                released.recv().is_ok()
            };
            run(&passwords, job).await
        });
        has_started.await.unwrap();
        release
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_alone() {
        let passwords = start(1);
        let violet = "violet-lantern-93";
        let hash = passwords
            .hash(&service("test"), &secret(violet))
            .await
            .unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(
            hash,
            passwords
                .hash(&service("test"), &secret(violet))
                .await
                .unwrap()
        );
        assert_eq!(
            verify(&passwords, violet, Some(&hash)).await.unwrap(),
            Verdict::Right
        );
        assert_eq!(
            verify(&passwords, "Violet-lantern-93", Some(&hash))
                .await
                .unwrap(),
            Verdict::Wrong
        );
        assert_eq!(
            verify(&passwords, violet, None).await.unwrap(),
            Verdict::Wrong
        );
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_is_outdated() {
        let passwords = start(1);
        let right = "correct horse battery staple";
        assert_eq!(
            verify(&passwords, right, Some(OLD)).await.unwrap(),
            Verdict::Outdated(secret(right))
        );
        assert_eq!(
            verify(&passwords, "x", Some(OLD)).await.unwrap(),
            Verdict::Wrong
        );
    }

    #[tokio::test]
    async fn a_hash_of_another_spelling_is_replaced_by_one_that_both_match() {
        let passwords = start(1);
        // The bcrypt hashes of "cafe\u{301} lantern" and of "fine lantern".
        let decomposed = "$2b$04$8IIJC3pc2snCrOclajrYp.1myAQiXVvmy0bhu5luSSbiOff6h/v2y";
        let compatible = "$2b$04$8IIJC3pc2snCrOclajrYp..Bu9EbRNS1chRkkXUzCTxrhAU88wOPi";
        let composed = Verdict::Outdated(secret("caf\u{e9} lantern"));
        let plain = Verdict::Outdated(secret("fine lantern"));

        assert_eq!(
            verify(&passwords, "cafe\u{301} lantern", Some(decomposed))
                .await
                .unwrap(),
            composed
        );
        assert_eq!(
            verify(&passwords, "\u{fb01}ne lantern", Some(compatible))
                .await
                .unwrap(),
            plain
        );
        assert_eq!(
            verify(&passwords, "fine lantern", Some(compatible))
                .await
                .unwrap(),
            plain
        );
        assert_eq!(
            verify(&passwords, "cafe lantern", Some(decomposed))
                .await
                .unwrap(),
            Verdict::Wrong
        );
    }

    #[tokio::test]
    async fn a_password_of_which_bcrypt_reads_a_part_replaces_no_hash() {
        let passwords = start(1);
        let of = |length: usize| "x".repeat(length);
        let hash = bcrypt::hash(of(80), 4).unwrap();
        assert_eq!(
            verify(&passwords, &of(80), Some(&hash)).await.unwrap(),
            Verdict::Right
        );
        assert_eq!(
            verify(&passwords, &of(73), Some(&hash)).await.unwrap(),
            Verdict::Right
        );
        assert_eq!(
            verify(&passwords, &of(72), Some(&hash)).await.unwrap(),
            Verdict::Outdated(secret(&of(72)))
        );
        assert_eq!(
            verify(&passwords, &of(71), Some(&hash)).await.unwrap(),
            Verdict::Wrong
        );
    }

    #[test]
    fn a_wrong_password_costs_what_the_slowest_kind_does() {
        let costs = Costs::new(HashKind::of(HashParameters::default()));
        costs.add(HashKind::stored("$2b$04$".to_owned()));
        costs.add(HashKind::stored(
            "$argon2id$v=19$m=32768,t=3,p=1$".to_owned(),
        ));
        let kinds = [
            "$2b$04$",
            "$argon2id$v=19$m=19456,t=2,p=1$",
            "$argon2id$v=19$m=32768,t=3,p=1$",
        ];
        let hashes = kinds.map(|kind| {
            HashKind::stored(kind.to_owned())
                .sample()
                .map_err(|(_, why)| why)
                .unwrap()
        });
        // The first call measures the kinds.
        let cost = costs.slowest();
        let slowest = {
            let since = thread_time();
            cost.sample().verify("x").unwrap();
            thread_time() - since
        };

        for hash in hashes.iter().map(Some).chain([None]) {
            for text in ["violet", "cafe\u{301}"] {
                let since = thread_time();
                let verdict = compare(
                    &secret(text),
                    hash,
                    HashParameters::default(),
                    Time::OfTheSlowest,
                    &costs,
                )
                .unwrap();
                let took = thread_time() - since;
                let times = secret(text).spellings().len() as u32;
                assert_eq!(verdict, Verdict::Wrong);
                // Only the CPU time of the thread, which depends little on other load.
                assert!(took > slowest * times * 6 / 10, "{took:?} of {slowest:?}");
            }
        }
        let since = thread_time();
        compare(
            &secret("violet"),
            Some(&hashes[0]),
            HashParameters::default(),
            Time::OfItsHash,
            &costs,
        )
        .unwrap();
        assert!(
            thread_time() - since < slowest / 2,
            "a proof of an own password takes its own time"
        );
    }

    #[tokio::test]
    async fn a_stored_hash_that_cannot_be_read_is_our_fault() {
        let error = verify(&start(1), "x", Some("plain")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Internal);
    }

    #[tokio::test]
    async fn a_job_whose_caller_left_is_skipped() {
        let passwords = start(1);
        let release = block(&passwords).await;
        let was_done = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&was_done);
        let job = run(&passwords, move || mark.swap(true, Ordering::SeqCst));
        assert!(job.now_or_never().is_none());
        assert_eq!(passwords.queued(), 1);
        release.send(()).unwrap();
        run(&passwords, || ()).await.unwrap();
        assert!(!was_done.load(Ordering::SeqCst));
        assert_eq!(passwords.queued(), 0);
    }

    #[tokio::test]
    async fn a_caller_cannot_fill_the_queue() {
        let passwords = start(1);
        let release = block(&passwords).await;
        let half = WAITING_PER_WORKER / 2;
        let jobs = join_all((0..=half).map(|_| run(&passwords, || ())));
        let user = Caller::new(Subject::User(42), Vec::new());
        let of_user = join_all(
            (0..=WAITING_PER_USER).map(|_| passwords.run(&user, Priority::Login, || Ok(()))),
        );
        let (other_service, violet) = (service("other"), secret("violet-lantern-93"));
        let other = passwords.hash(&other_service, &violet);
        let free = async { release.send(()).unwrap() };

        let (answers, of_user, other, ()) = tokio::join!(jobs, of_user, other, free);

        let refused = |answers: Vec<Result<()>>| {
            answers
                .into_iter()
                .filter_map(Result::err)
                .collect::<Vec<_>>()
        };
        for refused in [refused(answers), refused(of_user)] {
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].reason(), Reason::Overloaded);
            assert!(refused[0].retry_after().is_some());
        }
        assert!(other.is_ok());
        assert_eq!(passwords.queued(), 0);
    }

    #[tokio::test]
    async fn many_are_verified_at_once() {
        let passwords = start(2);
        let texts: Vec<String> = (0..20).map(|n| format!("violet-lantern-{n}")).collect();
        let caller = service("test");
        let hash = async |text: &String| passwords.hash(&caller, &secret(text)).await.unwrap();
        let hashes = join_all(texts.iter().map(hash)).await;
        let verdicts = join_all(texts.iter().enumerate().map(async |(at, text)| {
            let hash = &hashes[at - at % 2];
            verify(&passwords, text, Some(hash)).await.unwrap()
        }));
        for (at, verdict) in verdicts.await.into_iter().enumerate() {
            assert_eq!(
                verdict,
                if at % 2 == 0 {
                    Verdict::Right
                } else {
                    Verdict::Wrong
                }
            );
        }
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_caller_alone() {
        let passwords = start(1);
        let error = run::<()>(&passwords, || panic!("a test"))
            .await
            .unwrap_err();
        assert_eq!(error.reason(), Reason::Internal);
        run(&passwords, || ()).await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_have_the_lowest_priority_and_others_keep_theirs() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let theirs = run(&start(1), || {
            rustix::process::getpriority_process(None).unwrap()
        })
        .await;
        assert_eq!(theirs.unwrap(), 19);
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), own);
    }

    #[tokio::test]
    async fn easy_passwords_are_rejected_off_the_async_threads() {
        let passwords = start(1);
        let is_rejected = async |text: &str, name: Option<&str>| {
            passwords
                .is_rejected(&service("test"), &secret(text), name, None)
                .await
                .unwrap()
        };
        assert!(is_rejected("password1", None).await);
        assert!(is_rejected("9Mara.Quill-violet", Some("mara.quill")).await);
        assert!(!is_rejected("violet-lantern-93", Some("mara.quill")).await);
    }
}
