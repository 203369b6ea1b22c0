//! Whoever calls on a running shim: the agent, for its clients.

use std::rc::Rc;
use std::time::Duration;

use isolazi_protocol::{Event, ExecSpec, Reply, ServerMessage, Transport, WireError};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::container::lifecycle::Action;
use crate::events;
use crate::shim::life::{Shim, StoppedBy};
use crate::shim::process::Process;
use crate::shim::running::{self, Started};
use crate::shim::wire::ShimRequest;

type Caller = Transport<UnixStream>;

/// Serves callers until `closed`, and then those who are still there.
pub(super) async fn accept(
    shim: Rc<Shim>,
    listener: UnixListener,
    mut closed: oneshot::Receiver<()>,
) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut closed => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    sessions.spawn_local(serve(Rc::clone(&shim), Transport::new(stream)));
                }
                // Out of descriptors, at worst; a pause lets some return.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

async fn serve(shim: Rc<Shim>, mut caller: Caller) {
    // Whoever does not speak our language is not answered.
    let Ok(request) = caller.receive_message().await else {
        return;
    };
    let result = match request {
        ShimRequest::Exec { spec, attach } => match exec(&shim, &spec) {
            Ok((id, started)) => {
                let mut running = started.announce(caller, attach).await;
                let code = running.ended().await;
                let status = ("exitCode", code.to_string());
                shim.tell("exec_die", &[("execID", id), status]);
                return running.finish(code).await;
            }
            Err(error) => Err(error),
        },
        ShimRequest::Attach => match attached(&shim) {
            Ok(process) => {
                shim.tell("attach", &[]);
                return running::attach(&process, caller).await;
            }
            Err(error) => Err(error),
        },
        ShimRequest::Wait => {
            let code = wait(&shim).await;
            if let Some(code) = code {
                tell(&mut caller, &ServerMessage::Event(Event::Exited(code))).await;
            }
            Ok(Reply::Done)
        }
        ShimRequest::Stop {
            timeout,
            by_user,
            for_removal,
        } => {
            if !for_removal {
                shim.stop_is_asked();
            }
            stop(&shim, timeout, by_user).await
        }
        ShimRequest::Signal { number } => signal(&shim, number),
        ShimRequest::Freeze { frozen } => shim.freeze(frozen),
        ShimRequest::Restart { policy } => {
            shim.set_restart(policy);
            Ok(Reply::Done)
        }
        ShimRequest::Connect { endpoint } => shim.connect(*endpoint).await,
        ShimRequest::Disconnect { network } => shim.disconnect(&network).await,
        ShimRequest::Limit { pids_limit, limits } => shim.limit(pids_limit, *limits),
    };
    tell(&mut caller, &ServerMessage::Reply(result)).await;
}

/// A caller that has gone does not need the answer.
async fn tell(caller: &mut Caller, message: &ServerMessage) {
    let _ = caller.send_message(message).await;
}

fn attached(shim: &Shim) -> Result<Rc<Process>, WireError> {
    shim.judge(Action::Attach)?;
    shim.living_process()
}

/// The status of the next end; `None` where there is no process to wait for,
/// as the container is restarting.
async fn wait(shim: &Shim) -> Option<i32> {
    match shim.process() {
        Some(process) => {
            process.finished().await;
            process.status()
        }
        None => {
            shim.over().await;
            None
        }
    }
}

fn signal(shim: &Shim, number: i32) -> Result<Reply, WireError> {
    shim.judge(Action::Kill)?;
    if number == nix::libc::SIGKILL || number == shim.stop_signal() {
        shim.stop_for_good(StoppedBy::User);
    }
    let Some(process) = shim.process() else {
        return Ok(Reply::Done);
    };
    send(shim, &process, number);
    if number == nix::libc::SIGKILL {
        thaw(shim);
    }
    Ok(Reply::Done)
}

fn send(shim: &Shim, process: &Process, number: i32) {
    shim.tell("kill", &[("signal", number.to_string())]);
    process.signal(number);
}

/// Starts a further process, and tells of it under an id of its own.
fn exec(shim: &Shim, spec: &ExecSpec) -> Result<(String, Started), WireError> {
    let id = ("execID", events::exec_id());
    let started = shim.launch_exec(spec)?;
    let command = spec.args.join(" ");
    shim.tell(
        &format!("exec_create: {command}"),
        std::slice::from_ref(&id),
    );
    shim.tell(&format!("exec_start: {command}"), std::slice::from_ref(&id));
    Ok((id.1, started))
}

/// A suspended process (of v1's freezer) takes no signal before it goes on.
fn thaw(shim: &Shim) {
    let paused = matches!(
        *shim.state(),
        isolazi_protocol::ContainerState::Paused { .. }
    );
    if paused && let Err(error) = shim.freeze(false) {
        eprintln!("shim: {error}");
    }
}

async fn stop(shim: &Shim, timeout: u32, by_user: bool) -> Result<Reply, WireError> {
    let by = if by_user {
        StoppedBy::User
    } else {
        StoppedBy::Engine
    };
    shim.stop_for_good(by);
    if let Some(process) = shim.process() {
        let grace = Duration::from_secs(timeout.into());
        if timeout > 0 {
            send(shim, &process, shim.stop_signal());
            thaw(shim);
        }
        if tokio::time::timeout(grace, process.ended()).await.is_err() {
            send(shim, &process, nix::libc::SIGKILL);
            thaw(shim);
        }
    }
    shim.over().await;
    Ok(Reply::Done)
}
