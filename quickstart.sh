#!/usr/bin/env bash
# From a fresh clone to a demonstration, or to a passed test suite, with one command.
set -eu
cd "$(dirname "$0")"

packages=(
    cmake make gcc libc6-dev pkgconf
    openmpi-bin libopenmpi-dev libhdf5-openmpi-dev libopenblas-dev libpopt-dev libjansson-dev libxxhash-dev librandom123-dev
    libsndfile1-dev libsoxr-dev libfftw3-dev # sound
    libcmocka-dev python3 python3-h5py # tests
)

usage() {
    cat <<'END'
usage: ./quickstart.sh demo     build, and run attention over a real document on 2 ranks: files in build/demo/
       ./quickstart.sh test     build, and run the test suite

Installs missing Debian packages first (as root, or through sudo where it asks for no password); anywhere else it names
what is missing and stops. Builds in build/release (demo) and build/dev (test).
END
}

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

missing_packages() {
    local package
    # Open MPI looks its host's own name up at each launch; in a bare change root, that waits 5 s for the DNS.
    if [ "$(id -u)" = 0 ] && ! getent hosts "$(uname -n)" >/dev/null; then packages+=(libnss-myhostname); fi
    for package in "${packages[@]}"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            printf '%s ' "$package"
        fi
    done
}

install_packages() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        fail "this is not a Debian system. Install what these packages hold: ${packages[*]}; then run
    cmake --workflow --preset demo    or    cmake --workflow --preset test"
    fi
    local missing as_root=()
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        if ! sudo -n true 2>/dev/null; then
            fail "packages are missing, and only root may install them. Run
    sudo apt-get install --no-install-recommends $missing"
        fi
    fi
    say "installing packages: $missing"
    local install=(apt-get -q -y --no-install-recommends install)
    # Package lists may be absent, or older than the archive.
    # shellcheck disable=SC2086
    if ! apt-get -s --no-install-recommends install $missing >/dev/null 2>&1 ||
        ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" $missing; then
        "${as_root[@]}" apt-get -q update || fail "apt-get update failed"
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" $missing ||
            fail "apt-get could not install: $missing"
    fi
}

# What Open MPI refuses or does badly unless told: running as root, more ranks than cores, and, on a laptop or a virtual
# machine, one core a rank. In most containers the kernel forbids one process to read another's memory. In a bare
# change root there is no /sys for hwloc to read.
prepare_mpi() {
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
    export HWLOC_HIDE_ERRORS=2
    if [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then
        export OMPI_MCA_btl_vader_single_copy_mechanism=none
    fi
}

run() {
    printf '\n$ %s\n' "$*"
    "$@" || fail "this command failed with status $?: $*"
}

demo() {
    local longspan=build/release/longspan folder=build/demo
    say "building in build/release"
    cmake --workflow --preset demo || fail "the build failed"

    mkdir -p "$folder"
    if [ -d /usr/share/common-licenses ]; then
        (LC_ALL=C && cat /usr/share/common-licenses/*) >"$folder/document.txt"
        say "the document: all texts in /usr/share/common-licenses"
    else
        cp bench/texts/licenses.txt "$folder/document.txt"
        say "the document: bench/texts/licenses.txt"
    fi

    run mpirun -np 2 "$longspan" embed text "$folder/document.txt" -o "$folder/doc.h5" --heads 4 --dim 64 --force
    run mpirun -np 2 "$longspan" attend "$folder/doc.h5" -o "$folder/out.h5" --mask causal \
        --report "$folder/report.json" --force
    run mpirun -np 2 "$longspan" verify "$folder/doc.h5" "$folder/out.h5"
    run mpirun -np 2 "$longspan" map "$folder/out.h5" -o "$folder/map.svg" --force

    local file
    for file in doc.h5 out.h5 report.json map.svg; do
        [ -s "$folder/$file" ] || fail "$folder/$file was not written"
    done
    say "done: files in $folder/"
    cat <<END
document.txt   the text
doc.h5         its queries, keys and values
out.h5         attention over all of it, with the log-sum-exp of every row
report.json    plan, timings, bytes and memory of the run
map.svg        where attention goes; open it in a browser
END
}

suite() {
    say "building in build/dev, then running the tests"
    cmake --workflow --preset test || fail "the tests did not pass"
}

case "${1-}" in
demo | test) [ $# = 1 ] || { usage >&2; exit 2; } ;;
-h | --help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

install_packages
prepare_mpi
cores=$(nproc)
export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL-$cores}" CTEST_PARALLEL_LEVEL="${CTEST_PARALLEL_LEVEL-$cores}"
case "$1" in
demo) demo ;;
test) suite ;;
esac
