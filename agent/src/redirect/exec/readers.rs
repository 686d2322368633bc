//! Who reads the files of workloads: threads that may wait for ever.
//!
//! What a path leads to, a workload may serve itself (FUSE), and then it answers when it likes; so may a server of the
//! network that is gone. Such a wait cannot be broken off, not even by SIGKILL, before the server answers or ends. So each
//! read has a time within which somebody waits for it, a workload has but a few readers at once, and these have none of the
//! agent's descriptors: one that waits keeps no port, lock or connection of an agent that has ended.
//!
//! For the same reason a reader wakes nobody itself, which takes a descriptor of the runtime: it leaves its answer in a
//! queue, and writes a byte to the task that hands over what is there.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicIsize, AtomicU8, Ordering},
        mpsc,
    },
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{model::CgroupId, redirect::sys};

/// Reads of one workload at once. Each one that waits for ever takes one of them.
const AT_ONCE: usize = 8;
/// After this long a read is a late one, and whoever waits for it no longer has others wait.
const LATE: Duration = Duration::from_millis(50);
/// Late reads of one workload that somebody waits for: as many programs as a build may start at once on a slow disk.
const MOST_LATE: usize = 1024;
/// Threads that stay for the next read.
const KEPT: usize = AT_ONCE;
/// Workloads that are remembered without a read.
const WORKLOADS: usize = 1024;

/// Nothing was read: it took too long, or too much of the workload waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread;

/// Done by the runtime, which it may wake.
type Answer = Box<dyn FnOnce() + Send>;
/// Done by a reader.
type Job = Box<dyn FnOnce() -> Answer + Send>;

/// Work for an idle reader, and how it is found again: it has no way to itself, so that it ends when all others have lost it.
struct Work {
    job: Job,
    back: mpsc::Sender<Work>,
}

/// The readers of all workloads.
pub(super) struct Readers {
    pool: Arc<Pool>,
    workloads: Mutex<HashMap<CgroupId, Arc<Workload>>>,
    answers: tokio::task::JoinHandle<()>,
}

/// Threads that wait for work, and one that makes more of them.
struct Pool {
    idle: Mutex<Vec<mpsc::Sender<Work>>>,
    maker: mpsc::Sender<Job>,
}

/// How readers answer. Its descriptor is of their table.
struct Answers {
    queue: Arc<Mutex<Vec<Answer>>>,
    bell: UnixStream,
}

struct Workload {
    readers: Arc<Semaphore>,
    late: Arc<Semaphore>,
    /// Readers for whom nobody waits any more.
    stuck: AtomicIsize,
}

const RUNS: u8 = 0;
const GIVEN_UP: u8 = 1;
const DONE: u8 = 2;

/// One read, as its reader has it. Only the runtime may drop it, as others may wait for its place.
struct Read {
    of: Arc<Workload>,
    state: Arc<AtomicU8>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Read {
    fn drop(&mut self) {
        if self.state.swap(DONE, Ordering::AcqRel) == GIVEN_UP {
            self.of.stuck.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// One read, as he has it who waits for it.
struct Waits<'a> {
    of: &'a Workload,
    state: Arc<AtomicU8>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.state.swap(GIVEN_UP, Ordering::AcqRel) == RUNS {
            self.of.stuck.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readers {
    /// Within a runtime, which hands over the answers for as long as this lives.
    ///
    /// # Errors
    /// When there is no thread or no socket for them.
    pub(super) fn new() -> io::Result<Self> {
        let (bell, rung) = UnixStream::pair()?;
        rung.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let rung = tokio::net::UnixStream::from_std(rung)?;
        let queue = Arc::new(Mutex::new(Vec::new()));
        let (maker, made) = mpsc::channel();
        let pool = Arc::new(Pool {
            idle: Mutex::default(),
            maker,
        });
        let bell = Arc::new(bell);
        let (apart, is_apart) = mpsc::channel();
        let (theirs, ours) = (Arc::clone(&bell), Arc::clone(&queue));
        let weak = Arc::downgrade(&pool);
        std::thread::Builder::new()
            .name("readers".into())
            .spawn(move || {
                let own = table(&theirs);
                drop(theirs);
                match own {
                    Ok(bell) if apart.send(Ok(())).is_ok() => {
                        make(&made, &weak, &Arc::new(Answers { queue, bell }));
                    }
                    Ok(_) => {}
                    // Whoever made it waits for this.
                    Err(error) => drop(apart.send(Err(error))),
                }
            })?;
        is_apart.recv().map_err(io::Error::other)??;
        Ok(Self {
            pool,
            workloads: Mutex::default(),
            answers: tokio::spawn(hand_over(rung, ours)),
        })
    }

    /// Has a reader do `work`, and waits for it at most `within`. `late` is called once that takes longer than a moment.
    /// Neither `work` nor what comes of it may own a descriptor: it would be closed where it is another one's.
    ///
    /// # Errors
    /// [`Unread`], also at once where all of the workload's readers wait for what does not come, or too many wait for them.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        tagged: CgroupId,
        within: Duration,
        late: impl FnOnce(),
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unread> {
        let workload = self.workload(tagged);
        if usize::try_from(workload.stuck.load(Ordering::Acquire)).is_ok_and(|stuck| stuck >= AT_ONCE) {
            return Err(Unread);
        }
        let read = tokio::time::timeout(within, self.wait(&workload, work));
        tokio::pin!(read);
        let _one_of_the_late = tokio::select! {
            biased;
            found = &mut read => return found.unwrap_or(Err(Unread)),
            () = tokio::time::sleep(LATE) => Arc::clone(&workload.late).try_acquire_owned().map_err(|_| Unread)?,
        };
        late();
        read.await.unwrap_or(Err(Unread))
    }

    async fn wait<T: Send + 'static>(
        &self,
        workload: &Arc<Workload>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unread> {
        let place = Arc::clone(&workload.readers).acquire_owned().await;
        let state = Arc::new(AtomicU8::new(RUNS));
        let read = Read {
            of: Arc::clone(workload),
            state: Arc::clone(&state),
            _place: place.map_err(|_| Unread)?,
        };
        let (tell, told) = oneshot::channel();
        let waits = Waits { of: workload, state };
        self.pool.start(Box::new(move || {
            let found = catch_unwind(AssertUnwindSafe(work));
            Box::new(move || {
                drop(read);
                if let Ok(found) = found {
                    // Nobody may wait any more.
                    let _nobody = tell.send(found);
                }
            })
        }));
        let found = told.await.map_err(|_| Unread);
        drop(waits);
        found
    }

    fn workload(&self, tagged: CgroupId) -> Arc<Workload> {
        let mut workloads = lock(&self.workloads);
        if workloads.len() >= WORKLOADS {
            workloads.retain(|_, workload| Arc::strong_count(workload) > 1);
        }
        let workload = workloads.entry(tagged).or_insert_with(|| {
            Arc::new(Workload {
                readers: Arc::new(Semaphore::new(AT_ONCE)),
                late: Arc::new(Semaphore::new(MOST_LATE)),
                stuck: AtomicIsize::new(0),
            })
        });
        Arc::clone(workload)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

impl Pool {
    fn start(&self, job: Job) {
        let idle = lock(&self.idle).pop();
        let refused = match idle {
            Some(reader) => {
                let back = reader.clone();
                reader
                    .send(Work { job, back })
                    .err()
                    .map(|mpsc::SendError(work)| work.job)
            }
            None => Some(job),
        };
        if let Some(job) = refused {
            // It lives for as long as this does. Were it gone, whoever waits would be told so by the loss of the job.
            let _gone = self.maker.send(job);
        }
    }
}

impl Answers {
    fn leave(&self, answer: Answer) {
        lock(&self.queue).push(answer);
        // Full, it rings already; and where nobody hears it, the agent has ended.
        let _rings = (&self.bell).write(&[1]);
    }
}

/// Gives the calling thread, and those that it makes, a table of descriptors with nothing in it but this one.
fn table(bell: &UnixStream) -> io::Result<UnixStream> {
    unshare(CloneFlags::CLONE_FILES)?;
    let own = bell.try_clone()?;
    sys::process::keep_only(&own)?;
    // Where a panic would be told, no file of a workload may be.
    for _ in 0..3 {
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        let _stays_open = std::os::fd::IntoRawFd::into_raw_fd(null);
    }
    Ok(own)
}

/// Makes readers, until the agent's side is gone.
fn make(jobs: &mpsc::Receiver<Job>, pool: &Weak<Pool>, answers: &Arc<Answers>) {
    while let Ok(job) = jobs.recv() {
        let job = Arc::new(Mutex::new(Some(job)));
        let (first, pool, own) = (Arc::clone(&job), Weak::clone(pool), Arc::clone(answers));
        let reader = std::thread::Builder::new()
            .name("reader".into())
            .stack_size(512 * 1024)
            .spawn(move || {
                let first = lock(&first).take();
                if let Some(first) = first {
                    serve(first, &pool, &own);
                }
            });
        if let Err(error) = reader {
            let lost = lock(&job).take();
            answers.leave(Box::new(move || {
                tracing::error!(%error, "a file that a workload executes cannot be read");
                drop(lost);
            }));
        }
    }
}

/// A reader's life: it is idle again before it answers, so that who asks at once finds it.
fn serve(first: Job, pool: &Weak<Pool>, answers: &Answers) {
    let (back, works) = mpsc::channel();
    let mut work = Work { job: first, back };
    loop {
        let Work { job, back } = work;
        let answer = job();
        if let Some(pool) = pool.upgrade() {
            let mut idle = lock(&pool.idle);
            if idle.len() < KEPT {
                idle.push(back);
            }
        }
        answers.leave(answer);
        let Ok(next) = works.recv() else { return };
        work = next;
    }
}

/// Hands over what readers have left.
async fn hand_over(bell: tokio::net::UnixStream, queue: Arc<Mutex<Vec<Answer>>>) {
    let mut rung = [0; 1024];
    loop {
        if bell.readable().await.is_err() {
            return;
        }
        match bell.try_read(&mut rung) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
        for answer in std::mem::take(&mut *lock(&queue)) {
            answer();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(60);

    /// Waits for a byte that nobody writes until the other end is gone.
    fn waiting() -> (
        impl FnOnce() -> usize + Send + 'static,
        (io::PipeReader, io::PipeWriter),
    ) {
        let (read, write) = io::pipe().unwrap();
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(&read)
        );
        let work = move || {
            // By the time that a reader is free, nobody may have it any more.
            let Ok(mut file) = std::fs::File::open(path) else {
                return 0;
            };
            io::Read::read(&mut file, &mut [0]).unwrap()
        };
        (work, (read, write))
    }

    #[tokio::test]
    async fn what_is_read_comes_back_from_threads_that_are_used_again() {
        let readers = Readers::new().unwrap();
        let mut by = std::collections::HashSet::new();
        for n in 0..100 {
            let work = move || (n, std::thread::current().id());
            let (found, thread) = readers.read(CgroupId(1), LONG, || {}, work).await.unwrap();
            assert_eq!(found, n);
            by.insert(thread);
        }
        assert!(by.len() <= KEPT, "{} threads for 100 reads", by.len());
        let lost = readers.read(CgroupId(1), LONG, || {}, || panic!("in a reader"));
        assert_eq!(lost.await.map(|()| 0), Err(Unread));
    }

    #[tokio::test]
    async fn a_reader_has_none_of_the_agents_descriptors() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let readers = Readers::new().unwrap();
        let open = || {
            let all = std::fs::read_dir("/proc/thread-self/fd").unwrap();
            let links = all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
            links
                .map(|link| link.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let own = open();
        let theirs = readers.read(CgroupId(1), LONG, || {}, open).await.unwrap();
        let sockets = |of: &[String]| of.iter().filter(|link| link.starts_with("socket:")).count();
        assert!(sockets(&own) > 1 && own.len() > theirs.len());
        // The one that they answer by, the files of the answer, and nothing.
        assert_eq!(sockets(&theirs), 1, "{theirs:?}");
        let others = theirs
            .iter()
            .filter(|l| !l.starts_with("socket:") && *l != "/dev/null");
        assert!(
            others.clone().all(|link| link.starts_with("/proc/")),
            "{theirs:?}"
        );
        // And the agent has all that it had.
        assert!(listener.local_addr().is_ok());
        assert!(std::net::TcpStream::connect(listener.local_addr().unwrap()).is_ok());
    }

    #[tokio::test]
    async fn those_who_wait_for_ever_are_few_and_hold_up_nobody_else() {
        let readers = Readers::new().unwrap();
        let (hostile, other) = (CgroupId(1), CgroupId(2));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            let (work, end) = waiting();
            held.push(end);
            let late = std::cell::Cell::new(false);
            let read = readers.read(hostile, SOON, || late.set(true), work);
            assert_eq!(read.await, Err(Unread));
            assert!(late.get(), "others waited for it");
            assert_eq!(readers.read(other, LONG, || {}, || 7).await, Ok(7));
        }
        // Nothing is tried any more, and nobody waits for it.
        let start = std::time::Instant::now();
        assert_eq!(readers.read(hostile, LONG, || {}, || 7).await, Err(Unread));
        assert!(start.elapsed() < LONG / 2);
        assert_eq!(readers.read(other, LONG, || {}, || 7).await, Ok(7));
        // Whoever serves the file has ended.
        drop(held);
        while readers.read(hostile, LONG, || {}, || 7).await != Ok(7) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn those_who_wait_for_a_reader_are_bounded() {
        let readers = Readers::new().unwrap();
        let (work, end): (Vec<_>, Vec<_>) = (0..AT_ONCE + MOST_LATE + 5).map(|_| waiting()).unzip();
        let reads = work
            .into_iter()
            .map(|work| readers.read(CgroupId(1), LONG, || {}, work));
        let mut reads = reads
            .map(Box::pin)
            .collect::<futures_util::stream::FuturesUnordered<_>>();
        // Those that are too many are told so, as soon as they are late; the others go on waiting.
        let mut refused = 0;
        while refused < AT_ONCE + 5 {
            assert_eq!(futures_util::StreamExt::next(&mut reads).await, Some(Err(Unread)));
            refused += 1;
        }
        assert_eq!(reads.len(), MOST_LATE);
        drop(end);
        while let Some(read) = futures_util::StreamExt::next(&mut reads).await {
            assert_eq!(read, Ok(0));
        }
    }

    #[test]
    fn who_waits_for_ever_does_not_hold_up_the_end_of_a_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (work, end) = waiting();
        runtime.block_on(async {
            let readers = Readers::new().unwrap();
            assert_eq!(readers.read(CgroupId(1), SOON, || {}, work).await, Err(Unread));
        });
        drop(runtime);
        drop(end);
    }
}
