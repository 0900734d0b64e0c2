//! Checks codes and passwords. Every try is counted, and the count committed, before anything is
//! compared: fifty tries at once count as fifty, whatever becomes of the call. Those of one user
//! take turns, so that many at once do not wait for one count with all connections of the pool.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use subtle::ConstantTimeEq;
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    clock::Clock,
    domain::{
        caller::Caller,
        codes::digits,
        db::{Db, End},
        passwords::{Passwords, Verdict},
        rate_limiter::{Bucket, exceeded},
    },
    error::{Error, FieldError, Reason, Result},
    model::{
        account::Login,
        account_change::{CodeAttempt, PasswordAttempt, Plan},
        code::{self, Code},
        keys::Keys,
        password::Kind,
        rate_limit::{CodeLimits, Window},
    },
    store::codes,
    telemetry::metrics,
};

/// What proofs are checked with.
#[derive(Clone)]
pub(super) struct Proofs {
    pub db: Db,
    pub clock: Clock,
    pub keys: Keys,
    pub passwords: Passwords,
    /// How many wrong passwords are permitted.
    pub wrong: Window,
    /// How many attempts with codes are permitted.
    pub codes: CodeLimits,
}

/// Verified codes. They are consumed in the transaction of the change, or their attempts refunded:
/// at the latest when this is dropped, where the call is cut off.
pub(super) struct VerifiedCodes {
    proofs: Proofs,
    user_id: i64,
    codes: Vec<VerifiedCode>,
}

#[derive(Clone)]
struct VerifiedCode {
    code_id: i64,
    path: &'static str,
    bucket: String,
    hit: DateTime<Utc>,
}

/// A shown code with the rows of its purpose, newest first.
struct SubmittedCode {
    shown: CodeAttempt,
    rows: Vec<Code>,
}

fn code_bucket(user_id: i64, shown: &CodeAttempt) -> String {
    format!("wrong/{user_id}/{}", shown.purpose.as_str())
}

/// The key of the bucket of wrong passwords in UpdateAccount.
pub(super) fn password_bucket(user_id: i64, kind: Kind) -> String {
    format!("password/{user_id}/{}", kind.as_str())
}

impl Proofs {
    /// Checks all that is shown.
    ///
    /// # Errors
    /// In this order: a limit, the state of a code, a mismatch; all errors of that step.
    pub(super) async fn check(
        &self,
        caller: &Caller,
        login: &Login,
        plan: &Plan,
    ) -> Result<VerifiedCodes> {
        let now = self.clock.now();
        let user_id = login.user_id;
        if plan.codes.is_empty() && plan.passwords_given.is_empty() {
            plan.reject_unchanged()?;
            return Ok(VerifiedCodes {
                proofs: self.clone(),
                user_id,
                codes: Vec::new(),
            });
        }
        let (tried, left) = self
            .db
            .of_user(user_id)
            .transaction(End::Commit, async |conn| {
                let mut buckets = self.lock(conn, user_id, plan, now).await?;
                let tried = find(conn, user_id, &plan.codes, now).await?;
                for tried in &tried {
                    reject_used(tried)?;
                }
                plan.reject_unchanged()?;
                for tried in &tried {
                    reject_by_state(tried, self.codes.attempts, now)?;
                }
                for tried in &tried {
                    codes::count(conn, user_id, tried.rows[0].code_id, 1).await?;
                }
                let mut left = Vec::new();
                for bucket in &mut buckets {
                    bucket.add();
                    left.push(bucket.left());
                }
                for bucket in buckets {
                    bucket.save(conn).await?;
                }
                // Those of passwords stand behind those of codes.
                Ok((tried, left.split_off(plan.codes.len())))
            })
            .await?;
        let (right, wrong_codes) = self.compare_codes(user_id, tried, now);
        metrics::codes(metrics::Code::Right, right.codes.len());
        metrics::codes(metrics::Code::Wrong, wrong_codes.len());
        let compared = self
            .compare_passwords(caller, login, &plan.passwords_given, (left, now))
            .await;
        let failed = match compared {
            Ok(mismatch) => first_failure(wrong_codes, mismatch),
            Err(error) => Some(error),
        };
        match failed {
            None => Ok(right),
            Some(error) => {
                right.refund().await;
                Err(error)
            }
        }
    }

    /// Locks the limits of every proof: codes first, in the order of the plan, then passwords.
    async fn lock(
        &self,
        conn: &mut AsyncPgConnection,
        user_id: i64,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> Result<Vec<Bucket>> {
        let mut buckets = Vec::new();
        for shown in &plan.codes {
            buckets.push(
                Bucket::lock(conn, code_bucket(user_id, shown), &[self.codes.wrong], now).await?,
            );
        }
        for attempt in &plan.passwords_given {
            buckets.push(
                Bucket::lock(
                    conn,
                    password_bucket(user_id, attempt.kind),
                    &[self.wrong],
                    now,
                )
                .await?,
            );
        }
        let waits = |buckets: &[Bucket]| {
            buckets
                .iter()
                .filter_map(Bucket::exceeded)
                .max_by_key(|(_, wait)| *wait)
        };
        let (of_codes, of_passwords) = buckets.split_at(plan.codes.len());
        if let Some((window, wait)) = waits(of_passwords) {
            return Err(exceeded(Reason::PasswordAttemptsExceeded, window, wait));
        }
        if let Some((window, wait)) = waits(of_codes) {
            return Err(exceeded(Reason::CodeBudgetExceeded, window, wait));
        }
        Ok(buckets)
    }

    fn compare_codes(
        &self,
        user_id: i64,
        tried: Vec<SubmittedCode>,
        now: DateTime<Utc>,
    ) -> (VerifiedCodes, Vec<(CodeAttempt, Wrong)>) {
        let mut right = VerifiedCodes {
            proofs: self.clone(),
            user_id,
            codes: Vec::new(),
        };
        let mut wrong = Vec::new();
        for SubmittedCode { shown, rows } in tried {
            let is = |row: &Code| {
                let seed = code::seed(
                    user_id,
                    shown.channel,
                    shown.purpose.as_str(),
                    &row.address,
                    &row.nonce,
                );
                let sent = digits(&self.keys, &row.key_id, &seed).unwrap_or_default();
                bool::from(sent.as_bytes().ct_eq(shown.digits.as_bytes()))
            };
            if is(&rows[0]) {
                let bucket = code_bucket(user_id, &shown);
                right.codes.push(VerifiedCode {
                    code_id: rows[0].code_id,
                    path: shown.path,
                    bucket,
                    hit: now,
                });
            } else if rows[1..]
                .iter()
                .any(|row| row.expires_at > now && row.used_at.is_none() && is(row))
            {
                wrong.push((shown, Wrong::Superseded));
            } else {
                let left = (self.codes.attempts - rows[0].attempts - 1).max(0);
                wrong.push((shown, Wrong::Invalid { left }));
            }
        }
        (right, wrong)
    }

    /// The error of the passwords that are wrong. A right one clears its count.
    async fn compare_passwords(
        &self,
        caller: &Caller,
        login: &Login,
        passwords_given: &[PasswordAttempt],
        (left, hit): (Vec<usize>, DateTime<Utc>),
    ) -> Result<Option<Error>> {
        let mut mismatch: Option<Error> = None;
        for (place, (attempt, left)) in passwords_given.iter().zip(left).enumerate() {
            let verdict = match self
                .passwords
                .verify(caller, &attempt.secret, login.hash(attempt.kind))
                .await
            {
                Ok(verdict) => verdict,
                Err(error) => {
                    // This one and the following ones weren't compared, so the caller learned
                    // nothing about them.
                    for attempt in &passwords_given[place..] {
                        self.give_password_back(login.user_id, attempt.kind, hit)
                            .await?;
                    }
                    return Err(error);
                }
            };
            match verdict {
                Verdict::Right | Verdict::Outdated(_) => {
                    self.clear(login.user_id, attempt.kind).await?
                }
                Verdict::Wrong => {
                    let error = mismatch
                        .take()
                        .unwrap_or_else(|| Error::new(Reason::PasswordMismatch));
                    let error = error.with_violation(
                        attempt.path,
                        FieldError::Format,
                        Reason::PasswordMismatch.message(),
                    );
                    mismatch = Some(error.with_metadata("attemptsRemaining", left));
                }
            }
        }
        Ok(mismatch)
    }

    /// Counts a comparison with a secret that the caller hasn't presented, as an attempt like any
    /// other. Returns its time; `None` if half of the attempts are used up: the rest is reserved
    /// for the owner, who may have chosen many new secrets.
    pub(super) async fn count_comparison(
        &self,
        user_id: i64,
        kind: Kind,
    ) -> Result<Option<DateTime<Utc>>> {
        let now = self.clock.now();
        self.db
            .of_user(user_id)
            .transaction(End::Commit, async |conn| {
                let mut bucket =
                    Bucket::lock(conn, password_bucket(user_id, kind), &[self.wrong], now).await?;
                if bucket.left() <= self.wrong.limit / 2 {
                    return Ok(None);
                }
                bucket.add();
                bucket.save(conn).await?;
                Ok(Some(now))
            })
            .await
    }

    /// Refunds an attempt that was correct, or that wasn't compared.
    pub(super) async fn give_password_back(
        &self,
        user_id: i64,
        kind: Kind,
        hit: DateTime<Utc>,
    ) -> Result<()> {
        let now = self.clock.now();
        self.db
            .of_user(user_id)
            .transaction(End::Commit, async |conn| {
                let mut bucket =
                    Bucket::lock(conn, password_bucket(user_id, kind), &[self.wrong], now).await?;
                bucket.refund(hit);
                bucket.save(conn).await
            })
            .await
    }

    async fn clear(&self, user_id: i64, kind: Kind) -> Result<()> {
        let now = self.clock.now();
        self.db
            .of_user(user_id)
            .transaction(End::Commit, async |conn| {
                let mut bucket =
                    Bucket::lock(conn, password_bucket(user_id, kind), &[self.wrong], now).await?;
                bucket.clear();
                bucket.save(conn).await
            })
            .await
    }

    /// Refunds the attempts of correct codes, for a call that failed for another reason, which is
    /// returned even where this fails.
    async fn refund(&self, user_id: i64, right: &[VerifiedCode]) {
        let now = self.clock.now();
        let db = self.db.of_user(user_id);
        let given = db.transaction(End::Commit, async |conn| {
            refund_hits(conn, right, self.codes.wrong, now).await?;
            for code in right {
                codes::count(conn, user_id, code.code_id, -1).await?;
            }
            Ok(())
        });
        if let Err(error) = given.await {
            tracing::warn!(
                reason = error.reason().as_str(),
                "failed to refund the attempts of right codes"
            );
        }
    }
}

impl VerifiedCodes {
    /// Uses the codes up, in the transaction of what they prove.
    ///
    /// # Errors
    /// CODE_USED where another call was sooner.
    pub(super) async fn consume(
        &self,
        conn: &mut AsyncPgConnection,
        now: DateTime<Utc>,
    ) -> Result<()> {
        // Buckets first, in the order in which checking a code locks them: the other order is a
        // deadlock.
        refund_hits(conn, &self.codes, self.proofs.codes.wrong, now).await?;
        for code in &self.codes {
            if !codes::consume(conn, self.user_id, code.code_id, now).await? {
                return Err(Error::new(Reason::CodeUsed).with_precondition(code.path));
            }
        }
        Ok(())
    }

    /// Notes that they are used up for good.
    pub(super) fn settle(mut self) {
        self.codes.clear();
    }

    /// Refunds their attempts, also if the call is cancelled here.
    pub(super) async fn refund(mut self) {
        if let Some(given) = self.giving_back()
            && let Err(error) = given.await
        {
            tracing::error!(%error, "the attempt refund task failed");
        }
    }

    fn giving_back(&mut self) -> Option<JoinHandle<()>> {
        let (proofs, user_id, codes) = (
            self.proofs.clone(),
            self.user_id,
            std::mem::take(&mut self.codes),
        );
        let runtime = Handle::try_current().ok().filter(|_| !codes.is_empty())?;
        Some(runtime.spawn(async move { proofs.refund(user_id, &codes).await }))
    }
}

impl Drop for VerifiedCodes {
    fn drop(&mut self) {
        // No caller waits for it any more.
        self.giving_back();
    }
}

/// Takes the attempts of correct codes out of the limit on wrong ones.
async fn refund_hits(
    conn: &mut AsyncPgConnection,
    right: &[VerifiedCode],
    wrong: Window,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut codes: Vec<&VerifiedCode> = right.iter().collect();
    codes.sort_by(|a, b| a.bucket.cmp(&b.bucket));
    for code in codes {
        let mut bucket = Bucket::lock(conn, code.bucket.clone(), &[wrong], now).await?;
        bucket.refund(code.hit);
        bucket.save(conn).await?;
    }
    Ok(())
}

async fn find(
    conn: &mut AsyncPgConnection,
    user_id: i64,
    shown: &[CodeAttempt],
    now: DateTime<Utc>,
) -> Result<Vec<SubmittedCode>> {
    let mut tried = Vec::with_capacity(shown.len());
    for shown in shown {
        let rows = codes::list(
            conn,
            user_id,
            shown.channel,
            shown.purpose,
            now - code::MEMORY,
        )
        .await?;
        tried.push(SubmittedCode {
            shown: shown.clone(),
            rows,
        });
    }
    Ok(tried)
}

/// A code that was used says so before anything else: who shows it twice wants to know that it
/// worked.
fn reject_used(tried: &SubmittedCode) -> Result<()> {
    match tried.rows.first() {
        Some(row) if row.used_at.is_some() => {
            Err(Error::new(Reason::CodeUsed).with_precondition(tried.shown.path))
        }
        _ => Ok(()),
    }
}

/// What became of the newest code decides, whatever its address.
fn reject_by_state(tried: &SubmittedCode, max_attempts: i32, now: DateTime<Utc>) -> Result<()> {
    let reason = match tried.rows.first() {
        None => Reason::CodeNotRequested,
        Some(row) if row.superseded_at.is_some() => Reason::CodeSuperseded,
        Some(row) if row.address != tried.shown.address => Reason::CodeNotRequested,
        Some(row) if row.expires_at <= now => Reason::CodeExpired,
        Some(row) if row.attempts >= max_attempts => Reason::CodeAttemptsExhausted,
        Some(_) => return Ok(()),
    };
    Err(Error::new(reason).with_precondition(tried.shown.path))
}

enum Wrong {
    /// The digits of an older code that has not expired.
    Superseded,
    Invalid {
        left: i32,
    },
}

fn first_failure(wrong: Vec<(CodeAttempt, Wrong)>, mismatch: Option<Error>) -> Option<Error> {
    if let Some((shown, _)) = wrong
        .iter()
        .find(|(_, wrong)| matches!(wrong, Wrong::Superseded))
    {
        return Some(Error::new(Reason::CodeSuperseded).with_precondition(shown.path));
    }
    if mismatch.is_some() {
        return mismatch;
    }
    let mut error: Option<(Error, i32)> = None;
    for (shown, wrong) in wrong {
        let Wrong::Invalid { left } = wrong else {
            continue;
        };
        let (so_far, least) = error
            .take()
            .unwrap_or_else(|| (Error::new(Reason::CodeInvalid), left));
        let told = so_far.with_violation(
            shown.path,
            FieldError::Format,
            Reason::CodeInvalid.message(),
        );
        error = Some((told, least.min(left)));
    }
    error.map(|(error, left)| error.with_metadata("attemptsRemaining", left))
}
