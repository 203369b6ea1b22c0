//! From a profile to what it comes to for one container on this machine: an
//! answer for each number of each architecture.
//!
//! The meaning is libseccomp's, as runc uses it. Of several rules about a call
//! one without conditions wins, and among those the first; otherwise the first
//! that holds. A rule that answers as the default does is left out.

use std::collections::BTreeMap;
use std::rc::Rc;

use nix::libc;

use super::SeccompError;
use super::calls::{Architecture, HERE};
use super::document::{Arg, Call, Document, Where};
use super::granted::{Granted, exact_version};

/// More would not fit into a program in any case.
const MOST_RULES: usize = 4096;
/// Highest error number that a call can have (`linux/err.h`).
const MAX_ERRNO: u32 = 4095;

/// The answer to a call: seccomp(2), "Filter return values".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Log,
    Errno(u16),
    Trap,
    KillThread,
    KillProcess,
}

impl Action {
    pub(super) fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }

    /// Its error number, where it is one.
    pub(super) fn errno(self) -> Option<u32> {
        match self {
            Self::Errno(number) => Some(u32::from(number)),
            _ => None,
        }
    }

    /// What is stricter is less, as for the kernel when it has to choose.
    pub(super) fn strictness(self) -> i32 {
        self.value().cast_signed()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Allow => "SCMP_ACT_ALLOW",
            Self::Log => "SCMP_ACT_LOG",
            Self::Errno(_) => "SCMP_ACT_ERRNO",
            Self::Trap => "SCMP_ACT_TRAP",
            Self::KillThread => "SCMP_ACT_KILL_THREAD",
            Self::KillProcess => "SCMP_ACT_KILL_PROCESS",
        }
    }
}

/// How an argument is compared with a value; for the last one it is masked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    Masked { mask: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) comparison: Comparison,
    pub(super) value: u64,
}

/// All of these, and the answer then.
pub(super) type Conditional = (Rc<[Condition]>, Action);

/// The rules about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Always(Action),
    /// The first that holds, else the default.
    When(Vec<Conditional>),
}

/// The rules about an architecture's calls.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) architecture: &'static Architecture,
    pub(super) answers: BTreeMap<u32, Answer>,
}

/// A profile for one container on this machine.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) default: Action,
    /// This machine's own comes first.
    pub(super) sections: Vec<Section>,
    /// Which rules of the document hold, by their places.
    applied: Vec<(usize, Action)>,
}

/// A rule that holds, checked.
struct Rule<'a> {
    names: &'a [String],
    action: Action,
    /// Any of these, where there are some.
    alternatives: Vec<Rc<[Condition]>>,
}

pub(super) fn resolve(document: &Document, granted: &Granted) -> Result<Resolved, SeccompError> {
    let default = default(document)?;
    let architectures = architectures(document)?;
    let mut applied = Vec::new();
    let mut sections: Vec<Section> = architectures
        .iter()
        .map(|&architecture| Section {
            architecture,
            answers: BTreeMap::new(),
        })
        .collect();
    let mut rules = 0;
    for (index, call) in document.syscalls.iter().flatten().enumerate() {
        let place = format!("syscalls[{index}]");
        let Some(rule) = rule(call, &place, default, granted)? else {
            continue;
        };
        for section in &mut sections {
            rules += section.add(&rule, default);
        }
        if rules > MOST_RULES {
            return Err(bad(
                &place,
                "there are too many rules with conditions up to here",
            ));
        }
        applied.push((index, rule.action));
    }
    Ok(Resolved {
        default,
        sections,
        applied,
    })
}

impl Resolved {
    /// What is left of the document that this was made from.
    pub(super) fn shown(&self, document: &Document) -> Document {
        let calls = document.syscalls.as_deref().unwrap_or_default();
        let applied = self.applied.iter();
        let rules =
            applied.filter_map(|(index, action)| self.shown_rule(calls.get(*index)?, *action));
        let names = self
            .sections
            .iter()
            .map(|it| it.architecture.name.to_owned());
        Document {
            default_action: Some(self.default.name().to_owned()),
            default_errno_ret: self.default.errno(),
            architectures: Some(names.collect()),
            arch_map: None,
            syscalls: Some(rules.collect()),
        }
    }

    /// The rule as the profile has it, without what it depended on and without
    /// calls that none of the architectures has.
    fn shown_rule(&self, call: &Call, action: Action) -> Option<Call> {
        let known = |name: &&String| {
            let mut architectures = self.sections.iter().map(|it| it.architecture);
            architectures.any(|it| it.number(name).is_some() || it.multiplexer(name).is_some())
        };
        let names: Vec<String> = names(call).iter().filter(known).cloned().collect();
        (!names.is_empty()).then(|| Call {
            names: Some(names),
            action: action.name().to_owned(),
            errno_ret: action.errno(),
            args: call.args.clone().filter(|args| !args.is_empty()),
            ..Call::default()
        })
    }
}

fn default(document: &Document) -> Result<Action, SeccompError> {
    let Some(name) = &document.default_action else {
        return Err(bad(
            "defaultAction",
            "it is missing; use SCMP_ACT_ERRNO, say",
        ));
    };
    action(name, document.default_errno_ret).map_err(|why| {
        let field = if why.is_errno {
            "defaultErrnoRet"
        } else {
            "defaultAction"
        };
        bad(field, why)
    })
}

fn bad(place: &str, why: impl std::fmt::Display) -> SeccompError {
    SeccompError::Invalid {
        place: place.to_owned(),
        why: why.to_string(),
    }
}

/// This machine's own, and those that the profile wants beside it. x32 is none
/// of them: its calls are always refused.
fn architectures(document: &Document) -> Result<Vec<&'static Architecture>, SeccompError> {
    let lists = [
        document.architectures.iter().flatten().count(),
        document.arch_map.iter().flatten().count(),
    ];
    if lists.iter().all(|length| *length > 0) {
        return Err(bad(
            "archMap",
            "'architectures' is there, too; use one of them",
        ));
    }
    let mut wanted: Vec<(String, &String)> = Vec::new();
    for (index, name) in document.architectures.iter().flatten().enumerate() {
        wanted.push((format!("architectures[{index}]"), name));
    }
    for (index, map) in document.arch_map.iter().flatten().enumerate() {
        let place = format!("archMap[{index}]");
        check_architecture(&format!("{place}.architecture"), &map.architecture)?;
        for (at, name) in map.sub_architectures.iter().flatten().enumerate() {
            let place = format!("{place}.subArchitectures[{at}]");
            match map.architecture == HERE.native.name {
                true => wanted.push((place, name)),
                false => check_architecture(&place, name)?,
            }
        }
    }
    let mut found = vec![HERE.native];
    for (place, name) in wanted {
        check_architecture(&place, name)?;
        if *name == HERE.foreign.name && found.len() == 1 {
            found.push(HERE.foreign);
        }
    }
    Ok(found)
}

/// Those of other machines mean nothing here, and are fine.
fn check_architecture(place: &str, name: &str) -> Result<(), SeccompError> {
    match name.starts_with("SCMP_ARCH_") {
        true => Ok(()),
        false => Err(bad(
            place,
            format!(
                "'{name}' is not an architecture; use names such as {}",
                HERE.native.name
            ),
        )),
    }
}

/// The rule, unless it does not hold here or answers as the default does.
fn rule<'a>(
    call: &'a Call,
    place: &str,
    default: Action,
    granted: &Granted,
) -> Result<Option<Rule<'a>>, SeccompError> {
    let has_name = call.name.as_ref().is_some_and(|it| !it.is_empty());
    if has_name && call.names.as_ref().is_some_and(|it| !it.is_empty()) {
        return Err(bad(place, "it has 'name' and 'names'; use one of them"));
    }
    let action = action(&call.action, call.errno_ret).map_err(|why| {
        let field = if why.is_errno { "errnoRet" } else { "action" };
        bad(&format!("{place}.{field}"), why)
    })?;
    let conditions = call.args.iter().flatten().enumerate();
    let conditions = conditions
        .map(|(index, arg)| condition(arg, &format!("{place}.args[{index}]")))
        .collect::<Result<Vec<_>, _>>()?;
    let included = holds(
        call.includes.as_ref(),
        &format!("{place}.includes"),
        granted,
    )?;
    let excluded = holds(
        call.excludes.as_ref(),
        &format!("{place}.excludes"),
        granted,
    )?;
    let applies = included.is_none_or(|it| it.all) && !excluded.is_some_and(|it| it.any);
    Ok((applies && action != default).then(|| Rule {
        names: names(call),
        action,
        alternatives: alternatives(conditions),
    }))
}

fn names(call: &Call) -> &[String] {
    match &call.name {
        Some(name) if !name.is_empty() => std::slice::from_ref(name),
        _ => call.names.as_deref().unwrap_or_default(),
    }
}

/// libseccomp takes one condition on each argument; where there are more, runc
/// makes a rule of each condition of the list.
fn alternatives(conditions: Vec<Condition>) -> Vec<Rc<[Condition]>> {
    let mut seen = [false; 6];
    let twice = conditions
        .iter()
        .any(|it| std::mem::replace(&mut seen[usize::from(it.argument)], true));
    match (conditions.is_empty(), twice) {
        (true, _) => Vec::new(),
        (_, true) => conditions.into_iter().map(|it| Rc::from([it])).collect(),
        (_, false) => vec![conditions.into()],
    }
}

/// What is wrong with an action.
struct BadAction {
    is_errno: bool,
    why: String,
}

impl std::fmt::Display for BadAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, BadAction> {
    let bad = |why: &str| BadAction {
        is_errno: false,
        why: format!("'{name}' {why}"),
    };
    let errno = || match errno.unwrap_or(libc::EPERM.cast_unsigned()) {
        number @ 0..=MAX_ERRNO => Ok(Action::Errno(number as u16)),
        number => Err(BadAction {
            is_errno: true,
            why: format!("{number} is not an error number; the highest is {MAX_ERRNO}"),
        }),
    };
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_ERRNO" => errno(),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        "SCMP_ACT_TRACE" => Err(bad("needs a tracer, which a container does not have")),
        "SCMP_ACT_NOTIFY" => Err(bad(
            "needs a supervisor that answers, which there is none of",
        )),
        _ => Err(bad(
            "is not an action; use SCMP_ACT_ALLOW, _ERRNO, _KILL_PROCESS, _KILL_THREAD, _TRAP or _LOG",
        )),
    }
}

fn condition(arg: &Arg, place: &str) -> Result<Condition, SeccompError> {
    let Ok(argument @ 0..=5) = u8::try_from(arg.index) else {
        let why = format!("{} is not an argument; they are 0 to 5", arg.index);
        return Err(bad(&format!("{place}.index"), why));
    };
    let comparison = match arg.op.as_str() {
        "SCMP_CMP_NE" => Comparison::NotEqual,
        "SCMP_CMP_LT" => Comparison::Less,
        "SCMP_CMP_LE" => Comparison::LessOrEqual,
        "SCMP_CMP_EQ" => Comparison::Equal,
        "SCMP_CMP_GE" => Comparison::GreaterOrEqual,
        "SCMP_CMP_GT" => Comparison::Greater,
        "SCMP_CMP_MASKED_EQ" => Comparison::Masked { mask: arg.value },
        other => {
            let why = format!(
                "'{other}' is not a comparison; use SCMP_CMP_EQ, _NE, _LT, _LE, _GT, _GE or _MASKED_EQ"
            );
            return Err(bad(&format!("{place}.op"), why));
        }
    };
    let value = match comparison {
        Comparison::Masked { mask } => arg.value_two.unwrap_or_default() & mask,
        _ => arg.value,
    };
    Ok(Condition {
        argument,
        comparison,
        value,
    })
}

/// Whether all that a rule depends on is so, and whether any of it is.
struct Holds {
    all: bool,
    any: bool,
}

fn holds(
    on: Option<&Where>,
    place: &str,
    granted: &Granted,
) -> Result<Option<Holds>, SeccompError> {
    let Some(on) = on else {
        return Ok(None);
    };
    let caps: Vec<bool> = on.caps.iter().flatten().map(|it| granted.has(it)).collect();
    let mut all = caps.iter().all(|it| *it);
    let mut any = caps.contains(&true);
    if let Some(arches) = on.arches.as_ref().filter(|it| !it.is_empty()) {
        let here = arches.iter().any(|it| it == HERE.name);
        all &= here;
        any |= here;
    }
    if let Some(kernel) = on.min_kernel.as_ref().filter(|it| !it.is_empty()) {
        let least = exact_version(kernel).ok_or_else(|| {
            let why = format!("'{kernel}' is not a kernel's version; use MAJOR.MINOR, such as 4.8");
            bad(&format!("{place}.minKernel"), why)
        })?;
        let here = granted.kernel >= least;
        all &= here;
        any |= here;
    }
    Ok(Some(Holds { all, any }))
}

impl Section {
    /// Adds a rule, and says how many conditional ones that made.
    fn add(&mut self, rule: &Rule<'_>, default: Action) -> usize {
        let mut made = 0;
        for name in rule.names {
            if let Some(number) = self.architecture.number(name) {
                made += self.add_to(number, rule.action, &rule.alternatives);
            }
            if let Some((through, which)) = self.architecture.multiplexer(name) {
                made += self.add_multiplexed(through, which, rule, default);
            }
            if made > MOST_RULES {
                break;
            }
        }
        made
    }

    fn add_to(&mut self, number: u32, action: Action, alternatives: &[Rc<[Condition]>]) -> usize {
        let answer = self
            .answers
            .entry(number)
            .or_insert_with(|| Answer::When(Vec::new()));
        let Answer::When(rules) = answer else {
            return 0;
        };
        if alternatives.is_empty() {
            *answer = Answer::Always(action);
            return 0;
        }
        rules.extend(alternatives.iter().map(|it| (Rc::clone(it), action)));
        alternatives.len()
    }

    /// The other way into a call. Its arguments are in memory there, so of a
    /// rule that depends on them the stricter outcome is taken.
    fn add_multiplexed(
        &mut self,
        through: &str,
        which: u64,
        rule: &Rule<'_>,
        default: Action,
    ) -> usize {
        let Some(number) = self.architecture.number(through) else {
            return 0;
        };
        let action = match rule.alternatives.is_empty() {
            true => rule.action,
            false if rule.action.strictness() < default.strictness() => rule.action,
            false => return 0,
        };
        let this_one = Condition {
            argument: 0,
            comparison: Comparison::Equal,
            value: which,
        };
        self.add_to(number, action, &[Rc::from([this_one])])
    }
}
