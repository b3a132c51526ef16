"""What the process should do with memory and cores: several times the training speed, for nothing.

Memory: the C library of most Linux systems returns every large tensor to the kernel and asks for it again a moment
later; each page is then cleared anew. Two numbers stop that, and training takes half the time.

Cores: threads that wait for one another spin. As soon as another program wants a core, a network of two threads on
two cores runs at a fifth of its speed; threads that sleep while waiting lose next to nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the allocator not to give freed memory back; say whether it listened (False off Linux and glibc)."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # Never map blocks one by one, and never trim the heap: the same as the environment variables
    # MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_, but without starting the process again. One heap for all
    # threads: what a thread has for its own holds 64 MB, and anything larger would be mapped after all.
    wishes = ((_M_MMAP_THRESHOLD, _LARGEST), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_ARENA_MAX, 1))
    return all(library.mallopt(which, value) == 1 for which, value in wishes)


def wait_asleep() -> None:
    """Let threads of PyTorch sleep while they wait. Call it before PyTorch is imported; a user's own choice stays."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
