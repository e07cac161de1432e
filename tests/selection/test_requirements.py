"""Requirement files: what is read, what is skipped, and what makes a file fail alone."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import ConfigError
from mirror.selection.reading import read_file
from mirror.selection.requirements import read_requirement_file
from mirror.selection.wants import UnresolvedFile

A = "sha256:" + "a" * 64
B = "sha512:" + "b" * 128

READ = {
    "plain": ("flask>=3\nPandas [all] ; python_version<'4'", ["flask>=3", 'Pandas[all]; python_version < "4"']),
    "comments": ("# head\nflask # why\n\n  # indented\nweb#1\n".replace("web#1\n", ""), ["flask"]),
    "mark": ("\ufeffflask\n", ["flask"]),
    "utf-16": ("flask\n".encode("utf-16"), ["flask"]),
    "windows-lines": ("flask\r\npandas\r\n", ["flask", "pandas"]),
    "continued": ("flask \\\n  >=3, \\\n  <4\n", ["flask<4,>=3"]),
    "continued-to-the-end": ("flask\\", ["flask"]),
    "comment-after-continuation": ("flask \\\n# why\npandas\n", ["flask", "pandas"]),
    "no-follow": ("--pre\n--no-binary :all:\n--prefer-binary\nflask\n", ["flask"]),
    "editable": ("-e .\n-e ./lib[x]\n--editable=../lib\nflask\n", ["flask"]),
    "local-paths": ("./lib\n../x.whl\nx-1.tar.gz\n/abs/x\nfile:./x\nx @ file:///srv/x\nflask\n", ["flask"]),
    "order": ("b\na\nc\nb>1\n", ["b", "a", "c", "b>1"]),
}


@pytest.mark.parametrize(("text", "lines"), READ.values(), ids=READ)
def test_requirement_file(read, text, lines):
    """Requirements come in their order; comments, local paths and options of pip's choice do not."""
    assert [line.text for line in read({"a.txt": text}).lines] == lines


def test_hashes_origins_and_notes(read):
    """Each line knows its place and its digests; skipped lines and options are named with theirs."""
    text = (
        f"--require-hashes\nflask==3.0 --hash={A.upper().replace('SHA', 'sha')} \\\n  --hash {B}\n-e .\npandas==2.0\n"
    )
    found = read({"wants/a.txt": text})
    assert [(x.project, x.origin, x.hashes, x.pinned_version) for x in found.lines] == [
        ("flask", "wants/a.txt:2", (A, B), "3.0"),
        ("pandas", "wants/a.txt:5", (), "2.0"),
    ]
    assert (found.want, found.file) == ("w", "wants/a.txt")
    assert found.skipped == ("wants/a.txt:4: -e . is a local path",)
    assert found.warnings == ("wants/a.txt:1: --require-hashes is not followed",)


def test_included_files(read):
    """Files may include others below the configuration's folder; each file is read once for each use."""
    found = read(
        {
            "app/a.txt": "-r base.txt\n-c ../limits.txt\n-rbase.txt\nflask\n",
            "app/base.txt": "--requirement=deep/more.txt\n",
            "app/deep/more.txt": "pandas\n",
            "limits.txt": "numpy<2 # old\n-r app/base.txt\n",
        }
    )
    assert [(x.text, x.origin) for x in found.lines] == [("pandas", "app/deep/more.txt:1"), ("flask", "app/a.txt:4")]
    assert [(x.text, x.origin) for x in found.constraints] == [("numpy<2", "limits.txt:1")]


UNRESOLVED = {
    "index-url": ("--index-url https://u:hunter2@i/simple\nflask\n", "a.txt:1: --index-url is not followed"),
    "short-index": ("flask\n-i https://u:hunter2@i/\n", "a.txt:2: -i is not followed"),
    "glued-index": ("-ihttps://u:hunter2@i/\n", "a.txt:1: -i is not followed"),
    "extra-index": ("--extra-index-url=https://hunter2@i\n", "a.txt:1: --extra-index-url is not followed"),
    "find-links": ("-f ./wheels\nflask\n", "a.txt:1: -f is not followed"),
    "no-index": ("--no-index\nflask\n", "a.txt:1: --no-index is not followed"),
    "trusted-host": ("--trusted-host i\nflask\n", "a.txt:1: --trusted-host is not followed"),
    "abbreviated": ("--extra-index https://hunter2@i\nflask\n", "a.txt:1: the option --extra-index is not known"),
    "address": ("flask\nx @ https://u:hunter2@h/x.whl\n", "a.txt:2: x names an address"),
    "glued-address": ("x@git+ssh://hunter2@h/x\n", "a.txt:1: x names an address"),
    "extras-address": ("x[a,b] @ https://hunter2@h/x.whl ; os_name=='nt'\n", "a.txt:1: x[a,b] names an address"),
    "bare-address": ("https://u:hunter2@h/x.whl\n", "a.txt:1: names an address"),
    "bare-vcs": ("git+https://u:hunter2@h/x.git#egg=x\n", "a.txt:1: names an address"),
    "editable-vcs": ("-e git+https://hunter2@h/x\n", "a.txt:1: -e names an address"),
    "include-address": ("-r https://hunter2@h/a.txt\n", "a.txt:1: includes an address"),
    "include-missing": ("-r b.txt\n", "a.txt:1: includes b.txt, which does not exist"),
    "include-windows": ("-r C:\\b.txt\n", "a.txt:1: includes C:b.txt, which does not exist; write the path with /"),
    "include-itself": ("-r ./a.txt\n", "a.txt:1: includes itself"),
    "include-outside": ("-c ../../secret.txt\n", "a.txt:1: ../../secret.txt is outside of the folder"),
    "include-absolute": ("-r /etc/passwd\n", "a.txt:1: /etc/passwd is outside of the folder"),
    "variable": (
        "flask==${HUNTER2}\n",
        "a.txt:1: is no requirement that can be read: the variable HUNTER2 is not read",
    ),
    "nothing": ("# nothing\n", "a.txt: names no requirement"),
    "only-itself": ("-e .\n", "a.txt: names no requirement (a.txt:1: -e . is a local path)"),
    "weak-hash": ("flask==1 --hash=md5:" + "a" * 32, "a.txt:1: --hash: expected sha256"),
    "short-hash": ("flask==1 --hash=sha256:abc", "a.txt:1: --hash: expected sha256"),
    "lonely-hash": (f"--hash={A}\n", "a.txt:1: --hash is not expected here"),
    "no-value": ("-r\n", "a.txt:1: -r needs a value"),
    "quotes": ("flask --hash='x\n", "a.txt:1: its quotes don't match"),
    "latin-1": ("flask # é".encode("latin-1"), "a.txt:1: is not UTF-8"),
    "binary": (b"PK\x03\x04\x00\x00", "a.txt:1: is no requirement that can be read"),
    "marker": ("flask ; hunter2\n", "a.txt:1: is no requirement that can be read"),
    "deep-marker": ("flask ; " + "(" * 5000 + "os_name=='a'" + ")" * 5000, "a.txt:1: is no requirement"),
}


@pytest.mark.parametrize(("text", "problem"), UNRESOLVED.values(), ids=UNRESOLVED)
def test_unresolved(read, text, problem):
    """A file that would lead elsewhere, or that can't be read, fails in one line without its addresses."""
    found = read({"a.txt": text})
    assert isinstance(found, UnresolvedFile)
    assert found.problem.startswith(problem)
    assert "hunter2" not in found.problem
    assert found.problem.isprintable()


def test_links_are_resolved_before_they_are_followed(read, tmp_path):
    """A link below the folder that leads out of it is outside."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.txt").write_text("flask\n")
    (tmp_path / "in/link.txt").symlink_to("../secret.txt")
    (tmp_path / "in/a.txt").write_text("-r link.txt\n")
    with pytest.raises(ConfigError, match=r"a\.txt:1: link\.txt is outside"):
        read_requirement_file(tmp_path / "in/a.txt", want=None, folder=tmp_path / "in")
    inside = read_requirement_file(tmp_path / "in/a.txt", want=None, folder=tmp_path)
    assert [line.text for line in inside.lines] == ["flask"]


def test_patterns_name_files_once_and_in_order(read):
    """Each file of a want counts once, a missing one fails alone, and the rest comes."""
    found = read(
        {"w/b.txt": "b\n", "w/a.txt": "a\n", "w/[x].txt": "x\n"},
        files=("w/[ab].txt", "w/a.txt", "w/[x].txt", "missing/*.txt"),
        requirements=("z>1",),
    )
    assert [x.file for x in found] == [None, "w/a.txt", "w/b.txt", "w/[x].txt", "missing/*.txt"]
    assert [x.origin for x in found[0].lines] == ["requirements[0]"]
    assert found[4].problem == "missing/*.txt: no file matches this pattern"


def test_what_is_no_regular_file_is_not_waited_for(read, tmp_path):
    """A pipe, a folder in a file's place, and a file without permission each fail at once."""
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "a.txt").write_text("-r pipe.txt\n")
    assert read({"a.txt": "-r pipe.txt\n"}).problem == "pipe.txt: is no regular file"
    (tmp_path / "folder.txt").mkdir()
    assert read({"a.txt": "-r folder.txt\n"}).problem == "folder.txt: can't be read: Is a directory"


def test_bounds(read, monkeypatch):
    """Files that include each other for ever, or grow without end, are refused."""
    chain = {f"c{n}.txt": f"-r c{n + 1}.txt\n" for n in range(30)}
    assert read(chain).problem.endswith(": too many files include each other")
    wide = {"a.txt": "".join(f"-r b{n}.txt\n" for n in range(300))} | {f"b{n}.txt": "x\n" for n in range(300)}
    assert read(wide).problem.endswith(": too many files include each other")
    assert read({"a.txt": b"#" * (5 << 20)}).problem == "a.txt: is larger than 4 MiB"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_text_is_read_or_named(tmp_path_factory, text):
    """Whatever stands in a file, it is read or fails in one printable line."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.txt").write_text(text, encoding="utf-8", newline="")
    found = read_file(folder / "any.txt", want=None, folder=folder)
    if isinstance(found, UnresolvedFile):
        assert found.problem.isprintable()
    else:
        assert found.lines


_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(st.lists(st.tuples(_NAMES, st.sampled_from(["", ">=1", "==2.0,!=3", "[x]<9"])), min_size=1, max_size=8))
def test_lines_keep_their_order(tmp_path_factory, lines):
    """The requirements of a file are those of its lines, in their order, comments or not."""
    folder = tmp_path_factory.getbasetemp()
    text = "".join(f"{name}{rest}  # {name}\n\n" for name, rest in lines)
    (folder / "lines.txt").write_text(text)
    found = read_requirement_file(folder / "lines.txt", want=None, folder=folder)
    assert [line.project for line in found.lines] == [name for name, _rest in lines]
