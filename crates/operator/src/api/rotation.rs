//! For how long certificates are good, and when they are renewed.

use jiff::SignedDuration;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::healing::duration;

/// For how long certificates are good, and when they are renewed. Renewed ones are used without a restart.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.validity) >= duration('1h')")
        .message("rotation.validity must be an hour at least: the clocks of members and clients are not quite the same"),
    validation = Rule::new("duration(self.validity).getSeconds() >= 2 * duration(self.renewBefore).getSeconds()")
        .message("rotation.renewBefore must be at most half of rotation.validity"),
)]
pub struct Rotation {
    /// For how long a certificate is good.
    #[serde(default = "ninety_days")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,5}(m|h)$')").message("rotation.validity must be a whole number of minutes or hours, such as 2160h"))]
    pub validity: String,
    /// How long before its end a certificate is renewed.
    #[serde(default = "thirty_days")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,5}(m|h)$')").message("rotation.renewBefore must be a whole number of minutes or hours, such as 720h"))]
    pub renew_before: String,
    /// With `auto`: for how long the old and the new authority are both trusted before each further step, when the authority
    /// itself is renewed. Clients that read the authority only when they start, as kube-apiserver does, must be started again
    /// within that time.
    #[serde(default = "a_day")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,5}(s|m|h)$')").message("rotation.overlap must be a whole number of seconds, minutes or hours, such as 24h"))]
    pub overlap: String,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { validity: ninety_days(), renew_before: thirty_days(), overlap: a_day() }
    }
}

impl Rotation {
    pub fn validity(&self) -> SignedDuration {
        read(&self.validity, 2160)
    }

    pub fn renew_before(&self) -> SignedDuration {
        read(&self.renew_before, 720)
    }

    pub fn overlap(&self) -> SignedDuration {
        read(&self.overlap, 24)
    }
}

/// The default when it is not readable, which the API server does not let through.
fn read(text: &str, hours: i64) -> SignedDuration {
    let read = duration(text).and_then(|read| SignedDuration::try_from(read).ok());
    read.unwrap_or(SignedDuration::from_hours(hours))
}

fn ninety_days() -> String {
    "2160h".into()
}

fn thirty_days() -> String {
    "720h".into()
}

fn a_day() -> String {
    "24h".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_what_they_are_called() {
        let rotation = Rotation::default();
        let days = [rotation.validity(), rotation.renew_before(), rotation.overlap()].map(|time| time.as_hours() / 24);
        assert_eq!(days, [90, 30, 1]);
    }
}
