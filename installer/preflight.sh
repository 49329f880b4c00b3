#!/bin/sh
# What this machine must have before anything is installed. Every missing thing is
# named with the command that installs it; nothing is changed. Prints the Python to
# use on the last line when all is there.
set -u

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo "
missing=0

lack() { # what, command
    missing=$((missing + 1))
    printf '  ✗ %s がありません / is missing\n      %s\n' "$1" "$2" >&2
}

is_311() { # the lock files hold the digests of this version's wheels
    "$1" -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))" >/dev/null 2>&1
}

python=""
for name in ${PYTHON:-} python3.11 python3; do
    if command -v "$name" >/dev/null 2>&1 && is_311 "$name"; then
        python=$(command -v "$name")
        break
    fi
done

if [ -z "$python" ]; then
    lack "Python 3.11" "${sudo}apt-get install -y python3.11 python3.11-venv"
elif ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    lack "Python の venv (Python's venv)" "${sudo}apt-get install -y $(basename "$python")-venv"
fi
command -v c++ >/dev/null 2>&1 || lack "C++ コンパイラ (a C++ compiler)" "${sudo}apt-get install -y g++"
command -v cmake >/dev/null 2>&1 || lack "cmake" "${sudo}apt-get install -y cmake"
command -v make >/dev/null 2>&1 || lack "make" "${sudo}apt-get install -y make"

node=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
if [ "${node:-0}" -lt 20 ] 2>/dev/null || ! command -v npm >/dev/null 2>&1; then
    lack "Node.js 20 以上と npm (Node.js 20 or newer, with npm)" \
        "${sudo}apt-get install -y nodejs npm   # 古い場合は nodejs.org の 20 を / if older, 20 from nodejs.org"
fi

free_mb=$(df -Pm . | awk 'NR==2 {print $4}')
if [ "${free_mb:-0}" -lt 6000 ] && [ ! -e .venv ]; then
    lack "空き容量 6 GB (6 GB of free disk; here: ${free_mb} MB)" "df -h ."
fi

if [ "$missing" -gt 0 ]; then
    printf '\n上の %s 件を用意して、もう一度実行してください。 / Install the %s above, then run this again.\n' \
        "$missing" "$missing" >&2
    exit 1
fi
printf '%s\n' "$python"
