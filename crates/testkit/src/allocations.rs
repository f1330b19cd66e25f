//! Counts what one thread allocates, so that a test can say how much a request may.

// An allocator that counts cannot be written without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, and a count. To be the global allocator of a test.
#[derive(Clone, Copy, Debug)]
pub struct CountingAllocator;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Counts what this thread allocates from now on.
pub fn count_allocations_of_this_thread() {
    COUNTED.set(true);
}

/// How many times threads have allocated that are counted: blocks that grew count again.
pub fn allocations() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn count() {
    if COUNTED.get() {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all that it does besides what the system's allocator does is counting, which allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: passed on as it is.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: passed on as it is.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: passed on as it is.
        unsafe { System.dealloc(at, layout) }
    }
}
