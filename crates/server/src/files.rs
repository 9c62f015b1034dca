//! Who gets how many of the files that this process may open. A connection is one as well, and clients
//! must not be able to use up what the store needs: a log that cannot begin a file ends the process.

use keelson_storage::LogStore;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Everything but connections and tables: ports, lock files, logs, manifests, tables being written.
const OTHERS: usize = 64;
/// What the runtime of a serving thread opens.
const PER_THREAD: usize = 4;
/// Connections to ports for health and metrics. They are counted apart, so that a store whose clients
/// have taken all theirs can still say that it lives.
pub const PROBES: usize = 32;
/// Connections of other members at a time: a few of each, and of who asks for health and versions. One file in so many.
const MEMBERS_SHARE: usize = 16;
const MIN_MEMBERS: usize = 16;
const MAX_MEMBERS: usize = 128;
/// Connections to other members: one to each, and those being made.
const DIALS: usize = 12;
/// One in so many goes to tables of the state store, at least this many.
const TABLES_SHARE: usize = 16;
const MIN_TABLES: usize = 40;
/// So many tables, of 32 MiB, hold more than this store is made for: no use in closing any.
const ALL_TABLES: usize = 4096;

/// How many files there are for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// Connections of clients at a time.
    pub clients: usize,
    /// Connections of other members at a time.
    pub members: usize,
    /// Tables of the state store that are kept open; `None` for all.
    pub tables: Option<usize>,
}

impl Files {
    /// Divides `limit` files.
    pub fn divide(limit: usize, threads: usize) -> Result<Self, String> {
        let tables = (limit / TABLES_SHARE).max(MIN_TABLES);
        let members = (limit / MEMBERS_SHARE).clamp(MIN_MEMBERS, MAX_MEMBERS);
        let reserved = tables + LogStore::MAX_OPEN_FILES + OTHERS + PER_THREAD * threads + PROBES + members + DIALS;
        match limit.checked_sub(reserved) {
            None | Some(0) => Err(format!(
                "the limit of {limit} open files leaves none to clients: the store keeps {reserved} for itself; \
                 raise it (ulimit -n, LimitNOFILE)"
            )),
            Some(clients) => Ok(Self { clients, members, tables: (tables < ALL_TABLES).then_some(tables) }),
        }
    }
}

/// Raises the soft limit of open files to the hard one, as Go's runtime does for etcd: the soft one is
/// low for the sake of programs that use `select`. Answers how many may be open now.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let now = if raised.is_ok() { limit.maximum } else { limit.current };
    now.and_then(|n| usize::try_from(n).ok()).unwrap_or(i32::MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_most_and_the_store_what_it_needs() {
        for limit in [300, 1024, 20_000, 1 << 20] {
            let files = Files::divide(limit, 4).unwrap();
            assert!(
                files.clients >= limit / 3
                    && files.clients
                        + files.members
                        + DIALS
                        + PROBES
                        + files.tables.unwrap_or(ALL_TABLES)
                        + LogStore::MAX_OPEN_FILES
                        < limit,
                "{files:?}"
            );
        }
        assert_eq!(Files::divide(1 << 20, 4).unwrap().tables, None);
        assert!(Files::divide(300, 4).unwrap().members >= MIN_MEMBERS);
        assert_eq!(Files::divide(20_000, 4).unwrap().members, MAX_MEMBERS);
        assert!(Files::divide(100, 4).unwrap_err().contains("raise it"));
    }
}
