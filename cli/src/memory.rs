//! The allocator: if memory runs out, the program prints one line and exits with the code for errors of the machine. The standard
//! library would print several lines and abort.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::exit_codes::USAGE_OR_SYSTEM_ERROR;

#[global_allocator]
static ALLOCATOR: ExitingAllocator = ExitingAllocator;

/// The system's allocator, except that it ends the program if memory runs out.
struct ExitingAllocator;

// SAFETY: every call passes its arguments to the system's allocator and returns its result.
#[allow(
    unsafe_code,
    reason = "`GlobalAlloc` has no safe form, and `std::alloc::set_alloc_error_hook` is not stable"
)]
unsafe impl GlobalAlloc for ExitingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `GlobalAlloc::dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::alloc_zeroed`'s contract.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps `GlobalAlloc::realloc`'s contract.
        checked(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

/// Ends the program if the system has no memory. Also ends callers of [`Vec::try_reserve`], which would otherwise return an error.
#[inline]
fn checked(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        end(size);
    }
    pointer
}

/// Prints the line without allocating. Only the first thread prints it.
#[cold]
fn end(size: usize) -> ! {
    static ENDS: AtomicBool = AtomicBool::new(false);
    if !ENDS.swap(true, Ordering::Relaxed) {
        let mut line = [0; 80];
        let mut rest = &mut line[..];
        let _ = writeln!(rest, "error: cannot allocate {size} bytes: out of memory");
        let unused = rest.len();
        // If standard error is closed, only the exit code reports the error.
        let _ = rustix::io::write(rustix::stdio::stderr(), &line[..80 - unused]);
        signal_hook::low_level::exit(USAGE_OR_SYSTEM_ERROR.into());
    }
    // Another thread ends the process.
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
