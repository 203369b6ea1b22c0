//! `isolazi top`: what ps would say of a container's processes.

use anyhow::{Result, bail};
use isolazi_protocol::{Reply, Request};

use crate::cli::TopArgs;
use crate::commands::Context;
use crate::output::{self, Table};
use crate::processes::{Column, Columns, Moment};

pub(super) async fn top(context: &Context, args: &TopArgs) -> Result<()> {
    let columns = Columns::parse(&args.options)?;
    let request = Request::Processes {
        container: args.container.clone(),
    };
    let engine = context.engine_of(&args.container).await?;
    let Reply::Processes(processes) = engine.ask(&request).await? else {
        bail!("the agent did not list the container's processes");
    };
    let heads: Vec<&str> = columns.0.iter().map(Column::head).collect();
    let mut table = Table::new(&heads);
    let now = Moment::now();
    for process in &processes {
        table.row(columns.0.iter().map(|column| column.cell(process, &now)));
    }
    output::result(table.render());
    Ok(())
}
