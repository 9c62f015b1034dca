//! Where values come from: the command line and the environment, or a file.

use std::ffi::OsString;

use super::flags::{self, Values};
use super::parse::build;
use super::settings::Settings;
use super::{Config, file};

/// What the command line asks for.
pub enum Outcome {
    /// Serve.
    Run(Box<Config>),
    /// Print this and end well.
    Print(String),
}

/// Reads arguments, environment and file. An error is a usage error.
pub fn from_command_line(args: impl Iterator<Item = OsString>) -> Result<Outcome, String> {
    let args = args.map(|arg| arg.into_string().map_err(|arg| format!("argument {arg:?} is not valid UTF-8")));
    let mut values = flags::parse(args.collect::<Result<Vec<_>, _>>()?.into_iter())?;
    let asked = |name| values.get(name).and_then(|v| flags::parse_bool(v)) == Some(true);
    if asked("version") {
        return Ok(Outcome::Print(crate::version::text()));
    }
    if asked("help") || asked("h") {
        return Ok(Outcome::Print(flags::help()));
    }
    let mut warnings = Vec::new();
    let config_file = values.get("config-file").cloned().or_else(|| std::env::var("ETCD_CONFIG_FILE").ok());
    let config_file = config_file.filter(|f| !f.is_empty());
    match &config_file {
        Some(path) => values = file::read(path.as_ref(), &mut warnings)?,
        None => add_environment(&mut values, unicode(std::env::vars_os()), &mut warnings)?,
    }
    build(Settings { values, from_file: config_file.is_some() }, warnings).map(|config| Outcome::Run(Box::new(config)))
}

/// Variables that are text. Any other has nothing to say here, whoever set it.
fn unicode(variables: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (String, String)> {
    variables.filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// Adds `ETCD_*` variables for flags that are not on the command line.
fn add_environment(
    values: &mut Values,
    variables: impl Iterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    for (key, value) in variables {
        let Some(name) = key.strip_prefix("ETCD_") else { continue };
        let name = name.to_lowercase().replace('_', "-");
        if matches!(name.as_str(), "unsupported-arch" | "verify" | "config-file") {
            continue;
        }
        match flags::find(&name).filter(|f| !matches!(f.name, "version" | "help" | "h")) {
            Some(flag) => {
                flags::check(&flag, &value).map_err(|why| format!("invalid value {value:?} for {key}: {why}"))?;
                values.entry(flag.name).or_insert(value);
            }
            None => warnings.push(format!("unrecognized environment variable {key}={value}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_counts_less_than_the_command_line() {
        let mut values = flags::parse(["--name".to_owned(), "flag".to_owned()].into_iter()).unwrap();
        let mut warnings = Vec::new();
        let vars = [("ETCD_NAME", "env"), ("ETCD_DATA_DIR", "/d"), ("ETCD_NOPE", "1"), ("ETCD_VERIFY", "all")];
        add_environment(&mut values, vars.iter().map(|(k, v)| ((*k).into(), (*v).into())), &mut warnings).unwrap();
        assert_eq!((values["name"].as_str(), values["data-dir"].as_str()), ("flag", "/d"));
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn arguments_and_variables_that_are_not_text_do_not_bring_the_process_down() {
        use std::os::unix::ffi::OsStringExt;
        let garbage = || OsString::from_vec(vec![b'E', 0xff]);
        assert!(from_command_line([garbage()].into_iter()).err().unwrap().contains("not valid UTF-8"));
        let variables = [(garbage(), "1".into()), ("ETCD_NAME".into(), garbage()), ("ETCD_DATA_DIR".into(), "/d".into())];
        let text: Vec<_> = unicode(variables.into_iter()).collect();
        assert_eq!(text, [("ETCD_DATA_DIR".to_owned(), "/d".to_owned())]);
    }
}
