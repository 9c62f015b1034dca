//! Files that cannot be used: the server does not start, and says which it is.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_e2e::pki::Pki;
use keelson_e2e::wait;

use super::common::{both, prepared};

/// What is done to one of the files, and the one that the server should complain about.
const DAMAGE: &[(&str, Option<&str>)] = &[
    ("server.crt", None),
    ("server.key", None),
    ("ca.crt", None),
    ("peer.crt", None),
    ("peer.key", None),
    ("server.crt", Some("")),
    ("server.key", Some("nothing of the kind")),
    ("ca.crt", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
    ("peer.key", Some("-----BEGIN PRIVATE KEY-----\n%%%%\n-----END PRIVATE KEY-----\n")),
];

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() -> Result<()> {
    for program in both()? {
        for (file, contents) in DAMAGE {
            let pki = Arc::new(Pki::new()?);
            match contents {
                None => fs::remove_file(pki.path(file))?,
                Some(text) => pki.write(file, text.as_bytes())?,
            }
            fails(program, &pki, &format!("{file} is {contents:?}"), file).await?;
        }
        let pki = Arc::new(Pki::new()?);
        pki.write("server.key", &fs::read(pki.path("peer.key"))?)?;
        fails(program, &pki, "the key of another certificate", "server.key").await?;
    }
    Ok(())
}

async fn fails(program: keelson_e2e::program::Program, pki: &Arc<Pki>, what: &str, file: &str) -> Result<()> {
    let (mut server, reservation) = prepared(program, pki, &[])?;
    drop(reservation);
    server.spawn()?;
    let mut status = None;
    wait::until("the server gives up", Duration::from_secs(30), async || {
        status = server.exit_status()?;
        Ok(status.is_some())
    })
    .await
    .with_context(|| format!("{}: {what}", program.name()))?;
    ensure!(status.is_some_and(|s| !s.success()), "{}: {what}: it ended well", program.name());
    let log = server.log();
    let told = log.contains(&pki.path(file).display().to_string());
    println!("{}: {what}: {}", program.name(), log.lines().last().unwrap_or_default());
    // etcd names the file of most of these, but not of all.
    ensure!(told || program == keelson_e2e::program::Program::Etcd, "{what}: it does not say which file: {}", server.log_tail());
    Ok(())
}
