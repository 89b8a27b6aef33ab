#!/bin/bash
# XFS on a standard, and its split mirror mounted beside it on one host: both have one UUID,
# so the kernel wants `nouuid` or another UUID for the image. Everything is commanded in
# band, with sg_raw. Volume 1 is LUN 0, volume 2 LUN 1, each of 400 MB or more.
. /ri/lib.sh
P='00 00 00 01' M='00 00 00 02'
t "discovery and login" eval 'discover && login' || bail "no login: $(cat /tmp/step)"
lun() { readlink -f "/dev/disk/by-path/ip-$PORTAL-iscsi-$IQN-lun-$1"; }
t "both LUNs appear" wait_for 40 test -e "/dev/disk/by-path/ip-$PORTAL-iscsi-$IQN-lun-1" || bail "no LUN 1"
std=$(lun 0) mirror=$(lun 1)
sg=$(sg_of "$std") msg=$(sg_of "$mirror")
note "standard $std ($sg), mirror $mirror ($msg)"
# A command after a unit attention (status 6) is repeated.
raw() { local rc; for _ in 1 2 3; do sg_raw "$@"; rc=$?; [ $rc = 6 ] || return $rc; done; return $rc; }
out() { raw "$sg" c1 "$1" "$2" 00 $P $M 00 00 00 00; }
in_state() { raw -r 32 -o /tmp/verify "$sg" c0 01 "$1" 00 $P $M 00 00 20 00 && [ "$(od -An -tu1 -j28 -N1 /tmp/verify | tr -d ' ')" = 0 ]; }
ready() { sg_turs -n 3 "$msg" >/dev/null 2>&1; sg_turs "$msg"; }
fresh() { blockdev --flushbufs "$mirror"; wait_for 20 blockdev --rereadpt "$mirror"; udevadm settle -t 60; }
sums() { (cd "$1" && find d -type f -print0 | sort -z | xargs -0 sha256sum); }
mkdir -p /mnt /b

t "mkfs.xfs on the standard" mkfs.xfs -q -f "$std" || bail "no file system"
t "mount it" mount "$std" /mnt || bail "no mount"
fill() { mkdir -p /mnt/d/e; for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/mnt/d/f$i bs=64k count=$((i * 8)) status=none || return; done
         dd if=/dev/urandom of=/mnt/d/e/big bs=1M count=12 status=none; }
t "write files" fill
t "ESTABLISH" out 00 00
t "wait for DUPLEX" wait_for 120 in_state 02

# --- an image of a file system at rest --------------------------------------------------
t "xfs_freeze" xfs_freeze -f /mnt
t "SPLIT" out 01 00
t "xfs_freeze -u" xfs_freeze -u /mnt
sums /mnt >/tmp/sums
t "wait for SPLIT" wait_for 60 in_state 04
t "the mirror's LUN is ready, after a unit attention" ready; fresh
uuid() { blkid -p -s UUID -o value "$1"; }
t "both file systems have one UUID" eval '[ -n "$(uuid $std)" ] && [ "$(uuid $std)" = "$(uuid $mirror)" ]'
dmesg -C
t_not "the image beside the standard is refused" mount -t xfs "$mirror" /b
t "because of its UUID" eval 'dmesg | grep -q "duplicate UUID"'
t "with nouuid it is mounted" mount -t xfs -o nouuid "$mirror" /b || bail "no image"
t "every file is right there" eval '(cd /b && sha256sum --quiet -c /tmp/sums)'
t "both are written to" eval 'for d in /mnt /b; do dd if=/dev/urandom of=$d/both bs=64k count=32 status=none && sync -f $d/both || exit; done; ! cmp -s /mnt/both /b/both'
t "umount the image" umount /b
t "xfs_repair -n of the image" xfs_repair -n "$mirror"

# --- an image taken while files are being written ----------------------------------------
t "ESTABLISH, incremental" out 00 00
t "wait for DUPLEX again" wait_for 120 in_state 02
writer() { local i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); dd if=/dev/urandom of=/mnt/w$((i % 40)) bs=16k count=$((1 + i % 16)) status=none || return; done; }
rm -f /tmp/stop; writer & w=$!
dd if=/dev/urandom of=/mnt/d/late bs=64k count=24 status=none; sync -f /mnt/d/late; sums /mnt >/tmp/sums
t "SPLIT under load" out 01 02
touch /tmp/stop
t "the writer saw no error" wait $w
t "the mirror is ready at once" ready; fresh
t "another UUID is refused while the log is dirty" eval 'xfs_admin -U generate "$mirror" 2>&1 | grep -q "needs to"'
t "mount with nouuid replays the log" mount -t xfs -o nouuid "$mirror" /b
t "every file that was synced is right" eval '(cd /b && sha256sum --quiet -c /tmp/sums)'
t "umount the image again" umount /b
t "xfs_repair -n finds nothing" xfs_repair -n "$mirror"
t "xfs_admin -U generate" xfs_admin -U generate "$mirror"
t "with a UUID of its own it is mounted without nouuid" mount -t xfs "$mirror" /b
t "umount it" umount /b
t "umount the standard" umount /mnt
t "xfs_repair -n of the standard" xfs_repair -n "$std"
t "logout" logout
finish
