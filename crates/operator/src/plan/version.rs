//! From which version to which a cluster may go: within a minor version freely, one minor version up at a time.

/// Says why `from` → `to` is not supported, and what to do instead.
pub(super) fn path(from: &str, to: &str) -> Result<(), String> {
    if from == to {
        return Ok(());
    }
    // Images may carry tags that are no versions; those who use them know what they run.
    let (Some(old), Some(new)) = (minor(from), minor(to)) else {
        return Ok(());
    };
    if new == old || new == (old.0, old.1 + 1) {
        return Ok(());
    }
    if new < old {
        return Err(format!(
            "version {to} is older than {from}, whose data it may not read: set spec.version to {}.{} or newer",
            old.0, old.1
        ));
    }
    if new.0 != old.0 {
        return Err(format!(
            "there is no way from version {from} to {to}: go to the last {}.x release first, and read the release notes of {}.0",
            old.0, new.0
        ));
    }
    Err(format!("version {to} skips a minor version: set spec.version to {}.{} first, then to {to}", old.0, old.1 + 1))
}

/// Why `version` must not be started on what `writer` wrote, if that is known.
pub(super) fn too_old(version: &str, writer: &str) -> Option<String> {
    let (old, new) = (minor(version)?, minor(writer)?);
    (old < new).then(|| {
        format!(
            "version {version} is older than {writer}, which wrote the volume and may have left what {version} cannot read: \
             set spec.version to {}.{} or newer",
            new.0, new.1
        )
    })
}

fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    let parsed = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?;
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::{path, too_old};

    #[test]
    fn only_what_is_known_to_be_older_is_refused() {
        let readable = [("1.2.3", "1.2.9"), ("1.3.0", "1.2.9"), ("2.0.0", "1.9.0"), ("dev", "1.2.3"), ("1.2.3", "dev")];
        for (version, writer) in readable {
            assert_eq!(too_old(version, writer), None, "{version} after {writer}");
        }
        assert!(too_old("1.2.9", "1.3.0").is_some_and(|why| why.contains("set spec.version to 1.3 or newer")));
        assert!(too_old("1.9.0", "2.0.0").is_some());
    }

    #[test]
    fn versions_move_within_a_minor_or_one_minor_up() {
        for (from, to) in [("1.2.3", "1.2.9"), ("1.2.9", "1.2.3"), ("1.2.3", "1.3.0"), ("main", "1.0.0"), ("1.2.3", "dev")] {
            assert_eq!(path(from, to), Ok(()), "{from} to {to}");
        }
        for (from, to, says) in
            [("1.2.3", "1.4.0", "1.3 first"), ("1.3.0", "1.2.9", "older"), ("1.9.0", "2.0.0", "release notes")]
        {
            assert!(path(from, to).is_err_and(|why| why.contains(says)), "{from} to {to}");
        }
    }
}
