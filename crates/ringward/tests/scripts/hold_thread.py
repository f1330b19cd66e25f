"""Makes one thread of another process stand still for as long as this one lives: hold_thread.py TID.

Says `held` when it does, or `not allowed` when the machine forbids it. The kernel lets the thread go on when this process ends.
"""

import ctypes
import errno
import os
import sys

# ptrace(2)
SEIZE, INTERRUPT = 0x4206, 0x4207
# waitpid(2)
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) == -1:
        error = ctypes.get_errno()
        if error == errno.EPERM:
            print("not allowed", flush=True)
            sys.exit(0)
        raise OSError(error, os.strerror(error))


thread = int(sys.argv[1])
ptrace(SEIZE, thread)
ptrace(INTERRUPT, thread)
os.waitpid(thread, WALL)
print("held", flush=True)
while True:
    os.waitpid(thread, WALL)
