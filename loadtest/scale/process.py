"""The program under test as a process: its log, and what it uses."""
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time


class Ended(Exception):
    """The program has ended, or does not say what it should."""


class Ringward:
    """`ringward run` on `ringward.toml` of a directory. Its log is kept there, in `log`."""

    def __init__(self, directory, command=("run",)):
        self.directory, self.lines, self.came, self.began = directory, [], threading.Condition(), time.monotonic()
        arguments = [os.environ["RINGWARD_BIN"], *command, "-c", str(directory / "ringward.toml")]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.pid = self.process.pid
        threading.Thread(target=self.read, args=(directory / "log",), daemon=True).start()

    def read(self, path):
        with open(path, "ab") as kept:
            for line in self.process.stderr:
                now = time.monotonic()
                kept.write(line)
                kept.flush()
                record = json.loads(line) if line.startswith(b"{") else {"message": line.decode().rstrip()}
                with self.came:
                    self.lines.append({**record, "at": now})
                    self.came.notify_all()
        with self.came:
            self.lines.append({"message": "the log has ended", "at": time.monotonic()})
            self.came.notify_all()

    def wait_for(self, messages, first=0, seconds=60):
        """The first line from the one numbered `first` on that says one of these, and the number of the one behind it."""
        end = time.monotonic() + seconds
        with self.came:
            while True:
                for number, line in enumerate(self.lines[first:], first):
                    if line["message"] in messages:
                        return line, number + 1
                is_over = self.lines and self.lines[-1]["message"] == "the log has ended"
                if is_over or not self.came.wait(max(0, end - time.monotonic())):
                    said = "\n".join(str(line) for line in self.lines[-5:])
                    raise Ended(f"does not say {messages}; the last it said:\n{said}")

    def ready(self):
        """Seconds from the start until it serves, and the CPU time of it."""
        line, _ = self.wait_for(["ready"])
        return line["at"] - self.began, self.cpu_seconds()

    def address(self, message, listener=None):
        """Where it listens, as (host, port)."""
        self.wait_for(["ready"])
        lines = [line for line in self.lines if line["message"] == message and line.get("listener") == listener]
        host, port = lines[0]["address"].rsplit(":", 1)
        return host, int(port)

    def position(self):
        with self.came:
            return len(self.lines)

    def cpu_seconds(self):
        """User and system, of it and of the children it has waited for."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def waited_seconds(self, name="worker"):
        """How long threads whose name begins so wanted a core that somebody else had, by their name."""
        waited = {}
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            called = (task / "comm").read_text().strip()
            if called.startswith(name):
                waited[called] = int((task / "schedstat").read_text().split()[1]) / 1e9
        return waited

    def memory(self, kind="VmRSS"):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status).group(1)) * 1024

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def reload(self, unchanged_is_good=False):
        """Asks for one, waits for its outcome, and says how many seconds it took."""
        first, began = self.position(), time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        good = ["new configuration in force"] + (["nothing has changed"] if unchanged_is_good else [])
        line, _ = self.wait_for({*good, "nothing has changed", "new configuration refused, the running one stays"}, first)
        if line["message"] not in good:
            raise Ended(f"no reload: {line}")
        return line["at"] - began

    def command(self, *arguments):
        """What `ringward ARGUMENTS` says to this process."""
        command = [os.environ["RINGWARD_BIN"], *arguments, "-c", str(self.directory / "ringward.toml")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Ended(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(30)
