"""Keep freed memory in the process instead of giving it back to the kernel."""

import ctypes
import platform

M_TRIM_THRESHOLD = -1  # glibc, malloc.h
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to serve every size from its heap and never to shrink it.

    A training step frees and allocates the same megabytes over and over; by default each round
    trip costs a page fault per 4 KiB. Call before the first large tensors are made.

    Returns:
        Whether it was done: not on another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))
