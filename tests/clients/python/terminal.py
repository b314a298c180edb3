"""Uses a cluster by k9s as somebody at a terminal does, and prints what was on its screen.

usage: terminal.py K9S KUBECONFIG NAMESPACE HOME

The namespace has a pod `web`. kubectl is on the PATH: k9s opens shells by it.
"""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

import pyte

ROWS, COLUMNS = 40, 150


class Terminal:
    def __init__(self, command, environment):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        # What was on the screen since it was last waited for: what shows for a moment is seen, however much comes at once.
        self.shown = ""
        self.stream = pyte.ByteStream(self.screen)
        self.child, self.fd = pty.fork()
        if self.child == 0:
            os.execvpe(command[0], command, environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return False
            for begin in range(0, len(data), 512):
                self.stream.feed(data[begin : begin + 512])
                self.shown += self.text() + "\n"
        return True

    def look(self, pattern, seconds):
        """The screen once it shows something; none when it does not."""
        end = time.monotonic() + seconds
        self.shown = ""
        while time.monotonic() < end:
            alive = self.read(0.1)
            if found := re.search(pattern, self.shown + self.text(), re.MULTILINE):
                return found
            self.shown = ""
            if not alive:
                break
        return None

    def wait(self, pattern, seconds=60):
        """The same, for what must be there."""
        if found := self.look(pattern, seconds):
            return found
        sys.exit(f"{pattern!r} was not on the screen:\n{self.text()}")

    def type(self, keys):
        os.write(self.fd, keys.encode())
        time.sleep(0.3)


k9s, kubeconfig, namespace, home = sys.argv[1:]
environment = os.environ | {"TERM": "xterm-256color", "HOME": home, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home, "XDG_DATA_HOME": home, "KUBECONFIG": kubeconfig}
at = Terminal([k9s, "--kubeconfig", kubeconfig, "--namespace", namespace, "--logoless", "--crumbsless", "--command", "pods"], environment)
at.wait(r"web\b.*Running")
at.type("/web\r")
print("pods:", bool(at.wait(r"web\b.*1/1.*Running")))
at.type("d")
print("describe:", at.wait(r"Name:\s+(\S+)")[1], at.wait(r"Node:\s+(\S+)")[1])
at.type("\x1b")
at.wait(r"web\b.*Running")
at.type("l")
print("logs:", at.wait(r"of web, token (tok|postern-masked)")[1])
at.type("\x1b")
at.wait(r"web\b.*Running")
# Where a shell is refused, the screen says so, and why, but not for long.
SHELL = r"[#$] *$|is not allowed|Shell (?:exec )?failed"
shell = None
for _ in range(5):
    at.type("s")
    if shell := at.look(SHELL, 8):
        break
shell = (shell or at.wait(SHELL))[0]
opened = not re.search("not allowed|failed", shell)
print("shell:", "opened" if opened else "refused")
if opened:
    at.type("echo from-$((40+2))\r")
    print("typed:", at.wait("from-42")[0])
    at.type("exit\r")
    at.wait(r"web\b.*Running")
at.type(":q\r")
