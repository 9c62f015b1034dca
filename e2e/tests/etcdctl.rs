//! etcd's own command line prints the same on Keelson as on etcd.
//!
//! `KEELSON_UNDER_TEST=etcd` compares etcd with itself, which tests the normalisation.

use anyhow::Result;
use keelson_e2e::etcdctl::normal::Names;
use keelson_e2e::etcdctl::run::run;
use keelson_e2e::etcdctl::table::{self, Case};
use keelson_e2e::etcdctl::users;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_what_it_prints_on_etcd() -> Result<()> {
    print_the_same(table::CASES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_users_prints_what_it_prints_on_etcd() -> Result<()> {
    print_the_same(users::CASES).await
}

async fn print_the_same(cases: &[Case]) -> Result<()> {
    let right = Program::under_test()?;
    let flags = ["--log-level", "warn", "--bcrypt-cost", "4"];
    let (etcd, other) = futures::join!(Server::start(Program::Etcd, &flags), Server::start(right, &flags));
    let (etcd, other) = (etcd?, other?);
    let (mut etcd_names, mut other_names) = (Names::of(&etcd).await?, Names::of(&other).await?);
    let mut differences = 0;
    for case in cases {
        let (expected, printed) = futures::join!(run(case, &etcd, &mut etcd_names), run(case, &other, &mut other_names));
        let (expected, printed) = (expected?, printed?);
        if expected != printed {
            differences += 1;
            println!("--- {case:?}\nexpected {expected:#?}\nprinted  {printed:#?}");
        }
    }
    assert_eq!(differences, 0, "commands that print something else than on etcd, of {}", cases.len());
    Ok(())
}
