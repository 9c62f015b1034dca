//! Flags and their values.

use std::collections::HashMap;
use std::time::Duration;

use crate::go::{duration, number};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True when it is given without a value.
    Switch,
    Text,
    Int,
    Uint,
    Duration,
    /// Separated by commas, or given several times.
    List,
}

impl Kind {
    /// As help calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Switch => "",
            Kind::Text => "string",
            Kind::Int => "int",
            Kind::Uint => "uint",
            Kind::Duration => "duration",
            Kind::List => "strings",
        }
    }
}

#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    pub default: &'static str,
    pub about: &'static str,
    /// What its value can be, if that is a fixed list.
    pub choices: &'static [&'static str],
}

impl Flag {
    pub const fn new(kind: Kind, name: &'static str, default: &'static str, about: &'static str) -> Self {
        Self { name, short: None, kind, default, about, choices: &[] }
    }

    pub const fn switch(name: &'static str, about: &'static str) -> Self {
        Self::new(Kind::Switch, name, "false", about)
    }

    pub const fn text(name: &'static str, default: &'static str, about: &'static str) -> Self {
        Self::new(Kind::Text, name, default, about)
    }

    pub const fn int(name: &'static str, default: &'static str, about: &'static str) -> Self {
        Self::new(Kind::Int, name, default, about)
    }

    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    pub const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    /// Whether it can stand alone.
    pub fn alone(&self) -> bool {
        self.kind == Kind::Switch
    }

    /// As in messages about it.
    pub fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }

    fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Switch => number::boolean(value).map(|_| ()),
            Kind::Int => number::int(value, 0).map(|_| ()),
            Kind::Uint => number::uint(value, 0).map(|_| ()),
            Kind::Duration => duration::parse(value).map(|_| ()),
            Kind::Text | Kind::List => Ok(()),
        }
    }
}

/// The flags that were given. All values in here can be read as their flag's kind.
#[derive(Clone, Debug, Default)]
pub struct Values {
    given: HashMap<&'static str, String>,
    defaults: HashMap<&'static str, &'static str>,
}

impl Values {
    pub fn of(flags: impl Iterator<Item = &'static Flag>) -> Self {
        Self { given: HashMap::new(), defaults: flags.map(|flag| (flag.name, flag.default)).collect() }
    }

    /// The last value counts; those of a list are added up.
    pub fn set(&mut self, flag: &'static Flag, value: &str) -> Result<(), String> {
        flag.check(value)?;
        let former = self.given.get(flag.name).filter(|_| flag.kind == Kind::List);
        let value = former.map_or_else(|| value.to_owned(), |former| format!("{former},{value}"));
        self.given.insert(flag.name, value);
        Ok(())
    }

    pub fn given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// # Panics
    /// If the command has no such flag, which is a mistake in this program.
    pub fn text(&self, name: &str) -> &str {
        let given = self.given.get(name).map(String::as_str);
        given.or_else(|| self.defaults.get(name).copied()).unwrap_or_else(|| panic!("no flag --{name}"))
    }

    pub fn on(&self, name: &str) -> bool {
        number::boolean(self.text(name)).unwrap_or_default()
    }

    pub fn int(&self, name: &str) -> i64 {
        number::int(self.text(name), 0).unwrap_or_default()
    }

    pub fn uint(&self, name: &str) -> u64 {
        number::uint(self.text(name), 0).unwrap_or_default()
    }

    pub fn duration(&self, name: &str) -> Duration {
        duration::parse(self.text(name)).unwrap_or_default()
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
    }
}
