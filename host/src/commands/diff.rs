//! `isolazi diff`.

use std::io::Write;

use anyhow::{Result, bail};
use isolazi_protocol::{Content, Request};

use crate::cli::DiffArgs;
use crate::commands::{Context, read};
use crate::output;

/// Longest record: a letter and a path.
const LONGEST: usize = 1 << 20;

pub(super) async fn diff(context: &Context, args: &DiffArgs) -> Result<()> {
    let request = Request::Read {
        container: args.container.clone(),
        content: Content::Changes,
    };
    let engine = context.engine_of(&args.container).await?;
    let mut conversation = engine.open(&request).await?;
    let mut rest = Vec::new();
    while let Some(bytes) = read::next(&mut conversation).await? {
        rest.extend_from_slice(&bytes);
        if !show(&mut rest)? {
            return Ok(());
        }
        if rest.len() > LONGEST {
            bail!("the agent's list of changes makes no sense");
        }
        read::taken(&mut conversation, &bytes).await;
    }
    Ok(())
}

/// Prints the whole records of `bytes` and takes them out; `false` where
/// nobody reads them any more.
fn show(bytes: &mut Vec<u8>) -> Result<bool> {
    let whole = bytes.iter().rposition(|byte| *byte == 0);
    let records: Vec<u8> = bytes.drain(..whole.map_or(0, |end| end + 1)).collect();
    let mut stdout = std::io::stdout().lock();
    for record in records.split(|byte| *byte == 0).filter(|it| !it.is_empty()) {
        match writeln!(stdout, "{}", line(record)) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(false),
            other => other?,
        }
    }
    Ok(true)
}

/// `A/path` as `A /path`.
fn line(record: &[u8]) -> String {
    let (letter, path) = record.split_at(1);
    let text = |bytes| output::printable(&String::from_utf8_lossy(bytes));
    format!("{} {}", text(letter), text(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_shown_whole() {
        assert_eq!(line(b"A/etc/a b"), "A /etc/a b");
        assert_eq!(line(b"D/\x1b[2J"), "D /\\u{1b}[2J");
        let mut bytes = b"A/a\0C/hal".to_vec();
        assert!(show(&mut bytes).unwrap());
        assert_eq!(bytes, b"C/hal");
    }
}
