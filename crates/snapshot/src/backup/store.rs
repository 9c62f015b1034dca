//! Where backups are: a bucket of a cloud, or a folder. Requests are repeated by the library, with growing pauses, as long as
//! the store says that it is busy or does not answer.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Certificate, ClientOptions, Error, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutPayload, WriteMultipart,
};
use sha2::{Digest, Sha256};
use url::Url;

use super::BackupError;
use super::manifest::number_of;
use super::segment::SegmentName;

/// Bytes of a part of an upload. S3 takes 10,000 parts: 160 GB.
const PART: usize = 16 << 20;
/// Parts that are on their way at once.
const PARTS_AT_ONCE: usize = 3;

/// How long a store may say nothing before a request is given up: a part has to arrive there in this time.
const SILENCE: Duration = Duration::from_secs(300);
/// A backup that nobody has finished in this time never will be: no snapshot takes as long.
pub(super) const UNFINISHED_FOR: Duration = Duration::from_secs(24 * 3600);

/// How to get at a store.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Settings of the kind of store, as `name=value`. They count more than the environment, where the usual variables
    /// (`AWS_…`, `GOOGLE_…`, `AZURE_…`) are read.
    pub options: Vec<String>,
    /// File of authorities that may have signed the store's certificate, besides those the machine trusts.
    pub authorities: Option<PathBuf>,
}

/// A store, or a folder in one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    address: String,
    /// Where it is, if it is a folder.
    folder: Option<PathBuf>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Something that is in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub path: String,
    pub size: u64,
    /// When it was written, in milliseconds of the store's own clock.
    pub written: i64,
}

macro_rules! cloud {
    ($builder:ty, $key:ty, $environment:expr, $url:expr, $access:expr) => {{
        let wrong = |e: Error| BackupError::Address(format!("the store {} cannot be used: {e}", $url));
        let mut builder = <$builder>::new().with_client_options(client_options($access)?).with_url($url.as_str());
        for (name, value) in environment($environment) {
            // Variables of other programs may begin so, too.
            if let Ok(key) = name.parse::<$key>() {
                builder = builder.with_config(key, value);
            }
        }
        for option in &$access.options {
            let Some((name, value)) = option.split_once('=') else {
                return Err(BackupError::Address(format!("--store-option {option:?} is not NAME=VALUE")));
            };
            let key = name.to_ascii_lowercase().parse::<$key>();
            let key = key.map_err(|_| BackupError::Address(format!("no store of this kind has an option {name:?}")))?;
            builder = builder.with_config(key, value);
        }
        Arc::new(builder.build().map_err(wrong)?) as Arc<dyn ObjectStore>
    }};
}

fn environment(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(move |(name, value)| {
        let name = name.to_str().filter(|name| name.starts_with(prefix))?.to_ascii_lowercase();
        Some((name, value.to_str()?.to_owned()))
    })
}

fn client_options(access: &Access) -> Result<ClientOptions, BackupError> {
    // However long a part or a snapshot takes, it goes on as long as something moves.
    let mut options = ClientOptions::new().with_timeout_disabled().with_read_timeout(SILENCE);
    if let Some(file) = &access.authorities {
        let wrong = |why: String| BackupError::Address(format!("--store-cacert {} cannot be used: {why}", file.display()));
        let pem = fs::read(file).map_err(|e| wrong(e.to_string()))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| wrong(e.to_string()))? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn folder(path: &std::path::Path, access: &Access) -> Result<Arc<dyn ObjectStore>, BackupError> {
    let wrong = |why: &str| BackupError::Address(format!("the folder {} cannot be used: {why}", path.display()));
    if !access.options.is_empty() || access.authorities.is_some() {
        return Err(wrong("--store-option and --store-cacert are for stores of clouds"));
    }
    // Never made here: where a disk is not mounted, backups would go to another one.
    if !path.is_dir() {
        return Err(wrong("there is no such folder; make it, or mount what it is on"));
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|e| wrong(&e.to_string()))?;
    Ok(Arc::new(store.with_fsync(true).with_automatic_cleanup(true)))
}

impl Store {
    /// Opens `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///…` or the path of a folder. Nothing is asked of it yet.
    pub fn open(address: &str, access: &Access) -> Result<Self, BackupError> {
        // The transport takes the provider of the process. If there is one already, it is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = address.trim_end_matches('/').to_owned();
        if !address.contains("://") {
            let path = PathBuf::from(if address.is_empty() { "/" } else { address.as_str() });
            return Ok(Self { inner: folder(&path, access)?, address, folder: Some(path) });
        }
        let unknown = || {
            let kinds = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, file:///FOLDER or the path of a folder";
            BackupError::Address(format!("{address:?} is no store: it may be {kinds}"))
        };
        let url = Url::parse(&address).map_err(|_| unknown())?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| unknown())?;
        let inner: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => {
                let path = url.to_file_path().map_err(|()| unknown())?;
                return Ok(Self { inner: folder(&path, access)?, address, folder: Some(path) });
            }
            ObjectStoreScheme::AmazonS3 => cloud!(AmazonS3Builder, AmazonS3ConfigKey, "AWS_", url, access),
            ObjectStoreScheme::GoogleCloudStorage => {
                cloud!(GoogleCloudStorageBuilder, GoogleConfigKey, "GOOGLE_", url, access)
            }
            ObjectStoreScheme::MicrosoftAzure => cloud!(MicrosoftAzureBuilder, AzureConfigKey, "AZURE_", url, access),
            _ => return Err(unknown()),
        };
        Ok(Self { inner: Arc::new(PrefixStore::new(inner, prefix)), address, folder: None })
    }

    /// As it was given.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn failed(&self, what: &str, path: &str, why: &dyn fmt::Display) -> BackupError {
        BackupError::Store { store: self.address.clone(), what: format!("{what} {path}"), reason: why.to_string() }
    }

    /// All of an object, if it is there. One of more than `most` bytes is refused.
    pub(super) async fn read(&self, path: &str, most: u64) -> Result<Option<Bytes>, BackupError> {
        let failed = |e: Error| self.failed("read", path, &e);
        let found = match self.inner.get(&Path::from(path)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(failed)?,
        };
        if found.meta.size > most {
            return Err(self.failed(
                "read",
                path,
                &format!("it has {} bytes, more than the {most} it may have", found.meta.size),
            ));
        }
        found.bytes().await.map(Some).map_err(failed)
    }

    /// Passes an object on in pieces; how many bytes it had.
    pub(super) async fn read_through(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, BackupError> {
        let failed = |e: &dyn fmt::Display| self.failed("read", path, e);
        let found = self.inner.get(&Path::from(path)).await.map_err(|e| failed(&e))?;
        let (mut pieces, mut size) = (found.into_stream(), 0);
        while let Some(piece) = pieces.try_next().await.map_err(|e| failed(&e))? {
            take(&piece).map_err(|e| failed(&e))?;
            size += piece.len() as u64;
        }
        Ok(size)
    }

    /// Writes an object as a whole, or not at all.
    pub(super) async fn write(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), BackupError> {
        let written = self.inner.put(&Path::from(path), PutPayload::from_bytes(bytes.into())).await;
        written.map(drop).map_err(|e| self.failed("write", path, &e))
    }

    /// Adds a segment to the log of a backup. Twice is as good as once.
    pub async fn append(&self, backup: &str, name: &SegmentName, bytes: Bytes) -> Result<(), BackupError> {
        self.write(&name.path(backup), bytes).await
    }

    /// Begins an object that comes in pieces. It is there once it is finished.
    pub(super) async fn upload(&self, path: String) -> Result<Upload, BackupError> {
        let begun = self.inner.put_multipart(&Path::from(path.as_str())).await.map_err(|e| self.failed("write", &path, &e))?;
        let parts = WriteMultipart::new_with_chunk_size(begun, PART);
        Ok(Upload { store: self.clone(), path, parts, sum: Sha256::new(), size: 0 })
    }

    /// Everything that is there.
    pub(super) async fn list(&self) -> Result<Vec<Object>, BackupError> {
        let (mut found, mut objects) = (self.inner.list(None), Vec::new());
        while let Some(meta) = found.try_next().await.map_err(|e| self.failed("list", "what is", &e))? {
            let written = meta.last_modified.timestamp_millis();
            objects.push(Object { path: meta.location.to_string(), size: meta.size, written });
        }
        Ok(objects)
    }

    /// Removes objects, many at a time where the store can. That one is gone already is as good.
    pub(super) async fn delete(&self, paths: Vec<String>) -> Result<(), BackupError> {
        let paths = stream::iter(paths.into_iter().map(|path| Ok(Path::from(path)))).boxed();
        let mut gone = self.inner.delete_stream(paths);
        while let Some(one) = gone.next().await {
            match one {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(self.failed("delete", "objects", &e)),
            }
        }
        Ok(())
    }

    /// Removes what uploads to a folder have left whose process was killed. Clouds have rules of their own for that.
    pub fn sweep(&self) -> Result<(), BackupError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let left = leftovers(folder).map_err(|e| self.failed("list", "what is", &e))?;
        for path in left {
            fs::remove_file(&path).map_err(|e| self.failed("delete", &path.display().to_string(), &e))?;
            // Only if nothing else is there.
            let _ = path.parent().map(fs::remove_dir);
        }
        Ok(())
    }
}

/// Files of uploads that were begun more than a day ago: their names end with a number behind `#`.
fn leftovers(folder: &std::path::Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for backup in fs::read_dir(folder)? {
        let backup = backup?;
        if backup.file_name().to_str().and_then(number_of).is_none() {
            continue;
        }
        for file in fs::read_dir(backup.path())? {
            let file = file?;
            let name = file.file_name();
            let number = name.to_str().and_then(|name| Some(name.rsplit_once('#')?.1));
            let is_part = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            if is_part && age > UNFINISHED_FOR {
                found.push(file.path());
            }
        }
    }
    Ok(found)
}

/// An object in the making.
#[derive(Debug)]
pub(super) struct Upload {
    store: Store,
    path: String,
    parts: WriteMultipart,
    sum: Sha256,
    size: u64,
}

impl Upload {
    /// Adds to it; waits while too much is on its way.
    pub async fn add(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let ready = self.parts.wait_for_capacity(PARTS_AT_ONCE).await;
        ready.map_err(|e| self.store.failed("write", &self.path, &e))?;
        self.parts.write(bytes);
        self.sum.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Puts it there. The answer is its size and the SHA-256 of what was sent. The store is asked what it has.
    pub async fn finish(self) -> Result<(u64, String), BackupError> {
        let Self { store, path, parts, sum, size } = self;
        parts.finish().await.map_err(|e| store.failed("write", &path, &e))?;
        let found = store.inner.head(&Path::from(path.as_str())).await.map_err(|e| store.failed("find", &path, &e))?;
        if found.size != size {
            let why = format!("it has {} bytes there, and {size} were sent", found.size);
            return Err(store.failed("write", &path, &why));
        }
        Ok((size, hex(&sum.finalize())))
    }

    /// Gives it up. What the store has of it may stay until its own rules clear it.
    pub async fn abort(self) {
        if let Err(e) = self.parts.abort().await {
            tracing::warn!(path = %self.path, error = %e, "half an upload could not be cleared away");
        }
    }
}

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_no_store_is_told_what_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let refused = |address: &str, options: &[&str]| {
            let options = options.iter().map(ToString::to_string).collect();
            Store::open(address, &Access { options, authorities: None }).unwrap_err().to_string()
        };
        assert!(refused("ftp://host/x", &[]).contains("s3://BUCKET"), "{}", refused("ftp://host/x", &[]));
        assert!(refused(&format!("{path}/missing"), &[]).contains("no such folder"));
        assert!(refused(path, &["a=b"]).contains("--store-option"));
        assert!(refused("s3://bucket/p", &["colour=red"]).contains("\"colour\""));
        assert!(refused("s3://bucket/p", &["colour"]).contains("NAME=VALUE"));
        for sound in [path.to_owned(), format!("file://{path}/")] {
            Store::open(&sound, &Access::default()).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_uploaded_in_pieces_is_there_when_it_is_finished_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap(), &Access::default()).unwrap();
        let mut upload = store.upload("a/b".into()).await.unwrap();
        upload.add(b"hel").await.unwrap();
        upload.add(b"lo").await.unwrap();
        assert_eq!(store.list().await.unwrap(), []);
        let (size, sum) = upload.finish().await.unwrap();
        assert_eq!((size, sum), (5, hex(&Sha256::digest(b"hello"))));
        let listed = store.list().await.unwrap();
        assert_eq!(listed.iter().map(|o| (o.path.as_str(), o.size)).collect::<Vec<_>>(), [("a/b", 5)]);
        assert_eq!(store.read("a/b", 5).await.unwrap().unwrap(), "hello");
        assert!(store.read("a/b", 4).await.is_err());
        assert_eq!(store.read("a/c", 4).await.unwrap(), None);
        for _ in 0..2 {
            store.delete(vec!["a/b".into()]).await.unwrap();
        }
        let upload = store.upload("a/c".into()).await.unwrap();
        upload.abort().await;
        assert_eq!(store.list().await.unwrap(), []);
    }

    #[test]
    fn what_a_killed_process_has_left_in_a_folder_goes_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let backup = folder.path().join("00000001-20261123T220000Z-00000000");
        let day = UNFINISHED_FOR + Duration::from_secs(60);
        for (name, age) in [("snapshot.db#1", day), ("manifest.json#2", Duration::ZERO), ("notes#a", day), ("snapshot.db", day)] {
            for parent in [&backup, &folder.path().join("of somebody else#1")] {
                fs::create_dir_all(parent).unwrap();
                let file = fs::File::create(parent.join(name)).unwrap();
                file.set_modified(std::time::SystemTime::now() - age).unwrap();
            }
        }
        let store = Store::open(folder.path().to_str().unwrap(), &Access::default()).unwrap();
        assert_eq!(leftovers(folder.path()).unwrap(), [backup.join("snapshot.db#1")]);
        store.sweep().unwrap();
        assert!(leftovers(folder.path()).unwrap().is_empty() && backup.join("snapshot.db").exists());
    }
}
