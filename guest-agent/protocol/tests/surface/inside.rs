//! What is asked about the inside of containers.

use isolazi_protocol::*;

use super::{id, name};

pub(super) fn requests() -> Vec<Request> {
    let read = |content| Request::Read {
        container: name(),
        content,
    };
    vec![
        Request::PathInfo {
            container: name(),
            path: "/p".to_owned(),
        },
        read(Content::Path {
            path: "/p".to_owned(),
            follow: true,
            name: "n".to_owned(),
        }),
        read(Content::Root),
        read(Content::Layer),
        read(Content::Changes),
        Request::Write {
            container: name(),
            path: "/p".to_owned(),
            compression: Compression::None,
        },
        Request::Processes { container: name() },
        Request::Usage {
            containers: vec![name()],
            all: true,
        },
    ]
}

fn path_info(kind: PathKind) -> PathInfo {
    PathInfo {
        path: "/p".to_owned(),
        kind,
        size: 300,
    }
}

pub(super) fn messages() -> Vec<ServerMessage> {
    let process = ProcessInfo {
        pid: 7,
        parent: 1,
        uid: 1000,
        terminal: Some("pts/0".to_owned()),
        state: 'S',
        threads: 2,
        started_at: 8,
        cpu_time: 9,
        virtual_memory: 10,
        resident_memory: 11,
        name: "sh".to_owned(),
        command: vec!["sh".to_owned()],
    };
    let usage = ContainerUsage {
        id: id(),
        name: name(),
        running: true,
        read_at: 1,
        cpu_time: 2,
        memory: 3,
        memory_limit: 4,
        network: Some((5, 6)),
        block: None,
        pids: 7,
    };
    let kinds = [
        PathKind::File,
        PathKind::Folder,
        PathKind::Link,
        PathKind::Other,
    ];
    let mut messages: Vec<_> = kinds
        .map(|kind| ServerMessage::Event(Event::Path(path_info(kind))))
        .into();
    messages.extend(
        [
            Reply::Path(None),
            Reply::Path(Some(path_info(PathKind::File))),
            Reply::Processes(vec![process]),
            Reply::Usage(vec![usage]),
        ]
        .map(|reply| ServerMessage::Reply(Ok(reply))),
    );
    messages
}
