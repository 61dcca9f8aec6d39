"""Servers that none of us wrote, started for the suite: on loopback only, at ports that the system gives, and
gone when this process is, however it ends."""
import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.request

KEEP = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")  # no key, no proxy of ours is theirs to see


class NoServer(Exception):
    """It could not be started: say why."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Server:
    """args with {port}; ready when GET path answers anything at all."""

    def __init__(self, name, args, log, path="/", env=None, wait=60):
        self.name, self.port = name, free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        environment = {k: os.environ[k] for k in KEEP if k in os.environ}
        environment.update(env or {})
        self.log = log
        with open(log, "wb") as out:
            self.process = subprocess.Popen([a.format(port=self.port) for a in args], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, env=environment, preexec_fn=die_with_parent)
        end = time.time() + wait
        while not self.answers(path):
            if self.process.poll() is not None or time.time() > end:
                self.stop()
                raise NoServer("%s did not start (see %s)" % (name, log))
            time.sleep(0.1)

    def answers(self, path):
        try:
            urllib.request.urlopen(self.url + path, timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def loopback_only(self):
        """Does it listen at 127.0.0.1 and nowhere else? (/proc/net/tcp: local address, state 0A)"""
        where = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(table) as rows:
                for row in rows.readlines()[1:]:
                    fields = row.split()
                    address, port = fields[1].split(":")
                    if fields[3] == "0A" and int(port, 16) == self.port:
                        where.append(address)
        return where == ["0100007F"]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
