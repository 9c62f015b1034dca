//! A watch channel that wakes who waits in the order in which they came. Tokio's spreads them at random over several
//! lists, to save contention, which gives every run another order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use openraft::async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use openraft::{OptionalSend, OptionalSync};
use tokio::sync::Notify;
use tokio::sync::watch as tokio_watch;

#[derive(Default)]
struct Signal {
    version: AtomicU64,
    closed: AtomicBool,
    wake: Notify,
}

impl Signal {
    fn changed(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.wake.notify_waiters();
    }
}

/// Closes the channel with the last of its senders.
struct Open(Arc<Signal>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.wake.notify_waiters();
    }
}

pub(crate) struct OrderedWatch;

pub(crate) struct Sender<T> {
    value: tokio_watch::Sender<T>,
    open: Arc<Open>,
}

pub(crate) struct Receiver<T> {
    value: tokio_watch::Receiver<T>,
    signal: Arc<Signal>,
    seen: u64,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), open: self.open.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), signal: self.signal.clone(), seen: self.seen }
    }
}

impl Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = tokio_watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = tokio_watch::channel(init);
        let signal: Arc<Signal> = Arc::default();
        let open = Arc::new(Open(signal.clone()));
        (Sender { value: sender, open }, Receiver { value: receiver, signal, seen: 0 })
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.value.send(value).map_err(|e| SendError(e.0))?;
        self.open.0.changed();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = self.value.send_if_modified(modify);
        if modified {
            self.open.0.changed();
        }
        modified
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.value.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        let signal = self.open.0.clone();
        let seen = signal.version.load(Ordering::SeqCst);
        Receiver { value: self.value.subscribe(), signal, seen }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let signal = self.signal.clone();
        loop {
            let woken = signal.wake.notified();
            tokio::pin!(woken);
            // From here on nothing is missed.
            woken.as_mut().enable();
            let version = signal.version.load(Ordering::SeqCst);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if signal.closed.load(Ordering::SeqCst) {
                return Err(RecvError(()));
            }
            woken.await;
        }
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.value.borrow()
    }

    fn borrow_and_update(&mut self) -> tokio_watch::Ref<'_, T> {
        self.seen = self.signal.version.load(Ordering::SeqCst);
        self.value.borrow_and_update()
    }
}
