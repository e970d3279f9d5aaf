"""Attacks on the kernel, the supervisor and the rights of a session; and honest work."""

from tests.sandbox.attack import attack

ATTACKS = [
    attack(
        19,
        "killing everybody",
        """
        import os, signal
        for pid in range(1, 400):
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        try:
            os.kill(-1, signal.SIGTERM)
        except OSError:
            pass
        print("alone")
        """,
    ),
    attack(
        20,
        "the supervisor's memory and files",
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(16, 1, 0, 0) == 0:
            print("ESCAPED ptrace")
        for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/fd/0",
            "/proc/1/cwd/.."):
            try:
                if os.path.isdir(path):
                    os.listdir(path)
                else:
                    open(path, "rb").read(100)
                print("ESCAPED", path)
            except OSError:
                pass
        try:
            print("ESCAPED", os.listdir("/proc/1/fd"))
        except OSError:
            print("closed")
        """,
        "closed",
    ),
    attack(
        21,
        "mounts and namespaces",
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000):
            if libc.unshare(flag) == 0:
                print("ESCAPED unshare", hex(flag))
        if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
            print("ESCAPED mount")
        if libc.umount2(b"/mnt/data", 2) == 0:
            print("ESCAPED umount")
        if libc.chroot(b"/tmp") == 0:
            print("ESCAPED chroot")
        if libc.syscall(430, b"tmpfs", 0) >= 0:
            print("ESCAPED fsopen")
        pid = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            print("ESCAPED clone")
        print("refused")
        """,
        "refused",
    ),
    attack(
        25,
        "devices",
        """
        import os, stat
        for name, mode, number in (("/tmp/mem", stat.S_IFCHR, os.makedev(1, 1)),
                                   ("/mnt/data/sda", stat.S_IFBLK, os.makedev(8, 0))):
            try:
                os.mknod(name, mode | 0o600, number)
                print("ESCAPED", name)
            except OSError:
                pass
        try:
            os.mkfifo("/mnt/data/fifo")
        except OSError:
            pass
        allowed = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts",
            "shm",
                   "fd", "stdin", "stdout", "stderr", "core"}
        print("more", sorted(set(os.listdir("/dev")) - allowed))
        """,
        "more []",
    ),
    attack(
        26,
        "shared memory of System V",
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.shmget(4242, 4096, 0o1666) >= 0:
            print("ESCAPED shmget")
        if libc.msgget(4242, 0o1666) >= 0:
            print("ESCAPED msgget")
        if libc.semget(4242, 1, 0o1666) >= 0:
            print("ESCAPED semget")
        print("refused")
        """,
        "refused",
    ),
    attack(
        27,
        "keyring",
        """
        import ctypes, platform
        libc = ctypes.CDLL(None, use_errno=True)
        add, request, keyctl = (248, 249, 250) if platform.machine() == "x86_64" else (217, 218,
            219)
        if libc.syscall(add, b"user", b"{other}", b"x", 1, -4) > 0:
            print("ESCAPED add_key")
        if libc.syscall(keyctl, 0, -3, 1) > 0:
            print("ESCAPED keyctl")
        print("refused")
        """,
        "refused",
    ),
    attack(
        28,
        "the kernel's sharp calls",
        """
        import ctypes, platform
        libc = ctypes.CDLL(None, use_errno=True)
        same = {"io_uring_setup": 425, "pidfd_getfd": 438, "memfd_secret": 447, "open_tree": 428}
        x86 = {"bpf": 321, "userfaultfd": 323, "perf_event_open": 298, "kexec_load": 246,
               "init_module": 175, "finit_module": 313, "kcmp": 312, "process_vm_readv": 310,
               "open_by_handle_at": 304, "personality": 135}
        calls = dict(same, **(x86 if platform.machine() == "x86_64" else {}))
        for name, number in calls.items():
            ctypes.set_errno(0)
            result = libc.syscall(number, 0, 0, 0, 0, 0)
            if result >= 0 or ctypes.get_errno() not in (1, 38):
                print("ESCAPED", name, result, ctypes.get_errno())
        print("refused")
        """,
        "refused",
    ),
    attack(
        29,
        "sysfs and cgroups",
        """
        import os
        for path in ("/sys/fs/cgroup", "/sys/kernel", "/sys/class/net", "/sys/firmware"):
            try:
                if os.listdir(path):
                    print("ESCAPED", path)
            except OSError:
                pass
        print("empty")
        """,
        "empty",
    ),
    attack(
        30,
        "clock",
        """
        import time
        for clock in (time.CLOCK_REALTIME, 11):
            try:
                time.clock_settime(clock, 0)
                print("ESCAPED")
            except (OSError, PermissionError):
                pass
        print("refused")
        """,
        "refused",
    ),
    attack(
        32,
        "forged frames",
        """
        import os
        frames = [b"\\0\\0\\0\\2\\0\\0\\0\\0{}", b"\\xff" * 64,
            b"\\0\\0\\0\\x0a\\0\\0\\0\\0[[[[[[[[[[",
                  b'\\0\\0\\0\\x0c\\0\\0\\0\\0{"t":"done"}',
                      b"\\x7f\\xff\\xff\\xff\\x7f\\xff\\xff\\xff"]
        for fd in range(3, 256):
            for frame in frames:
                try:
                    os.write(fd, frame)
                except OSError:
                    pass
        """,
    ),
    attack(
        33,
        "hijacked modules",
        """
        import builtins, json, os, struct, sys
        def evil(*args, **kwargs):
            raise SystemExit("hijacked")
        frame = sys._getframe()
        while frame is not None:
            for name in list(frame.f_globals):
                if name in ("send", "read_frame", "write_frame", "recv"):
                    frame.f_globals[name] = evil
            frame = frame.f_back
        json.dumps = json.loads = struct.pack = evil
        builtins.repr = builtins.compile = evil
        os.write = os.read = evil
        """,
    ),
    attack(
        35,
        "hostile names",
        """
        import os
        for name in (b"\\xff\\xfe.txt", b"new\\nline.csv", b'quo"te.txt', b"..hidden", b"-rf",
            b"a;b|c.txt",
                     "rtl\\u202egnp.exe".encode(), b"x" * 250, b" ", b"~", b"%2e%2e%2f",
                         b"<script>.html"):
            with open(b"/mnt/data/" + name, "wb") as f:
                f.write(b"x")
        print("written")
        """,
        "written",
    ),
    attack(
        37,
        "rights",
        """
        import os
        lines = open("/proc/self/status").read().splitlines()
        status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            if int(status[name], 16):
                print("ESCAPED", name, status[name])
        if status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
            print("ESCAPED", status["NoNewPrivs"], status["Seccomp"])
        for change in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
            try:
                change()
                print("ESCAPED", os.getuid())
            except OSError:
                pass
        print("none", os.getuid() != 0)
        """,
        "none True",
    ),
    attack(
        38,
        "terminal",
        """
        import fcntl, os
        for number in (0x5412, 0x541C):
            for fd in range(8):
                try:
                    fcntl.ioctl(fd, number, b"x")
                    print("ESCAPED", number, fd)
                except OSError:
                    pass
        try:
            os.open("/dev/tty", os.O_RDWR)
            print("ESCAPED tty")
        except OSError:
            print("no terminal")
        """,
        "no terminal",
    ),
    attack(
        42,
        "what another session left",
        """
        import os
        seen = [name for name in globals() if name.startswith("left_by")]
        if seen or os.path.exists("/tmp/left_by_{other}"):
            print("ESCAPED", seen)
        left_by_somebody = 1
        open("/tmp/left_by_{other}", "w").close()
        print("clean")
        """,
        "clean",
    ),
    attack(
        43,
        "honest work",
        """
        import multiprocessing, subprocess
        import numpy as np, pandas as pd
        print(pd.DataFrame({"a": np.arange(10)}).a.sum())
        print(subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout.strip())
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(sum(pool.map(abs, range(10))))
        """,
        "45\nhello\n45",
        within_s=20.0,
    ),
    attack(
        44,
        "the supervisor attacked",
        """
        import os, signal
        for sent in (signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL, signal.SIGINT):
            try:
                os.kill(1, sent)
            except OSError:
                pass
        for pid in (1,):
            try:
                os.setpriority(os.PRIO_PROCESS, pid, 19)
            except OSError:
                pass
            try:
                os.sched_setaffinity(pid, [0])
            except OSError:
                pass
        print("alive")
        """,
        "alive",
    ),
    attack(46, "input", "print('asked'); input('? ')", "EOFError"),
    attack(
        47,
        "a file changed in place",
        """
        import os
        with open("/mnt/data/place.txt", "w") as f:
            f.write("first")
        times = os.stat("/mnt/data/place.txt")
        with open("/mnt/data/place.txt", "r+") as f:
            f.write("other")
        os.utime("/mnt/data/place.txt", ns=(times.st_atime_ns, times.st_mtime_ns))
        print("changed")
        """,
        "changed",
    ),
]
