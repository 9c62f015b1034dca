//! Values that say which write they come from and show when a single byte of them is wrong.

use bytes::Bytes;

/// Id, size, and a check of both, since a short value has nothing else to show damage by.
const HEAD: usize = 16;

fn check(id: u64, size: u32) -> u32 {
    let mixed = (id ^ u64::from(size).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u32::try_from(mixed >> 32).expect("half of it")
}

/// A value of at least 16 bytes that belongs to the write `id` alone.
pub fn make(id: u64, size: usize) -> Bytes {
    let size = size.max(HEAD);
    let mut value = Vec::with_capacity(size);
    value.extend_from_slice(&id.to_be_bytes());
    let stated = u32::try_from(size).expect("values are small");
    value.extend_from_slice(&stated.to_be_bytes());
    value.extend_from_slice(&check(id, stated).to_be_bytes());
    let mut filler = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < size {
        filler ^= filler << 13;
        filler ^= filler >> 7;
        filler ^= filler << 17;
        let left = size - value.len();
        value.extend_from_slice(&filler.to_le_bytes()[..left.min(8)]);
    }
    value.into()
}

/// Which write the value comes from; `None` when it is not whole.
pub fn id_of(value: &[u8]) -> Option<u64> {
    let id = u64::from_be_bytes(value.get(..8)?.try_into().ok()?);
    let size = u32::from_be_bytes(value.get(8..12)?.try_into().ok()?);
    (usize::try_from(size).ok()? == value.len() && make(id, value.len()) == value).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_write_and_a_damaged_one_names_none() {
        for size in [0, 16, 17, 100, 4096] {
            let value = make(7, size);
            assert_eq!(id_of(&value), Some(7));
            for i in (0..value.len()).step_by(7) {
                let mut damaged = value.to_vec();
                damaged[i] ^= 4;
                assert_eq!(id_of(&damaged), None, "byte {i} of {size}");
            }
            assert_eq!(id_of(&value[..value.len() - 1]), None);
        }
    }
}
