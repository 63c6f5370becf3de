//! Decoding never takes more memory than a bounded multiple of what a client has sent, whatever it claims.
//!
//! In a binary of its own, because it counts what the allocator hands out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::{BufMut, Bytes, BytesMut};
use waybill_gateway::frame::RequestHeader;
use waybill_gateway::request::{ELEMENTS_MAX, Request};
use waybill_gateway::versions::{self, Api};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// Only counts; every call is passed on.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tree nodes of tagged fields, and text of errors.
const CONSTANT_BYTES: usize = 512 * 1024;

/// The leanest struct on the wire against its size in memory.
const RATIO_MAX: usize = 64;

/// How much memory decoding takes at its worst moment.
fn cost(api: Api, api_version: i16, body: Bytes) -> (usize, bool) {
    let header = RequestHeader { api_key: api.key(), api_version, correlation_id: 0, client_id: None };
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let decoded = Request::decode(&header, body);
    (PEAK.load(Relaxed) - before, decoded.is_ok())
}

fn roll(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Bytes that are often lengths: small ones, nulls, huge ones.
fn hostile(state: &mut u64) -> Bytes {
    let length = roll(state) % 300;
    let mut bytes = BytesMut::new();
    for _ in 0..length {
        match roll(state) % 8 {
            0..4 => bytes.put_u8((roll(state) % 4) as u8),
            4 => bytes.put_u8(0xff),
            5 => bytes.put_u8(0x7f),
            _ => bytes.put_u8(roll(state) as u8),
        }
    }
    bytes.freeze()
}

#[test]
fn memory_follows_what_was_sent_and_not_what_was_claimed() {
    let mut state = 1;
    let mut decoded = 0;
    for row in versions::TABLE {
        for version in row.min..=row.max {
            for _ in 0..2_000 {
                let body = hostile(&mut state);
                let length = body.len();
                let (bytes, whole) = cost(row.api, version, body);
                assert!(bytes <= CONSTANT_BYTES + RATIO_MAX * length, "{row:?} {version}: {bytes} for {length}");
                decoded += usize::from(whole);
            }
        }
    }
    assert!(decoded > 100, "{decoded} bodies made sense by chance: the others prove nothing without them");

    // The dearest request that passes: as many topics as are allowed, each as lean as can be.
    let mut body = BytesMut::new();
    body.put_slice(&[0xc1, 0x9a, 0x0c]);
    (0..ELEMENTS_MAX).for_each(|_| body.put_slice(&[2, b't', 0]));
    body.put_slice(&[1, 0, 0, 0]);
    let length = body.len();
    let (bytes, whole) = cost(Api::Metadata, 9, body.freeze());
    assert!(whole);
    assert!(bytes <= CONSTANT_BYTES + RATIO_MAX * length, "{bytes} for {length}");
}
