//! Devices by which something leaves the host past every socket: adapters of RDMA, taps of the host's network, and the host's
//! end of VSOCK.
//!
//! Numbers are those of Linux's list of devices (Documentation/admin-guide/devices.txt). To make such a node is denied as
//! well as to open one.

use core::ptr::read_volatile;

use aya_ebpf::programs::DeviceContext;
use portcullis_abi::{Outcome, Site, guard::flag};

use crate::{errors::failed, kernel, maps, tagged};

const ALLOW: i32 = 1;
const DENY: i32 = 0;

/// `BPF_DEVCG_DEV_CHAR`: the kind is in the lower half of the word.
const CHARACTER: u32 = 2;
/// /dev/infiniband/*
const INFINIBAND: u32 = 231;
/// And behind it the device's own number.
const MISC: u32 = 10;
/// /dev/net/tun
const TUN: u32 = 200;
/// /dev/vhost-vsock
const VHOST_VSOCK: u32 = 241;

/// A device is opened, or its node made.
#[inline(always)]
pub fn opened(ctx: &DeviceContext) -> i32 {
    let (access, major, minor) = unsafe {
        (
            read_volatile(&raw const (*ctx.device).access_type),
            read_volatile(&raw const (*ctx.device).major),
            read_volatile(&raw const (*ctx.device).minor),
        )
    };
    let leads_out = access & 0xffff == CHARACTER
        && match (major, minor) {
            (INFINIBAND, _) | (MISC, VHOST_VSOCK) => true,
            // A tap is of the network namespace in which it was opened, and may be its user's already.
            (MISC, TUN) => kernel::is_net_of_host_users() != Some(false),
            _ => false,
        };
    if !leads_out {
        return ALLOW;
    }
    let Some(tagged) = tagged::of_current() else {
        failed(ctx, Site::DeviceUntagged);
        return DENY;
    };
    let flags = match maps::TAGGED.get_ptr(tagged.0) {
        Some(tag) => unsafe { (*tag).flags },
        None => 0,
    };
    if flags & flag::DEVICES != 0 {
        return ALLOW;
    }
    tagged::count(ctx, tagged, Outcome::DeviceDenied);
    DENY
}
