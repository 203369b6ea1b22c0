//! `isolazi doctor`: whether containers can run here, and how to mend what keeps
//! them from it. Each place is judged by itself, by its own agent where there is one.

mod host;

use anyhow::Result;
use isolazi_protocol::{Finding, Grade, Isolation, Reply, Request};
use serde_json::{Value, json};

use crate::cli::FormatArgs;
use crate::commands::{Context, FAILURE, is_possible};
use crate::engine::Engine;
use crate::output;

/// What was found about a part of the whole.
struct Chapter {
    title: &'static str,
    /// Without it no container runs that does not say otherwise.
    matters: bool,
    findings: Vec<Finding>,
}

/// Prints what was found; fails where containers cannot run by default.
pub(super) async fn doctor(context: &Context, args: &FormatArgs) -> Result<u8> {
    let mut chapters = vec![Chapter {
        title: "isolazi",
        matters: true,
        findings: host::findings(&context.paths),
    }];
    if is_possible(Isolation::Process) {
        chapters.push(Chapter {
            title: "this host's kernel",
            matters: context.isolation() == Isolation::Process,
            findings: native(context).await,
        });
    }
    chapters.push(Chapter {
        title: "virtual machine",
        matters: context.isolation() == Isolation::Vm,
        findings: virtual_machine(context).await,
    });
    report(&chapters, args)
}

/// The same where the settings cannot be read, which is the first thing to mend.
pub(super) fn without_context(error: &anyhow::Error, args: &FormatArgs) -> Result<u8> {
    let finding = Finding::bad(
        "settings",
        Grade::Broken,
        format!("{error:#}"),
        "mend that file, or name another data root with --root DIR",
    );
    let chapter = Chapter {
        title: "isolazi",
        matters: true,
        findings: vec![finding],
    };
    report(&[chapter], args)
}

async fn native(context: &Context) -> Vec<Finding> {
    #[cfg(target_os = "linux")]
    let mut findings = crate::machine::native::examine();
    #[cfg(not(target_os = "linux"))]
    let mut findings = Vec::new();
    findings.extend(match context.engine_in(Isolation::Process) {
        Ok(engine) => ask(&engine).await,
        Err(error) => vec![unreachable(&error)],
    });
    findings
}

async fn virtual_machine(context: &Context) -> Vec<Finding> {
    let backend = match context.backend() {
        Ok(backend) => backend,
        Err(error) => return vec![unreachable(&error)],
    };
    let mut findings = vec![host::hypervisor(backend)];
    findings.push(host::appliance(&context.paths, backend));
    let machine = match context.virtual_machine() {
        Ok(machine) => machine,
        Err(error) => {
            findings.push(unreachable(&error));
            return findings;
        }
    };
    findings.extend(machine.examine().await);
    match machine.is_running().await {
        Ok(true) => {
            findings.push(Finding::good("machine", "running"));
            findings.extend(match context.engine_in(Isolation::Vm) {
                Ok(engine) => ask(&engine).await,
                Err(error) => vec![unreachable(&error)],
            });
        }
        Ok(false) => findings.push(Finding::good(
            "machine",
            "not running; what is in it is looked at while it runs",
        )),
        Err(error) => findings.push(unreachable(&error.into())),
    }
    findings
}

async fn ask(engine: &Engine) -> Vec<Finding> {
    match engine.ask(&Request::Diagnose).await {
        Ok(Reply::Findings(findings)) => findings,
        Ok(_) => Vec::new(),
        Err(error) => vec![unreachable(&error.into())],
    }
}

fn unreachable(error: &anyhow::Error) -> Finding {
    Finding::bad(
        "engine",
        Grade::Broken,
        format!("{error:#}"),
        "do what the line above says",
    )
}

fn report(chapters: &[Chapter], args: &FormatArgs) -> Result<u8> {
    let is_well = chapters.iter().all(Chapter::is_well);
    match args.template()? {
        Some(template) => output::result(template.line(&fields(chapters, is_well))?),
        None => lines(chapters),
    }
    Ok(if is_well { 0 } else { FAILURE })
}

fn fields(chapters: &[Chapter], is_well: bool) -> Value {
    let findings = chapters.iter().flat_map(|chapter| {
        chapter.findings.iter().map(|finding| {
            json!({
                "Place": chapter.title,
                "Subject": finding.subject,
                "Grade": grade(chapter, finding),
                "State": finding.state,
                "Remedy": finding.remedy,
            })
        })
    });
    json!({ "Healthy": is_well, "Findings": findings.collect::<Vec<_>>() })
}

fn lines(chapters: &[Chapter]) {
    for chapter in chapters {
        output::result(chapter.title);
        for finding in &chapter.findings {
            let grade = grade(chapter, finding);
            let (subject, state) = (&finding.subject, &finding.state);
            // A machine's agent says what it wants.
            let line = output::printable(&format!("{subject}: {state}"));
            output::result(format!("  {grade:<8} {line}"));
            if let Some(remedy) = &finding.remedy {
                output::result(format!("           → {}", output::printable(remedy)));
            }
        }
    }
}

/// What keeps a place that is not used from working is worth a warning only.
fn grade(chapter: &Chapter, finding: &Finding) -> &'static str {
    match finding.grade {
        Grade::Good => "ok",
        Grade::Broken if chapter.matters => "error",
        Grade::Broken | Grade::Lacking => "warning",
    }
}

impl Chapter {
    fn is_well(&self) -> bool {
        let broken = |it: &Finding| it.grade == Grade::Broken;
        !self.matters || !self.findings.iter().any(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chapter(matters: bool) -> Chapter {
        Chapter {
            title: "t",
            matters,
            findings: vec![
                Finding::good("a", "b"),
                Finding::bad("c", Grade::Broken, "d", "e"),
            ],
        }
    }

    #[test]
    fn only_what_matters_makes_it_fail() {
        assert!(!chapter(true).is_well());
        assert!(chapter(false).is_well());
        let fields = fields(&[chapter(true), chapter(false)], false);
        let findings = fields["Findings"].as_array().unwrap().iter();
        let grades: Vec<_> = findings.map(|it| it["Grade"].as_str().unwrap()).collect();
        assert_eq!(grades, ["ok", "error", "ok", "warning"]);
        assert_eq!(fields["Healthy"], false);
    }
}
