//! The cases, by theme.

mod config;
mod errors;
mod events;
mod exec;
mod files;
mod health;
mod hostile;
mod images;
mod imagestore;
mod isolation;
mod leftovers;
mod life;
mod lifecycle;
mod limits;
mod listing;
mod machine;
mod mission;
mod mode;
mod places;
mod platform;
mod registries;
mod run;
mod signals;
mod stats;
mod streams;
mod terminal;
mod vm;
mod volumes;

mod named_volumes;
mod options;

mod bulk;
mod changes;
mod conflicts;
mod guidance;
mod init;
mod kills;
mod leaks;
mod seccomp;
mod servers;

use isolazi_tests::Case;

/// Lists cases by scope: `cases! { Both: [hello, echo] }`.
macro_rules! cases {
    ($($scope:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        vec![$($(isolazi_tests::Case {
            name: stringify!($name),
            scope: isolazi_tests::Scope::$scope,
            run: $name,
        }),*),*]
    };
}
use cases;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [
        run::all(),
        config::all(),
        streams::all(),
        signals::all(),
        terminal::all(),
        exec::all(),
        lifecycle::all(),
        volumes::all(),
        isolation::all(),
        images::all(),
        platform::all(),
        mode::all(),
        errors::all(),
        hostile::all(),
        vm::all(),
        machine::all(),
        mission::all(),
        life::all(),
        places::all(),
        listing::all(),
        guidance::all(),
        leftovers::all(),
        options::all(),
        init::all(),
        named_volumes::all(),
        files::all(),
        changes::all(),
        stats::all(),
        imagestore::all(),
        registries::all(),
        bulk::all(),
        kills::all(),
        leaks::all(),
        conflicts::all(),
        health::all(),
        events::all(),
        limits::all(),
        seccomp::all(),
        servers::all(),
    ]
    .concat()
}
