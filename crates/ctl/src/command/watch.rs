//! `watch`: prints changes as they happen, and runs a command for each if there is one behind `--`.

use std::collections::HashMap;
use std::io;
use std::process::Stdio;

use keelson_api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keelson_api::mvccpb::Event;
use tokio::process::Command as Process;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::cli::{Call, Command, Flag, Group, Values, environment, parse_flags};
use crate::client::{Seen, Watches, prefix_end};
use crate::exit::{ERROR, Failure, INTERRUPTED, INVALID_INPUT};
use crate::go::quote::quote;
use crate::go::words;
use crate::output::{Reply, line};

pub static COMMAND: Command = Command::new(
    "watch",
    "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    "Prints changes as they happen",
)
.long(
    "Prints changes as they happen. A command behind -- is run for each of them, with ETCD_WATCH_REVISION, \
     ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment. ETCDCTL_WATCH_KEY and \
     ETCDCTL_WATCH_RANGE_END can stand for the arguments.\n\n\
     In interactive mode, lines of stdin begin watches (watch [options] <key> [range_end]) or ask how far they have got \
     (progress).",
)
.group(Group::KeyValue)
.flags(FLAGS)
.run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    Flag::switch("interactive", "read what to watch from stdin").short('i'),
    Flag::switch("prefix", "watch the keys that begin with the given one"),
    Flag::switch("prev-kv", "print the key and value from before, too"),
    Flag::switch("progress-notify", "print now and then how far the watch has got"),
    Flag::int("rev", "0", "begin at this revision"),
];

/// What is watched, and what is run for each change.
#[derive(Debug, PartialEq)]
struct Watched {
    request: WatchCreateRequest,
    command: Vec<Vec<u8>>,
}

async fn run(mut call: Call) -> Result<(), Failure> {
    let (key, end) = (environment("WATCH_KEY"), environment("WATCH_RANGE_END"));
    if key.is_empty() && !end.is_empty() {
        let end = quote(end.as_bytes());
        return Err(Failure::args(format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}")));
    }
    let fallback: Vec<Vec<u8>> = [key, end].into_iter().filter(|text| !text.is_empty()).map(String::into_bytes).collect();
    if call.on("interactive") {
        return interactive(call, fallback).await;
    }
    let (args, command) = cut(&call.words, &call.args, fallback).map_err(Failure::args)?;
    let client = call.client().await?;
    let request = request(&args, &call.flags).map_err(Failure::args)?;
    let mut watches = Watches::new(&client, true);
    watches.add(request);
    while let Some((_, Seen::Answer(response, why))) = watches.next().await {
        show(&call, response, why, &command).await?;
    }
    Err(Failure::new(INTERRUPTED, "watch is canceled by the server"))
}

type Words = Vec<Vec<u8>>;

/// The arguments of the watch, and the command behind `--`.
fn cut(words: &[Vec<u8>], args: &[Vec<u8>], fallback: Words) -> Result<(Words, Words), &'static str> {
    let command = match words.iter().position(|word| word == b"--") {
        Some(at) if at + 1 == words.len() => return Err("bad number of arguments (found separator --, but no commands)"),
        Some(at) => words[at + 1..].to_vec(),
        None => Vec::new(),
    };
    let own = args[..args.len().saturating_sub(command.len())].to_vec();
    match (own.is_empty(), fallback.is_empty()) {
        (false, true) => Ok((own, command)),
        (true, false) => Ok((fallback, command)),
        (true, true) => Err("bad number of arguments"),
        (false, false) => Err("bad number of arguments (found conflicting environment key)"),
    }
}

fn request(args: &[Vec<u8>], flags: &Values) -> Result<WatchCreateRequest, &'static str> {
    let prefix = flags.on("prefix");
    let mut request = WatchCreateRequest {
        key: args.first().ok_or("bad number of arguments")?.clone().into(),
        start_revision: flags.int("rev"),
        prev_kv: flags.on("prev-kv"),
        progress_notify: flags.on("progress-notify"),
        ..WatchCreateRequest::default()
    };
    if let [_, end] = args {
        if prefix {
            return Err("`range_end` and `--prefix` are mutually exclusive");
        }
        request.range_end = end.clone().into();
    }
    if prefix {
        request.range_end = prefix_end(&request.key);
        if request.key.is_empty() {
            request.key = "\0".into();
        }
    }
    Ok(request)
}

async fn show(call: &Call, response: WatchResponse, why: Option<String>, command: &[Vec<u8>]) -> Result<(), Failure> {
    if let Some(why) = why {
        eprintln!("watch was canceled ({why})");
    }
    let revision = response.header.map_or(0, |header| header.revision);
    if response.events.is_empty() && !response.canceled && revision != 0 {
        line(format!("progress notify: {revision}"))?;
    }
    let events = if command.is_empty() { Vec::new() } else { response.events.clone() };
    call.print(&Reply::Watch(response))?;
    for event in events {
        execute(command, revision, &event).await?;
    }
    Ok(())
}

async fn execute(command: &[Vec<u8>], revision: i64, event: &Event) -> Result<(), Failure> {
    let kv = event.kv.clone().unwrap_or_default();
    let mut process = Process::new(os(&command[0]));
    process.args(command[1..].iter().map(|arg| os(arg)));
    process.env("ETCD_WATCH_REVISION", revision.to_string());
    process.env("ETCD_WATCH_EVENT_TYPE", quote(event.r#type().as_str_name().as_bytes()));
    process.env("ETCD_WATCH_KEY", quote(&kv.key)).env("ETCD_WATCH_VALUE", quote(&kv.value)).stdin(Stdio::null());
    let wrong = match process.status().await {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}")),
        Err(e) => e.to_string(),
    };
    let shown = command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
    eprintln!("command [{shown}] error ({wrong})");
    Err(Failure::told(ERROR))
}

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

async fn interactive(mut call: Call, fallback: Vec<Vec<u8>>) -> Result<(), Failure> {
    let client = call.client().await?;
    let mut watches = Watches::new(&client, true);
    let mut commands: HashMap<i64, Vec<Vec<u8>>> = HashMap::new();
    let mut lines = stdin();
    loop {
        tokio::select! {
            text = lines.recv() => match text {
                Some(Ok(text)) => match order(&text, &fallback)? {
                    Order::Watch(watched) => {
                        let id = watches.add(watched.request);
                        commands.insert(id, watched.command);
                    }
                    Order::Progress => watches.progress(),
                    Order::Invalid(why) => eprintln!("{why}"),
                },
                ended => {
                    let why = match ended {
                        Some(Err(e)) => e.to_string(),
                        _ => "EOF".to_owned(),
                    };
                    return Err(Failure::new(INVALID_INPUT, format!("error reading watch request line: {why}")));
                }
            },
            seen = watches.next() => match seen {
                Some((id, Seen::Answer(response, why))) => {
                    let command = commands.get(&id).map_or(&[][..], Vec::as_slice);
                    show(&call, response, why, command).await?;
                }
                Some((id, Seen::End)) => {
                    commands.remove(&id);
                }
                // The stream is gone, and all watches with it.
                None => watches = Watches::new(&client, true),
            },
        }
    }
}

/// A line of an interactive watch.
#[derive(Debug, PartialEq)]
enum Order {
    Watch(Box<Watched>),
    Progress,
    Invalid(String),
}

fn order(text: &str, fallback: &[Vec<u8>]) -> Result<Order, Failure> {
    let words = words::split(text)?;
    match words.first().map(Vec::as_slice) {
        None => Ok(Order::Invalid(format!("Invalid command: {text} (watch and progress supported)"))),
        Some(b"progress") => Ok(Order::Progress),
        Some(b"watch") if words.len() < 2 && fallback.is_empty() => {
            Ok(Order::Invalid(format!("Invalid command {text} (command type or key is not provided)")))
        }
        Some(b"watch") => {
            let flags = parse_flags(COMMAND.flags.iter(), &words[1..]).map_err(Failure::args)?;
            let (flags, args) = flags.ok_or_else(|| Failure::args("help requested"))?;
            let (args, command) = cut(&words, &args, fallback.to_vec()).map_err(Failure::args)?;
            Ok(match request(&args, &flags) {
                Ok(request) => Order::Watch(Box::new(Watched { request, command })),
                Err(why) => Order::Invalid(format!("Invalid command {text} ({why})")),
            })
        }
        Some(_) => Ok(Order::Invalid(format!("Invalid command {text} (only support watch)"))),
    }
}

/// The lines of stdin. A thread waits for them, for they come whenever somebody types one.
fn stdin() -> UnboundedReceiver<io::Result<String>> {
    let (lines, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(line: &str) -> Vec<Vec<u8>> {
        line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn parts(words: &str, args: &str, fallback: &str) -> Result<(Words, Words), &'static str> {
        cut(&list(words), &list(args), list(fallback))
    }

    #[test]
    fn the_command_stands_behind_two_dashes_and_the_environment_in_place_of_arguments() {
        assert_eq!(parts("watch foo bar", "foo bar", ""), Ok((list("foo bar"), list(""))));
        assert_eq!(parts("watch foo --rev 1 -- echo -n foo", "foo echo -n foo", ""), Ok((list("foo"), list("echo -n foo"))));
        assert_eq!(parts("watch -- echo", "echo", "foo bar"), Ok((list("foo bar"), list("echo"))));
        assert_eq!(parts("watch", "", "foo"), Ok((list("foo"), list(""))));
        assert!(parts("watch", "", "").is_err());
        assert!(parts("watch foo --", "foo", "").unwrap_err().contains("separator"));
        assert!(parts("watch foo", "foo", "bar").unwrap_err().contains("conflicting"));
        assert!(parts("watch foo -- echo", "foo echo", "bar").unwrap_err().contains("conflicting"));
    }

    #[test]
    fn interactive_lines_have_flags_of_their_own() {
        let Order::Watch(watched) = order("watch foo --prefix --rev=7 --prev-kv -- echo hi", &[]).unwrap() else { panic!() };
        let request = watched.request;
        assert_eq!((request.key, request.range_end, request.start_revision), ("foo".into(), "fop".into(), 7));
        assert!(request.prev_kv && !request.progress_notify);
        assert_eq!(watched.command, list("echo hi"));
        assert_eq!(order("progress", &[]).unwrap(), Order::Progress);
        for line in ["", "watch", "get foo", "watch a b --prefix"] {
            assert!(matches!(order(line, &[]).unwrap(), Order::Invalid(_)), "{line}");
        }
        assert_eq!(order("watch foo --nonsense", &[]).unwrap_err().code, 128);
    }
}
