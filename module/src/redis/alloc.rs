//! The server's allocator, so that `used_memory`, `maxmemory` and `MEMORY DOCTOR` count what the module holds.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use redis_module::raw;

/// What every allocator of a server aligns to, when the size is a multiple of it. Redis builds jemalloc with size
/// classes of 8, 24, 40 and 56 bytes, which are aligned to 8 only.
const MALLOC_ALIGN: usize = 16;

/// The size to ask for, so that the address has the alignment.
fn padded(size: usize, align: usize) -> usize {
    size.next_multiple_of(align)
}

/// Allocates through the server. Aborts when used before the module API is there, which `OnLoad` rules out.
pub struct ServerAlloc;

impl ServerAlloc {
    fn allocate(size: usize) -> *mut u8 {
        // SAFETY: the pointer was set by RedisModule_Init and is never changed after.
        match unsafe { raw::RedisModule_Alloc } {
            // SAFETY: a plain allocation; the server never returns null (it aborts when out of memory).
            Some(alloc) => unsafe { alloc(size).cast() },
            None => std::process::abort(),
        }
    }

    fn free(pointer: *mut u8) {
        // SAFETY: as above.
        if let Some(free) = unsafe { raw::RedisModule_Free } {
            // SAFETY: `pointer` came from RedisModule_Alloc or RedisModule_Realloc.
            unsafe { free(pointer.cast::<c_void>()) }
        }
    }
}

// SAFETY: sizes and alignments are those asked for: the server's malloc aligns to 8, more is arranged by over-allocating.
unsafe impl GlobalAlloc for ServerAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            return Self::allocate(padded(layout.size(), layout.align()));
        }
        let start = Self::allocate(layout.size() + layout.align());
        // At least MALLOC_ALIGN bytes lie before the aligned address: room for the address to free.
        let offset = layout.align() - (start.addr() & (layout.align() - 1));
        // SAFETY: MALLOC_ALIGN <= offset <= align, so both writes stay in the allocation.
        unsafe {
            let aligned = start.add(offset);
            aligned.cast::<*mut u8>().sub(1).write(start);
            aligned
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.align() <= MALLOC_ALIGN {
            return Self::free(pointer);
        }
        // SAFETY: `alloc` wrote the start of the allocation there.
        Self::free(unsafe { pointer.cast::<*mut u8>().sub(1).read() });
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: `pointer` is a plain allocation of the server.
            if let Some(realloc) = unsafe { raw::RedisModule_Realloc } {
                // SAFETY: as above.
                return unsafe { realloc(pointer.cast(), padded(new_size, layout.align())).cast() };
            }
        }
        // SAFETY: the caller's contract is that of GlobalAlloc::realloc: a valid layout and new size.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            std::ptr::copy_nonoverlapping(pointer, new, layout.size().min(new_size));
            self.dealloc(pointer, layout);
            new
        }
    }
}
