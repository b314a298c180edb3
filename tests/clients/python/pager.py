"""Runs a command at a terminal of 24 lines as somebody does who reads it by a pager, and prints what was seen.

usage: pager.py KEYS COMMAND...

Each of KEYS is typed once the terminal has been silent for a while. What is printed: how the command ended, in how many seconds, then all that it wrote.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

keys, command = list(sys.argv[1]), sys.argv[2:]
child, fd = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execvpe(command[0], command, os.environ | {"TERM": "xterm"})
began, written = time.monotonic(), b""
while time.monotonic() - began < 60:
    if select.select([fd], [], [], 1.5)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        written += data
    elif keys:
        os.write(fd, keys.pop(0).encode())
_, status = os.waitpid(child, 0)
print("ended with", os.waitstatus_to_exitcode(status), "in", round(time.monotonic() - began), "seconds")
print(written.decode(errors="replace"))
