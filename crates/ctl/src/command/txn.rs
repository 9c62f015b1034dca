//! `txn`: one transaction, read line by line from stdin: comparisons, what to do if they hold, what to do if they do not,
//! with an empty line after each part.

use std::io::{self, BufRead};

use keelson_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{Compare, RequestOp, TxnRequest};

use super::{del, get, put};
use crate::cli::{Call, Command, Flag, Group, parse_flags};
use crate::client::op;
use crate::exit::{Failure, INVALID_INPUT};
use crate::go::quote::{quote, unquote};
use crate::go::{number, words};
use crate::output::{Reply, line};

pub static COMMAND: Command = Command::new("txn", "[options]", "Does several requests in one transaction")
    .long(
        "Reads a transaction from stdin and does it as a whole: conditions, the requests to do if all of them hold, and the \
         requests to do if one does not. An empty line ends each of the three parts.\n\n\
         mod(\"key1\") > \"0\"\n\n\
         put key1 \"overwrote-key1\"\n\n\
         put key1 \"created-key1\"\n\
         put key2 \"some extra key\"\n\n\
         Conditions compare ver, create, mod, val or lease of a key by =, !=, < or > with a value in quotes; requests are \
         get, put and del with their flags.",
    )
    .group(Group::KeyValue)
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[Flag::switch("interactive", "say what is to be typed next").short('i')];

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(0, "txn command does not accept argument")?;
    let client = call.client().await?;
    let prompt = |text: &str| if call.on("interactive") { line(text) } else { Ok(()) };
    let mut request = TxnRequest::default();
    prompt("compares:")?;
    while let Some(line) = typed()? {
        request.compare.push(comparison(&line)?);
    }
    prompt("success requests (get, put, del):")?;
    while let Some(line) = typed()? {
        request.success.push(operation(&line).await?);
    }
    prompt("failure requests (get, put, del):")?;
    while let Some(line) = typed()? {
        request.failure.push(operation(&line).await?);
    }
    let response = client.txn(request).await?;
    call.print(&Reply::Txn(response))
}

/// The next line of stdin; an empty one ends a part.
fn typed() -> Result<Option<String>, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|e| invalid(e.to_string()))?;
    if !line.ends_with('\n') {
        return Err(invalid("EOF"));
    }
    let line = line.trim();
    Ok((!line.is_empty()).then(|| line.to_owned()))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(INVALID_INPUT, message)
}

async fn operation(line: &str) -> Result<RequestOp, Failure> {
    let wrong = || invalid(format!("invalid txn request: {line}"));
    let words = words::split(line)?;
    if words.len() < 2 {
        return Err(invalid(format!("invalid txn compare request: {line}")));
    }
    // They may be cut short, as on the command line.
    let named = |command: &&'static Command| !words[0].is_empty() && command.name.as_bytes().starts_with(&words[0]);
    let command = [&get::COMMAND, &put::COMMAND, &del::COMMAND].into_iter().find(named).ok_or_else(wrong)?;
    let (flags, args) = parse_flags(command.flags.iter(), &words[1..]).map_err(|_| wrong())?.ok_or_else(wrong)?;
    let call = Call { path: vec![command], args, words, flags };
    Ok(op(match command.name {
        "get" => Request::RequestRange(get::request(&call)?),
        "put" => Request::RequestPut(put::request(&call)?),
        _ => Request::RequestDeleteRange(del::request(&call).await?),
    }))
}

/// Such as `mod("key") > "0"`.
fn comparison(line: &str) -> Result<Compare, Failure> {
    let malformed = |why: String| invalid(format!("malformed comparison: {line}{why}"));
    let (target, rest) = line.split_once('(').ok_or_else(|| malformed(String::new()))?;
    let (key, sign, value) = parts(rest);
    let value = value.ok_or_else(|| malformed(format!("; got {target}({}) {sign} \"\"", quote(&key))))?;
    let result = match sign {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed(format!(" (unknown operator {sign})"))),
    };
    let number = |base| {
        let number = number::int(&String::from_utf8_lossy(&value), base);
        number.map_err(|_| invalid(format!("invalid txn compare request: {line}")))
    };
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        _ => return Err(malformed(format!(" (unknown target {target})"))),
    };
    Ok(Compare { result: result.into(), target: target.into(), key: key.into(), target_union: Some(union), ..Compare::default() })
}

/// Key, sign and value, as far as they are there.
fn parts(text: &str) -> (Vec<u8>, &str, Option<Vec<u8>>) {
    let Some((key, rest)) = unquote(text.trim_start()) else { return (Vec::new(), "", None) };
    let Some(rest) = rest.strip_prefix(')') else { return (key, "", None) };
    // A blank must follow, where in other places one may.
    let Some(rest) = rest.strip_prefix(char::is_whitespace).map(str::trim_start) else { return (key, "", None) };
    let (sign, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let value = unquote(rest.trim_start()).map(|(value, _)| value);
    (key, sign, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read_with_all_targets_and_signs() {
        let read = |line| {
            let compare = comparison(line).unwrap();
            (compare.target(), compare.result(), compare.key, compare.target_union.unwrap())
        };
        use {CompareResult as R, CompareTarget as T, TargetUnion as U};
        assert_eq!(read(r#"mod("foo") > "0""#), (T::Mod, R::Greater, "foo".into(), U::ModRevision(0)));
        assert_eq!(read(r#"c("foo") = "5""#), (T::Create, R::Equal, "foo".into(), U::CreateRevision(5)));
        assert_eq!(read(r#"ver("a b") < "2""#), (T::Version, R::Less, "a b".into(), U::Version(2)));
        assert_eq!(read(r#"val("k") != "x\n""#), (T::Value, R::NotEqual, "k".into(), U::Value("x\n".into())));
        assert_eq!(read(r#"lease("k") = "1f""#), (T::Lease, R::Equal, "k".into(), U::Lease(31)));
        for line in ["nonsense", r#"mod(foo) > "0""#, r#"mod("foo")>"0""#, r#"mod("foo") ~ "0""#, r#"mod("foo") > "x""#] {
            assert_eq!(comparison(line).unwrap_err().code, 3, "{line}");
        }
        let joined = comparison(r#"mod("foo")>"0""#).unwrap_err();
        assert_eq!(joined.text(), r#"malformed comparison: mod("foo")>"0"; got mod("foo")  """#);
        let unknown = comparison(r#"nonsense("foo") = "0""#).unwrap_err();
        assert_eq!(unknown.text(), r#"malformed comparison: nonsense("foo") = "0" (unknown target nonsense)"#);
    }

    #[tokio::test]
    async fn requests_are_read_with_their_flags() {
        let put = operation("put foo \"a value\" --prev-kv").await.unwrap().request;
        let Some(Request::RequestPut(put)) = put else { panic!("{put:?}") };
        assert_eq!((put.key, put.value, put.prev_kv), ("foo".into(), "a value".into(), true));
        let get = operation("get k --prefix").await.unwrap().request;
        let Some(Request::RequestRange(get)) = get else { panic!("{get:?}") };
        assert_eq!((get.key, get.range_end), ("k".into(), "l".into()));
        assert_eq!(operation("lease list").await.unwrap_err(), invalid("invalid txn request: lease list"));
        assert_eq!(operation("get").await.unwrap_err(), invalid("invalid txn compare request: get"));
        assert_eq!(operation("get k --nonsense").await.unwrap_err().code, 3);
    }
}
