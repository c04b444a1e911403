//! The allocator: where memory runs out, the program prints one line and ends with the exit code of the machine's errors. The
//! standard library would print several lines and abort.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::exit_codes::MACHINES;

#[global_allocator]
static ALLOCATOR: Told = Told;

/// The system's allocator.
struct Told;

// SAFETY: every call is passed on to the system's allocator with the arguments as they are, and its result is returned as it is.
#[allow(
    unsafe_code,
    reason = "`GlobalAlloc` has no safe form, and `std::alloc::set_alloc_error_hook` is not stable"
)]
unsafe impl GlobalAlloc for Told {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract.
        there(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `GlobalAlloc::dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::alloc_zeroed`'s contract.
        there(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::realloc`'s contract.
        there(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

/// Ends the program where the system has no memory. This includes callers of [`Vec::try_reserve`], which would end with an
/// error, too.
#[inline]
fn there(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        end(size);
    }
    pointer
}

/// Prints the line, from one thread alone, without allocating.
#[cold]
fn end(size: usize) -> ! {
    static ENDS: AtomicBool = AtomicBool::new(false);
    if !ENDS.swap(true, Ordering::Relaxed) {
        let mut line = [0; 80];
        let mut rest = &mut line[..];
        let _ = writeln!(rest, "error: cannot allocate {size} bytes: out of memory");
        let unused = rest.len();
        // If standard error is closed, the exit code remains.
        let _ = rustix::io::write(rustix::stdio::stderr(), &line[..80 - unused]);
        signal_hook::low_level::exit(MACHINES.into());
    }
    // Another thread ends the process.
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
