//! Whether this kernel may interrupt programs, and skips their other runs on the same CPU for as long.
//!
//! Both are told from outside, since no program can be asked: what cannot be told is taken for a kernel that does, which is
//! right everywhere and costs a word at most.

use std::{fs, sync::LazyLock};

use nix::sys::utsname::uname;

/// The first version of Linux that may interrupt programs on raw tracepoints.
const TRACEPOINTS: (u32, u32) = (6, 19);
/// Says, to who may read it, how the kernel preempts itself: `none (voluntary) full`.
const PREEMPT: &str = "/sys/kernel/debug/sched/preempt";

/// Whether programs on raw tracepoints are.
pub(super) fn on_tracepoints() -> bool {
    static ARE: LazyLock<bool> = LazyLock::new(|| {
        let release = uname().map(|host| host.release().to_string_lossy().into_owned());
        version(&release.unwrap_or_default()).is_none_or(|version| version >= TRACEPOINTS)
    });
    #[cfg(feature = "testing")]
    if testing::FORCED.load(std::sync::atomic::Ordering::Relaxed) {
        return true;
    }
    *ARE
}

/// Whether programs in front of functions are: wherever a kernel preempts itself, as they run with that on.
pub(super) fn in_front_of_functions() -> bool {
    static ARE: LazyLock<bool> = LazyLock::new(|| {
        let built = uname().map(|host| host.version().to_string_lossy().into_owned());
        let mode = fs::read_to_string(PREEMPT).ok();
        preempts(&built.unwrap_or_default(), mode.as_deref())
    });
    on_tracepoints() || *ARE
}

/// By `uname -v`, which names what can be chosen at boot, and by what was.
fn preempts(built: &str, mode: Option<&str>) -> bool {
    let chosen = mode.and_then(|mode| mode.split_once('(')?.1.split_once(')'));
    match chosen {
        Some((chosen, _)) => !matches!(chosen, "none" | "voluntary"),
        None => built.is_empty() || built.contains("PREEMPT"),
    }
}

/// For tests of what other kernels have.
#[cfg(feature = "testing")]
pub mod testing {
    use std::sync::atomic::AtomicBool;

    /// This process takes its kernel for one that interrupts programs.
    pub static FORCED: AtomicBool = AtomicBool::new(false);
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.5-cloud-amd64"), Some((6, 18)));
        assert_eq!(version("7.3+unreleased"), Some((7, 3)));
        assert_eq!(version("linux"), None);
        assert!(version("6.9.0") < Some(TRACEPOINTS) && version("10.0.1") > Some(TRACEPOINTS));
    }

    #[test]
    fn a_kernel_is_taken_to_preempt_itself_unless_it_says_that_it_does_not() {
        let debian = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)";
        assert!(!preempts(debian, Some("none (voluntary) full\n")));
        assert!(!preempts(debian, Some("(none) voluntary full\n")));
        assert!(preempts(debian, Some("none voluntary (full)\n")));
        assert!(preempts("#1 SMP PREEMPT(lazy)", Some("full (lazy)\n")));
        // Nobody says: it is taken from what the kernel can.
        assert!(preempts(debian, None) && preempts(debian, Some("")) && preempts("", None));
        assert!(preempts("#1 SMP PREEMPT_RT", None));
        assert!(!preempts("#1 SMP Debian 5.15.1-1", None));
    }
}
