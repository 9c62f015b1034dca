//! Tokens: how long they are good, and web tokens that two servers with the same keys take from each other.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use keelson_api::authpb::permission::Type;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use rcgen::KeyPair;
use tempfile::TempDir;

use super::common::{Caller, FLAGS, LIMIT, ask_for_users, both, said};

const INVALID: &str = "Unauthenticated: etcdserver: invalid auth token";

#[tokio::test]
async fn a_simple_token_looks_like_etcds_and_is_good_while_it_is_used() -> Result<()> {
    for program in both()? {
        let flags = [FLAGS, &["--auth-token-ttl=3"]].concat();
        let server = Server::start(program, &flags).await?;
        let root = ask_for_users(&server).await?;
        let token = root.token().unwrap_or_default();
        let (letters, index) = token.split_once('.').unwrap_or_default();
        ensure!(letters.len() == 16 && letters.bytes().all(|b| b.is_ascii_alphabetic()), "{}: {token}", program.name());
        ensure!(index.parse::<u64>().is_ok_and(|index| index > 0), "{}: {token}", program.name());
        let (used, unused) = (Caller::named(&server, "ann").await?, Caller::named(&server, "ann").await?);
        // It is used for more than twice as long as it is good, and the other one not at all.
        let begun = std::time::Instant::now();
        wait::until("the token has outlived its time", LIMIT, async || {
            ensure!(said(used.put("a").await) == "accepted", "{}: it has ended after {:?}", program.name(), begun.elapsed());
            Ok(begun.elapsed() > Duration::from_secs(7))
        })
        .await?;
        ensure!(said(unused.put("a").await) == INVALID, "{}: it is still good", program.name());
    }
    Ok(())
}

/// Flags for web tokens that this key signs.
fn jwt(dir: &TempDir) -> Result<String> {
    let pair = KeyPair::generate()?;
    let (private, public) = (dir.path().join("key.pem"), dir.path().join("key.pub"));
    fs::write(&private, pair.serialize_pem())?;
    fs::write(&public, pair.public_key_pem())?;
    Ok(format!("--auth-token=jwt,sign-method=ES256,priv-key={},pub-key={},ttl=5m", private.display(), public.display()))
}

#[tokio::test]
async fn servers_with_the_same_key_take_each_others_web_tokens() -> Result<()> {
    let dir = TempDir::new()?;
    let jwt = jwt(&dir)?;
    let flags = [FLAGS, &[jwt.as_str()]].concat();
    let [etcd, other] = both()?;
    let (etcd, other) = (Server::start(etcd, &flags).await?, Server::start(other, &flags).await?);
    for (gives, takes) in [(&etcd, &other), (&other, &etcd)] {
        if Caller::nobody(gives).await?.get("a").await.is_ok() {
            ask_for_users(gives).await?;
            ask_for_users(takes).await?;
        }
        let ann = Caller::named(gives, "ann").await?;
        let token = ann.token().unwrap_or_default();
        ensure!(token.split('.').count() == 3, "{token}");
        let elsewhere = Caller::nobody(takes).await?.with(token);
        for caller in [&ann, &elsewhere] {
            ensure!(said(caller.put("a").await) == "accepted", "{}", said(caller.put("a").await));
            ensure!(said(caller.put("r").await) == "PermissionDenied: etcdserver: permission denied");
        }
        // Its signature is of this text and no other.
        let mut forged = token.to_owned();
        let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
        forged.push(last);
        ensure!(said(elsewhere.with(&forged).put("a").await) == INVALID);
    }
    Ok(())
}

#[tokio::test]
async fn a_web_token_of_before_a_change_of_users_is_old() -> Result<()> {
    let dir = TempDir::new()?;
    let jwt = jwt(&dir)?;
    for program in both()? {
        let flags = [FLAGS, &[jwt.as_str()]].concat();
        let server = Server::start(program, &flags).await?;
        let root = ask_for_users(&server).await?;
        let ann = Caller::named(&server, "ann").await?;
        root.add_role("another").await?;
        let old = "InvalidArgument: etcdserver: revision of auth store is old";
        for told in [said(ann.put("a").await), said(ann.get("a").await), said(root.get("a").await)] {
            ensure!(told == old, "{}: {told}", program.name());
        }
        // Root's token is good for what is root's alone, as etcd has it.
        ensure!(said(root.permit("another", Type::Read, "z", "").await) == "accepted");
        ensure!(said(Caller::named(&server, "ann").await?.put("a").await) == "accepted");
    }
    Ok(())
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_told_at_the_start() -> Result<()> {
    let flags = ["--auth-token=jwt,sign-method=ES256,priv-key=/nowhere/key.pem"];
    let refused = Server::start(Program::under_test()?, &flags).await;
    let told = refused.err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(told.contains("priv-key=/nowhere/key.pem cannot be read"), "{told}");
    Ok(())
}
