//! The name of an image, as a user types it or a file has it: refused in one
//! line, or the same name however it is written, and fit for a URL and a path.

#![no_main]

use isolazi::image::{Reference, is_loopback};
use isolazi_protocol::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Reference::parse(text) {
        Ok(reference) => {
            same(&reference);
            same(&reference.pinned(&Digest::from_bytes(&[7; 32])));
            plain(&reference);
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
});

/// Every form of a name is read as the same name.
fn same(reference: &Reference) {
    let canonical = reference.canonical();
    for form in [&canonical, &reference.to_string()] {
        assert_eq!(Reference::parse(form).as_ref(), Ok(reference), "{form}");
    }
    let json = serde_json::to_string(reference).expect("a name is a string");
    let read: Reference = serde_json::from_str(&json).expect("of a known form");
    assert_eq!(&read, reference);
    let familiar = Reference::parse(&reference.familiar_name()).expect("a name without a tag");
    assert!(familiar.is_same_repository(reference), "{reference}");
}

/// Its parts are parts of a URL and of a path, and lead nowhere else.
fn plain(reference: &Reference) {
    let registry = reference.registry();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte);
    assert!(!registry.is_empty() && registry.bytes().all(allowed));
    assert!(!registry.contains(".."), "{registry}");
    let _ = is_loopback(registry);
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    for part in reference.repository().split('/') {
        assert!(!part.is_empty() && part.bytes().all(allowed), "{part}");
        assert!(!part.starts_with(['.', '-', '_']), "{part}");
    }
    assert!(registry.len() + 1 + reference.repository().len() <= 255);
    let tag = reference.tag().unwrap_or("x");
    assert!((1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']));
    assert!(!tag.contains(['/', ':', '@']), "{tag}");
    assert!(reference.tag().is_some() || reference.digest().is_some());
}
