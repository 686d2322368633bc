//! Failures: each is counted by its site, and logged where the agent asks for debug lines.

use aya_ebpf::EbpfContext;
use portcullis_abi::Site;

use crate::maps;

/// Counts a failure.
///
/// The log line costs nothing unless it is wanted: the level is a constant of the loaded program, so that the verifier
/// removes the branch.
#[inline(always)]
pub fn failed<C: EbpfContext>(ctx: &C, site: Site) {
    if let Some(counter) = maps::ERRORS.get_ptr_mut(site as u32) {
        unsafe { maps::increment(counter) };
    }
    aya_log_ebpf::debug!(ctx, "failed at site {}", site as u32);
}
