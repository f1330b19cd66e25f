//! How much memory encoders in Rust take. That of zstd, which has an allocator of its own, is asked for in the unit tests.
// An allocator that counts cannot be written without.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use ringward_coding::{Algorithm, Encoder, memory_bytes_max};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all that it does besides what the system's allocator does is counting.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on as it is.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test of this process, so that nobody else allocates.
#[test]
fn an_encoder_takes_no_more_memory_than_it_says() {
    let text = include_bytes!("../src/lib.rs");
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let body: Vec<u8> =
        (0..500).flat_map(|_| if random() < 64 { vec![random(); 3000] } else { text.to_vec() }).collect();
    let noise: Vec<u8> = (0..1 << 20).map(|_| random()).collect();
    let mut encoded = Vec::with_capacity(4 << 20);
    for algorithm in [Algorithm::Gzip, Algorithm::Brotli] {
        for (level, body) in algorithm.levels().flat_map(|level| [(level, &body), (level, &noise)]) {
            let before = NOW.load(Ordering::Relaxed);
            MOST.store(before, Ordering::Relaxed);
            let mut encoder = Encoder::new(algorithm, level).unwrap();
            for piece in body.chunks(16 * 1024) {
                encoded.clear();
                encoder.write(piece, &mut encoded).unwrap();
            }
            let bytes = MOST.load(Ordering::Relaxed) - before;
            println!("{algorithm:?} {level}: {bytes} bytes");
            assert!(bytes <= memory_bytes_max(algorithm), "{algorithm:?} {level}: {bytes} bytes");
        }
    }
}
