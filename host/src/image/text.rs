//! Text for errors and progress.

use isolazi_protocol::Digest;

/// Text of strangers, made fit for one line of an error or of progress:
/// control characters escaped, no longer than 200 characters.
pub fn escape(text: &str) -> String {
    const MAX: usize = 200;
    let mut escaped: String = text.chars().take(MAX).flat_map(shown).collect();
    if text.chars().nth(MAX).is_some() {
        escaped.push('…');
    }
    escaped
}

/// `escape_debug` without its escaping of quotes.
fn shown(character: char) -> Vec<char> {
    match character {
        '"' | '\'' => vec![character],
        other => other.escape_debug().collect(),
    }
}

/// The twelve digits by which people know a blob.
pub fn short(digest: &Digest) -> &str {
    &digest.hex()[..12]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_reach_the_terminal() {
        assert_eq!(escape("a\x1b[31m\nb'"), "a\\u{1b}[31m\\nb'");
        assert_eq!(escape(&"x".repeat(1000)).chars().count(), 201);
    }
}
