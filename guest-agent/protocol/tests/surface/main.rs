//! The wire format, frozen: one encoded example of every message. When this
//! fails, the surface has changed: raise `GENERATION`, then run once with
//! `UPDATE_SURFACE=1` and commit the new file.

#![allow(clippy::unwrap_used, reason = "a test that cannot encode has failed")]

use std::fmt::Write;
use std::path::Path;

use isolazi_protocol::*;

mod inside;
mod network;
mod spec;

use spec::{labels, limits, spec};

fn digest(byte: u8) -> Digest {
    Digest::from_bytes(&[byte; 32])
}

fn id() -> ContainerId {
    ContainerId::from_random(&[0xab; 32])
}

fn name() -> String {
    "web".to_owned()
}

fn states() -> [ContainerState; 5] {
    [
        ContainerState::Created,
        ContainerState::Running {
            pid: 7,
            started_at: 8,
        },
        ContainerState::Exited {
            code: 137,
            started_at: Some(8),
            finished_at: 9,
            error: Some("e".to_owned()),
            stopped: true,
            oom_killed: true,
        },
        ContainerState::Paused {
            pid: 7,
            started_at: 8,
        },
        ContainerState::Restarting {
            code: 1,
            restarts: 2,
            finished_at: 9,
        },
    ]
}

fn requests() -> Vec<Request> {
    let exec = ExecSpec {
        args: vec!["id".to_owned()],
        env: vec![],
        cwd: Some("/".to_owned()),
        user: None,
        terminal: None,
        open_stdin: false,
        privileged: true,
    };
    vec![
        Request::Ping,
        Request::MissingLayers(vec![digest(3)]),
        Request::PutLayer {
            bounds: isolazi_protocol::LayerBounds {
                bytes: Some(1 << 40),
                ratio: None,
            },
            diff_id: digest(4),
            compression: Compression::Zstd,
        },
        Request::Run {
            spec: Box::new(spec()),
            attach: true,
        },
        Request::Exec {
            container: name(),
            spec: Box::new(exec),
            attach: false,
        },
        Request::List {
            all: true,
            size: true,
        },
        Request::Inspect { container: name() },
        Request::Logs {
            container: name(),
            follow: true,
            wanted: LogRange {
                tail: Some(10),
                since: None,
                until: Some(9),
                timestamps: true,
            },
        },
        Request::Stop {
            container: name(),
            timeout: Some(10),
        },
        Request::Remove {
            container: name(),
            force: true,
            volumes: true,
        },
        Request::Shutdown,
        Request::Create {
            spec: Box::new(spec()),
        },
        Request::Start {
            container: name(),
            attach: true,
            sources: vec![BindSource::Path("/p".to_owned())],
            restarts: true,
        },
        Request::Attach { container: name() },
        Request::Kill {
            container: name(),
            signal: "HUP".to_owned(),
        },
        Request::Wait { container: name() },
        Request::Pause { container: name() },
        Request::Unpause { container: name() },
        Request::Rename {
            container: name(),
            name: "other".to_owned(),
        },
        Request::Update {
            container: name(),
            restart: Some(RestartPolicy::UnlessStopped),
            pids_limit: Some(7),
            limits: Box::new(limits()),
        },
        Request::CreateVolume {
            name: Some(name()),
            labels: labels(),
        },
        Request::Volumes {
            names: Some(vec![name()]),
        },
        Request::RemoveVolume {
            name: name(),
            force: true,
        },
        Request::PruneVolumes { all: true },
        Request::PruneLayers {
            keep: vec![digest(6)],
        },
        Request::DiskUsage { volumes: true },
        Request::Activity,
        Request::Diagnose,
        Request::RestartAgent,
        Request::Events {
            since: Some(1),
            until: None,
            follow: true,
        },
        Request::Dial {
            container: name(),
            target: network::port(PortProtocol::Udp),
        },
        Request::ShowSeccomp(SeccompProfile::File {
            name: "f".to_owned(),
            text: "{}".to_owned(),
        }),
    ]
    .into_iter()
    .chain(inside::requests())
    .chain(network::requests())
    .collect()
}

fn server_messages() -> Vec<ServerMessage> {
    let summary = |state| ContainerSummary {
        id: id(),
        name: name(),
        image: "alpine".to_owned(),
        command: vec!["sh".to_owned()],
        created_at: 6,
        state,
        image_id: digest(1),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        mounts: vec![SummaryMount {
            source: "/h".to_owned(),
            target: "/t".to_owned(),
            volume: true,
        }],
        network: NetworkMode::None,
        size: Some(11),
        health: Some(HealthStatus::Healthy),
        ports: vec![network::published(PortProtocol::Udp)],
    };
    let detail = ContainerDetail {
        id: id(),
        name: name(),
        created_at: 6,
        state: ContainerState::Created,
        spec: spec(),
        directory: "/d".to_owned(),
        userns: UserNamespace::Auto,
        health: Some(Health {
            status: HealthStatus::Unhealthy,
            failing_streak: 3,
            log: vec![ProbeResult {
                start: 1,
                end: 2,
                exit_code: -1,
                output: "o".to_owned(),
            }],
        }),
        network: NetworkState {
            endpoints: vec![network::endpoint()],
            ports: vec![network::published(PortProtocol::Tcp)],
        },
    };
    let volume = VolumeDetail {
        name: name(),
        created_at: 6,
        labels: labels(),
        anonymous: true,
        mountpoint: "/v/_data".to_owned(),
    };
    let events = [
        Event::Created(id()),
        Event::Started,
        Event::Warning("w".to_owned()),
        Event::StdinTaken(300),
        Event::Exited(137),
        Event::Happened(vec![Happening {
            time: 8,
            kind: ObjectKind::Volume,
            action: "create".to_owned(),
            id: name(),
            attributes: labels(),
        }]),
    ];
    let replies = [
        Ok(Reply::Done),
        Ok(Reply::Layers(vec![digest(5)])),
        Ok(Reply::Containers(
            states().into_iter().map(summary).collect(),
        )),
        Ok(Reply::Container(Box::new(detail))),
        Ok(Reply::Volumes(vec![volume])),
        Ok(Reply::PrunedVolumes {
            names: vec![name()],
            bytes: 7,
        }),
        Err(WireError::new(ErrorCode::Internal, "m")),
        Ok(Reply::Pruned(vec![LayerUsage {
            diff_id: digest(7),
            bytes: 10,
        }])),
        Ok(Reply::DiskUsage(DiskUsage {
            layers: vec![LayerUsage {
                diff_id: digest(8),
                bytes: 11,
            }],
            containers: vec![ContainerDiskUsage {
                id: id(),
                bytes: 12,
            }],
            volumes: vec![VolumeUsage {
                name: name(),
                bytes: 13,
                in_use: true,
            }],
        })),
        Ok(Reply::Activity {
            resident: 5 << 20,
            conversations: 1,
            containers: 2,
        }),
        Ok(Reply::Findings(vec![
            Finding::good("a", "b"),
            Finding::bad("c", Grade::Lacking, "d", "e"),
        ])),
        Ok(Reply::Text("t".to_owned())),
    ];
    let events = events.into_iter().map(ServerMessage::Event);
    events
        .chain(replies.into_iter().map(ServerMessage::Reply))
        .chain(network::replies().into_iter().map(ServerMessage::Reply))
        .chain(inside::messages())
        .collect()
}

fn surface() -> String {
    let mut text = format!("generation {GENERATION}\n");
    let mut line = |bytes: Vec<u8>| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{hex}").unwrap();
    };
    let hello = Hello {
        generation: 1,
        token: Some(Token([9; 32])),
        clock: 1_000_000_000,
    };
    line(encode(&hello).unwrap());
    let info = AgentInfo {
        generation: 1,
        version: "0.1.0".to_owned(),
        kernel: "6.12".to_owned(),
        architecture: "amd64".to_owned(),
    };
    line(encode::<Greeting>(&Ok(info)).unwrap());
    requests()
        .iter()
        .for_each(|request| line(encode(request).unwrap()));
    let size = WindowSize::default();
    let controls = [
        ClientControl::Resize(size),
        ClientControl::Signal(15),
        ClientControl::OutputTaken(70_000),
    ];
    for control in controls {
        line(encode(&control).unwrap());
    }
    server_messages()
        .iter()
        .for_each(|message| line(encode(message).unwrap()));
    text
}

#[test]
fn the_surface_changes_only_with_its_generation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/surface.txt");
    if std::env::var_os("UPDATE_SURFACE").is_some() {
        std::fs::write(&path, surface()).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        surface(),
        frozen,
        "raise GENERATION, then update tests/surface.txt"
    );
}

#[test]
fn every_message_survives_the_wire() {
    for request in requests() {
        assert_eq!(
            decode::<Request>(&encode(&request).unwrap()).unwrap(),
            request
        );
    }
    for message in server_messages() {
        assert_eq!(
            decode::<ServerMessage>(&encode(&message).unwrap()).unwrap(),
            message
        );
    }
}
