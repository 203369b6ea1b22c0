use std::collections::BTreeMap;

use isolazi_protocol::appliance::{DATA_TEMPLATE, FileName, INITRAMFS, Kernel};

use super::*;

const CONTENTS: [(&str, &[u8]); 3] = [
    ("vmlinux", b"a kernel"),
    (INITRAMFS, b"an agent"),
    (DATA_TEMPLATE, &[0; 300_000]),
];

fn entry(bytes: &[u8]) -> FileEntry {
    FileEntry {
        digest: Digest::from_bytes(&Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
    }
}

fn name(text: &str) -> FileName {
    FileName::try_from(text.to_owned()).unwrap()
}

fn manifest(version: &str) -> Manifest {
    let kernel = Kernel {
        version: version.to_owned(),
        file: name("vmlinux"),
    };
    let files = CONTENTS.map(|(file, content)| (name(file), entry(content)));
    let arch = std::env::consts::ARCH.to_owned();
    Manifest::new(arch, "0".to_owned(), kernel, files.into())
}

/// A payload behind a program, as the image builder writes it.
fn program(version: &str) -> Vec<u8> {
    let mut bytes = b"\x7fELF and what else a program is".to_vec();
    let start = bytes.len() as u64;
    let mut pieces = BTreeMap::new();
    for (file, content) in CONTENTS {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let packed = ruzstd::encoding::compress_to_vec(content, level);
        let piece = Piece {
            offset: bytes.len() as u64 - start,
            packed: entry(&packed),
            executable: file == "vmlinux",
        };
        pieces.insert(name(file), piece);
        bytes.extend(packed);
    }
    let pieces_bytes = bytes.len() as u64 - start;
    let index = Index::new(manifest(version), pieces).unwrap();
    let index = serde_json::to_vec(&index).unwrap();
    let trailer = Trailer {
        pieces: pieces_bytes,
        index: index.len() as u64,
        index_digest: Sha256::digest(&index).into(),
    };
    bytes.extend(index);
    bytes.extend(trailer.encode());
    bytes
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn bundle(&self, bytes: &[u8]) -> io::Result<Option<Bundle>> {
        let path = self.dir.path().join("isolazi");
        fs::write(&path, bytes).unwrap();
        Bundle::find(Source::File(path))
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("data/appliance/arch")
    }

    fn install(&self, bytes: &[u8]) -> Result<(), MachineError> {
        let bundle = self.bundle(bytes).unwrap().unwrap();
        bundle.install(&self.folder(), || bundle.is_installed(&self.folder()))
    }

    fn kernel(&self) -> Result<PathBuf, MachineError> {
        Appliance::open(&self.folder())?.kernel()
    }

    /// Names beside the appliance, but for the lock.
    fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder().parent().unwrap()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect()
    }
}

#[test]
fn a_program_installs_what_it_brings_along() {
    let place = Place::new();
    place.install(&program("6.12")).unwrap();
    let appliance = Appliance::open(&place.folder()).unwrap();
    for (file, content) in CONTENTS {
        let path = appliance.verified(file).unwrap();
        assert_eq!(fs::read(path).unwrap(), content);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let kernel = fs::metadata(place.kernel().unwrap()).unwrap();
        assert_eq!(kernel.permissions().mode() & 0o111, 0o111);
        let disk = fs::metadata(place.folder().join(DATA_TEMPLATE)).unwrap();
        assert_eq!(disk.permissions().mode() & 0o111, 0);
        assert!(disk.blocks() * 512 < disk.len());
    }
    assert_eq!(place.beside(), ["arch"]);
}

#[test]
fn a_program_without_a_payload_brings_nothing() {
    let place = Place::new();
    assert!(place.bundle(b"").unwrap().is_none());
    assert!(place.bundle(&[7; 5000]).unwrap().is_none());
    let mut whole = program("6.12");
    whole.pop();
    assert!(place.bundle(&whole).unwrap().is_none());
}

#[test]
fn a_payload_that_was_cut_or_changed_is_an_error() {
    let place = Place::new();
    let whole = program("6.12");
    let cut = place.bundle(&whole[200..]).unwrap_err();
    assert!(cut.to_string().contains("cut short"), "{cut}");
    let mut changed = whole.clone();
    let index = whole.len() - TRAILER_BYTES - 100;
    changed[index] ^= 1;
    let changed = place.bundle(&changed).unwrap_err();
    assert!(changed.to_string().contains("index"), "{changed}");
}

#[test]
fn a_changed_piece_is_an_error_and_leaves_what_was_there() {
    let place = Place::new();
    place.install(&program("6.12")).unwrap();
    let mut changed = program("6.13");
    let at = changed.windows(8).position(|it| it == b"an agent").unwrap();
    changed[at] = b'A';
    let error = place.install(&changed).unwrap_err().to_string();
    assert!(error.contains("install isolazi again"), "{error}");
    assert_eq!(
        Appliance::open(&place.folder()).unwrap().kernel_version(),
        "6.12"
    );
    assert!(place.kernel().is_ok());
    assert_eq!(place.beside(), ["arch"]);
}

#[test]
fn an_older_or_damaged_appliance_is_replaced_and_a_whole_one_is_not() {
    let place = Place::new();
    place.install(&program("6.12")).unwrap();
    place.install(&program("6.13")).unwrap();
    assert_eq!(
        Appliance::open(&place.folder()).unwrap().kernel_version(),
        "6.13"
    );
    let kernel = place.kernel().unwrap();
    fs::write(&kernel, "cut").unwrap();
    place.install(&program("6.13")).unwrap();
    assert!(place.kernel().is_ok());
    assert_eq!(place.beside(), ["arch"]);

    let marker = place.folder().join("marker");
    fs::write(&marker, "").unwrap();
    place.install(&program("6.13")).unwrap();
    assert!(marker.exists());
}

#[test]
fn what_an_interrupted_installation_left_is_swept_away() {
    let place = Place::new();
    let partial = place.folder().with_file_name(".arch.partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("vmlinux"), "half").unwrap();
    place.install(&program("6.12")).unwrap();
    assert!(place.kernel().is_ok());
    assert!(!partial.exists());
}

#[test]
fn parallel_installations_leave_one_whole_appliance() {
    let place = Place::new();
    let bundle = place.bundle(&program("6.12")).unwrap().unwrap();
    let folder = place.folder();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                bundle
                    .install(&folder, || bundle.is_installed(&folder))
                    .unwrap();
            });
        }
    });
    assert!(bundle.is_installed(&folder));
    assert_eq!(place.beside(), ["arch"]);
}

#[test]
fn a_piece_that_claims_to_lie_elsewhere_is_refused() {
    let place = Place::new();
    let whole = program("6.12");
    let text = String::from_utf8_lossy(&whole);
    // The first piece's place, so that its length reaches behind the pieces.
    assert!(text.contains("\"offset\":0"), "{text}");
    let index_at = whole
        .windows(13)
        .position(|it| it == b"{\"manifest\":{")
        .unwrap();
    let index = String::from_utf8(whole[index_at..whole.len() - TRAILER_BYTES].to_vec()).unwrap();
    let index = index.replace("\"offset\":0", "\"offset\":9999999");
    let trailer_bytes: [u8; TRAILER_BYTES] =
        whole[whole.len() - TRAILER_BYTES..].try_into().unwrap();
    let trailer = Trailer {
        index: index.len() as u64,
        index_digest: Sha256::digest(&index).into(),
        ..Trailer::decode(&trailer_bytes).unwrap()
    };
    let mut changed = whole[..index_at].to_vec();
    changed.extend(index.bytes());
    changed.extend(trailer.encode());
    let refusal = place.bundle(&changed).unwrap_err();
    assert!(refusal.to_string().contains("elsewhere"), "{refusal}");
}
