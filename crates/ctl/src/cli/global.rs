//! The flags that every command has.

use super::flag::{Flag, Kind};

pub const FLAGS: &[Flag] = &[
    Flag::text("auth-jwt-token", "", "token that proves who calls; without --user and --password"),
    Flag::text("cacert", "", "file of the authorities that may sign the certificates of servers"),
    Flag::text("cert", "", "certificate file that is shown to servers"),
    Flag::new(Kind::Duration, "command-timeout", "5s", "how long a short command may take"),
    Flag::switch("debug", "tell on stderr what the client does"),
    Flag::new(Kind::Duration, "dial-timeout", "2s", "how long one attempt to connect may take"),
    Flag::text("discovery-srv", "", "domain whose SRV records name the endpoints").short('d'),
    Flag::text("discovery-srv-name", "", "suffix of the service name in those records"),
    Flag::new(Kind::List, "endpoints", "127.0.0.1:2379", "addresses of members; the next is tried when one cannot be reached"),
    Flag::switch("hex", "print keys, values and ids in hexadecimal digits"),
    Flag::new(Kind::Switch, "insecure-discovery", "true", "take SRV records of endpoints without TLS, too"),
    Flag::switch("insecure-skip-tls-verify", "take any certificate of a server (only for tests: anybody can pretend to be it)"),
    Flag::new(Kind::Switch, "insecure-transport", "true", "connect without TLS where nothing asks for it"),
    Flag::new(Kind::Duration, "keepalive-time", "2s", "how long a silent connection is left alone before it is probed"),
    Flag::new(Kind::Duration, "keepalive-timeout", "6s", "how long a probe may go unanswered"),
    Flag::text("key", "", "file of the key of --cert"),
    Flag::int("max-recv-bytes", "0", "largest answer that is taken, in bytes (0: no limit)"),
    Flag::int("max-request-bytes", "0", "largest request that is sent, in bytes (0: 2 MiB)"),
    Flag::text("password", "", "password of --user"),
    Flag::text("user", "", "name[:password] of who calls; asks for the password if there is none"),
    Flag::text("write-out", "simple", "format of the output (fields, json, protobuf, simple, table)")
        .short('w')
        .choices(&["fields", "json", "protobuf", "simple", "table"]),
];
