"""What the programs in perf/ share: servers in directories of their own, their CPU and memory, raw results kept as JSON.

Python's standard library only. Servers listen on loopback, on a free port; each is stopped by the handle that started it.
"""
import datetime
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "perf" / "results"
START_SECONDS = 20


def find_kvcore(path=None):
    """The binary to measure: the one given, or the fastest one built."""
    candidates = [path] if path else [ROOT / "target" / profile / "kvcore" for profile in ("dist", "release")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return str(pathlib.Path(candidate).resolve())
    sys.exit(f"no kvcore at {' or '.join(map(str, candidates))}: cargo build --profile dist")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def resp(*args):
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


class Server:
    """A running server: `kind` is redis or kvcore."""

    def __init__(self, kind, program, extra=(), cpus=None, files=None):
        """`extra`: options, which override the defaults; `files`: a directory whose content the server finds in its own."""
        self.kind, self.port = kind, free_port()
        self.dir = tempfile.mkdtemp(prefix=f"kvcore-perf-{kind}-")
        self.argv = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no",
                     "--loglevel", "warning", *extra]
        if files:
            shutil.copytree(files, self.dir, dirs_exist_ok=True)
        began = time.time()
        pin = ["taskset", "-c", cpus] if cpus else []
        self.log = open(os.path.join(self.dir, "out.log"), "wb")
        self.process = subprocess.Popen(pin + self.argv, cwd=self.dir, stdout=self.log, stderr=self.log)
        deadline = time.time() + START_SECONDS
        while True:
            try:
                if self.command("PING").startswith(b"+PONG"):
                    self.seconds_to_start = time.time() - began
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.time() > deadline:
                tail = open(self.log.name, errors="replace").read()[-2000:]
                self.stop()
                sys.exit(f"{kind} did not start:\n{tail}")
            time.sleep(0.002)

    def connect(self, timeout=60):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def command(self, *args):
        """One command on a connection of its own; the first 64 KiB of the raw reply."""
        with self.connect() as s:
            s.sendall(resp(*args))
            return s.recv(65536)

    def cpu_seconds(self):
        """CPU time of all threads so far."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        return total / 1e9

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            for line in f:
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) * 1024
        return 0

    def feed(self, commands, flush_bytes=1 << 18):
        """Sends encoded commands without waiting for each, and returns when all are answered."""
        import threading

        end = b"perf-end-of-feed"
        with self.connect(300) as s:
            done = threading.Event()

            def read():
                tail = b""
                while end not in tail:
                    data = s.recv(1 << 20)
                    if not data:
                        break
                    tail = (tail + data)[-2 * len(end):]
                done.set()

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            chunk, size = [], 0
            for command in commands:
                chunk.append(command)
                size += len(command)
                if size > flush_bytes:
                    s.sendall(b"".join(chunk))
                    chunk, size = [], 0
            s.sendall(b"".join(chunk) + resp("ECHO", end))
            if not done.wait(600):
                sys.exit(f"{self.kind} did not answer a feed")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def redis(extra=(), cpus=None, files=None):
    return Server("redis", "redis-server", extra, cpus, files)


def kvcore(program, cores, extra=(), cpus=None, files=None):
    return Server("kvcore", program, ["--cores", str(cores), *extra], cpus, files)


class RoundTrips:
    """One connection that sends a command again and again and measures every round trip."""

    def __init__(self, server, *command):
        self.socket, self.request, self.milliseconds = server.connect(), resp(*command), []

    def once(self):
        began = time.perf_counter()
        self.socket.sendall(self.request)
        self.socket.recv(65536)
        self.milliseconds.append((time.perf_counter() - began) * 1000)

    def run_until(self, stop):
        while not stop.is_set():
            self.once()

    def close(self):
        self.socket.close()


def quantiles(values):
    ordered = sorted(values)
    pick = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
    return dict(count=len(ordered), p50=pick(0.5), p99=pick(0.99), p999=pick(0.999), worst=ordered[-1] if ordered else None, worst_five=ordered[-5:])


def output_of(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return dict(cpu=cpu, cpus=os.cpu_count(), usable_cpus=len(os.sched_getaffinity(0)), memory_bytes=memory, kernel=platform.release(),
                load=os.getloadavg(), commit=output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
                redis=output_of("redis-server", "--version"))


def keep(name, results):
    """Writes results, with the machine and the command line, to perf/results/."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    path = RESULTS / f"{name}-{now:%Y%m%d-%H%M%S}.json"
    record = dict(program=name, arguments=sys.argv[1:], time=now.isoformat(timespec="seconds"), machine=machine(), results=results)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nraw numbers: {path.relative_to(ROOT)}")
