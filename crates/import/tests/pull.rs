//! Download, resume and verification, against a server and a wheel of our own.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    thread,
};

use assay_import::{
    Cache, ImportError, Progress, Quiet,
    catalogue::{Entry, FileEntry, Recipe, Source},
    pull::{Checked, copy_checked, fetch, fetch_https},
};
use sha2::{Digest, Sha256};

fn body() -> Vec<u8> {
    (0..300_000u32).map(|i| (i * 7 % 251) as u8).collect()
}

fn entry_of(bytes: &[u8]) -> FileEntry {
    let sha256 = hex::encode(Sha256::digest(bytes));
    FileEntry {
        name: "file.bin",
        size: bytes.len() as u64,
        sha256: Box::leak(sha256.into_boxed_str()),
    }
}

/// Serves `answers` requests; understands ranges when `ranges`, sends at most `limit` bytes of each answer. Returns the address and the ranges asked for.
fn serve(
    content: Vec<u8>,
    answers: usize,
    ranges: bool,
    limit: usize,
) -> (String, thread::JoinHandle<Vec<Option<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/file.bin", listener.local_addr().unwrap());
    let handle = thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0u8];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
            let from = text
                .split("range: bytes=")
                .nth(1)
                .and_then(|r| r.split('-').next())
                .and_then(|n| n.parse::<usize>().ok());
            asked.push(from);
            let start = from.filter(|_| ranges).unwrap_or(0);
            let status = if start > 0 {
                "206 Partial Content"
            } else {
                "200 OK"
            };
            let part = &content[start..];
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                part.len()
            )
            .unwrap();
            // a client that has seen enough may hang up
            let _closed = stream.write_all(&part[..part.len().min(limit)]);
        }
        asked
    });
    (address, handle)
}

#[derive(Default)]
struct Count(u64);

impl Progress for Count {
    fn start(&mut self, _: &str, _: Option<u64>) {
        self.0 = 0;
    }
    fn advance(&mut self, bytes: u64) {
        self.0 += bytes;
    }
    fn finish(&mut self) {}
}

#[test]
fn interrupted_download_goes_on_where_it_stopped() {
    let content = body();
    let file = entry_of(&content);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("blob");
    let (url, server) = serve(content.clone(), 1, true, 100_000);
    assert!(fetch_https(&url, &file, &target, &mut Quiet).is_err());
    server.join().unwrap();
    let have = std::fs::metadata(target.with_extension("part"))
        .unwrap()
        .len() as usize;
    assert!(have > 0 && have <= 100_000 && !target.exists());
    let (url, server) = serve(content.clone(), 1, true, usize::MAX);
    let mut count = Count::default();
    fetch_https(&url, &file, &target, &mut count).unwrap();
    assert_eq!(server.join().unwrap(), [Some(have)]);
    assert_eq!(std::fs::read(&target).unwrap(), content);
    assert_eq!(count.0, content.len() as u64);
    assert!(!target.with_extension("part").exists());
}

#[test]
fn server_without_ranges_starts_over() {
    let content = body();
    let file = entry_of(&content);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("blob");
    std::fs::write(target.with_extension("part"), &content[..5000]).unwrap();
    let (url, server) = serve(content.clone(), 1, false, usize::MAX);
    fetch_https(&url, &file, &target, &mut Quiet).unwrap();
    assert_eq!(server.join().unwrap(), [Some(5000)]);
    assert_eq!(std::fs::read(&target).unwrap(), content);
}

#[test]
fn wrong_content_is_deleted_and_both_hashes_are_named() {
    let content = body();
    let mut other = content.clone();
    other[1000] ^= 1;
    let file = entry_of(&content);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("blob");
    let (url, server) = serve(other.clone(), 1, true, usize::MAX);
    let error = fetch_https(&url, &file, &target, &mut Quiet).unwrap_err();
    server.join().unwrap();
    let ImportError::Hash { want, have, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (want.as_str(), have),
        (file.sha256, &hex::encode(Sha256::digest(&other)))
    );
    assert!(error.to_string().contains(want) && error.to_string().contains(have));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn endless_content_is_cut_off() {
    let content = body();
    let file = entry_of(&content);
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part");
    let error = copy_checked(
        &mut std::io::repeat(1),
        Checked::default(),
        &part,
        &dir.path().join("blob"),
        &file,
        &mut Quiet,
    )
    .unwrap_err();
    assert!(
        matches!(error, ImportError::Size { have, .. } if have == file.size + 1),
        "{error}"
    );
    assert!(!part.exists());
}

#[test]
fn unreachable_sources_are_all_named() {
    // a port that nobody listens on: bound, then freed
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let base: &'static str = Box::leak(format!("http://127.0.0.1:{port}/").into_boxed_str());
    let files: &'static [FileEntry] = Box::leak(vec![entry_of(b"x")].into_boxed_slice());
    let sources: &'static [Source] =
        Box::leak(vec![Source::Https { base }, Source::Https { base }].into_boxed_slice());
    let entry = Entry {
        id: "nowhere",
        description: "",
        licence: "",
        files,
        sources,
        recipe: Recipe::Bert,
    };
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&entry, &Cache::at(dir.path()), &mut Quiet).unwrap_err();
    let ImportError::Unreachable { model, tried } = &error else {
        panic!("{error}")
    };
    assert_eq!((model.as_str(), tried.len()), ("nowhere", 2));
    assert!(tried.iter().all(|t| t.contains(base)));
}

#[test]
fn cached_files_need_no_source() {
    let content = b"already here".to_vec();
    let file = entry_of(&content);
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path());
    std::fs::create_dir_all(cache.blob(&file).parent().unwrap()).unwrap();
    std::fs::write(cache.blob(&file), &content).unwrap();
    let files: &'static [FileEntry] = Box::leak(vec![file].into_boxed_slice());
    let entry = Entry {
        id: "local",
        description: "",
        licence: "",
        files,
        sources: &[],
        recipe: Recipe::Bert,
    };
    assert_eq!(
        fetch(&entry, &cache, &mut Quiet).unwrap(),
        [cache.blob(&file)]
    );
    assert!(cache.remove(&entry).unwrap());
    assert!(!cache.remove(&entry).unwrap());
    assert!(matches!(
        fetch(&entry, &cache, &mut Quiet),
        Err(ImportError::Unreachable { .. })
    ));
    assert!(Path::new(dir.path()).exists());
}
