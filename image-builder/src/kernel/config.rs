//! The kernel's configuration: fragments by topic, merged into one, and a list
//! of what the kernel's own tools must have left in the result.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Arch;
use crate::files::{FileError, failed};

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A line that is no setting and no comment.
    #[error("{file}, line {line}: '{text}' is neither CONFIG_X=value nor '# CONFIG_X is not set'")]
    Syntax {
        /// The fragment.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Two fragments disagree.
    #[error("{file} sets {option} to {new}, but {old} was set before: keep one of them")]
    Conflict {
        /// The later fragment.
        file: String,
        /// What they disagree about.
        option: String,
        /// The earlier value.
        old: Value,
        /// The later value.
        new: Value,
    },
    /// Required options did not survive.
    #[error("the kernel would lack what isolazi needs: {}", list(.0))]
    Unmet(Vec<Unmet>),
    /// A folder without fragments.
    #[error("no kernel configuration in {0}")]
    Empty(PathBuf),
    /// A fragment that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What an option is set to; `n` where it is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    fn off() -> Self {
        Self("n".to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A required option that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    option: String,
    wanted: Value,
    found: Value,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            option,
            wanted,
            found,
        } = self;
        write!(f, "{option} must be {wanted} and is {found}")
    }
}

fn list(unmet: &[Unmet]) -> String {
    let lines: Vec<String> = unmet.iter().map(Unmet::to_string).collect();
    lines.join("; ")
}

/// A set of options, as a `.config` file has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KernelConfig(BTreeMap<String, Value>);

impl KernelConfig {
    /// Reads one file; `file` is its name in errors.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (index, line) in text.lines().enumerate() {
            match setting(line) {
                Line::Setting(option, value) => config.set(option, value, file)?,
                Line::Comment => {}
                Line::Other => {
                    return Err(ConfigError::Syntax {
                        file: file.to_owned(),
                        line: index + 1,
                        text: line.to_owned(),
                    });
                }
            }
        }
        Ok(config)
    }

    /// Adds the settings of a further fragment, which must not contradict.
    fn merge(&mut self, other: Self, file: &str) -> Result<(), ConfigError> {
        let mut settings = other.0.into_iter();
        settings.try_for_each(|(option, value)| self.set(option, value, file))
    }

    fn set(&mut self, option: String, value: Value, file: &str) -> Result<(), ConfigError> {
        match self.0.get(&option) {
            Some(old) if *old != value => Err(ConfigError::Conflict {
                file: file.to_owned(),
                option,
                old: old.clone(),
                new: value,
            }),
            _ => {
                self.0.insert(option, value);
                Ok(())
            }
        }
    }

    /// Checks that `actual` says all that this one says.
    pub(crate) fn check(&self, actual: &Self) -> Result<(), ConfigError> {
        let unmet = self.unmet(actual);
        if unmet.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Unmet(unmet))
        }
    }

    /// What `actual` says otherwise.
    pub(crate) fn unmet(&self, actual: &Self) -> Vec<Unmet> {
        let compare = |(option, wanted): (&String, &Value)| {
            let found = actual.0.get(option).cloned().unwrap_or_else(Value::off);
            (found != *wanted).then(|| Unmet {
                option: option.clone(),
                wanted: wanted.clone(),
                found,
            })
        };
        self.0.iter().filter_map(compare).collect()
    }

    /// The text that the kernel's tools read.
    pub(crate) fn render(&self) -> String {
        let line = |(option, value): (&String, &Value)| format!("{option}={value}\n");
        self.0.iter().map(line).collect()
    }
}

enum Line {
    Setting(String, Value),
    Comment,
    Other,
}

fn setting(line: &str) -> Line {
    let line = line.trim();
    if let Some(option) = line
        .strip_prefix("# CONFIG_")
        .and_then(|rest| rest.strip_suffix(" is not set"))
    {
        return Line::Setting(format!("CONFIG_{option}"), Value::off());
    }
    if line.is_empty() || line.starts_with('#') {
        return Line::Comment;
    }
    match line.split_once('=') {
        Some((option, value)) if is_option(option) && !value.is_empty() => {
            Line::Setting(option.to_owned(), Value(value.to_owned()))
        }
        _ => Line::Other,
    }
}

fn is_option(text: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.strip_prefix("CONFIG_")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(name))
}

/// What to ask for, and what must come of it.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// All fragments in one.
    pub(crate) config: KernelConfig,
    /// What the final configuration must say.
    pub(crate) required: KernelConfig,
}

impl Wanted {
    /// Reads `kernel-config/`: fragments are `*.config`, requirements `*.list`;
    /// those of the processor lie in `arch/` and are named after it.
    pub(crate) fn read(folder: &Path, arch: Arch) -> Result<Self, ConfigError> {
        let own = folder.join("arch").join(arch.name());
        Ok(Self {
            config: merged(folder, &own, "config")?,
            required: merged(folder, &own, "list")?,
        })
    }
}

fn merged(folder: &Path, own: &Path, extension: &str) -> Result<KernelConfig, ConfigError> {
    let mut files = with_extension(folder, extension)?;
    if files.is_empty() {
        return Err(ConfigError::Empty(folder.to_owned()));
    }
    files.push(own.with_extension(extension));
    let mut whole = KernelConfig::default();
    for path in files {
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        whole.merge(KernelConfig::parse(&text, &name)?, &name)?;
    }
    Ok(whole)
}

fn with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, FileError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(failed("read", folder))?;
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> KernelConfig {
        KernelConfig::parse(text, "test.config").unwrap()
    }

    #[test]
    fn fragments_merge_and_render_sorted() {
        let mut base = parse("# topic\nCONFIG_B=y\n\n# CONFIG_A is not set\n");
        base.merge(parse("CONFIG_B=y\nCONFIG_C=\"x y\""), "c.config")
            .unwrap();
        assert_eq!(base.render(), "CONFIG_A=n\nCONFIG_B=y\nCONFIG_C=\"x y\"\n");
    }

    #[test]
    fn a_contradiction_names_fragment_and_option() {
        let mut base = parse("CONFIG_KEXEC=y");
        let later = parse("# CONFIG_KEXEC is not set");
        let error = base.merge(later, "security.config").unwrap_err();
        let expected =
            "security.config sets CONFIG_KEXEC to n, but y was set before: keep one of them";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_missing_option_is_named() {
        let required = parse("CONFIG_EXT4_FS=y\nCONFIG_NET=y\n# CONFIG_MODULES is not set");
        let actual = parse("CONFIG_NET=y\nCONFIG_MODULES=y");
        let error = required.check(&actual).unwrap_err().to_string();
        assert!(
            error.contains("CONFIG_EXT4_FS must be y and is n"),
            "{error}"
        );
        assert!(
            error.contains("CONFIG_MODULES must be n and is y"),
            "{error}"
        );
        assert!(!error.contains("CONFIG_NET"), "{error}");
        assert!(required.check(&required).is_ok());
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for bad in [
            "EXT4=y",
            "CONFIG_=y",
            "CONFIG_A",
            "CONFIG_A-B=y",
            "CONFIG_A=",
        ] {
            let error = KernelConfig::parse(&format!("\n{bad}"), "x").unwrap_err();
            assert!(error.to_string().starts_with("x, line 2: "), "{error}");
        }
    }

    #[test]
    fn the_fragments_of_this_project_agree_with_its_requirements() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config");
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let wanted = Wanted::read(&folder, arch).unwrap();
            // Options may follow from others, but none may be asked for
            // otherwise than required.
            let contradicted = wanted.required.unmet(&wanted.config);
            let contradicted: Vec<_> = contradicted
                .iter()
                .filter(|unmet| wanted.config.0.contains_key(&unmet.option))
                .collect();
            assert!(contradicted.is_empty(), "{contradicted:?}");
        }
    }
}
