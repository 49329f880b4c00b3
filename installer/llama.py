"""Of llama.cpp the library alone is compiled.

Its helpers for command lines, servers and pictures are three fifths of the compiler's work, and
nothing of Kura calls them.
"""

import shlex
from pathlib import Path

SETTINGS = Path(__file__).with_name("llama.cmake")
ALONE = shlex.quote(f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={SETTINGS}")
