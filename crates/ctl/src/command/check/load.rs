//! Many clients that write keys under one prefix.

use std::cell::RefCell;

use bytes::Bytes;
use futures::future::join_all;
use keelson_api::etcdserverpb::PutRequest;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::report::Report;
use crate::client::Client;

/// Each client takes the next request as soon as its last one is answered. Done when no more come.
pub async fn write(clients: &[Client], requests: Receiver<PutRequest>, answered: impl Fn(usize)) -> Report {
    let requests = Mutex::new(requests);
    let report = RefCell::new(Report::default());
    let work = clients.iter().map(|client| {
        let (requests, report, answered) = (&requests, &report, &answered);
        async move {
            loop {
                let request = requests.lock().await.recv().await;
                let Some(request) = request else { return };
                let start = Instant::now();
                let answer = client.put(request).await.map(|_| ());
                let count = {
                    let mut report = report.borrow_mut();
                    report.add(answer, start.elapsed());
                    report.answered()
                };
                answered(count);
            }
        }
    });
    join_all(work).await;
    report.into_inner()
}

/// A key that is not there yet, of so many bytes behind the prefix, with a value of zeros.
pub fn request(prefix: &str, key: usize, value: usize) -> PutRequest {
    let mut name = prefix.as_bytes().to_vec();
    name.extend_from_slice(&rand::random::<u64>().to_be_bytes());
    name.resize(prefix.len() + key, 0);
    PutRequest { key: name.into(), value: Bytes::from(vec![0; value]), ..PutRequest::default() }
}
