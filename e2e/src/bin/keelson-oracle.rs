//! Plays random or recorded requests to two servers and reports the first answer that differs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keelson_e2e::oracle::campaign::{Mix, Sequence, report, run};
use keelson_e2e::oracle::generate::{Generator, Profile};
use keelson_e2e::oracle::pair::Pair;
use keelson_e2e::oracle::play::{Failure, Sides};
use keelson_e2e::oracle::script;
use keelson_e2e::oracle::side::Side;
use keelson_e2e::program::Program;

const USAGE: &str = "\
keelson-oracle [option ...]

  --left etcd|keelson|URL    the reference (default: etcd)
  --right etcd|keelson|URL   the server under test (default: keelson)
  --seed N                   (default: random)
  --requests N               (default: 10000)
  --wide                     many and large keys instead of few and small ones
  --replay FILE              play a script instead
  --shrink-seconds N         how long to look for a shorter script (default: 120)

Programs are started fresh and emptied as needed. Servers given by URL must be fresh, both or none
must be given that way, and what differs on them is not shortened.";

struct Options {
    left: String,
    right: String,
    sequence: Sequence,
    replay: Option<String>,
    shrink: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Some(options) = options()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let started = Instant::now();
    let mut mix = Mix::default();
    let report = match (program(&options.left), program(&options.right)) {
        (Some(left), Some(right)) => spawned(&options, left, right, &mut mix).await?,
        (None, None) => by_url(&options, &mut mix).await?,
        _ => bail!("give both servers by URL or none"),
    };
    println!("{mix} in {:.1?}", started.elapsed());
    match report {
        None => Ok(()),
        Some(report) => bail!("the servers differ\n{report}"),
    }
}

async fn spawned(options: &Options, left: Program, right: Program, mix: &mut Mix) -> Result<Option<String>> {
    let mut pair = Pair::start(left, right).await?;
    let failure = match &options.replay {
        Some(file) => replay(&mut pair.connect().await?, file).await?,
        None => run(&pair, options.sequence, mix).await?,
    };
    let Some(failure) = failure else {
        return Ok(None);
    };
    eprintln!("shortening {} steps that differ:\n{}", failure.steps.len(), failure.difference);
    let report = report(&mut pair, origin(options), failure, options.shrink).await?;
    Ok(Some(report.to_string()))
}

async fn by_url(options: &Options, mix: &mut Mix) -> Result<Option<String>> {
    let left = Side::connect(&options.left).await?;
    let right = Side::connect(&options.right).await?;
    let mut sides = Sides { left, right };
    let failure = match &options.replay {
        Some(file) => replay(&mut sides, file).await?,
        None => {
            let mut generator = Generator::new(options.sequence.seed, options.sequence.profile);
            sides.explore(&mut generator, options.sequence.requests, |step| mix.count(step)).await
        }
    };
    Ok(failure.map(|failure| format!("# {}\n{}{}", origin(options), script::write(&failure.steps), failure.difference)))
}

async fn replay(sides: &mut Sides, file: &str) -> Result<Option<Failure>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    Ok(sides.replay(&script::parse(&text)?).await)
}

fn origin(options: &Options) -> String {
    match &options.replay {
        Some(file) => file.clone(),
        None => format!("{:?}", options.sequence),
    }
}

fn program(name: &str) -> Option<Program> {
    match name {
        "etcd" => Some(Program::Etcd),
        "keelson" => Some(Program::Keelson),
        _ => None,
    }
}

fn options() -> Result<Option<Options>> {
    let mut options = Options {
        left: "etcd".into(),
        right: "keelson".into(),
        sequence: Sequence { seed: rand::random(), requests: 10_000, profile: Profile::Narrow },
        replay: None,
        shrink: Duration::from_secs(120),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--left" => options.left = value()?,
            "--right" => options.right = value()?,
            "--seed" => options.sequence.seed = value()?.parse().context("--seed")?,
            "--requests" => options.sequence.requests = value()?.parse().context("--requests")?,
            "--wide" => options.sequence.profile = Profile::Wide,
            "--replay" => options.replay = Some(value()?),
            "--shrink-seconds" => {
                options.shrink = Duration::from_secs(value()?.parse().context("--shrink-seconds")?);
            }
            "--help" | "-h" => return Ok(None),
            _ => bail!("unknown option {arg}\n\n{USAGE}"),
        }
    }
    Ok(Some(options))
}
