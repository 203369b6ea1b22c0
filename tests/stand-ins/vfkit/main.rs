//! Takes the place of vfkit, which runs on macOS only: reads its command line strictly,
//! and then runs the guest that it describes under QEMU.
//!
//! ```text
//!  vfkit                           here
//!  virtio-vsock, socketURL         the vhost-user device of isolazi's own, in this process
//!  virtio-fs                       virtiofsd of the appliance, one a folder
//!  virtio-net,nat                  QEMU's user network, with macOS' addresses
//!  virtio-serial,logFilePath       a console that goes to the file
//!  --restful-uri                   the same requests and answers
//! ```
//!
//! As with vfkit, the guest ends with this process, however that ends.

mod control;
mod machine;
mod options;

use std::process::ExitCode;

use anyhow::Result;

use options::Options;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfkit (stand-in): {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::parse(&arguments)?;
    let mut machine = machine::start(&options)?;
    control::serve(&options.control_socket, machine.power())?;
    let ended = machine.wait();
    for socket in [&options.agent_socket, &options.control_socket] {
        let _ = std::fs::remove_file(socket);
    }
    ended
}
