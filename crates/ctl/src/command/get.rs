//! `get`: a key or a range of keys.

use keelson_api::etcdserverpb::RangeRequest;
use keelson_api::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::cli::{Call, Command, Flag, Group};
use crate::client::prefix_end;
use crate::exit::{BAD_FEATURE, Failure};
use crate::output::{Format, Reply};

pub static COMMAND: Command = Command::new("get", "[options] <key> [range_end]", "Gets a key or a range of keys")
    .group(Group::KeyValue)
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    Flag::text("consistency", "l", "linearizable (l), or serializable (s): one member answers alone").choices(&["l", "s"]),
    Flag::switch("count-only", "get only how many there are (with --write-out=fields)"),
    Flag::switch("from-key", "get the keys that are not smaller than the given one"),
    Flag::switch("keys-only", "get only the keys"),
    Flag::int("limit", "0", "get at most so many"),
    Flag::int("max-create-rev", "0", "only keys created at this revision or before it"),
    Flag::int("max-mod-rev", "0", "only keys changed last at this revision or before it"),
    Flag::int("min-create-rev", "0", "only keys created at this revision or after it"),
    Flag::int("min-mod-rev", "0", "only keys changed last at this revision or after it"),
    Flag::text("order", "", "ASCEND or DESCEND").choices(&["ASCEND", "DESCEND"]),
    Flag::switch("prefix", "get the keys that begin with the given one"),
    Flag::switch("print-value-only", "print no keys (with --write-out=simple)"),
    Flag::int("rev", "0", "get what there was at this revision"),
    Flag::text("sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION").choices(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"]),
    Flag::switch("stream", "let the answer come in pieces"),
];

async fn run(mut call: Call) -> Result<(), Failure> {
    let request = request(&call)?;
    let client = call.client().await?;
    let response = if call.on("stream") { client.range_stream(request).await? } else { client.range(request).await? };
    let format = call.format()?;
    if call.on("count-only") && format != Format::Fields {
        return Err(Failure::args("--count-only is only for `--write-out=fields`"));
    }
    let values_only = call.on("print-value-only");
    if values_only && format != Format::Simple {
        return Err(Failure::args("print-value-only is only for `--write-out=simple`"));
    }
    call.print(&Reply::Get { response, values_only })
}

/// What the flags and arguments ask for; also a line of a transaction.
pub fn request(call: &Call) -> Result<RangeRequest, Failure> {
    let (prefix, from_key) = (call.on("prefix"), call.on("from-key"));
    if call.args.is_empty() {
        return Err(Failure::args("get command needs one argument as key and an optional argument as range_end"));
    }
    if prefix && from_key {
        return Err(Failure::args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    if call.on("keys-only") && call.on("count-only") {
        return Err(Failure::args("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
    }
    let mut request = RangeRequest { key: call.arg(0), serializable: call.serializable()?, ..RangeRequest::default() };
    if call.args.len() > 1 {
        if prefix || from_key {
            return Err(Failure::args("too many arguments, only accept one argument when `--prefix` or `--from-key` is set"));
        }
        request.range_end = call.arg(1);
    }
    request.limit = call.flags.int("limit");
    request.revision = call.flags.int("rev").max(0);
    let order = order(call.flags.text("order"))?;
    let target = target(call.flags.text("sort-by"))?;
    // Keys come in this order anyway, and without sorting them first.
    let sorted = target == SortTarget::Key && order == SortOrder::Ascend;
    request.sort_order = if sorted { SortOrder::None.into() } else { order.into() };
    request.sort_target = target.into();
    if prefix || from_key {
        request.range_end = if prefix { prefix_end(&request.key) } else { "\0".into() };
        if request.key.is_empty() {
            request.key = "\0".into();
        }
    }
    request.keys_only = call.on("keys-only");
    request.count_only = call.on("count-only");
    (request.min_create_revision, request.max_create_revision) = between(call, "Create", "create")?;
    (request.min_mod_revision, request.max_mod_revision) = between(call, "Mod", "mod")?;
    Ok(request)
}

fn between(call: &Call, name: &str, flag: &str) -> Result<(i64, i64), Failure> {
    let least = call.flags.int(&format!("min-{flag}-rev"));
    let most = call.flags.int(&format!("max-{flag}-rev"));
    if most > 0 && least > most {
        let message = format!("getMin{name}Rev(={least}) > getMax{name}Rev(={most})");
        return Err(Failure::new(BAD_FEATURE, message));
    }
    Ok((least.max(0), most.max(0)))
}

fn order(text: &str) -> Result<SortOrder, Failure> {
    match text.to_uppercase().as_str() {
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => Err(Failure::new(BAD_FEATURE, format!("bad sort order {text}"))),
    }
}

fn target(text: &str) -> Result<SortTarget, Failure> {
    match text.to_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(Failure::new(BAD_FEATURE, format!("bad sort target {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Parsed, parse};
    use crate::command::ROOT;

    fn asked(line: &[&str]) -> Result<RangeRequest, Failure> {
        let words: Vec<Vec<u8>> = ["get"].iter().chain(line).map(|word| word.as_bytes().to_vec()).collect();
        match parse(&ROOT, &words) {
            Ok(Parsed::Run(call)) => request(&call),
            _ => panic!("{line:?}"),
        }
    }

    #[test]
    fn ranges_are_those_of_etcdctl() {
        let range = |line: &[&str]| asked(line).map(|request| (request.key, request.range_end)).unwrap();
        assert_eq!(range(&["foo"]), ("foo".into(), "".into()));
        assert_eq!(range(&["a", "b"]), ("a".into(), "b".into()));
        assert_eq!(range(&["foo", "--prefix"]), ("foo".into(), "fop".into()));
        assert_eq!(range(&["", "--prefix"]), ("\0".into(), "\0".into()));
        assert_eq!(range(&["", "--from-key"]), ("\0".into(), "\0".into()));
        assert_eq!(range(&["b", "--from-key"]), ("b".into(), "\0".into()));
    }

    #[test]
    fn sorting_by_key_upwards_is_left_to_the_store() {
        let sorted = asked(&["k", "--prefix", "--order=ascend", "--sort-by=key"]).unwrap();
        assert_eq!(sorted.sort_order(), SortOrder::None);
        let sorted = asked(&["k", "--prefix", "--order=ASCEND", "--sort-by=VALUE"]).unwrap();
        assert_eq!((sorted.sort_order(), sorted.sort_target()), (SortOrder::Ascend, SortTarget::Value));
    }

    #[test]
    fn contradictions_are_refused_with_etcdctls_codes() {
        let code = |line: &[&str]| asked(line).unwrap_err().code;
        assert_eq!(code(&[]), 128);
        assert_eq!(code(&["k", "--prefix", "--from-key"]), 128);
        assert_eq!(code(&["k", "l", "--prefix"]), 128);
        assert_eq!(code(&["k", "--consistency=x"]), 4);
        assert_eq!(code(&["k", "--order=SIDEWAYS"]), 4);
        let failure = asked(&["k", "--min-mod-rev=9", "--max-mod-rev=3"]).unwrap_err();
        assert_eq!(failure, Failure::new(4, "getMinModRev(=9) > getMaxModRev(=3)"));
    }
}
