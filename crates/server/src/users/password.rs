//! Passwords, which are hashed and compared outside of the log: that takes long on purpose. It is done on blocking threads, a
//! few at a time, so that whoever guesses passwords holds up others who sign in, and nothing else.

use keelson_api::Error;
use tokio::sync::Semaphore;

/// Passwords that are hashed or compared at once.
const AT_ONCE: usize = 2;
/// What bcrypt can tell apart.
const LONGEST: usize = 72;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let turn = TURNS.acquire().await.map_err(|_| Error::Stopped)?;
    let work = move || {
        // Held by the thread: it goes on when who waits for it has gone away.
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)
}

/// Hashes a password.
pub async fn hash(password: String, cost: u32) -> Result<Vec<u8>, Error> {
    if password.len() > LONGEST {
        return Err(Error::PasswordTooLong);
    }
    let hashed = in_turn(move || bcrypt::hash(password, cost)).await?;
    hashed.map(String::into_bytes).map_err(|e| {
        tracing::error!(error = %e, "a password could not be hashed");
        Error::Stopped
    })
}

/// Whether this is the password of which that is the hash. What is no hash is nobody's.
pub async fn is_right(password: String, hash: bytes::Bytes) -> Result<bool, Error> {
    in_turn(move || std::str::from_utf8(&hash).is_ok_and(|hash| bcrypt::verify(password, hash).unwrap_or(false))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_told_from_others_by_its_hash_only() {
        let hashed = hash("secret".into(), 4).await.unwrap();
        assert!(!String::from_utf8_lossy(&hashed).contains("secret"));
        assert!(is_right("secret".into(), hashed.clone().into()).await.unwrap());
        assert!(!is_right("secre".into(), hashed.into()).await.unwrap());
        assert_eq!(hash("x".repeat(73), 4).await, Err(Error::PasswordTooLong));
        for nothing in ["", "secret", "$2b$04$short"] {
            assert!(!is_right(nothing.into(), nothing.into()).await.unwrap());
        }
        let empty = hash(String::new(), 4).await.unwrap();
        assert!(is_right(String::new(), empty.into()).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_that_etcd_made_is_understood() {
        // Of "U*U", from the vectors that bcrypt was first published with; etcd's library writes the same form.
        let hashed = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(is_right("U*U".into(), hashed.into()).await.unwrap());
        assert!(!is_right("U*".into(), hashed.into()).await.unwrap());
    }
}
