//! How a container is confined, in Docker's words.

use isolazi_protocol::{ContainerSpec, SeccompProfile};
use serde_json::{Value, json};

/// The profile in a word.
pub(super) fn profile(profile: &SeccompProfile) -> &'static str {
    match profile {
        SeccompProfile::Default => "default",
        SeccompProfile::Minimal => "minimal",
        SeccompProfile::Strict => "strict",
        SeccompProfile::Disabled => "disabled",
        SeccompProfile::File { .. } => "custom",
    }
}

/// `HostConfig.SecurityOpt`: what was asked for, a profile from a file by its
/// content; null where nothing was.
pub(super) fn options(spec: &ContainerSpec) -> Value {
    let asked = &spec.options.security;
    let mut options = Vec::new();
    match asked.no_new_privileges {
        Some(true) => options.push("no-new-privileges".to_owned()),
        Some(false) => options.push("no-new-privileges=false".to_owned()),
        None => {}
    }
    options.extend(asked.apparmor.iter().map(|it| format!("apparmor={it}")));
    options.extend(asked.labels.iter().map(|it| format!("label={it}")));
    match &spec.seccomp {
        SeccompProfile::Default => {}
        SeccompProfile::Disabled => options.push("seccomp=unconfined".to_owned()),
        SeccompProfile::File { text, .. } => options.push(format!("seccomp={}", compact(text))),
        other => options.push(format!("seccomp={}", profile(other))),
    }
    if asked.system_paths_unconfined {
        options.push("systempaths=unconfined".to_owned());
    }
    match options.is_empty() {
        true => Value::Null,
        false => json!(options),
    }
}

/// JSON without what is there for the eye, in its own order.
fn compact(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for it in text.chars() {
        if quoted || !it.is_ascii_whitespace() {
            compact.push(it);
        }
        quoted ^= it == '"' && !escaped;
        escaped = quoted && it == '\\' && !escaped;
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compact_document_is_the_same() {
        let text = r#" { "a b" : [ 1 , "c \" d \\" , " e" ] } "#;
        assert_eq!(compact(text), r#"{"a b":[1,"c \" d \\"," e"]}"#);
    }
}
