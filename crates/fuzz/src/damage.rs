//! What can happen to bytes on a disk or on a wire.

use bolero::TypeGenerator;

/// One piece of damage. Places count from the start, modulo the length.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Damage {
    /// These bits of a byte are flipped.
    Flip(u16, u8),
    /// A byte has another value.
    Set(u16, u8),
    /// Everything from here on is missing.
    Cut(u16),
    /// Bytes are missing.
    Remove(u16, u8),
    /// A byte too many.
    Insert(u16, u8),
    /// Bytes are appended.
    Append(Vec<u8>),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: u16| (!bytes.is_empty()).then(|| usize::from(at) % bytes.len());
        match self {
            Self::Flip(at, bits) => place(*at).into_iter().for_each(|at| bytes[at] ^= bits),
            Self::Set(at, value) => place(*at).into_iter().for_each(|at| bytes[at] = *value),
            Self::Cut(at) => bytes.truncate(place(*at).unwrap_or(0)),
            Self::Remove(at, count) => {
                if let Some(at) = place(*at) {
                    bytes.drain(at..bytes.len().min(at + usize::from(*count)));
                }
            }
            Self::Insert(at, value) => bytes.insert(usize::from(*at) % (bytes.len() + 1), *value),
            Self::Append(more) => bytes.extend_from_slice(more),
        }
    }
}

/// A copy of `bytes` with all of `damage` done to it in turn.
#[must_use]
pub fn damaged(bytes: &[u8], damage: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    damage.iter().for_each(|d| d.apply(&mut bytes));
    bytes
}
