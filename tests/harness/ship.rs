//! Shipping to a directory, without a daemon.

use std::{path::Path, time::Duration};

use anyhow::Result;
use portcullis::{
    clock::Clock,
    config::ship::{Common, Directory, Events, Ship, ShipTo},
    credential::Credentials,
    ledger::Ledger,
    ship::{Context, Shipping, Times},
};

/// Ships the segments of a ledger to a directory, which must be there, and looks for new ones all the time.
///
/// # Errors
/// When no threads can be had.
pub fn to_directory(data_dir: &Path, ledger: &Ledger, to: &Path) -> Result<Shipping> {
    let sink = Ship {
        name: "copy".into(),
        common: Common::default(),
        events: Events::default(),
        to: ShipTo::Directory(Directory {
            path: to.into(),
            mode: "0440".into(),
            uid: None,
            gid: None,
        }),
    };
    let context = Context {
        host: "crash".into(),
        credentials: Credentials::default(),
        clock: Clock::System,
    };
    let times = Times {
        poll: Duration::from_millis(2),
        retry: Duration::from_millis(5),
        save: Duration::from_millis(5),
        ..Times::default()
    };
    Ok(Shipping::start_with(data_dir, ledger, context, &[sink], times)?)
}
