//! End-to-end tests of isolazi and the harness they share.
//!
//! ```text
//!            one process for all cases
//!  fixture ──► registry (docker-registry on a loopback port)
//!     │            ▲ pull
//!     │            │
//!     └──────► World: native ─┐
//!              World: vm ─────┼─► isolazi, the real program, as a child process
//!              World: … ──────┘
//! ```
//!
//! A case is a function of a [`World`]. It is run once in each mode, and says
//! what a user would do and see; set-up and clean-up are the harness's.

pub mod command;
pub mod debian;
pub mod fixture;
pub mod handmade;
pub mod host;
pub mod mode;
pub mod network;
pub mod ordinary;
pub mod output;
mod pace;
pub mod registry;
pub mod stand_in;
pub mod stub;
pub mod suite;
pub mod surroundings;
pub mod terminal;
mod verbs;
pub mod wine;
pub mod wiretap;
pub mod world;

pub use command::{Invocation, Running};
pub use mode::Mode;
pub use output::Output;
pub use suite::{Case, Scope, Suite};
pub use world::{Container, World};
