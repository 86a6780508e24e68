//! Newcomers of UIDs that have many connections. They wait for their first turn, so that nobody else waits behind thousands of their
//! messages in the queue of the socket. Who is one of these does not enter.

use std::collections::VecDeque;
use std::iter::from_fn;

use tokio::task::spawn_local;

use super::serving::Task;

/// Those that wait, in their order; with some that have been given up meanwhile.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<Task>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, task: Task) {
        // Mostly those go first that came first.
        while self.0.front().is_some_and(Task::is_over) {
            self.0.pop_front();
        }
        if self.0.len() == self.0.capacity() {
            self.0.retain(|task| !task.is_over());
        }
        self.0.push_back(task);
    }

    /// The next ones, so many at most, have turns from here on.
    pub(super) fn begin(&mut self, count: u32) {
        let next = from_fn(|| self.0.pop_front()).filter(|task| !task.is_over());
        next.take(count as usize).for_each(|task| {
            spawn_local(task);
        });
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }
}
