//! How memory that was given back is kept for the next step.

/// Keeps memory that is given back within the process, and takes it from one pool.
///
/// A step of training asks for the same few gigabytes as the one before, in blocks of megabytes. glibc gives such blocks back
/// to the system as soon as they are free, and the next step pays for every page again: a fifth of the time of a step, and
/// more, goes into that. To be called before the first thread is started. Of other allocators nothing is known, and nothing
/// done.
pub fn keep_for_reuse() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // No block has a map of its own, the end of the heap is not given back below this size, and threads share one heap: that
        // of a thread of its own is not larger than 64 MiB, behind which blocks have maps of their own again.
        let settings =
            [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_ARENA_MAX, 1)];
        for (parameter, value) in settings {
            // SAFETY: `mallopt` takes two numbers by value and changes how later blocks are taken, not those there are. No other
            // thread runs yet that it could race with.
            #[allow(unsafe_code)]
            // What is refused leaves everything as it was.
            let _ = unsafe { libc::mallopt(parameter, value) };
        }
    }
}
