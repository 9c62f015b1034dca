//! Who writes: a thread, which takes everything that has queued up at once; or the caller, if the thread
//! has nothing to do and the write is small. Handing such a write over and back costs more than the write.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::LogError;
use super::writer::{Op, Writer};

/// Operations written together at most.
const MAX_OPS: usize = 1024;
/// Bytes written together, about.
const MAX_BYTES: usize = 8 << 20;
/// A larger write is left to the thread: meanwhile the caller can prepare the next one.
const AT_ONCE: usize = 4 << 10;

pub(super) struct Queue {
    writer: Arc<Mutex<Writer>>,
    ops: mpsc::Sender<Op>,
    /// How many the thread has been given and has not done.
    given: Arc<AtomicUsize>,
    at_once: AtomicBool,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    pub(super) fn start(writer: Writer) -> Result<Self, LogError> {
        let writer = Arc::new(Mutex::new(writer));
        let given = Arc::new(AtomicUsize::new(0));
        let (ops, queue) = mpsc::channel();
        let (theirs, done) = (writer.clone(), given.clone());
        let thread = std::thread::Builder::new().name("raft-log".into()).spawn(move || run(&theirs, &queue, &done));
        let thread = Some(thread.map_err(|e| LogError(format!("raft log: no thread: {e}")))?);
        Ok(Self { writer, ops, given, at_once: AtomicBool::new(false), thread })
    }

    /// Lets callers write what is small.
    pub(super) fn write_at_once(&self, allowed: bool) {
        self.at_once.store(allowed, Ordering::Relaxed);
    }

    pub(super) fn add(&self, op: Op) {
        if self.at_once.load(Ordering::Relaxed)
            && op.size() <= AT_ONCE
            && self.given.load(Ordering::Acquire) == 0
            && let Some(mut writer) = self.writer.try_lock()
        {
            return writer.finish(&mut vec![op]);
        }
        self.given.fetch_add(1, Ordering::AcqRel);
        // The thread ends only after this sender is dropped, or with the process.
        if let Err(mpsc::SendError(op)) = self.ops.send(op) {
            op.fail(&LogError("raft log: its thread has ended".into()));
        }
    }
}

fn run(writer: &Mutex<Writer>, queue: &mpsc::Receiver<Op>, given: &AtomicUsize) {
    let mut ops = Vec::new();
    while let Ok(op) = queue.recv() {
        let mut bytes = op.size();
        ops.push(op);
        while ops.len() < MAX_OPS && bytes < MAX_BYTES {
            let Ok(op) = queue.try_recv() else { break };
            bytes += op.size();
            ops.push(op);
        }
        let taken = ops.len();
        writer.lock().finish(&mut ops);
        given.fetch_sub(taken, Ordering::AcqRel);
    }
    // Marks that waited to be written along. What is lost here would only have saved work at the next start.
    writer.lock().finish(&mut ops);
}

impl Drop for Queue {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.ops = closed;
        if let Some(thread) = self.thread.take() {
            // A panic of the log thread has been reported by its panic message already.
            let _ = thread.join();
        }
    }
}
