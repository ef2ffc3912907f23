"""An audit hook that notes what a reader must not do: open files elsewhere, start programs, reach other machines."""

import os
import site
import sys
import sysconfig

FORBIDDEN = "outside"  # a file beside the input, which nothing may open
PROGRAMS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pty.spawn",
)
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink",
           "os.truncate",
           "shutil.rmtree", "shutil.move")  # fmt: skip
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo")
SYSTEM = ["/proc", "/sys", "/dev/null", "/dev/urandom", "/etc/localtime", "/etc/ssl", "/usr/share", "/usr/lib"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """What happened since :meth:`start`; installed once in a process, because an audit hook cannot be removed."""

    def __init__(self):
        project = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        own = [os.path.join(project, name) for name in ("src", "tests")] + [os.environ.get("HF_HOME", os.devnull)]
        libraries = [*sysconfig.get_paths().values(), *site.getsitepackages(), sys.base_prefix]
        self._readable = tuple(os.path.realpath(path) for path in [*own, *libraries, *SYSTEM])
        self._place, self._opens, self._found = None, False, []

    def install(self):
        sys.addaudithook(self._hook)

    def start(self, place, opens):
        """Watch; ``place`` is the only folder to write to, and without ``opens`` the only one to read from."""
        self._place, self._opens, self._found = os.path.realpath(place), opens, []

    def stop(self):
        """What was noted: (what, function of the library) in order."""
        self._place = None
        return self._found

    def _hook(self, event, arguments):
        if self._place is not None:
            try:
                self._note(event, arguments)
            except Exception as error:  # a hook that raises would change what the reader does
                self._add(f"{event}: {type(error).__name__} in the hook")

    def _note(self, event, arguments):
        if event == "open":
            self._opened(*arguments)
        elif event in PROGRAMS:
            self._add(event)
        elif event in CHANGES and isinstance(arguments[0], str | bytes) and not self._inside(arguments[0]):
            self._add(f"{event} outside")
        elif event in NETWORK and "127.0.0.1" not in str(arguments):
            self._add(event)
        elif event == "pickle.find_class":
            self._add(f"{event} {arguments[0]}.{arguments[1]}")
        elif event == "import" and arguments[0].partition(".")[0] not in sys.stdlib_module_names and not arguments[1]:
            self._add(f"import {arguments[0]}")

    def _opened(self, path, mode, flags):
        if isinstance(path, int) or path is None or "\0" in os.fsdecode(path) or self._inside(path, flags):
            return
        if flags & WRITES:
            self._add("open to write")
        elif not self._opens and not (real := os.path.realpath(os.fsdecode(path))).startswith(self._readable):
            self._add(f"open {FORBIDDEN if os.path.basename(real) == FORBIDDEN else real}")

    def _inside(self, path, flags=0):
        path = os.path.abspath(os.fsdecode(path))  # relative to the place, where workers are
        if flags & getattr(os, "O_NOFOLLOW", 0):
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        else:
            path = os.path.realpath(path)
        inside = path == self._place or path.startswith(self._place + os.sep)
        return inside and path != os.path.join(self._place, FORBIDDEN)

    def _add(self, what):
        frame, where = sys._getframe(), ""
        while frame is not None and not where:
            name = frame.f_code.co_filename
            if f"{os.sep}unbraid{os.sep}" in name:
                where = f"{name.rpartition(f'{os.sep}unbraid{os.sep}')[2]}:{frame.f_code.co_name}"
            frame = frame.f_back
        self._found.append((what[:80], where))
