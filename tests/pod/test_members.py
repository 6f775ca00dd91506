"""Who takes part, on real processes: killed, forked, and on file systems that do not fit."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.pod import _places
from orchestrator.pod._members import Member, NoLocksError, read, sweep
from orchestrator.pod._parent import ParentProcess
from orchestrator.pod._places import NoPlaceError, find_place

fcntl = pytest.importorskip("fcntl", reason="needs flock")

WORKER = """
import os, subprocess, sys, time
from pathlib import Path
from orchestrator._runtime.fork import forget_in_child
from orchestrator.pod._members import Member
member = Member(Path(sys.argv[1]))
class Forgets:
    def forked(self): member.forget()
forgets = Forgets()
forget_in_child(forgets)
member.write({"pid": os.getpid()})
child = 0
if sys.argv[2] == "fork":
    child = os.fork()
    if not child:
        sys.stdin.readline()
        os._exit(0)
elif sys.argv[2] == "popen":
    child = subprocess.Popen(["cat"], close_fds=False, stdout=subprocess.DEVNULL).pid
print(member.name, child, flush=True)
if sys.argv[2] == "writes":
    for number in range(300):
        member.write({"number": number, "text": "x" * (number % 3000), "again": number})
time.sleep(60)
"""


@contextmanager
def a_worker(directory: Path, what: str = "") -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    command = [sys.executable, "-c", WORKER, str(directory), what]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            name, child = process.stdout.readline().split()
            yield process, name, int(child)
        finally:
            process.kill()
            process.stdin.close()  # the child's end, too


def soon(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_one_that_is_killed_is_gone_and_leaves_no_files(tmp_path: Path) -> None:
    with a_worker(tmp_path) as (process, name, _):
        assert dict(read(tmp_path)) == {name: {"pid": process.pid}}
        process.kill()
        process.wait()
        assert dict(read(tmp_path)) == {}
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["fork", "popen"])
def test_a_child_neither_keeps_a_dead_worker_alive_nor_ends_a_living_one(
    how: str, tmp_path: Path
) -> None:
    with a_worker(tmp_path, how) as (process, name, child):
        os.kill(child, signal.SIGKILL)
        time.sleep(0.05)  # whatever its end does is done
        assert list(dict(read(tmp_path))) == [name], "the child's end has ended its parent"
    with a_worker(tmp_path, how) as (process, name, child):
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        soon(lambda: not list(read(tmp_path)))


def test_no_report_is_read_by_halves(tmp_path: Path) -> None:
    own = Member(tmp_path)
    reads = 0
    with a_worker(tmp_path, "writes") as (_, name, _):
        while (report := dict(read(tmp_path, own.name))[name]).get("number") != 299:
            assert report.get("number") == report.get("again"), report
            reads += 1
    assert reads > 3
    own.leave()


def test_whoever_is_taken_for_dead_while_joining_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    swept: list[int] = []

    def late(file: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX and len(swept) < 2:
            swept.append(operation)
            assert list(read(tmp_path)) == []  # somebody looks between making and locking
            tmp_path.rmdir()  # and takes the directory for that of the dead
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    member = Member(tmp_path)
    assert list(dict(read(tmp_path, member.name))) == [member.name]
    assert len(swept) == 2
    member.leave()
    assert not tmp_path.exists()


def test_locks_that_belong_to_the_process_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(file: int, operation: int) -> None:  # as flock is on NFS
        fcntl.lockf(file, operation & ~fcntl.LOCK_SH | fcntl.LOCK_EX)

    monkeypatch.setattr(fcntl, "flock", lockf)
    with pytest.raises(NoLocksError, match="no flock"):
        Member(tmp_path)
    monkeypatch.undo()
    assert list(read(tmp_path)) == []


def test_on_a_full_file_system_the_old_report_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Member(tmp_path)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.with_suffix(".json").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    member.write({"pid": 7})
    assert dict(read(tmp_path, member.name)) == {member.name: {"pid": 7}}
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        member.write({"pid": 8})
    member.leave()


def test_what_makes_no_sense_is_as_if_nothing_had_been_said(tmp_path: Path) -> None:
    member = Member(tmp_path)
    for text in ("", "{", "[1]", '"x"', "\x00"):
        (tmp_path / f"{member.name}.json").write_text(text)
        assert dict(read(tmp_path, member.name)) == {member.name: {}}
    (tmp_path / "stray.txt").write_text("x")
    assert len(dict(read(tmp_path, member.name))) == 1
    member.leave()


def test_services_that_have_ended_are_swept_and_living_ones_stay(tmp_path: Path) -> None:
    dead, living, own = (tmp_path / name for name in ("dead", "living", "own"))
    for directory in (dead, living, own):
        directory.mkdir()
    (dead / "x.lock").touch()
    (dead / "x.json").write_text(json.dumps({"pid": os.getpid()}))  # a process id that lives
    member = Member(living)
    sweep(tmp_path, but=own)
    assert not dead.exists()
    assert own.exists()
    assert list(dict(read(living))) == [member.name]
    member.leave()


# -- places ------------------------------------------------------------------------------------

PARENT = ParentProcess(4711, "12345")


def test_a_place_is_ours_alone_and_never_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    no_shm = {"TMPDIR": str(tmp_path)}
    seen = [str(place) for place in _places._places(no_shm)]
    assert not any(place.startswith(str(tmp_path)) for place in seen)
    assert not [place for place in _places._places({"TMPDIR": "."}) if not place.is_absolute()]
    for given in (tmp_path / "given", tmp_path / "deep" / "er"):
        place = find_place(PARENT, "", {_places.VARIABLE: str(given)})
        assert place.is_relative_to(given)
        for one in (place, place.parent):
            assert one.stat().st_mode & 0o777 == 0o700
    place.parent.chmod(0o755)
    with pytest.raises(NoPlaceError, match="others may use it"):
        find_place(PARENT, "", {_places.VARIABLE: str(given)})
    place.rmdir()
    place.parent.rmdir()
    place.parent.symlink_to(tmp_path / "given")
    with pytest.raises(NoPlaceError, match="not a directory"):
        find_place(PARENT, "", {_places.VARIABLE: str(given)})


def test_the_next_place_is_taken_where_one_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("a file where the directory should be")
    second.mkdir()
    places = [first / "own", second / "own"]
    monkeypatch.setattr(_places, "_places", lambda _: iter(places))
    place = find_place(PARENT, "")
    assert place.is_relative_to(second)
    first.unlink()
    first.mkdir()
    assert find_place(PARENT, "") == place, "those who live already are joined where they are"
    place.rmdir()
    monkeypatch.setattr(_places, "_LEAST_BYTES", 1 << 60)
    with pytest.raises(NoPlaceError, match="no space"):
        find_place(PARENT, "")
    monkeypatch.setattr(_places, "_places", lambda _: iter(()))
    with pytest.raises(NoPlaceError, match="no temporary directory"):
        find_place(PARENT, "")


def test_supervisors_services_and_containers_have_places_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [
        _places._name(PARENT, ""),
        _places._name(ParentProcess(4711, "99999"), ""),  # the same id, later
        _places._name(PARENT, "admin"),
        _places._name(None, ""),
    ]
    readlink = Path.readlink
    other = {"/proc/self/ns/mnt": Path("mnt:[1]")}
    monkeypatch.setattr(Path, "readlink", lambda path: other.get(str(path)) or readlink(path))
    if Path("/proc/self/ns/mnt").exists():
        names.append(_places._name(PARENT, ""))
    assert len(set(names)) == len(names)
    assert names[-1] == _places._name(PARENT, "")
