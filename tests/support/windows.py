"""Python without the modules and names that Windows lacks; only for a process of its own."""

import os
import signal
import sys

MODULES = frozenset(
    ("fcntl", "termios", "tty", "pty", "pwd", "grp", "spwd", "resource", "syslog", "crypt", "nis", "readline", "curses")
)
LISTS = {
    "os": """
        O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC WEXITSTATUS WIFEXITED WNOHANG chown chroot
        confstr ctermid eventfd fchmod fchown fdatasync fork forkpty fstatvfs getegid geteuid getgid
        getgroups getloadavg getpgid getpgrp getsid getuid killpg lchown lockf memfd_create mkfifo mknod
        nice openpty pipe2 posix_spawn pread pwrite readv sched_getaffinity sched_setaffinity sendfile
        setgid setpgid setsid setuid statvfs sync sysconf uname wait wait3 wait4 writev
    """,
    "signal": """
        SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH
        SIG_BLOCK SIG_SETMASK SIG_UNBLOCK alarm getitimer pause pthread_kill pthread_sigmask setitimer
        siginterrupt sigpending sigtimedwait sigwait
    """,
    "socket": "AF_NETLINK AF_UNIX SO_REUSEPORT recv_fds send_fds",
    "time": "clock_gettime clock_settime pthread_getcpuclockid tzset",
    "select": "epoll kqueue poll",
    "asyncio": "get_child_watcher open_unix_connection start_unix_server",
}
NAMES = {module: frozenset(names.split()) for module, names in LISTS.items()}
"""Module -> names in it that Python has on no Windows ("Availability: Unix" in its documentation)."""
NEEDED_HERE = frozenset(
    ("uname", "wait", "WNOHANG", "WIFEXITED", "WEXITSTATUS", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY")
)
"""Names that numpy and Python's own modules (subprocess, tempfile, shutil) need on the system that runs the tests."""


def take_away() -> None:
    """Make the modules unimportable and remove the names of `os` and `signal`, from now on in this process."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module in (os, signal):
        for name in NAMES[module.__name__] - NEEDED_HERE:
            if hasattr(module, name):
                delattr(module, name)
