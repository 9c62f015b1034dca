//! What the log tells of calls that take long, as etcd tells it; and of each, where everything is to be told.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use keelson_api::Code;
use keelson_api::etcdserverpb::TxnRequest;
use prost::Message;
use tracing::Level;

use super::Method;
use crate::brief;
use crate::grpc::{Account, Call, Status};
use crate::logging::timestamp;
use crate::member::Member;

/// Where a client is that came by a unix socket.
const UNIX: &str = "@";

/// An account for a call, if there is more to be told of it than how long it took.
pub fn account(method: Method) -> Option<Account> {
    matches!(method, Method::Range | Method::Put | Method::DeleteRange | Method::Txn).then(Account::default)
}

/// What a call has asked and what it was answered: how many, how long, and what.
struct Figures {
    requests: i64,
    request_bytes: i64,
    responses: i64,
    response_bytes: i64,
    content: String,
}

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Figures {
    fn of(method: Method, account: Option<&Account>) -> Self {
        let Some(account) = account else {
            return Self { requests: -1, request_bytes: -1, responses: -1, response_bytes: -1, content: String::new() };
        };
        let request = account.request().cloned().unwrap_or_default();
        let responses = account.response_count();
        let response_bytes = number(account.response_bytes().unwrap_or_default());
        if method == Method::Txn {
            return Self::of_txn(request, account.condition(), response_bytes);
        }
        let requests = i64::from(method == Method::Put);
        let request_bytes = number(request.len());
        Self { requests, request_bytes, responses, response_bytes, content: content(method, request) }
    }

    /// Of a transaction that branch counts which was taken.
    fn of_txn(request: Bytes, succeeded: Option<bool>, response_bytes: i64) -> Self {
        let taken = succeeded.and_then(|succeeded| {
            let txn = TxnRequest::decode(request.clone()).ok()?;
            Some(if succeeded { txn.success } else { txn.failure })
        });
        let requests = taken.as_ref().map_or(0, Vec::len);
        let request_bytes: usize = taken.iter().flatten().map(Message::encoded_len).sum();
        let content = if taken.is_some() { content(Method::Txn, request) } else { String::new() };
        Self { requests: number(requests), request_bytes: number(request_bytes), responses: 0, response_bytes, content }
    }
}

/// What a request says.
fn content(method: Method, request: Bytes) -> String {
    let name = match method {
        Method::Range => "etcdserverpb.RangeRequest",
        Method::Put => "etcdserverpb.PutRequest",
        Method::DeleteRange => "etcdserverpb.DeleteRangeRequest",
        Method::Txn => "etcdserverpb.TxnRequest",
        _ => return String::new(),
    };
    brief::of(name, request)
}

/// Tells of a unary call that has ended, if it took long or everything is told.
pub fn tell(member: &Member, method: Method, path: &str, call: &Call, code: Option<Code>, took: Duration) {
    let tells_all = tracing::enabled!(Level::DEBUG);
    if took <= member.config.slow_call && !tells_all {
        return;
    }
    let figures = Figures::of(method, call.account.as_ref());
    let begun = timestamp(SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH));
    let remote = call.ends.client.map_or_else(|| UNIX.to_owned(), |client| client.to_string());
    macro_rules! tell_as {
        ($level:ident) => {
            tracing::$level!(
                "start time" = begun,
                "time spent" = ?took,
                remote,
                "response type" = path,
                "request count" = figures.requests,
                "request size" = figures.request_bytes,
                "response count" = figures.responses,
                "response size" = figures.response_bytes,
                "request content" = figures.content,
                code = Status::code_name(code),
                "request stats"
            )
        };
    }
    // As in etcd, a line that would have been written anyway is no warning.
    if tells_all {
        tell_as!(debug);
    } else {
        tell_as!(warn);
    }
}

/// Tells of a read that began then, if it took long: what it asked for, what it was answered, or why it was not.
pub fn tell_of_read(
    member: &Member,
    method: Method,
    call: &Call,
    begun: Instant,
    answered: Result<impl FnOnce() -> String, &Status>,
) {
    let took = begun.elapsed();
    if took <= member.config.slow_apply {
        return;
    }
    let request = call.account.as_ref().and_then(Account::request).cloned().unwrap_or_default();
    let prefix = if method == Method::Range { "read-only range " } else { "read-only txn " };
    let (response, error) = match answered {
        Ok(response) => (response(), None),
        Err(status) => (String::new(), Some(status.message.as_str())),
    };
    member.metrics.slow_applies.inc();
    tracing::warn!(
        ?took,
        "expected-duration" = ?member.config.slow_apply,
        prefix,
        request = content(method, request),
        response,
        error,
        "apply request took too long"
    );
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::request_op::Request;
    use keelson_api::etcdserverpb::{PutRequest, RequestOp};

    use super::*;

    #[test]
    fn of_a_transaction_the_branch_that_was_taken_is_counted() {
        let op = |key: &'static str| {
            let put = PutRequest { key: key.into(), ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let txn = TxnRequest { success: vec![op("a"), op("bb")], failure: vec![op("ccc")], ..TxnRequest::default() };
        let request = Bytes::from(txn.encode_to_vec());
        let figures = |condition| {
            let figures = Figures::of_txn(request.clone(), condition, 9);
            (figures.requests, figures.request_bytes, figures.content.is_empty())
        };
        assert_eq!(figures(Some(true)), (2, number(op("a").encoded_len() + op("bb").encoded_len()), false));
        assert_eq!(figures(Some(false)), (1, number(op("ccc").encoded_len()), false));
        assert_eq!(figures(None), (0, 0, true));
    }

    #[test]
    fn of_other_calls_nothing_is_counted() {
        let figures = Figures::of(Method::Status, account(Method::Status).as_ref());
        assert_eq!((figures.requests, figures.request_bytes, figures.responses, figures.response_bytes), (-1, -1, -1, -1));
        let figures = Figures::of(Method::Put, account(Method::Put).as_ref());
        assert_eq!((figures.requests, figures.responses), (1, 0));
    }
}
