//! vfkit's socket for requests: the guest's power (`doc/usage.md`, "RESTful API").

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;
use serde_json::json;

/// The socket stands for the host.
const STATE: &str = "http://vfkit/vm/state";
/// vfkit answers at once, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(3);

/// What vfkit says of a machine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    /// Absent where the framework is too old for it.
    #[serde(default)]
    can_hard_stop: bool,
}

/// Cuts the guest's power. Where vfkit does not answer, it is killed later.
pub(super) async fn cut_power(socket: PathBuf) {
    if !socket.exists() {
        return;
    }
    match try_cut(socket).await {
        Ok(()) => {}
        // vfkit has gone, and the guest with it.
        Err(error) if error.is_connect() => {}
        Err(error) => {
            let error = anyhow::Error::from(error);
            crate::output::warning(&format!(
                "vfkit does not cut the machine's power: {error:#}"
            ));
        }
    }
}

async fn try_cut(socket: PathBuf) -> reqwest::Result<()> {
    crate::image::install_tls_provider();
    let client = Client::builder()
        .unix_socket(socket)
        .timeout(PATIENCE)
        .build()?;
    let answer = client.get(STATE).send().await?.error_for_status()?;
    let text = answer.bytes().await?;
    let can_hard_stop = serde_json::from_slice(&text).is_ok_and(|state: State| state.can_hard_stop);
    let wanted = match can_hard_stop {
        true => "HardStop",
        false => "Stop",
    };
    let request = client
        .post(STATE)
        .body(json!({ "state": wanted }).to_string());
    let request = request.header("Content-Type", "application/json");
    request.send().await?.error_for_status()?;
    Ok(())
}
