//! How a store's process ends, as a number that whoever started it can act on.

/// The command line or the configuration cannot be used.
pub const USAGE: u8 = 2;
/// The data of this member is damaged, or not what the others have. No start on it will go well.
pub const CORRUPT: u8 = 65;
/// The cluster knows this member with data that is not there any more.
pub const DATA_GONE: u8 = 66;
/// The member was removed from the cluster for good.
pub const REMOVED: u8 = 67;
/// The data or the cluster has a format that this build does not understand. A newer build does.
pub const TOO_OLD: u8 = 68;

#[cfg(test)]
mod tests {
    use super::*;

    /// Older and newer operators and stores have to understand each other.
    #[test]
    fn they_never_change() {
        assert_eq!([USAGE, CORRUPT, DATA_GONE, REMOVED, TOO_OLD], [2, 65, 66, 67, 68]);
    }
}
