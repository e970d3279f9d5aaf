"""Attacks that want out: to the network, to files and processes of the host."""

from tests.sandbox.attack import attack

ATTACKS = [
    attack(
        1,
        "network",
        """
        import socket
        for family, kind, at in (
            (socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 53)),
            (socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)),
            (socket.AF_INET6, socket.SOCK_STREAM, ("2606:4700:4700::1111", 53)),
        ):
            try:
                with socket.socket(family, kind) as s:
                    s.settimeout(2)
                    s.connect(at)
                print("ESCAPED", at)
            except OSError:
                pass
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(b"x", ("1.1.1.1", 53))
            print("ESCAPED udp")
        except OSError:
            pass
        try:
            print("ESCAPED", socket.getaddrinfo("example.com", 80))
        except OSError:
            print("no network")
        """,
        "no network",
    ),
    attack(
        2,
        "loopback",
        """
        import socket
        for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):
            for port in ({port}, 5432, 6379, 22):
                try:
                    socket.create_connection((host, port), 1).close()
                    print("ESCAPED", host, port)
                except OSError:
                    pass
        print("nobody listens")
        """,
        "nobody listens",
    ),
    attack(
        3,
        "socket families",
        """
        import socket
        for family in range(2, 46):
            for kind in (1, 2, 3, 5):
                try:
                    socket.socket(family, kind).close()
                    print("ESCAPED", family, kind)
                except (OSError, ValueError):
                    pass
        print("only unix sockets")
        """,
        "only unix sockets",
    ),
    attack(
        4,
        "abstract sockets",
        """
        import socket
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect("\\0{other}")
            print("ESCAPED another session answers")
        except OSError:
            print("nobody there")
        mine = socket.socket(socket.AF_UNIX)
        try:
            mine.bind("\\0{other}")
            mine.listen()
        except OSError as error:
            print("ESCAPED a name is taken", error)
        """,
        "nobody there",
    ),
    attack(
        5,
        "sockets of services",
        """
        import glob, os, socket
        for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/dbus/system_bus_socket",
                     "/run/systemd/private", "/var/run/postgresql/.s.PGSQL.5432",
                     *glob.glob("/run/**/*", recursive=True)]:
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(path)
                print("ESCAPED", path)
            except OSError:
                pass
        print("none")
        """,
        "none",
    ),
    attack(
        6,
        "files of the host",
        """
        import glob, os
        for path in ("/etc/shadow", "/root/.ssh/id_rsa", "/root/.bashrc", "/proc/1/root/etc/passwd",
                     "/proc/self/root/../etc/shadow", "/home", "/var/lib/postgresql", "/srv",
                     "/etc/ssh", "/boot", "{data}"):
            try:
                found = os.listdir(path) if os.path.isdir(path) else open(path).read()
                if found:
                    print("ESCAPED", path, str(found)[:80])
            except OSError:
                pass
        print("nothing to read")
        """,
        "nothing to read",
    ),
    attack(
        7,
        "secrets of the server",
        """
        import glob, os
        for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
            try:
                text = open(path, "rb").read().decode("utf-8", "replace")
            except OSError:
                continue
            if "UNDERSTUDY_" in text or "sk-" in text:
                print("ESCAPED", path)
            print(path, text.replace("\\0", " ")[:300])
        print(dict(os.environ))
        """,
        "PATH",
    ),
    attack(
        8,
        "processes of others",
        """
        import os
        pids = [p for p in os.listdir("/proc") if p.isdigit()]
        if len(pids) > 8:
            print("ESCAPED", pids)
        for knob in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
            "/proc/sys/vm/overcommit_memory",
                     "/proc/sys/kernel/hostname", "/proc/1/oom_score_adj", "/proc/1/mem"):
            try:
                with open(knob, "w") as f:
                    f.write("1")
                print("ESCAPED", knob)
            except OSError:
                pass
        print(len(pids), "processes")
        """,
        "processes",
    ),
    attack(
        9,
        "writing elsewhere",
        """
        import os
        for path in ("/x", "/etc/x", "/usr/x", "/dev/x", "/bin/x", "/var/x", "/home/x", "/run/x",
                     "/opt/x", "/proc/x", "/sys/x", "/mnt/x"):
            try:
                open(path, "w").write("x")
                print("ESCAPED", path)
            except OSError:
                pass
        for path in ("/tmp/{other}", "/dev/shm/{other}", "/mnt/data/{other}", "/{other}"):
            if os.path.exists(path):
                print("ESCAPED left over", path)
        for path in ("/tmp/{other}", "/dev/shm/{other}"):
            open(path, "w").write("mine")
        print("read only")
        """,
        "read only",
    ),
    attack(
        22,
        "links to the host",
        """
        import os
        for n, target in enumerate(("/etc/passwd", "/proc/1/environ", "/proc/self/environ",
            "/etc", "/")):
            os.symlink(target, f"/mnt/data/link{n}.txt")
        try:
            os.link("/etc/passwd", "/mnt/data/hard.txt")
            print("ESCAPED hard link")
        except OSError:
            pass
        os.makedirs("/mnt/data/deep")
        os.symlink("..", "/mnt/data/deep/up")
        print("linked")
        """,
        "linked",
    ),
]
