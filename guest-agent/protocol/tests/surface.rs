//! The wire format, frozen: one encoded example of every message. When this
//! fails, the surface has changed: raise `GENERATION`, then run once with
//! `UPDATE_SURFACE=1` and commit the new file.

#![allow(clippy::unwrap_used, reason = "a test that cannot encode has failed")]

use std::fmt::Write;
use std::path::Path;

use isolazi_protocol::*;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes(&[byte; 32])
}

fn id() -> ContainerId {
    ContainerId::from_random(&[0xab; 32])
}

fn name() -> String {
    "web".to_owned()
}

fn process() -> ProcessSpec {
    ProcessSpec {
        args: vec!["/bin/true".to_owned()],
        env: vec!["A=1".to_owned()],
        cwd: "/".to_owned(),
        user: "1:2".to_owned(),
        terminal: Some(WindowSize {
            rows: 24,
            columns: 80,
        }),
        open_stdin: true,
    }
}

fn spec() -> ContainerSpec {
    let share = BindSource::Share {
        tag: "t".to_owned(),
        subpath: "s".to_owned(),
    };
    let mount = |source, read_only| BindMount {
        source,
        host_path: "/h".to_owned(),
        target: "/t".to_owned(),
        read_only,
    };
    ContainerSpec {
        name: Some(name()),
        image: ImageIdentity {
            reference: "alpine".to_owned(),
            id: digest(1),
        },
        layers: vec![digest(2)],
        process: process(),
        hostname: Some("h".to_owned()),
        mounts: vec![
            mount(BindSource::Path("/p".to_owned()), true),
            mount(share, false),
        ],
        stop_signal: Some("SIGQUIT".to_owned()),
        auto_remove: true,
        network: NetworkMode::None,
        seccomp: SeccompProfile::Default,
        resources: Resources { pids_limit: 5 },
        resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
    }
}

fn states() -> [ContainerState; 3] {
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
    };
    vec![
        Request::Ping,
        Request::MissingLayers(vec![digest(3)]),
        Request::PutLayer {
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
        Request::List { all: true },
        Request::Inspect { container: name() },
        Request::Logs {
            container: name(),
            follow: true,
        },
        Request::Stop {
            container: name(),
            timeout: 10,
        },
        Request::Remove {
            container: name(),
            force: true,
        },
        Request::Shutdown,
        Request::PruneLayers {
            keep: vec![digest(6)],
        },
        Request::DiskUsage,
    ]
}

fn server_messages() -> Vec<ServerMessage> {
    let summary = |state| ContainerSummary {
        id: id(),
        name: name(),
        image: "alpine".to_owned(),
        command: vec!["sh".to_owned()],
        created_at: 6,
        state,
    };
    let detail = ContainerDetail {
        id: id(),
        name: name(),
        created_at: 6,
        state: ContainerState::Created,
        spec: spec(),
        directory: "/d".to_owned(),
    };
    let events = [
        Event::Created(id()),
        Event::Started,
        Event::Warning("w".to_owned()),
        Event::StdinTaken(300),
        Event::Exited(137),
    ];
    let replies = [
        Ok(Reply::Done),
        Ok(Reply::Layers(vec![digest(5)])),
        Ok(Reply::Containers(
            states().into_iter().map(summary).collect(),
        )),
        Ok(Reply::Container(Box::new(detail))),
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
            containers: vec![ContainerUsage {
                id: id(),
                bytes: 12,
            }],
        })),
    ];
    let events = events.into_iter().map(ServerMessage::Event);
    events
        .chain(replies.into_iter().map(ServerMessage::Reply))
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
