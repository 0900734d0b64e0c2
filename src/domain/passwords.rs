//! Hashing of passwords, on threads of its own: it takes tens of milliseconds of a core, and everything else goes
//! before it.

use std::{
    error::Error as StdError,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    clock::random_bytes,
    error::{Error, Reason, Result},
    model::{
        password::{self, Secret},
        password_hash::{self, PasswordHash},
    },
    telemetry::metrics,
};

/// How many jobs may wait for each thread: about what it does in the ten seconds that a call may take.
const WAITING_PER_WORKER: usize = 256;
/// What is verified where there is no hash, at the same cost. Its answer is not looked at.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$WT16QWAGsWBcTp1YZ52iQQ$f45aRc6hCzVrPzbgj5t8/ank8bNzc3Ig5jOvUcx8LTM";

type Job = Box<dyn FnOnce() + Send>;

/// Whether a password is the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// Right, but the hash has other parameters than ours and should be renewed.
    RightOutdated,
    Wrong,
}

/// The queue of hashing. Its threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Passwords {
    jobs: SyncSender<Job>,
    queued: Arc<AtomicUsize>,
}

impl Passwords {
    /// Starts this many threads, at least one.
    ///
    /// # Errors
    /// Fails where the system gives no more threads.
    pub fn new(workers: usize) -> io::Result<Self> {
        let workers = workers.max(1);
        let (jobs, waiting) = mpsc::sync_channel(workers * WAITING_PER_WORKER);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..workers {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().name(format!("password-{number}")).spawn(move || work(&waiting))?;
        }
        Ok(Self { jobs, queued: Arc::default() })
    }

    /// How many jobs wait for a thread.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// OVERLOADED where the queue is full.
    pub async fn hash(&self, secret: &Secret) -> Result<String> {
        let secret = secret.clone();
        self.run(move || Ok(password_hash::hash(&secret, random_bytes())?)).await
    }

    /// Checks a password. Without a hash it is wrong after the time that one of ours takes, so that nobody learns from
    /// the time whether there is one.
    ///
    /// # Errors
    /// OVERLOADED where the queue is full; INTERNAL where the hash is none.
    pub async fn verify(&self, secret: &Secret, hash: Option<&str>) -> Result<Verdict> {
        let is_known = hash.is_some();
        let parsed = PasswordHash::parse(hash.unwrap_or(NOBODY))
            .map_err(|(_, why)| Error::internal(format!("a stored hash {why}")))?;
        let secret = secret.clone();
        self.run(move || {
            let is_right = parsed.verify(&secret)? && is_known;
            Ok(match (is_right, parsed.is_current()) {
                (false, _) => Verdict::Wrong,
                (true, true) => Verdict::Right,
                (true, false) => Verdict::RightOutdated,
            })
        })
        .await
    }

    /// Whether a new login password is too easy to guess, by [`password::is_rejected`].
    ///
    /// # Errors
    /// OVERLOADED where the queue is full.
    pub async fn is_rejected(&self, secret: &Secret, username: Option<&str>, email: Option<&str>) -> Result<bool> {
        let secret = secret.clone();
        let (username, email) = (username.map(str::to_owned), email.map(str::to_owned));
        self.run(move || Ok(password::is_rejected(&secret, username.as_deref(), email.as_deref()))).await
    }

    /// Does the job on one of the threads, unless its caller is gone by then.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Box<dyn StdError + Send + Sync>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let queued = Arc::clone(&self.queued);
        let since = Instant::now();
        let job = Box::new(move || {
            queued.fetch_sub(1, Ordering::Relaxed);
            metrics::hash_wait(since.elapsed());
            if !reply.is_closed() {
                // A caller that left in the meantime wants no answer.
                reply.send(job()).ok();
            }
        });
        self.queued.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(job).is_err() {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(Reason::Overloaded));
        }
        answer.await.map_err(Error::internal)?.map_err(Error::internal)
    }
}

/// Does jobs until nobody can send any more.
fn work(waiting: &Mutex<Receiver<Job>>) {
    yield_to_others();
    loop {
        let job = waiting.lock().expect("valid: no holder panics").recv();
        let Ok(job) = job else { return };
        // One that panics must not take the thread along: the others would wait for ever.
        if panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job of the password threads panicked");
        }
    }
}

/// Gives this thread the lowest priority. Only on Linux does a thread have one of its own.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "the password threads keep the priority of the process");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use futures_util::future::{FutureExt, join_all};

    use super::*;
    use crate::model::password::parse_attempt;

    const OLD: &str = "$argon2id$v=19$m=256,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$DFJl3+LYuTnYvEglMJWlNe078oGA5gKVBvWvbqtptz4";

    fn secret(text: &str) -> Secret {
        parse_attempt(text.into()).unwrap()
    }

    /// Holds the only thread until the sender is dropped or used.
    async fn block(passwords: &Passwords) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let passwords = passwords.clone();
        tokio::spawn(async move {
            let job = move || {
                started.send(()).unwrap();
                Ok(released.recv().is_ok())
            };
            passwords.run(job).await
        });
        has_started.await.unwrap();
        release
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_alone() {
        let passwords = Passwords::new(1).unwrap();
        let violet = secret("violet-lantern-93");
        let hash = passwords.hash(&violet).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(hash, passwords.hash(&violet).await.unwrap());
        assert_eq!(passwords.verify(&violet, Some(&hash)).await.unwrap(), Verdict::Right);
        let other = secret("Violet-lantern-93");
        assert_eq!(passwords.verify(&other, Some(&hash)).await.unwrap(), Verdict::Wrong);
        assert_eq!(passwords.verify(&violet, None).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_is_outdated() {
        let passwords = Passwords::new(1).unwrap();
        let right = secret("correct horse battery staple");
        assert_eq!(passwords.verify(&right, Some(OLD)).await.unwrap(), Verdict::RightOutdated);
        assert_eq!(passwords.verify(&secret("x"), Some(OLD)).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_stored_hash_that_cannot_be_read_is_our_fault() {
        let passwords = Passwords::new(1).unwrap();
        let error = passwords.verify(&secret("x"), Some("plain")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Internal);
    }

    #[tokio::test]
    async fn nobodys_hash_costs_what_ours_does() {
        assert!(PasswordHash::parse(NOBODY).is_ok_and(|hash| hash.is_current()));
    }

    #[tokio::test]
    async fn a_job_whose_caller_left_is_skipped() {
        let passwords = Passwords::new(1).unwrap();
        let release = block(&passwords).await;
        let was_done = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&was_done);
        let job = passwords.run(move || Ok(mark.swap(true, Ordering::SeqCst)));
        assert!(job.now_or_never().is_none());
        assert_eq!(passwords.queued(), 1);
        release.send(()).unwrap();
        passwords.run(|| Ok(())).await.unwrap();
        assert!(!was_done.load(Ordering::SeqCst));
        assert_eq!(passwords.queued(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_is_overloaded() {
        let passwords = Passwords::new(1).unwrap();
        let release = block(&passwords).await;
        let jobs = join_all((0..=WAITING_PER_WORKER).map(|_| passwords.run(|| Ok(()))));
        let free = async { release.send(()).unwrap() };
        let (answers, ()) = tokio::join!(jobs, free);
        let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].reason(), Reason::Overloaded);
        assert_eq!(passwords.queued(), 0);
    }

    #[tokio::test]
    async fn many_are_verified_at_once() {
        let passwords = Passwords::new(2).unwrap();
        let texts: Vec<String> = (0..20).map(|n| format!("violet-lantern-{n}")).collect();
        let hashes = join_all(texts.iter().map(async |text| passwords.hash(&secret(text)).await.unwrap())).await;
        let verdicts = join_all(texts.iter().enumerate().map(async |(at, text)| {
            let hash = &hashes[at - at % 2];
            passwords.verify(&secret(text), Some(hash)).await.unwrap()
        }));
        for (at, verdict) in verdicts.await.into_iter().enumerate() {
            assert_eq!(verdict, if at % 2 == 0 { Verdict::Right } else { Verdict::Wrong });
        }
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_caller_alone() {
        let passwords = Passwords::new(1).unwrap();
        let error = passwords.run::<()>(|| panic!("a test")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Internal);
        passwords.run(|| Ok(())).await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_have_the_lowest_priority_and_others_keep_theirs() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let passwords = Passwords::new(1).unwrap();
        let theirs = passwords.run(|| Ok(rustix::process::getpriority_process(None)?)).await;
        assert_eq!(theirs.unwrap(), 19);
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), own);
    }

    #[tokio::test]
    async fn easy_passwords_are_rejected_off_the_async_threads() {
        let passwords = Passwords::new(1).unwrap();
        assert!(passwords.is_rejected(&secret("password1"), None, None).await.unwrap());
        let name = Some("mara.quill");
        assert!(passwords.is_rejected(&secret("9Mara.Quill-violet"), name, None).await.unwrap());
        assert!(!passwords.is_rejected(&secret("violet-lantern-93"), name, None).await.unwrap());
    }
}
