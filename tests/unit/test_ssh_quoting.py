"""Words as one line for a shell: a real one reads them back."""

from __future__ import annotations

import os
import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.ssh.quoting import line

HOSTILE = "'\"\\$`!*?~#&;|<>(){}[]^ \n\t\r=%한글äé-"
WORDS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30),
        st.text(HOSTILE, max_size=30),
        st.binary(max_size=30).filter(lambda data: 0 not in data).map(os.fsdecode),
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(words=WORDS, locale=st.sampled_from(["C", "C.UTF-8", "POSIX"]))
def test_a_shell_reads_the_same_words(words: list[str], locale: str) -> None:
    script = b"set -- " + line(["first", *words]) + b'; for word; do printf "%s\\0" "$word"; done'
    done = subprocess.run(["sh", "-c", script], env={"LC_ALL": locale}, capture_output=True, check=True)
    assert done.stdout.split(b"\0")[1:-1] == [os.fsencode(word) for word in words]
