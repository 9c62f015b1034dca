//! Passwords: what signing in answers, and where a password is never found again.

use std::path::Path;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keelson_api::authpb::UserAddOptions;
use keelson_api::etcdserverpb::{AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

use super::common::{Caller, FLAGS, PASSWORD, ask_for_users, both, said};
use crate::clustering::http;

async fn change_password(root: &Caller, name: &str, password: &str) -> String {
    let request = AuthUserChangePasswordRequest { name: name.into(), password: password.into(), hashed_password: String::new() };
    said(root.auth().user_change_password(root.ask(request)).await)
}

#[tokio::test]
async fn signing_in_is_refused_in_etcds_words() -> Result<()> {
    for program in both()? {
        let server = Server::start(program, FLAGS).await?;
        let nobody = Caller::nobody(&server).await?;
        let sign_in = async |name: &str, password: &str| said(nobody.signed_in(name, password).await);
        let off = sign_in("root", PASSWORD).await;
        ensure!(off == "FailedPrecondition: etcdserver: authentication is not enabled", "{}: {off}", program.name());
        let root = ask_for_users(&server).await?;
        let bare =
            AuthUserAddRequest { name: "bare".into(), options: Some(UserAddOptions { no_password: true }), ..Default::default() };
        root.auth().user_add(root.ask(bare)).await?;
        let failed = "InvalidArgument: etcdserver: authentication failed, invalid user ID or password";
        for (name, password) in [("ann", "wrong"), ("ann", ""), ("gone", PASSWORD), ("", "")] {
            let told = sign_in(name, password).await;
            ensure!(told == failed, "{} {name:?} {password:?}: {told}", program.name());
        }
        let told = sign_in("bare", "").await;
        let expected = "Unknown: auth: authentication failed, password was given for no password user";
        ensure!(told == expected, "{}: {told}", program.name());
        ensure!(change_password(&root, "ann", &"x".repeat(73)).await == "Unknown: bcrypt: password length exceeds 72 bytes");
        ensure!(change_password(&root, "ann", &"x".repeat(72)).await == "accepted");
        ensure!(sign_in("ann", &"x".repeat(72)).await == "accepted");
        // Neither clear nor hashed: that is no password at all.
        ensure!(change_password(&root, "ann", "").await == "accepted");
        ensure!(sign_in("ann", "").await == failed);
    }
    Ok(())
}

/// etcd takes it, and computes for hours when somebody signs in.
#[tokio::test]
async fn a_hash_that_would_take_hours_to_compare_is_refused() -> Result<()> {
    let server = Server::start(Program::under_test()?, FLAGS).await?;
    let root = ask_for_users(&server).await?;
    let change = async |cost: &str| {
        let hash = format!("$2a${cost}$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
        let hashed_password = BASE64_STANDARD.encode(hash);
        let request = AuthUserChangePasswordRequest { name: "ann".into(), password: String::new(), hashed_password };
        said(root.auth().user_change_password(root.ask(request)).await)
    };
    let refused = change("31").await;
    ensure!(refused.starts_with("InvalidArgument: keelson: ") && refused.contains("--bcrypt-cost"), "{refused}");
    ensure!(said(root.signed_in("ann", PASSWORD).await) == "accepted", "the password of before is gone");
    ensure!(change("05").await == "accepted");
    ensure!(said(root.signed_in("ann", "U*U").await) == "accepted");
    Ok(())
}

#[tokio::test]
async fn another_password_and_the_end_of_a_user_end_its_tokens() -> Result<()> {
    for program in both()? {
        let server = Server::start(program, FLAGS).await?;
        let root = ask_for_users(&server).await?;
        let invalid = "Unauthenticated: etcdserver: invalid auth token";
        let ann = Caller::named(&server, "ann").await?;
        ensure!(said(ann.put("a").await) == "accepted");
        ensure!(change_password(&root, "ann", "another").await == "accepted");
        ensure!(said(ann.put("a").await) == invalid, "{}: {}", program.name(), said(ann.put("a").await));
        let ann = ann.signed_in("ann", "another").await?;
        root.auth().user_delete(root.ask(AuthUserDeleteRequest { name: "ann".into() })).await?;
        ensure!(said(ann.put("a").await) == invalid);
        // One of the same name is somebody else.
        root.add_user("ann").await?;
        ensure!(said(ann.put("a").await) == invalid);
    }
    Ok(())
}

/// Whether some file below a folder has the text in it.
fn is_in(folder: &Path, text: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found =
            if path.is_dir() { is_in(&path, text)? } else { std::fs::read(&path)?.windows(text.len()).any(|part| part == text) };
        if found {
            println!("found in {}", path.display());
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test]
async fn a_password_is_in_no_log_on_no_disk_and_in_no_answer() -> Result<()> {
    let secret = "correct horse battery staple";
    // Everything is told that can be told.
    let flags = ["--bcrypt-cost=4", "--log-level=debug", "--warning-unary-request-duration=1ns", "--warning-apply-duration=1ns"];
    let mut server = Server::start(Program::under_test()?, &flags).await?;
    let root = ask_for_users(&server).await?;
    ensure!(change_password(&root, "ann", secret).await == "accepted");
    ensure!(said(root.signed_in("ann", secret).await) == "accepted");
    ensure!(said(root.signed_in("root", secret).await) != "accepted");
    let added = AuthUserAddRequest { name: "ann".into(), password: secret.into(), ..Default::default() };
    ensure!(said(root.auth().user_add(root.ask(added)).await).contains("already exists"));
    for path in ["/metrics", "/debug/vars", "/debug/requests"] {
        ensure!(!http(&server.client_url(), path).await?.contains(secret), "{path}");
    }
    server.stop().await?;
    // What bcrypt made of it is there, so the files that are looked at are those with the data.
    ensure!(is_in(&server.data_dir(), b"$2b$04$")?, "there is no hash in any file");
    ensure!(!is_in(&server.data_dir(), secret.as_bytes())?, "the password is on the disk");
    ensure!(server.log().contains("request stats") && !server.log().contains(secret), "the password is in the log");
    Ok(())
}
