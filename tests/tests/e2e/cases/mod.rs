//! The cases, by theme.

mod bulk;
mod changes;
mod config;
mod conflicts;
mod debian;
mod disk_usage;
mod doctor;
mod elsewhere;
mod errors;
mod escapes;
mod events;
mod exec;
mod files;
mod guidance;
mod health;
mod hostile;
mod images;
mod imagestore;
mod init;
mod isolation;
mod kills;
mod leaks;
mod leftovers;
mod life;
mod lifecycle;
mod limits;
mod listing;
mod machine;
mod mission;
mod mode;
mod named_volumes;
mod networks;
mod nobody;
mod one_file;
mod options;
mod places;
mod platform;
mod port_load;
mod ports;
mod posture;
mod privileges;
mod processors;
mod quotas;
mod registries;
mod rootless;
mod rootless_ids;
mod rootless_ports;
mod run;
mod seccomp;
mod security;
mod selinux;
mod servers;
mod signals;
mod stats;
mod streams;
mod takeover;
mod terminal;
mod user_networks;
mod userns;
mod verbs;
mod vm;
mod vm_size;
mod volumes;
mod windows;
mod wsl2;

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
        processors::all(),
        one_file::all(),
        mode::all(),
        errors::all(),
        hostile::all(),
        vm::all(),
        vm_size::all(),
        debian::all(),
        doctor::all(),
        rootless::all(),
        rootless_ids::all(),
        rootless_ports::all(),
        userns::all(),
        machine::all(),
        elsewhere::all(),
        verbs::all(),
        mission::all(),
        life::all(),
        places::all(),
        listing::all(),
        guidance::all(),
        leftovers::all(),
        options::all(),
        init::all(),
        named_volumes::all(),
        disk_usage::all(),
        networks::all(),
        user_networks::all(),
        user_networks::names::all(),
        user_networks::joining::all(),
        user_networks::ipv6::all(),
        ports::all(),
        port_load::all(),
        nobody::all(),
        files::all(),
        changes::all(),
        stats::all(),
        takeover::all(),
        imagestore::all(),
        registries::all(),
        bulk::all(),
        kills::all(),
        leaks::all(),
        conflicts::all(),
        health::all(),
        events::all(),
        limits::all(),
        privileges::all(),
        seccomp::all(),
        security::all(),
        selinux::all(),
        posture::all(),
        quotas::all(),
        escapes::all(),
        servers::all(),
        wsl2::all(),
        windows::all(),
    ]
    .concat()
}
