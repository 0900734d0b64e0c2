//! The queue of the hashing threads: logins come first, and the callers take turns.

use std::collections::{HashMap, VecDeque};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Work for one of the threads.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The purpose of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Verifies a password for a login, or as the proof for a change.
    Login,
    /// Hashes or checks a new password, or a password of an import.
    Other,
}

/// Jobs that wait for a thread.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// The maximum number of jobs of each priority.
    capacity: usize,
}

#[derive(Default)]
struct State {
    logins: Lane,
    others: Lane,
    is_closed: bool,
}

/// The jobs of one priority.
#[derive(Default)]
struct Lane {
    /// Callers with jobs, each once, in the order in which they are served.
    turns: VecDeque<String>,
    jobs: HashMap<String, VecDeque<Job>>,
    len: usize,
}

impl Queue {
    /// An empty queue with room for this many jobs of each priority.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        }
    }

    /// Adds a job of a caller, who may have `most` jobs of this priority in the queue; false if the
    /// queue is full.
    pub(super) fn push(&self, caller: &str, most: usize, priority: Priority, job: Job) -> bool {
        let mut state = self.lock();
        let lane = match priority {
            Priority::Login => &mut state.logins,
            Priority::Other => &mut state.others,
        };
        let waiting = lane.jobs.get(caller).map_or(0, VecDeque::len);
        if lane.len >= self.capacity || waiting >= most {
            return false;
        }
        lane.push(caller, job);
        drop(state);
        self.changed.notify_one();
        true
    }

    /// Waits for the next job; `None` when the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.logins.pop().or_else(|| state.others.pop()) {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends the threads after the jobs in the queue.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Lane {
    fn push(&mut self, caller: &str, job: Job) {
        self.len += 1;
        if let Some(jobs) = self.jobs.get_mut(caller) {
            return jobs.push_back(job);
        }
        self.turns.push_back(caller.to_owned());
        self.jobs.insert(caller.to_owned(), VecDeque::from([job]));
    }

    /// The oldest job of the caller who is next. That caller then moves to the end.
    fn pop(&mut self) -> Option<Job> {
        let caller = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&caller)?;
        let job = jobs.pop_front()?;
        self.len -= 1;
        if jobs.is_empty() {
            self.jobs.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn named(name: &'static str, done: &Sender<&'static str>) -> Job {
        let done = done.clone();
        Box::new(move || done.send(name).unwrap())
    }

    #[test]
    fn logins_go_first_and_callers_take_turns() {
        let (queue, (done, order)) = (Queue::new(10), channel());
        let jobs = [
            ("import", Priority::Other, "import 1"),
            ("import", Priority::Other, "import 2"),
            ("import", Priority::Other, "import 3"),
            ("ann", Priority::Other, "new password"),
            ("shop", Priority::Login, "shop 1"),
            ("shop", Priority::Login, "shop 2"),
            ("ben", Priority::Login, "proof"),
        ];
        for (caller, priority, name) in jobs {
            assert!(queue.push(caller, 10, priority, named(name, &done)));
        }
        queue.close();
        drop(done);

        while let Some(job) = queue.pop() {
            job();
        }

        let order: Vec<_> = order.iter().collect();
        assert_eq!(
            order,
            [
                "shop 1",
                "proof",
                "shop 2",
                "import 1",
                "new password",
                "import 2",
                "import 3"
            ]
        );
    }

    #[test]
    fn one_caller_leaves_room_for_others_and_other_hashing_for_logins() {
        let (queue, (done, _order)) = (Queue::new(3), channel());
        let push = |caller, priority| queue.push(caller, 2, priority, named("", &done));

        let import: Vec<bool> = (0..3).map(|_| push("import", Priority::Other)).collect();
        let others = [push("ann", Priority::Other), push("ben", Priority::Other)];
        let logins = [
            push("import", Priority::Login),
            push("ben", Priority::Login),
        ];

        assert_eq!(import, [true, true, false], "a caller has its own bound");
        assert_eq!(others, [true, false], "the queue has one too");
        assert_eq!(logins, [true, true], "logins have places of their own");
    }

    #[test]
    fn a_caller_whose_jobs_are_done_may_queue_again() {
        let (queue, (done, _order)) = (Queue::new(3), channel());
        for _ in 0..5 {
            assert!(queue.push("ann", 1, Priority::Login, named("", &done)));
            assert!(queue.pop().is_some());
        }
        queue.close();
        assert!(queue.pop().is_none());
    }
}
