//! Media stores: a folder, and memory.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use sha2::{Digest as _, Sha256};

use super::{MediaStore, MediaStream, StoredMedia};
use crate::model::digest::Digest;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::random::{Random, SystemRandom};

/// An in-memory media store, for tests and small services. Its files are dropped with the last clone.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<Digest, (String, Bytes)>>>);

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

#[async_trait]
impl MediaStore for MemoryStore {
    async fn put(&self, media: MediaStream) -> Result<StoredMedia> {
        let mime = mime(&media);
        let bytes = media.bytes().await?;
        let stored = StoredMedia::new(Digest::sha256(&bytes), bytes.len() as u64, mime.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stored.sha256, (mime, bytes));
        Ok(stored)
    }

    async fn open(&self, sha256: &Digest) -> Result<MediaStream> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mime, bytes) = files.get(sha256).ok_or_else(not_found)?;
        Ok(MediaStream::from_bytes(mime.clone(), bytes.clone()))
    }

    async fn remove(&self, sha256: &Digest) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(sha256);
        Ok(())
    }
}

/// A media store in a folder: each file is named by its SHA-256, with its media type beside it.
///
/// A file appears under its name only when it is complete and on the disk. Disk I/O runs on separate threads, so it
/// needs no async runtime and does not block one.
///
/// On Unix the files have mode 0600 and the folder has mode 0700. An existing folder that other users can access is
/// restricted; one that cannot be, or that is shared by many users (with the sticky bit, as `/tmp`), is refused. On
/// other systems the folder inherits its permissions.
#[derive(Clone)]
pub struct FolderStore(Arc<PathBuf>);

/// The size of a piece in memory.
const CHUNK: usize = 256 * 1024;

impl FolderStore {
    /// Creates a store in this folder, which is created if it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the folder cannot be created, or cannot be restricted to this user.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let rule =
            "cannot be created: check that this user may write to the parent folder, and that no file has this name";
        make_private(&folder).map_err(|_| Error::config("media.folder", rule))?;
        if !restrict(&folder).unwrap_or(false) {
            let rule = "is accessible to other users and cannot be restricted: change its owner to this user and its mode to 700";
            return Err(Error::config("media.folder", rule));
        }
        Ok(Self(Arc::new(folder)))
    }
}

impl fmt::Debug for FolderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FolderStore")
    }
}

#[async_trait]
impl MediaStore for FolderStore {
    async fn put(&self, mut media: MediaStream) -> Result<StoredMedia> {
        let mime = mime(&media);
        let mut nonce = [0; 8];
        SystemRandom.fill(&mut nonce)?;
        let part = Part(self.0.join(format!("{:016x}.part", u64::from_be_bytes(nonce))));
        let path = part.0.clone();
        let mut file = blocking(move || private().create_new(true).open(path)).await?;
        let (mut hash, mut len, mut ready) = (Sha256::new(), 0, BytesMut::new());
        loop {
            let piece = media.chunk().await.transpose()?;
            if let Some(piece) = &piece {
                hash.update(piece);
                len += piece.len() as u64;
                ready.extend_from_slice(piece);
            }
            if ready.len() >= CHUNK || piece.is_none() {
                let bytes = ready.split();
                file = blocking(move || file.write_all(&bytes).map(|()| file)).await?;
            }
            if piece.is_none() {
                break;
            }
        }
        let stored = StoredMedia::new(Digest::new(hash.finalize().into()), len, mime.clone());
        let folder = self.0.clone();
        let name = folder.join(stored.sha256.to_string());
        blocking(move || {
            file.sync_all()?;
            // The type first: a file without a type would be found, a type without a file is not.
            private().create(true).truncate(true).open(name.with_extension("type"))?.write_all(mime.as_bytes())?;
            fs::rename(&part.0, &name)?;
            File::open(&*folder)?.sync_all()
        })
        .await?;
        Ok(stored)
    }

    async fn open(&self, sha256: &Digest) -> Result<MediaStream> {
        let name = self.0.join(sha256.to_string());
        let opened = blocking(move || {
            let file = match File::open(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            Ok(Some((file.metadata()?.len(), fs::read_to_string(name.with_extension("type"))?, file)))
        });
        let (len, mime, file) = opened.await?.ok_or_else(not_found)?;
        let reading = Box::pin(read(file));
        Ok(MediaStream::from_stream(mime, Box::pin(FileStream(Some(reading))), Some(len)).hashed(*sha256))
    }

    async fn remove(&self, sha256: &Digest) -> Result<()> {
        let name = self.0.join(sha256.to_string());
        blocking(move || {
            for path in [name.with_extension("type"), name] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

/// Creates the folder and its parents. Only this user may access the folder itself.
fn make_private(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(_) if folder.is_dir() => Ok(()),
        made => made,
    }
}

/// Restricts a folder to this user; returns `false` if it is shared by many users.
#[cfg(unix)]
fn restrict(folder: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    match fs::metadata(folder)?.permissions().mode() {
        mode if mode & 0o1000 != 0 => Ok(false),
        mode if mode & 0o77 == 0 => Ok(true),
        mode => fs::set_permissions(folder, fs::Permissions::from_mode(mode & 0o7700)).map(|()| true),
    }
}

#[cfg(not(unix))]
fn restrict(_folder: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Opens a file for writing that only this user may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn mime(media: &MediaStream) -> String {
    media.mime().unwrap_or("application/octet-stream").to_owned()
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "the media store does not have this file").with_field("media.source")
}

/// A partial file, removed when its writer is dropped.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // It was renamed or never created: in both cases there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<(File, Bytes)>> + Send>>;

/// A file as a stream of pieces.
struct FileStream(Option<Reading>);

async fn read(mut file: File) -> Result<(File, Bytes)> {
    blocking(move || {
        let mut piece = vec![0; CHUNK];
        let len = file.read(&mut piece)?;
        piece.truncate(len);
        Ok((file, piece.into()))
    })
    .await
}

impl Stream for FileStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let Some(reading) = &mut self.0 else { return Poll::Ready(None) };
        let read_on = std::task::ready!(reading.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(match read_on {
            Ok((_, piece)) if piece.is_empty() => None,
            Ok((file, piece)) => {
                self.0 = Some(Box::pin(read(file)));
                Some(Ok(piece))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

/// Runs disk I/O on a separate thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    struct Slot<T>(Mutex<(Option<io::Result<T>>, Option<Waker>)>);
    let slot = Arc::new(Slot(Mutex::new((None, None))));
    let theirs = slot.clone();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => Error::new(ErrorKind::Unavailable, "the media store is full"),
        _ => Error::new(ErrorKind::Unavailable, "the media store is unavailable"),
    };
    let run = move || {
        let done = work();
        let mut slot = theirs.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.0 = Some(done);
        if let Some(waker) = slot.1.take() {
            waker.wake();
        }
    };
    std::thread::Builder::new().name("media-store".into()).spawn(run).map_err(failed)?;
    let done = std::future::poll_fn(|cx| {
        let mut slot = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.0.take() {
            Some(done) => Poll::Ready(done),
            None => {
                slot.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    });
    done.await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (PathBuf, FolderStore) {
        let mut nonce = [0; 8];
        SystemRandom.fill(&mut nonce).unwrap();
        let path = std::env::temp_dir().join(format!("civic-media-{:016x}", u64::from_be_bytes(nonce)));
        (path.clone(), FolderStore::new(path).unwrap())
    }

    #[tokio::test]
    async fn both_stores_put_open_and_remove() {
        let (path, folder) = folder();
        let photo = Bytes::from(vec![7; CHUNK * 2 + 5]);
        for store in [&folder as &dyn MediaStore, &MemoryStore::new()] {
            let stored = store.put(MediaStream::from_bytes("image/jpeg", photo.clone())).await.unwrap();
            assert_eq!(stored, store.put(MediaStream::from_bytes("image/jpeg", photo.clone())).await.unwrap());
            assert_eq!((stored.len, stored.mime.as_str()), (photo.len() as u64, "image/jpeg"));
            let opened = store.open(&stored.sha256).await.unwrap();
            assert_eq!(opened.mime(), Some("image/jpeg"));
            assert_eq!(opened.bytes().await.unwrap(), photo);
            store.remove(&stored.sha256).await.unwrap();
            store.remove(&stored.sha256).await.unwrap();
            assert_eq!(store.open(&stored.sha256).await.unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn folder_error_says_what_to_check() {
        let (path, _) = folder();
        let file = path.join("file");
        fs::write(&file, "no folder").unwrap();
        for folder in [file.clone(), file.join("photos")] {
            let error = FolderStore::new(folder).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("media.folder")));
            assert!(error.to_string().ends_with("that no file has this name"), "{error}");
        }
        fs::remove_dir_all(path).unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn folder_store_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let (above, _) = folder();
        for (name, before) in [("new", None), ("open", Some(0o777)), ("group", Some(0o2750)), ("closed", Some(0o700))] {
            let path = above.join(name).join("photos");
            if let Some(before) = before {
                fs::create_dir_all(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            }
            let store = FolderStore::new(&path).unwrap();
            assert_eq!(mode(&path) & 0o777, 0o700, "{name}");
            // A partial file is restricted too, and so is one that an earlier version left open.
            let digest = Digest::sha256(b"a photo");
            for left in [digest.to_string(), format!("{digest}.type")] {
                fs::write(path.join(&left), "").unwrap();
                fs::set_permissions(path.join(&left), fs::Permissions::from_mode(0o600)).unwrap();
            }
            let seen = path.clone();
            let piece = futures_util::stream::once(async move {
                let part = fs::read_dir(&seen).unwrap().map(|entry| entry.unwrap().path());
                let part = part.into_iter().find(|path| path.extension().is_some_and(|name| name == "part"));
                assert_eq!(mode(&part.unwrap()), 0o600);
                Ok(Bytes::from_static(b"a photo"))
            });
            let stored = store.put(MediaStream::from_stream("image/png", Box::pin(piece), None)).await.unwrap();
            assert_eq!(stored.sha256, digest);
            assert!(fs::read_dir(&path).unwrap().all(|entry| mode(&entry.unwrap().path()) == 0o600), "{name}");
            assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
        }
        let shared = above.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        let error = FolderStore::new(&shared).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("media.folder")));
        assert_eq!(mode(&shared), 0o1777);
        fs::remove_dir_all(above).unwrap();
    }

    #[tokio::test]
    async fn partial_file_is_removed_and_changed_one_detected() {
        let (path, store) = folder();
        let broken = futures_util::stream::iter([Ok(Bytes::from_static(b"half")), Err(Error::unknown("broke"))]);
        assert!(store.put(MediaStream::from_stream("a/b", Box::pin(broken), None)).await.is_err());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        let stored = store.put(MediaStream::from_bytes("a/b", "whole")).await.unwrap();
        fs::write(path.join(stored.sha256.to_string()), "other").unwrap();
        assert_eq!(store.open(&stored.sha256).await.unwrap().bytes().await.unwrap_err().kind(), ErrorKind::Unexpected);
        fs::remove_dir_all(path).unwrap();
    }
}
