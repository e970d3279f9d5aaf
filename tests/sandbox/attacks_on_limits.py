"""Attacks that want more than their share: of memory, time, disk, processes and output."""

from tests.sandbox.attack import attack

LIMIT_S = 90.0  # Of a call that has to be stopped by its time limit of 60 s.

ATTACKS = [
    attack(
        10,
        "fork bomb",
        """
        import os, time
        made = 0
        try:
            while made < 5000:
                if os.fork() == 0:
                    time.sleep(30)
                    os._exit(0)
                made += 1
            print("ESCAPED", made)
        except OSError:
            print("stopped at", made < 200)
        """,
        "stopped at True",
        within_s=20.0,
    ),
    attack(
        11,
        "thread bomb",
        """
        import threading, time
        made = 0
        try:
            while made < 5000:
                threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
                made += 1
            print("ESCAPED", made)
        except RuntimeError:
            print("stopped at", made < 200)
        """,
        "stopped at True",
    ),
    attack(
        12,
        "memory bomb",
        """
        try:
            blocks = []
            while True:
                blocks.append(bytearray(64 * 1024 * 1024))
                if len(blocks) > 64:
                    print("ESCAPED", len(blocks))
                    break
        except MemoryError:
            blocks.clear()
            print("no memory")
        """,
        "no memory",
        within_s=30.0,
    ),
    attack(
        13,
        "memory of children",
        """
        import os, time
        for _ in range(16):
            if os.fork() == 0:
                held = bytearray(200 * 1024 * 1024)
                for at in range(0, len(held), 4096):
                    held[at] = 1
                time.sleep(30)
                os._exit(0)
        time.sleep(20)
        print("ESCAPED all of it is held")
        """,
        within_s=40.0,
    ),
    attack(
        14,
        "memory that no limit counts",
        """
        import mmap, os
        try:
            fd = os.memfd_create("x")
            print("ESCAPED memfd")
        except OSError:
            pass
        held = []
        try:
            for n in range(2000):
                with open(f"/dev/shm/{n}", "wb") as f:
                    f.write(b"x" * (1 << 20))
            print("ESCAPED shm")
        except OSError:
            pass
        import glob
        for path in glob.glob("/dev/shm/*"):
            os.unlink(path)
        try:
            area = mmap.mmap(-1, 4 << 30)
            for at in range(0, 4 << 30, 4096):
                area[at] = 1
            print("ESCAPED shared mapping")
        except (OSError, MemoryError):
            print("bounded")
        """,
        within_s=40.0,
    ),
    attack(
        15,
        "disk and inodes",
        """
        import os
        for folder in ("/mnt/data", "/tmp"):
            made, names = 0, []
            try:
                for n in range(200):
                    names.append(f"{folder}/big{n}")
                    with open(names[-1], "wb") as f:
                        for _ in range(16):
                            f.write(b"x" * (1 << 20))
                            made += 1
                print("ESCAPED", folder, made)
            except OSError:
                pass
            for name in names:
                if os.path.exists(name):
                    os.unlink(name)
        os.mkdir("/mnt/data/many")
        n = 0
        try:
            for n in range(300_000):
                open(f"/mnt/data/many/{n}", "w").close()
            print("ESCAPED inodes")
        except OSError:
            pass
        import shutil
        shutil.rmtree("/mnt/data/many")
        print("full")
        """,
        "full",
        within_s=60.0,
    ),
    attack(
        16,
        "endless printing",
        """
        line = "x" * 1000
        for n in range(10**9):
            print(line)
        """,
        within_s=LIMIT_S,
    ),
    attack(17, "endless loop", "while True:\n    pass", within_s=LIMIT_S),
    attack(
        18,
        "interrupts ignored",
        """
        import signal, time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass
        """,
        within_s=LIMIT_S,
    ),
    attack(
        23,
        "sparse file",
        """
        import os
        try:
            with open("/mnt/data/sparse.bin", "wb") as f:
                f.truncate(1 << 40)
            print("made", os.path.getsize("/mnt/data/sparse.bin"))
            os.unlink("/mnt/data/sparse.bin")
        except OSError as error:
            print("refused", error)
        """,
        within_s=20.0,
    ),
    attack(
        24,
        "zip bomb",
        """
        import io, os, zipfile
        with zipfile.ZipFile("/mnt/data/bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("../../etc/slip.txt", "slip")
            with z.open("big", "w") as f:
                for _ in range(400):
                    f.write(bytes(1 << 20))
        try:
            with zipfile.ZipFile("/mnt/data/bomb.zip") as z:
                for _ in range(4):
                    z.extractall("/tmp/out")
                    os.rename("/tmp/out", f"/tmp/out{_}")
            print("ESCAPED unpacked")
        except OSError:
            print("no room")
        import shutil
        shutil.rmtree("/tmp/out", ignore_errors=True)
        os.unlink("/mnt/data/bomb.zip")
        """,
        "no room",
        within_s=40.0,
    ),
    attack(31, "os._exit", "import os\nprint('bye', flush=True)\nos._exit(3)", "bye"),
    attack(31, "segfault", "import ctypes\nprint('bye', flush=True)\nctypes.string_at(1)", "bye"),
    attack(31, "sys.exit", "import sys\nkept = 1\nsys.exit(3)", "SystemExit"),
    attack(31, "abort", "import os\nprint('bye', flush=True)\nos.abort()", "bye"),
    attack(
        34,
        "closed descriptors",
        """
        import os
        os.closerange(0, 512)
        """,
    ),
    attack(
        34,
        "no descriptor left",
        """
        import os
        held = []
        try:
            while len(held) < 5000:
                held.append(os.open("/dev/null", os.O_RDONLY))
            print("ESCAPED", len(held))
        except OSError:
            print("no more after", len(held) < 600)
        """,
    ),
    attack(
        36,
        "work in the background",
        """
        import os, subprocess, threading, time
        def spin():
            while True:
                pass
        threading.Thread(target=spin, daemon=True).start()
        subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"])
        if os.fork() == 0:
            os.setsid()
            while True:
                print("x" * 1000, flush=True)
                time.sleep(0.01)
        print("left behind")
        """,
        "left behind",
    ),
    attack(
        39,
        "a repr that bites",
        """
        class Bomb:
            def __repr__(self):
                return "x" * (200 * 1024 * 1024)
        Bomb()
        """,
        within_s=30.0,
    ),
    attack(
        39,
        "an exception that bites",
        """
        class Bomb(Exception):
            def __str__(self):
                raise Bomb
            __repr__ = __str__
        raise Bomb
        """,
    ),
    attack(
        39,
        "a giant figure",
        """
        import matplotlib.pyplot as plt
        for _ in range(30):
            plt.figure(figsize=(4000, 4000))
        plt.plot([1, 2])
        """,
        within_s=30.0,
    ),
    attack(
        40,
        "deep and wide folders",
        """
        import os
        os.chdir("/mnt/data")
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
        os.chdir("/mnt/data")
        os.mkdir("wide")
        for n in range(15_000):
            try:
                open(f"wide/{n}", "w").close()
            except OSError:
                break
        print("made")
        """,
        "made",
        within_s=30.0,
    ),
    attack(
        41,
        "raising limits",
        """
        import os, resource
        for name in dir(resource):
            if name.startswith("RLIMIT_"):
                kind = getattr(resource, name)
                soft, hard = resource.getrlimit(kind)
                if hard != resource.RLIM_INFINITY:
                    try:
                        resource.setrlimit(kind, (hard + 1, hard + 1))
                        print("ESCAPED", name)
                    except (ValueError, OSError):
                        pass
        try:
            resource.prlimit(1, resource.RLIMIT_NOFILE, (1, 1))
            print("ESCAPED prlimit")
        except OSError:
            pass
        try:
            os.nice(-10)
            print("ESCAPED nice")
        except OSError:
            print("kept")
        """,
        "kept",
    ),
    attack(
        45,
        "processor hog",
        """
        import os, time
        for _ in range(20):
            if os.fork() == 0:
                until = time.monotonic() + 5
                while time.monotonic() < until:
                    pass
                os._exit(0)
        time.sleep(3)
        print("done")
        """,
        "done",
        within_s=20.0,
    ),
]
