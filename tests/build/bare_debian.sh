#!/usr/bin/env bash
# Do both quickstart commands work on a bare Debian 12, with nothing preinstalled?
#
#   tests/build/bare_debian.sh FOLDER
#
# Makes a minimal Debian 12 in FOLDER (which must not exist), clones the committed state of this repository into it, and
# runs `./quickstart.sh demo`, once more `demo`, and `./quickstart.sh test` there as root. Needs root, debootstrap and the
# network, 3 GB and some minutes, so it is run by hand and is no CTest test. FOLDER is left for inspection.
set -eu

[ $# = 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "bare_debian: must be run as root" >&2; exit 1; }
[ ! -e "$folder" ] || { echo "bare_debian: $folder exists" >&2; exit 1; }
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

debootstrap --variant=minbase bookworm "$folder" http://deb.debian.org/debian
git clone -q "$source" "$folder/root/longspan"

release() {
    umount "$folder/dev/shm" "$folder/proc" 2>/dev/null || true
}
trap release EXIT
mount -t proc proc "$folder/proc"
mount -t tmpfs tmpfs "$folder/dev/shm"

for command in demo demo test; do
    printf '\n==== ./quickstart.sh %s\n' $command
    begin=$SECONDS
    chroot "$folder" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root /root/longspan/quickstart.sh $command
    printf '==== %s passed after %d s\n' $command $((SECONDS - begin))
done
