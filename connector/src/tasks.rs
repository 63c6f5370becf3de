//! Tasks in the background that end with the connector.

use parking_lot::Mutex;
use std::future::Future;
use tokio::task::JoinSet;

/// A set of tasks; after [`shutdown`](Self::shutdown) it takes no more.
#[derive(Debug)]
pub(crate) struct Tasks(Mutex<Option<JoinSet<()>>>);

impl Default for Tasks {
    fn default() -> Self {
        Tasks(Mutex::new(Some(JoinSet::new())))
    }
}

impl Tasks {
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.0.lock();
        // Without a set the task is dropped, and whoever waits for it learns that.
        let Some(set) = set.as_mut() else { return };
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }

    /// Ends all tasks where they wait, and resolves when they are gone.
    pub async fn shutdown(&self) {
        let set = self.0.lock().take();
        if let Some(mut set) = set {
            set.shutdown().await;
        }
    }
}
