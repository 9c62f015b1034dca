//! Calls of one request and one answer, good ones and bad ones.

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;

use super::{Answer, Both};

/// Paths and bodies, asked for in this order.
const REQUESTS: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"-_8","prevKv":true}"#),
    ("/v3beta/kv/put", r#"{"key":"Zm9wMQ==","value":""}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","range_end":"Zm9w","sort_order":"DESCEND","sort_target":"MOD"}"#),
    ("/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","limit":"1","sortOrder":1,"sortTarget":"KEY"}"#),
    ("/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","limit":1e0,"keys_only":true,"unknown":{"a":[null]}}"#),
    ("/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","count_only":true}"#),
    ("/v3/kv/range", r#"{"key":"bm8="}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":"1000"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v"} and what follows is not looked at"#),
    // Bodies that are no such message.
    ("/v3/kv/range", ""),
    ("/v3/kv/range", " \n"),
    ("/v3/kv/range", "{}"),
    ("/v3/kv/range", "null"),
    ("/v3/kv/range", "[]"),
    ("/v3/kv/range", r#""text""#),
    ("/v3/kv/range", "{"),
    ("/v3/kv/range", r#"{"key":"Zm9v""#),
    ("/v3/kv/range", r#"{"key":"!"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","limit":"many"}"#),
    ("/v3/kv/range", "{\"key\":\"Zm9v\",\n  \"limit\": 1.5}"),
    ("/v3/kv/range", r#"{"key":"Zm9v","limit":9223372036854775808}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","limit":" 1"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","limit":{}}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","serializable":"true"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","key":"Zm9v"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","rangeEnd":"Zg==","range_end":"Zg=="}"#),
    ("/v3/kv/range", r#"{"key":null,"limit":null}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","sort_order":"NO_SUCH_ORDER"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","sort_order":99}"#),
    ("/v3/kv/txn", r#"{"compare":{}}"#),
    ("/v3/kv/txn", r#"{"compare":[{"key":"Zm9v","version":1,"value":""}]}"#),
    // Transactions.
    (
        "/v3/kv/txn",
        r#"{"compare":[{"result":"EQUAL","target":"VERSION","key":"Zm9v","version":"2"}],
            "success":[{"requestPut":{"key":"Zm9v","value":"YQ=="}},{"request_range":{"key":"Zm9v"}}],
            "failure":[{"requestDeleteRange":{"key":"Zm9v"}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"CREATE","key":"bm8=","createRevision":0}],
            "success":[{"request_txn":{"success":[{"request_delete_range":{"key":"Zm9wMQ==","prev_kv":true}}]}}]}"#,
    ),
    ("/v3/kv/txn", r#"{"success":[{"requestPut":{"key":"YQ=="}},{"requestPut":{"key":"YQ=="}}]}"#),
    ("/v3/kv/txn", "{}"),
    ("/v3/kv/deleterange", r#"{"key":"Zm9v","prev_kv":true}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9v"}"#),
    ("/v3/kv/compaction", r#"{"revision":"3","physical":true}"#),
    ("/v3/kv/compaction", r#"{"revision":"3"}"#),
    ("/v3/kv/compaction", r#"{"revision":"3000"}"#),
    // Leases.
    ("/v3/lease/grant", r#"{"TTL":"100","ID":"77"}"#),
    ("/v3/lease/grant", r#"{"TTL":100,"ID":77}"#),
    ("/v3/kv/put", r#"{"key":"bGVhc2Vk","lease":"77"}"#),
    ("/v3/kv/put", r#"{"key":"bGVhc2Vk","lease":"78"}"#),
    ("/v3/lease/leases", "{}"),
    ("/v3/kv/lease/leases", ""),
    ("/v3/lease/keepalive", r#"{"ID":"77"}"#),
    ("/v3/lease/keepalive", r#"{"ID":"77"} {"ID":"78"}"#),
    ("/v3/lease/keepalive", ""),
    ("/v3/kv/lease/revoke", r#"{"ID":"77"}"#),
    ("/v3/lease/revoke", r#"{"ID":"77"}"#),
    ("/v3/lease/timetolive", r#"{"ID":"77","keys":true}"#),
    ("/v3/kv/lease/timetolive", r#"{"ID":"77"}"#),
    // The cluster.
    ("/v3/maintenance/status", "{}"),
    ("/v3/maintenance/alarm", r#"{"action":"GET","alarm":"NONE"}"#),
    ("/v3/maintenance/hashkv", "{}"),
    ("/v3/maintenance/hash", "{}"),
    ("/v3/maintenance/defragment", "{}"),
    ("/v3/maintenance/downgrade", r#"{"action":"VALIDATE","version":"nonsense"}"#),
    ("/v3/maintenance/downgrade", r#"{"action":"ENABLE","version":"3.5"}"#),
    ("/v3/maintenance/downgrade", r#"{"action":"CANCEL"}"#),
    ("/v3/maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
    ("/v3/cluster/member/remove", r#"{"ID":"12345"}"#),
    ("/v3/cluster/member/promote", r#"{"ID":"12345"}"#),
    ("/v3/cluster/member/add", r#"{"peerURLs":["nonsense"]}"#),
    ("/v3/cluster/member/update", r#"{"ID":"12345","peerURLs":["http://127.0.0.1:1"]}"#),
    // Locks and elections.
    ("/v3/lease/grant", r#"{"TTL":"100","ID":"80"}"#),
    ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"80"}"#),
    ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"81"}"#),
    ("/v3/lock/unlock", r#"{"key":"bG9jay81MA=="}"#),
    ("/v3/lock/unlock", "{}"),
    ("/v3/election/leader", r#"{"name":"ZQ=="}"#),
    ("/v3/election/campaign", r#"{"name":"ZQ==","lease":"80","value":"YQ=="}"#),
    ("/v3/election/leader", r#"{"name":"ZQ=="}"#),
    ("/v3/election/proclaim", "{}"),
    ("/v3/election/resign", "{}"),
    // Paths that are none.
    ("/v3/kv/nothing", "{}"),
    ("/v3/kv/range/", r#"{"key":"Zm9v"}"#),
    ("/v3/", "{}"),
];

fn compare(what: &str, [expected, answered]: [Answer; 2], differences: &mut Vec<String>) {
    if expected != answered {
        differences.push(format!("--- {what}\netcd: {expected:?}\nhere: {answered:?}"));
    }
}

#[tokio::test]
async fn calls_are_answered_as_etcd_answers_them() -> Result<()> {
    let both = Both::start(&[]).await?;
    let mut differences = Vec::new();
    for (path, body) in REQUESTS {
        compare(&format!("{path} {body}"), both.post(path, body).await?, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_is_not_json_at_all_is_refused_if_in_other_words() -> Result<()> {
    let both = Both::start(&[]).await?;
    for body in ["nonsense", "{key: 1}", r#"{"key":"Zm9v",}"#, "{]", "\u{1}"] {
        let [expected, answered] = both.post("/v3/kv/range", body).await?;
        let code = |answer: &Answer| (answer.status, answer.body[0]["code"].clone());
        assert_eq!(code(&expected), code(&answered), "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn other_methods_and_headers_are_treated_alike() -> Result<()> {
    let both = Both::start(&[]).await?;
    let range = r#"{"key":"Zm9v"}"#;
    let asked = [
        (Method::GET, "/v3/kv/range", vec![], ""),
        (Method::PUT, "/v3/kv/range", vec![], range),
        (Method::OPTIONS, "/v3/kv/range", vec![], ""),
        (Method::OPTIONS, "/health", vec![], ""),
        (Method::POST, "/v3/kv/range", vec![("grpc-timeout", "5S")], range),
        (Method::POST, "/v3/kv/range", vec![("grpc-timeout", "soon")], range),
        (Method::POST, "/v3/kv/range", vec![("grpc-metadata-hasleader", "true")], range),
        (Method::POST, "/v3/kv/range", vec![("content-type", "text/plain"), ("accept", "text/html")], range),
        (Method::POST, "/v3/kv/range", vec![("origin", "http://elsewhere.example")], range),
    ];
    let mut differences = Vec::new();
    for (method, path, headers, body) in asked {
        let what = format!("{method} {path} {headers:?}");
        compare(&what, both.ask(method, path, &headers, body).await?, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_call_that_waits_ends_in_time() -> Result<()> {
    let both = Both::start(&[]).await?;
    for lease in ["80", "81"] {
        both.post("/v3/lease/grant", &format!(r#"{{"TTL":100,"ID":{lease}}}"#)).await?;
    }
    both.post("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"80"}"#).await?;
    let waiting = r#"{"name":"bG9jaw==","lease":"81"}"#;
    let [expected, answered] = both.ask(Method::POST, "/v3/lock/lock", &[("grpc-timeout", "300m")], waiting).await?;
    assert_eq!(expected, answered);
    assert_eq!(expected.status, 504);
    Ok(())
}

#[tokio::test]
async fn large_values_pass_up_to_the_limit_of_a_request() -> Result<()> {
    let both = Both::start(&[]).await?;
    // In base64 each four letters are three bytes.
    let put = |bytes: usize| format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "AAAA".repeat(bytes / 3));
    for (bytes, status) in [(1_500_000, 200), (1_600_000, 400), (2_400_000, 429)] {
        let [expected, answered] = both.post("/v3/kv/put", &put(bytes)).await?;
        assert_eq!((expected.status, answered.status), (status, status), "{bytes}: {expected:?}, {answered:?}");
        assert_eq!(expected.body[0]["code"], answered.body[0]["code"]);
    }
    let [expected, answered] = both.post("/v3/kv/range", r#"{"key":"Zm9v"}"#).await?;
    assert!(expected == answered, "large values differ");
    Ok(())
}

#[tokio::test]
async fn large_answers_are_the_same() -> Result<()> {
    let both = Both::start(&[]).await?;
    let lease = r#"{"TTL":1000,"ID":7}"#;
    both.post("/v3/lease/grant", lease).await?;
    for key in 'a'..='z' {
        let (key, value) = (BASE64_STANDARD.encode(format!("large/{key}")), BASE64_STANDARD.encode(vec![key as u8; 90_000]));
        both.post("/v3/kv/put", &format!(r#"{{"key":"{key}","value":"{value}","lease":7}}"#)).await?;
    }
    let all = r#"{"key":"AA==","range_end":"AA=="}"#;
    let nested = format!(r#"{{"success":[{{"request_range":{all}}}]}}"#);
    let twice = format!(r#"{{"success":[{{"request_range":{all}}},{{"request_txn":{nested}}}]}}"#);
    let some = r#"{"key":"AA==","range_end":"AA==","limit":20,"sort_order":"DESCEND"}"#;
    let gone = r#"{"key":"AA==","range_end":"AA==","prev_kv":true}"#;
    let (range, txn, delete) = ("/v3/kv/range", "/v3/kv/txn", "/v3/kv/deleterange");
    for (path, body) in [(range, all), (range, some), (txn, twice.as_str()), (delete, gone), (range, all)] {
        let [expected, answered] = both.post(path, body).await?;
        assert!(expected == answered, "{path} {body}");
        assert_eq!(expected.status, 200);
    }
    Ok(())
}
