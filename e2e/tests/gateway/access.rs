//! Who may come in by HTTP, and where: origins, host names, ports, and no gateway at all.

use anyhow::Result;
use hyper::Method;
use keelson_e2e::ports::Reservation;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

use super::{Both, LIMIT, ask};

const RANGE: &str = r#"{"key":"Zm9v"}"#;

#[tokio::test]
async fn browsers_are_told_of_the_origins_that_may_read() -> Result<()> {
    let both = Both::start(&["--cors=http://a.example:8080,http://b.example:8080"]).await?;
    for origin in ["http://a.example:8080", "http://b.example:8080", "http://c.example:8080", "*"] {
        let asked = [(Method::POST, "/v3/kv/range", RANGE), (Method::OPTIONS, "/v3/kv/range", ""), (Method::GET, "/health", "")];
        for (method, path, body) in asked {
            let [expected, answered] = both.ask(method, path, &[("origin", origin)], body).await?;
            assert_eq!(expected, answered, "{path} for {origin}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn requests_by_other_names_are_turned_away() -> Result<()> {
    let both = Both::start(&["--host-whitelist=known.example,other.example"]).await?;
    for host in ["known.example", "other.example:1234", "unknown.example", "known.example.evil", "127.0.0.1"] {
        for path in ["/v3/kv/range", "/health"] {
            let method = if path == "/health" { Method::GET } else { Method::POST };
            let [expected, answered] = both.ask(method, path, &[("host", host)], RANGE).await?;
            assert_eq!(expected.status, answered.status, "{path} by the name {host}");
            assert_eq!(answered.status == 421, host.contains("unknown") || host.contains("evil") || host == "127.0.0.1");
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_the_gateway_there_are_no_such_paths() -> Result<()> {
    let both = Both::start(&["--enable-grpc-gateway=false"]).await?;
    let [expected, answered] = both.ask(Method::GET, "/v3/kv/range", &[], "").await?;
    assert_eq!((expected.status, &expected.body), (answered.status, &answered.body));
    assert_eq!(expected.status, 404);
    let [expected, answered] = both.ask(Method::GET, "/health", &[], "").await?;
    assert_eq!((expected.status, answered.status), (200, 200));
    Ok(())
}

#[tokio::test]
async fn http_has_ports_of_its_own_and_then_none_with_the_calls() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        let reservation = Reservation::new()?;
        let port = reservation.ports()?.client;
        drop(reservation);
        let flag = format!("--listen-client-http-urls=http://127.0.0.1:{port}");
        // It waits for a call to be answered.
        let server = Server::start(program, &[&flag, "--log-level", "warn"]).await?;
        let apart = format!("http://127.0.0.1:{port}");
        let name = program.name();
        assert_eq!(ask(&apart, &Method::GET, "/health", &[], "").await?.status, 200, "{name}");
        assert_eq!(ask(&apart, &Method::POST, "/v3/kv/range", &[], RANGE).await?.status, 200, "{name}");
        let with_calls = tokio::time::timeout(LIMIT, ask(&server.client_url(), &Method::GET, "/health", &[], "")).await?;
        assert!(with_calls.is_err(), "{name} has HTTP where its calls are");
    }
    Ok(())
}
