//! `--feature-gates`: etcd's switches for what is new there. All its names are known, so that no command line is
//! refused for one; two of them change something here.

use std::collections::BTreeSet;

use super::flags::parse_bool;

/// The gates that change something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// Compare data with the other members before serving.
    pub initial_corrupt_check: bool,
    /// Remember checksums at compactions, and compare them when leading.
    pub compact_hash_check: bool,
}

/// What else etcd 3.7 knows, with its default, and why setting it otherwise changes nothing.
const OTHERS: &[(&str, bool, &str)] = &[
    ("StopGRPCServiceOnDefrag", false, "a defragmentation stops nobody here"),
    ("TxnModeWriteWithSharedBuffer", true, "it tunes bbolt, which is not used"),
    ("LeaseCheckpoint", false, "leases begin anew under a new leader"),
    ("LeaseCheckpointPersist", false, "leases begin anew under a new leader"),
    ("SetMemberLocalAddr", false, "the system chooses the address that other members are called from"),
    ("FastLeaseKeepAlive", true, "a renewal never waits for the log"),
    ("PriorityRequest", false, "no request is refused for its rank"),
];

/// Reads `Name=true,Other=false`.
pub fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Gates, String> {
    let mut gates = Gates::default();
    let mut on = BTreeSet::new();
    for gate in text.split(',').filter(|g| !g.is_empty()) {
        let (name, value) =
            gate.split_once('=').ok_or_else(|| format!("--feature-gates: missing bool value for {}", gate.trim()))?;
        let (name, value) = (name.trim(), value.trim());
        let wanted = parse_bool(value)
            .ok_or_else(|| format!("--feature-gates: invalid value of {name}={value}: it must be true or false"))?;
        if wanted {
            on.insert(name);
        }
        match name {
            "InitialCorruptCheck" => gates.initial_corrupt_check = wanted,
            "CompactHashCheck" => gates.compact_hash_check = wanted,
            // Two special names of Kubernetes' library, for all gates of a stage at once.
            "AllAlpha" => gates = Gates { initial_corrupt_check: wanted, compact_hash_check: wanted },
            "AllBeta" => {}
            _ => match OTHERS.iter().find(|(other, ..)| *other == name) {
                None => return Err(format!("--feature-gates: unrecognized feature gate: {name}")),
                Some((_, default, why)) if *default != wanted => {
                    warnings.push(format!("--feature-gates: {name}={wanted} has no effect: {why}"));
                }
                Some(_) => {}
            },
        }
    }
    if on.contains("LeaseCheckpointPersist") && !on.contains("LeaseCheckpoint") && !on.contains("AllAlpha") {
        return Err("--feature-gates: LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint".to_owned());
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_gates_are_known_and_others_are_refused_in_its_words() {
        let mut warnings = Vec::new();
        let gates = parse("InitialCorruptCheck=true, CompactHashCheck=T,FastLeaseKeepAlive=false", &mut warnings).unwrap();
        assert_eq!(gates, Gates { initial_corrupt_check: true, compact_hash_check: true });
        assert!(warnings.len() == 1 && warnings[0].contains("FastLeaseKeepAlive=false has no effect"), "{warnings:?}");
        assert_eq!(parse("", &mut warnings), Ok(Gates::default()));
        assert!(parse("InitialCorruptCheck", &mut warnings).unwrap_err().contains("missing bool value"));
        assert!(parse("InitialCorruptCheck=yes", &mut warnings).unwrap_err().contains("invalid value"));
        assert!(parse("LeaseCheckpointPersist=true", &mut warnings).unwrap_err().contains("requires"));
        assert!(parse("LeaseCheckpointPersist=true,LeaseCheckpoint=true", &mut warnings).is_ok());
        assert!(parse("Nope=true", &mut warnings).unwrap_err().contains("unrecognized feature gate: Nope"));
    }
}
