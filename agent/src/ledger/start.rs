//! Opening: directory, lock, key, database, what the last run left to say, threads.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64},
    },
    thread,
};

use super::{
    LedgerError, Options, Threads,
    checkpoint::Checkpoint,
    keys::{self, Keys},
    note::HostKey,
    parts::parts,
    place,
    queue::{Item, Queue, Record},
    record,
    sealer::Sealer,
    segment::Segmenter,
    shared::{Head, LivePart, Shared, Trouble},
    state::{Before, StateFile},
    store::Store,
    succession::open_checkpoint,
    writer::Writer,
};
use crate::{config::Durability, model::Reason};

pub(super) fn start(dir: &Path, options: Options) -> Result<(Arc<Shared>, Threads), LedgerError> {
    make_dir(dir).map_err(|e| LedgerError::file(dir, &e))?;
    let (state, before) = StateFile::open(&dir.join("ledger.state"))?;
    let key = keys::load(dir, &options.host, !parts(dir)?.is_empty())?;
    let power = options.durability == Durability::Power;
    let place::Found { mut store, ended } = place::find(dir, power)?;
    if store.tree.size() < before.size {
        return Err(LedgerError::RolledBack {
            size: store.tree.size(),
            was: before.size,
        });
    }
    // A key's files follow what the ledger says of it. What the last run said may be no further than the page cache, and
    // must not be lost when the files have followed.
    store.sync().map_err(|e| LedgerError::file(&store.path, &e))?;
    let key = store.settle_key(dir, key)?;
    keys::publish(dir, &key)?;
    store.put_key(&key.verifier().to_string())?;
    first_records(&mut store, &key, &before, &options)?;
    // What the state says is durable must be, in mode `process` as well.
    store.sync().map_err(|e| LedgerError::file(&store.path, &e))?;
    state
        .write(false, &record::Losses::default(), store.tree.size())
        .map_err(|e| LedgerError::file(dir, &e))?;
    let sealed = store.last_checkpoint()?.map_or(0, |(size, _)| size);
    let now = options.clock.now_ns();
    let part = LivePart {
        path: store.path.clone(),
        number: store.number,
        first: store.first,
        since_ns: store.began_ns()?.unwrap_or(now),
    };
    let shared = Arc::new(Shared {
        queue: Queue::new(options.queue_bytes, options.queue_records),
        keys: Keys::new(key),
        clock: options.clock,
        dir: dir.into(),
        part_bytes: AtomicU64::new(fs::metadata(&store.path).map_or(0, |m| m.len())),
        part: Mutex::new(part),
        segment_bytes: options.segment_bytes,
        state,
        power,
        failed: AtomicBool::new(false),
        limit: AtomicU8::new(0),
        lossy: AtomicBool::new(false),
        trouble: Mutex::new(Trouble::default()),
        head: Mutex::new(Head {
            tree: store.tree.clone(),
            sealed,
            sealed_at_ns: if sealed == 0 { 0 } else { now },
        }),
        wal_bytes: AtomicU64::new(0),
        sealer: OnceLock::new(),
        segmenter: OnceLock::new(),
        unsealed: Mutex::default(),
        sealer_idle: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        custody: AtomicU64::new(0),
        checkpoint_every: options.checkpoint_every.max(1),
    });
    let asked = Arc::default();
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let built = thread::Builder::new().name(name.into()).spawn(work);
        built.map_err(|e| LedgerError::file(dir, &e))
    };
    let sealer = Sealer::new(shared.clone(), options.checkpoint_after)?;
    let sealer = spawn("ledger-sealer", Box::new(move || sealer.run()))?;
    // Set once, here, as below.
    let _ = shared.sealer.set(sealer.thread().clone());
    let segmenter = Segmenter::new(shared.clone(), options.segment_age, ended, Arc::clone(&asked));
    let writer = Writer::new(shared.clone(), store);
    let writer = spawn("ledger-writer", Box::new(move || writer.run()))?;
    let segmenter = spawn("ledger-segments", Box::new(move || segmenter.run()))?;
    let _ = shared.segmenter.set(segmenter.thread().clone());
    let threads = Threads {
        writer,
        sealer,
        segmenter,
        asked,
    };
    Ok((shared, threads))
}

/// Makes the data directory, so that its name is durable as well: without it nothing in it would be.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    let there = dir.ancestors().find(|d| d.exists()).map(Path::to_path_buf);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // An earlier start may have ended before it came to this; so the one right above is synced each time.
    let made = dir
        .ancestors()
        .skip(1)
        .take_while(|d| Some(*d) != there.as_deref());
    for above in dir.parent().into_iter().chain(made).chain(there.as_deref()) {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        fs::File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// What the last run left to say, and a checkpoint over everything that is there.
fn first_records(
    store: &mut Store,
    key: &HostKey,
    before: &Before,
    options: &Options,
) -> Result<(), LedgerError> {
    let now = options.clock.now_ns();
    let mut items = Vec::new();
    let mut put = |record| items.push(Item { record, permits: 0 });
    if !before.clean && (store.tree.size() > 0 || before.ran) {
        put(Record::Entry(record::recovered(now, store.tree.size())));
    }
    if !before.losses.is_empty() {
        let gap = record::gap(
            now,
            &before.losses,
            Reason::Interrupted,
            Some("the agent ended before it could record it"),
        );
        put(Record::Entry(gap));
    }
    let write = |store: &mut Store, items: &[Item]| {
        store.write(items).map_err(|e| LedgerError::Unavailable {
            why: e.to_string().into(),
        })
    };
    if !items.is_empty() {
        write(store, &items)?;
    }
    let (size, root) = (store.tree.size(), store.tree.root());
    if let Some((sealed, note)) = store.last_checkpoint()? {
        // The cached tree must not go on from something that was not signed.
        let opened = open_checkpoint(key.verifier(), &store.successions()?, &note);
        let wrong = match &opened {
            Ok(checkpoint) => sealed > size || (sealed == size && checkpoint.root != root),
            Err(_) => true,
        };
        if wrong {
            let why = "the entries are not those of the last checkpoint; run verify";
            return Err(LedgerError::Database { why: why.into() });
        }
        if sealed == size {
            return Ok(());
        }
    }
    if size == 0 {
        return Ok(());
    }
    let note = Checkpoint::sign(key, size, &root);
    let record = Record::Checkpoint {
        size,
        note,
        nodes: store.tree.to_bytes(),
    };
    write(store, &[Item { record, permits: 0 }])
}
