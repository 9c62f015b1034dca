//! Values by the names of their flags, read as what they are.

use std::time::Duration;

use super::flags::{self, Values};
use super::security::{Named, Pair};

/// What was said, wherever that was.
pub struct Settings {
    /// As it was written.
    pub values: Values,
    /// They come from a file, where etcd takes what it has when nothing else is said.
    pub from_file: bool,
}

impl Settings {
    /// The default if nothing was said.
    pub fn text(&self, name: &str) -> String {
        match self.values.get(name) {
            Some(value) => value.clone(),
            None => flags::find(name).map_or_else(String::new, |f| f.default.to_owned()),
        }
    }

    /// Whether anything was said.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Whether it is true.
    pub fn bool(&self, name: &str) -> bool {
        flags::parse_bool(&self.text(name)).unwrap_or(false)
    }

    /// What stands between commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.text(name).split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Result<i64, String> {
        self.text(name).parse().map_err(|e| format!("--{name}: {e}"))
    }

    /// One above zero.
    pub fn positive<T: TryFrom<i64>>(&self, name: &str) -> Result<T, String> {
        let n = self.number(name)?;
        T::try_from(n).ok().filter(|_| n > 0).ok_or_else(|| format!("--{name} must be >0 (set to {n})"))
    }

    /// A length of time.
    pub fn duration(&self, name: &str) -> Result<Duration, String> {
        let text = self.text(name);
        flags::parse_duration(&text).ok_or_else(|| format!("--{name}: {text:?} is not a duration such as 1m30s"))
    }

    /// A file, if one is named.
    pub fn file(&self, name: &str) -> Option<Named> {
        let path = self.text(name);
        (!path.is_empty()).then(|| Named { flag: format!("--{name}"), path: path.into() })
    }

    /// A certificate and its key, if they are named.
    pub fn pair(&self, cert: &str, key: &str) -> Result<Option<Pair>, String> {
        match (self.file(cert), self.file(key)) {
            (Some(cert), Some(key)) => Ok(Some(Pair { cert, key })),
            (None, None) => Ok(None),
            _ => Err(format!("--{cert} and --{key} must both be present or both absent")),
        }
    }
}

#[cfg(test)]
impl Settings {
    /// These, as on a command line.
    pub fn of(said: &[(&'static str, &str)]) -> Self {
        Self { values: said.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), from_file: false }
    }
}
