//! What the tests of layers share: making archives that no tar would, and
//! telling whether anything changed where nothing may.

mod bombs;
mod good;
mod hostile;
mod random;
mod sparse;
mod streams;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use isolazi_protocol::{Compression, Digest};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::super::layers::LayerStore;
use super::{Options, UnpackError, Unpacked, unpack};

/// Whether this process may do what unpacking needs; says so where not.
pub(crate) fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: unpacking sets owners and makes devices, which needs root");
    }
    root
}

/// An archive in the making, byte by byte if need be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer(pub(crate) Vec<u8>);

/// The header of an entry in the making.
pub(crate) struct Entry<'a> {
    layer: &'a mut Layer,
    header: tar::Header,
    data: Vec<u8>,
}

impl Layer {
    /// An entry of any type and name; long names get GNU's extension.
    pub(crate) fn entry(&mut self, kind: u8, name: &[u8]) -> Entry<'_> {
        let short = &name[..name.len().min(100)];
        if name.len() > 100 {
            let mut long = name.to_vec();
            long.push(0);
            self.entry(b'L', b"././@LongLink").data(&long).add();
        }
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        Entry {
            layer: self,
            header,
            data: Vec::new(),
        }
    }

    pub(crate) fn file(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.entry(b'0', name.as_bytes()).data(data).add()
    }

    pub(crate) fn dir(&mut self, name: &str) -> &mut Self {
        self.entry(b'5', name.as_bytes()).mode(0o755).add()
    }

    pub(crate) fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(b'2', name.as_bytes()).link(target).add()
    }

    pub(crate) fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(b'1', name.as_bytes()).link(target).add()
    }

    /// PAX records for the entry that follows.
    pub(crate) fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.entry(b'x', b"PaxHeaders/x").data(&content).add()
    }

    /// The finished tar.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }

    pub(crate) fn diff_id(&self) -> Digest {
        digest(&self.bytes())
    }
}

impl<'a> Entry<'a> {
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.header.set_size(data.len() as u64);
        self.data = data.to_vec();
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    pub(crate) fn mtime(mut self, mtime: u64) -> Self {
        self.header.set_mtime(mtime);
        self
    }

    pub(crate) fn link(mut self, target: &str) -> Self {
        let field = &mut self.header.as_old_mut().linkname;
        if target.len() > field.len() {
            let mut long = target.as_bytes().to_vec();
            long.push(0);
            self.layer.entry(b'K', b"././@LongLink").data(&long).add();
        }
        let length = target.len().min(field.len());
        field[..length].copy_from_slice(&target.as_bytes()[..length]);
        self
    }

    pub(crate) fn device(self, major: u32, minor: u32) -> Self {
        self.raw(|header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// Changes the header in any way; its checksum will be right.
    pub(crate) fn raw(mut self, change: impl FnOnce(&mut tar::Header)) -> Self {
        change(&mut self.header);
        self
    }

    pub(crate) fn add(mut self) -> &'a mut Layer {
        self.header.set_cksum();
        self.layer.0.extend_from_slice(self.header.as_bytes());
        self.layer.0.extend_from_slice(&self.data);
        let padding = self.data.len().next_multiple_of(512) - self.data.len();
        self.layer.0.resize(self.layer.0.len() + padding, 0);
        self.layer
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&Sha256::digest(bytes).into())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    ruzstd::encoding::compress_to_vec(bytes, level)
}

/// All that the file system tells about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) mtime: (i64, i64),
    pub(crate) device: u64,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    /// A file's data or a link's target.
    pub(crate) content: Vec<u8>,
}

/// So much of a file is looked at.
const MOST_READ: u64 = 128 << 20;

impl Node {
    fn read(path: &Path) -> Self {
        let meta = fs::symlink_metadata(path).unwrap();
        let content = match meta.file_type() {
            // Some file systems take files that no memory could hold.
            kind if kind.is_file() => {
                let mut content = Vec::new();
                let file = File::open(path).unwrap();
                file.take(MOST_READ).read_to_end(&mut content).unwrap();
                content
            }
            kind if kind.is_symlink() => {
                fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
            }
            _ => Vec::new(),
        };
        Self {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            links: meta.nlink(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            device: meta.rdev(),
            xattrs: xattrs(path),
            content,
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let xattrs = crate::sys::fs::xattrs_of(&path).unwrap();
    let named = |(name, value): (CString, _)| (name.into_string().unwrap(), value);
    xattrs.into_iter().map(named).collect()
}

/// Everything below `root`, and `root` itself as the empty path.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, Node> {
    let mut nodes = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    nodes.insert(PathBuf::new(), Node::read(root));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let node = Node::read(&path);
            if node.mode & libc::S_IFMT == libc::S_IFDIR {
                folders.push(path.clone());
            }
            nodes.insert(path.strip_prefix(root).unwrap().to_path_buf(), node);
        }
    }
    nodes
}

/// A store, and beside it a folder that no layer may reach.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) store: LayerStore,
    before: BTreeMap<PathBuf, Node>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir_all(outside.join("folder")).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::write(outside.join("folder/file"), "file").unwrap();
        Self {
            store: LayerStore::open(&folder.path().join("root")).unwrap(),
            before: snapshot(&outside),
            folder,
        }
    }

    /// The folder that must not change, as an absolute path.
    pub(crate) fn outside(&self) -> String {
        let outside = self.folder.path().join("outside");
        outside.to_str().unwrap().to_owned()
    }

    /// The same from within a layer's root.
    pub(crate) fn climbing(&self) -> String {
        format!("{}{}", "../".repeat(20), &self.outside()[1..])
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Asserts that nothing outside changed and nothing temporary is left.
    pub(crate) fn assert_clean(&self, context: &str) {
        let outside = PathBuf::from(self.outside());
        assert_eq!(self.before, snapshot(&outside), "{context}");
        for (folder, expected) in [
            (self.folder.path().to_owned(), vec!["outside", "root"]),
            (self.root(), vec!["layers"]),
            (self.root().join("layers"), vec![".lock", "sha256"]),
        ] {
            let mut found = names(&folder);
            // Made by the first who holds layers.
            found.retain(|name| name != ".use");
            assert_eq!(found, expected, "{context}");
        }
    }

    /// Asserts that a layer of somebody honest can be stored.
    pub(crate) fn assert_works(&self) {
        let mut good = Layer::default();
        good.dir("bin").file("bin/true", b"#!");
        let (bytes, options) = (good.bytes(), Options::default());
        let diff_id = good.diff_id();
        let path = self
            .store
            .put(&diff_id, Compression::None, &bytes[..], &options);
        assert_eq!(fs::read(path.unwrap().join("bin/true")).unwrap(), b"#!");
        self.assert_clean("a good layer");
    }

    /// Unpacks without keeping, and hands what came out to `inspect`.
    pub(crate) fn unpack<T>(
        &self,
        layer: &Layer,
        inspect: impl FnOnce(&Path) -> T,
    ) -> Result<(Unpacked, T), UnpackError> {
        let pending = self.store.begin(&layer.diff_id()).unwrap();
        let bytes = layer.bytes();
        let options = Options::default();
        let unpacked = unpack(&bytes[..], Compression::None, pending.content(), &options)?;
        let name = names(&self.root().join("layers"))
            .into_iter()
            .find(|name| name.starts_with(".tmp-"));
        let content = self.root().join("layers").join(name.unwrap()).join("diff");
        Ok((unpacked, inspect(&content)))
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().to_str().unwrap().to_owned();
    let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

/// Unpacks into a folder of its own, for what needs no store.
pub(crate) fn unpack_bytes(
    bytes: &[u8],
    compression: Compression,
    options: &Options,
) -> Result<Unpacked, UnpackError> {
    let folder = tempfile::tempdir().unwrap();
    let target = File::open(folder.path()).unwrap();
    unpack(bytes, compression, &target, options)
}
