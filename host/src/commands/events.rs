//! `isolazi events`: what happens to containers, volumes and images, wherever
//! they are.
//!
//! ```text
//!  this host's journal (images) ──┐
//!  the engine on this host ───────┼──► past: sorted ──► then whatever comes
//!  the one in the machine ────────┘    in the order of its time
//!    while that runs; it is never started for this
//! ```

mod form;
mod select;
mod sources;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use isolazi_protocol::Happening;
use tokio::sync::mpsc;

use crate::cli::EventsArgs;
use crate::commands::Context;
use crate::{moment, output};
use form::Form;
use select::Selection;

/// What happens in different places within this time is put in order.
const GATHER: Duration = Duration::from_millis(20);

pub(super) async fn events(context: &Context, args: &EventsArgs) -> Result<()> {
    let now = SystemTime::now();
    let moment = |text: &String| moment::parse(text, now);
    let until = args.until.as_ref().map(moment).transpose()?;
    let since = args.since.as_ref().map(moment).transpose()?;
    let show = Show {
        selection: Selection::new(&args.filter)?,
        form: Form::new(args.format.as_deref())?,
        until,
    };
    let left = until.map(|until| left(until, now));
    let follow = left.is_none_or(|left| !left.is_zero());
    let (sender, receiver) = mpsc::unbounded_channel();
    let now = nanos(now);
    let past = sources::open(context, since.unwrap_or(now), now, follow, &sender).await?;
    drop(sender);
    show.print(past)?;
    if !follow {
        return Ok(());
    }
    let over = async {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = show.follow(receiver) => result,
        () = over => Ok(()),
        // Ctrl-C is how one leaves.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// What is shown, and how.
struct Show {
    selection: Selection,
    form: Form,
    until: Option<u64>,
}

impl Show {
    async fn follow(&self, mut receiver: mpsc::UnboundedReceiver<Vec<Happening>>) -> Result<()> {
        while let Some(mut happened) = receiver.recv().await {
            tokio::time::sleep(GATHER).await;
            while let Ok(more) = receiver.try_recv() {
                happened.extend(more);
            }
            self.print(happened)?;
        }
        Ok(())
    }

    fn print(&self, mut happened: Vec<Happening>) -> Result<()> {
        happened.sort_by_key(|it| it.time);
        for happening in &happened {
            let in_time = self.until.is_none_or(|until| happening.time < until);
            if in_time && self.selection.fits(happening) {
                output::result(self.form.line(happening)?);
            }
        }
        Ok(())
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How long it is from now until then.
fn left(then: u64, now: SystemTime) -> Duration {
    Duration::from_nanos(then.saturating_sub(nanos(now)))
}
