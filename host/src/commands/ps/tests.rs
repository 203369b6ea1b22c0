use isolazi_protocol::{
    ContainerId, ContainerState, ContainerSummary, Digest, HealthStatus, Isolation, NetworkMode,
    SummaryMount,
};

use serde_json::{Map, Value};

use super::*;

/// Container number `n`, created at `n` seconds, made from image `n`.
fn container(n: u8, name: &str, state: ContainerState) -> ContainerSummary {
    ContainerSummary {
        id: ContainerId::from_random(&[n; 32]),
        name: name.to_owned(),
        image: "alpine:3".to_owned(),
        command: vec![
            "sh".to_owned(),
            "-c".to_owned(),
            "echo \"\u{1b}[31m\" and more".to_owned(),
        ],
        created_at: u64::from(n) * 1_000_000_000,
        state,
        image_id: Digest::from_bytes(&[n; 32]),
        labels: [("role".to_owned(), name.to_owned())].into(),
        mounts: vec![SummaryMount {
            source: format!("/srv/of/container/{name}"),
            target: "/data".to_owned(),
            volume: false,
        }],
        network: NetworkMode::None,
        size: Some(1500),
        ports: Vec::new(),
        health: (name == "web").then_some(HealthStatus::Starting),
    }
}

fn exited(code: i32) -> ContainerState {
    ContainerState::Exited {
        code,
        started_at: Some(1),
        finished_at: 2,
        error: None,
        stopped: false,
        oom_killed: false,
    }
}

fn running() -> ContainerState {
    ContainerState::Running {
        pid: 1,
        started_at: 1,
    }
}

fn resident(isolation: Isolation, container: ContainerSummary) -> Resident {
    Resident {
        isolation,
        container,
    }
}

/// Newest first.
fn residents() -> Vec<Resident> {
    use Isolation::{Process, Vm};
    vec![
        resident(Process, container(4, "web", running())),
        resident(Process, container(3, "job", exited(3))),
        resident(Vm, container(2, "db", running())),
        resident(Process, container(1, "made", ContainerState::Created)),
    ]
}

fn args(filters: &[&str]) -> PsArgs {
    PsArgs {
        filter: filters.iter().map(ToString::to_string).collect(),
        ..PsArgs::default()
    }
}

fn shown(args: &PsArgs) -> Result<Vec<String>> {
    let selected = Selection::new(args)?.apply(residents())?;
    Ok(selected.into_iter().map(|it| it.container.name).collect())
}

#[test]
fn filters_select_as_dockers_do() {
    let id = "04".repeat(32);
    let (image_id, long_image_id) = ("0202".to_owned(), format!("sha256:{}", "02".repeat(32)));
    let all = PsArgs {
        all: true,
        ..PsArgs::default()
    };
    assert_eq!(shown(&PsArgs::default()).unwrap(), ["web", "db"]);
    assert_eq!(shown(&all).unwrap().len(), 4);
    for (filters, names) in [
        (&["name=e"][..], &["web"][..]),
        (&["name=^/web$", "name=b"], &["web", "db"]),
        (&[&*format!("id={}", &id[..12])], &["web"]),
        (&["status=exited"], &["job"]),
        (
            &["status=created", "status=running"],
            &["web", "db", "made"],
        ),
        (&["exited=3"], &["job"]),
        (&["exited=0"], &[]),
        (&["label=role"], &["web", "db"]),
        (&["label=role=db"], &["db"]),
        (&["ancestor=docker.io/library/alpine:3"], &["web", "db"]),
        (&["ancestor=alpine"], &[]),
        (&[&*format!("ancestor={image_id}")], &["db"]),
        (&[&*format!("ancestor={long_image_id}")], &["db"]),
        (&["before=job"], &["db"]),
        (&["since=job"], &["web"]),
        (&["since=made", "before=web"], &["db"]),
        (&["volume=/data"], &["web", "db"]),
        (&["volume=/srv/of/container/db"], &["db"]),
        (&["network=none", "name=w"], &["web"]),
        (&["isolation=process", "name=w"], &["web"]),
        (&["isolation=vm"], &["db"]),
        (&["health=starting"], &["web"]),
        (&["health=none", "health=healthy"], &["db"]),
    ] {
        assert_eq!(shown(&args(filters)).unwrap(), names, "{filters:?}");
    }
}

#[test]
fn the_last_ones_whatever_their_state() {
    let last = |last, latest| {
        shown(&PsArgs {
            last,
            latest,
            ..PsArgs::default()
        })
        .unwrap()
    };
    assert_eq!(last(Some(2), false), ["web", "job"]);
    assert_eq!(last(None, true), ["web"]);
    assert_eq!(last(Some(-1), false), ["web", "db"]);
    let mut both = args(&["status=exited"]);
    both.last = Some(1);
    assert_eq!(shown(&both).unwrap(), ["job"], "counted after filtering");
}

#[test]
fn a_filter_that_makes_no_sense_is_named() {
    for (filter, said) in [
        ("colour=red", "no filter 'colour'"),
        ("status=gone", "no status 'gone'; use one of created"),
        ("exited=x", "exited=x"),
        ("health=fine", "no health 'fine'; use one of none"),
        ("before=nobody", "no such container: nobody"),
        ("name=(", "name=( "),
    ] {
        let error = format!("{:#}", shown(&args(&[filter])).unwrap_err());
        assert!(
            error.contains(said.trim()) && !error.contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn the_status_says_how_a_container_is() {
    for (health, said) in [
        (None, ""),
        (Some(HealthStatus::Starting), " (health: starting)"),
        (Some(HealthStatus::Healthy), " (healthy)"),
        (Some(HealthStatus::Unhealthy), " (unhealthy)"),
    ] {
        let mut web = container(4, "web", running());
        web.health = health;
        let fields = fields::of(&resident(Isolation::Vm, web), true);
        let status = fields["Status"].as_str().unwrap_or_default();
        assert!(status.ends_with(&format!("years{said}")), "{status}");
    }
}

fn rendered(args: &PsArgs) -> String {
    let mut listing = listing(args).unwrap();
    let residents = [resident(Isolation::Vm, container(4, "web", exited(3)))];
    fill(&mut listing, &residents, !args.no_trunc).unwrap();
    listing.render()
}

#[test]
fn the_table_has_dockers_columns() {
    let table = rendered(&PsArgs {
        size: true,
        ..PsArgs::default()
    });
    let head: Vec<_> = table
        .lines()
        .next()
        .unwrap()
        .split("   ")
        .map(str::trim)
        .collect();
    let head: Vec<_> = head.into_iter().filter(|it| !it.is_empty()).collect();
    assert_eq!(
        head,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "ISOLATION",
            "NAMES",
            "SIZE"
        ]
    );
    assert!(
        table.contains("040404040404   alpine:3   \"sh -c echo \\\"\\x1b[31m\\\" …\""),
        "{table}"
    );
    assert!(table.contains("Exited (3) "), "{table}");
    assert!(table.ends_with("web       1.5kB"), "{table}");
}

#[test]
fn every_field_is_in_json_and_has_a_heading() {
    let line = rendered(&PsArgs {
        format: Some("json".to_owned()),
        no_trunc: true,
        ..PsArgs::default()
    });
    let fields: Map<String, Value> = serde_json::from_str(&line).unwrap();
    let names: Vec<_> = fields.keys().map(String::as_str).collect();
    assert_eq!(names, fields::HEADS.map(|(field, _)| field));
    assert!(fields.values().all(Value::is_string), "{line}");
    assert_eq!(fields["ID"], "04".repeat(32));
    assert_eq!(
        fields["Command"],
        "\"sh -c echo \\\"\\x1b[31m\\\" and more\""
    );
    assert_eq!(fields["CreatedAt"], "1970-01-01 00:00:04 +0000 UTC");
    assert_eq!(fields["Mounts"], "/srv/of/container/web");
    assert_eq!(fields["Labels"], "role=web");
    assert_eq!(fields["Isolation"], "vm");
}

#[test]
fn quiet_is_ids_unless_a_format_is_given() {
    let quiet = |format: Option<&str>| {
        rendered(&PsArgs {
            quiet: true,
            format: format.map(str::to_owned),
            ..PsArgs::default()
        })
    };
    assert_eq!(quiet(None), "040404040404");
    assert_eq!(quiet(Some("{{.Names}} {{.Label \"role\"}}")), "web web");
}
