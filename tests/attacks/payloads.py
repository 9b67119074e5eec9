"""The programs that try to get out, for ``python3 -I -c``. Each prints what it came to; a refusal begins ``denied``."""

from __future__ import annotations

#: ``PATH…``: what is in the first file that can be read.
READ = """
import sys
said = []
for path in sys.argv[1:]:
    try:
        print(open(path, "rb").read(100000)[:60])
        break
    except OSError as e:
        said.append(f"denied {e.errno}")
else:
    print(", ".join(said))
"""
#: ``PATH…``: write each of them.
WRITE = """
import sys
for path in sys.argv[1:]:
    try:
        open(path, "w").write("changed"); print("wrote", path)
    except OSError as e:
        print("denied", e.errno)
"""
#: ``PID SIGNAL``
SIGNAL = """
import os, sys
try:
    os.kill(int(sys.argv[1]), int(sys.argv[2])); print("sent")
except OSError as e:
    print("denied", e.errno)
"""
#: ``tcp|udp|unix|vsock ADDRESS…``; ``talk HOST PORT HEX``: send the bytes and print what comes back.
CONNECT = """
import socket, sys
kind, address = sys.argv[1], sys.argv[2:]
try:
    if kind == "tcp":
        socket.create_connection((address[0], int(address[1])), 3).sendall(b"in"); print("connected")
    elif kind == "talk":
        s = socket.create_connection((address[0], int(address[1])), 3); s.sendall(bytes.fromhex(address[2]))
        print("answered", s.recv(100))
    elif kind == "udp":
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"in", (address[0], int(address[1]))); print("connected")
    elif kind == "unix":
        s = socket.socket(socket.AF_UNIX); s.connect(address[0].replace("@", chr(0))); s.sendall(b"in")
        print("connected")
    else:
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); s.settimeout(3); s.connect((2, 22)); print("connected")
except (OSError, AttributeError) as e:
    print("denied", e)
"""
#: ``FIRST SECOND``, the halves of what is looked for: in the environment of whoever started this, and of all others.
ENVIRONMENTS = """
import os, sys
wanted = (sys.argv[1] + sys.argv[2]).encode()
for pid in (os.getppid(), *(int(name) for name in os.listdir("/proc") if name.isdigit())):
    try:
        if pid != os.getpid() and wanted in open(f"/proc/{pid}/environ", "rb").read():
            print("found at", pid); break
    except OSError:
        pass
else:
    print("denied: it is nowhere")
"""
#: The same in the memory of whoever started this.
MEMORY = """
import os, sys
wanted = (sys.argv[1] + sys.argv[2]).encode()
def search(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            where, rights = line.split()[:2]
            first, last = (int(part, 16) for part in where.split("-"))
            if rights.startswith("rw") and last - first < 1 << 28:
                try:
                    memory.seek(first)
                    if wanted in memory.read(last - first):
                        return True
                except (OSError, OverflowError):
                    pass
    return False
try:
    print("found" if search(os.getppid()) else "read, and not found")
except OSError as e:
    print("denied", e.errno)
"""
#: ``PID…``: attach to the first that lets itself be traced, and let go again.
PTRACE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
said = []
for pid in map(int, sys.argv[1:]):
    if libc.ptrace(16, pid, None, None) == 0:
        os.waitpid(pid, 0); libc.ptrace(17, pid, None, None); print("attached"); break
    said.append(f"denied {ctypes.get_errno()}")
else:
    print(", ".join(said))
"""
#: ``io_uring|keyctl|userfaultfd|user-namespace|mount|vsock``
KERNEL = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine == "aarch64"
what = sys.argv[1]
if what == "io_uring":
    came = libc.syscall(425, 1, ctypes.create_string_buffer(256))
elif what == "keyctl":
    came = libc.syscall(219 if arm else 250, 0, -3, 0)
elif what == "userfaultfd":
    came = libc.syscall(282 if arm else 323, 1)
elif what == "user-namespace":
    came = libc.unshare(0x10000000)
elif what == "mount":
    came = libc.unshare(0x10000000 | 0x20000)
    came = came or libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
elif what == "vsock":
    try:
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        s.listen(); came = 0
    except OSError as e:
        came = -1; ctypes.set_errno(e.errno)
print("done" if came >= 0 else f"denied {ctypes.get_errno()}")
"""
#: ``PROGRAM…``: whether one that belongs to root and says so makes root of whoever starts it.
SET_USER_ID = """
import subprocess, sys, time
said = []
for program in sys.argv[1:]:
    try:
        null = subprocess.DEVNULL
        process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=null, stderr=null)
    except OSError as e:
        said.append(f"denied {e.errno}"); continue
    time.sleep(0.3)
    try:
        real, effective = next(l.split()[1:3] for l in open(f"/proc/{process.pid}/status") if l.startswith("Uid:"))
    except (OSError, StopIteration):
        real = effective = "?"
    process.kill(); process.wait()
    if effective != real:
        print("became", effective); break
    said.append(f"denied: still {real}")
else:
    print(", ".join(said))
"""
#: Speaks for the server inside, to whatever it can reach: memory, descriptors, the other end of the channel.
FORGE = """
import os, socket, struct, json
body = json.dumps({"event": "done", "id": 1, "exit": 0, "killed": "", "seconds": 0}).encode()
frame = struct.pack("!IB", len(body), 0) + body
said = []
for number in range(64):
    for path in (f"/proc/1/fd/{number}", f"/proc/{os.getppid()}/fd/{number}"):
        try:
            said.append(os.write(os.open(path, os.O_WRONLY), frame))
        except OSError:
            pass
    if number > 2:
        try:
            said.append(os.write(number, frame))
        except OSError:
            pass
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/fd"):
    try:
        os.listdir(path) if path.endswith("fd") else open(path, "rb").read(10)
        said.append(path)
    except OSError:
        pass
print(said)
raise SystemExit(5)
"""
#: ``MARK COUNT``: so many processes that sleep, as far as they are let; what is refused is tried again.
FORK_BOMB = """
import os, sys
mark, most = sys.argv[1], int(sys.argv[2])
started = 0
while started < most:
    try:
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", mark])
        started += 1
    except BlockingIOError:
        pass
print("started", started)
"""
#: ``COUNT MEGABYTES``: so many processes that each hold so much, all at the same time.
MEMORY_HOG = """
import os, sys, time
count, size = int(sys.argv[1]), int(sys.argv[2]) << 20
children, pipes = [], []
for _ in range(count):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        block = bytearray(b"x") * size
        os.write(writing, b".")
        time.sleep(60)
        os._exit(0)
    children.append(child)
    pipes.append(reading)
for reading in pipes:
    os.read(reading, 1)
print("held", count * size >> 20)
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
"""
#: ``COUNT MEGABYTES``: so many files of that size in the current folder.
MANY_FILES = """
import os, sys
block = b"x" * (1 << 20)
for number in range(int(sys.argv[1])):
    with open(f"fill-{number}", "wb") as file:
        for _ in range(int(sys.argv[2])):
            file.write(block)
        file.flush(); os.fsync(file.fileno())
print("wrote", int(sys.argv[1]) * int(sys.argv[2]))
"""
#: ``MARK``: a daemon, forked twice, in a session of its own, deaf to whatever can be ignored.
DAEMON = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", sys.argv[1]])
    os._exit(0)
os.wait()
print("left behind", flush=True)
"""
#: ``LINK FOLDER TARGET``: a name that is now a folder of the worktree, now a link out of it; until it is killed.
SWAP = """
import os, sys
link, folder, target = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
open(os.path.join(folder, "file"), "w").write("inside")
os.path.lexists(link) or os.symlink(folder, link)
while True:
    for points_to in (target, folder):
        spare = link + ".new"
        os.symlink(points_to, spare)
        os.rename(spare, link)
"""
