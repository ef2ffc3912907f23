"""An audit hook that notes what a reader must not do: open files elsewhere, start programs, reach other machines."""

import os
import site
import sys
import sysconfig

PROGRAMS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pty.spawn",
    "os.startfile",
)
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink",
           "os.truncate",
           "shutil.rmtree", "shutil.move")  # fmt: skip
CODE = ("exec", "compile", "pickle.find_class", "ctypes.dlopen", "marshal.loads", "code.__new__")
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo")
SYSTEM = ("/proc", "/sys", "/dev/null", "/dev/urandom", "/etc/localtime", "/usr/share", "/usr/lib", "/etc/ssl")
STANDARD = sys.stdlib_module_names


class Watch:
    """What happened since :meth:`start`; installed once in a process, because an audit hook cannot be removed."""

    def __init__(self):
        libraries = [*sysconfig.get_paths().values(), *site.getsitepackages(), sys.prefix, sys.base_prefix]
        project = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self._readable = tuple(
            {os.path.realpath(p) for p in [*libraries, os.path.join(project, "src"), os.path.join(project, "tests")]}
        )
        self._readable += (os.path.realpath(os.environ.get("HF_HOME", sys.prefix)),)
        self._place, self._opens, self._found = None, False, []

    def install(self):
        sys.addaudithook(self._hook)

    def start(self, place, opens):
        """Watch; ``place`` is the only folder to write to, and without ``opens`` the only one to read from."""
        self._place, self._opens, self._found = os.path.realpath(place), opens, []

    def stop(self):
        """What was noted: descriptions that are the same on every machine."""
        self._place = None
        return list(dict.fromkeys(self._found))

    def _hook(self, event, arguments):
        if self._place is None:
            return
        try:
            self._note(event, arguments)
        except Exception as error:  # a hook that raises would change what the reader does
            self._found.append(f"{event}: {type(error).__name__} in the hook")

    def _note(self, event, arguments):
        if event == "open":
            self._opened(*arguments)
        elif event in PROGRAMS:
            self._found.append(event)
        elif event in CHANGES and isinstance(arguments[0], str | bytes) and not self._inside(arguments[0]):
            self._found.append(f"{event} outside")
        elif event in NETWORK and "127.0.0.1" not in str(arguments):
            self._found.append(event)
        elif event == "pickle.find_class":
            self._found.append(f"{event} {arguments[0]}.{arguments[1]}"[:80])
        elif event == "import" and arguments[0].partition(".")[0] not in STANDARD and arguments[1] is None:
            self._found.append(f"import {arguments[0]}"[:80])

    def _opened(self, path, mode, flags):
        if isinstance(path, int) or path is None:
            return
        path = os.fsdecode(path)
        if "\0" in path or (self._opens and not self._writes(mode, flags)) or self._inside(path, flags):
            return
        real = os.path.realpath(path)
        if (
            not self._writes(mode, flags)
            and real.startswith((*self._readable, *SYSTEM))
            and not real.startswith(self._readable[0] + "/etc")
        ):
            return
        self._found.append(f"open {'outside' if os.path.dirname(real) == os.path.dirname(self._place) else real}"[:80])

    def _writes(self, mode, flags):
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if flags else "r" not in (mode or "r")

    def _inside(self, path, flags=0):
        path = os.path.abspath(os.fsdecode(path))
        if flags & getattr(os, "O_NOFOLLOW", 0):
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        else:
            path = os.path.realpath(path)
        return path == self._place or path.startswith(self._place + os.sep)
