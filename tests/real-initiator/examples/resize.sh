#!/bin/bash
# LUNs grow while they are in use. Asked by `on_host host-grow-N`, the host makes volume 1
# (LUN 0, 256 MiB) and volume 2 (LUN 1, 320 MiB) larger: N=1 both to 512 MiB, N=2 to 768 MiB.
. /ri/lib.sh
t "discovery and login" eval 'discover && login' || bail "no login: $(cat /tmp/step)"
lun() { readlink -f "/dev/disk/by-path/ip-$PORTAL-iscsi-$IQN-lun-$1"; }
t "both LUNs appear" wait_for 40 test -e "/dev/disk/by-path/ip-$PORTAL-iscsi-$IQN-lun-1" || bail "no LUN 1"
a=$(lun 0) b=$(lun 1)
mib() { echo $(($(blockdev --getsize64 "$1") >> 20)); }
is() { [ "$(mib "$1")" = "$2" ]; }
t "they have the sizes to begin with" eval 'is $a 256 && is $b 320'
mkdir -p /a /b
t "ext4 on one, XFS on the other" eval 'mkfs.ext4 -q -F $a && mkfs.xfs -q -f $b && mount $a /a && mount $b /b' || bail "$(cat /tmp/step)"
random_file /tmp/some 1
writer() { local i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); dd if=/tmp/some of=$1/w$((i % 8)) bs=64k count=$((1 + i % 16)) conv=fsync status=none && cmp -n 65536 /tmp/some $1/w$((i % 8)) || return; sleep 0.2; done; }
rm -f /tmp/stop; writer /a 2>/tmp/err & wa=$!; writer /b 2>>/tmp/err & wb=$!
for n in 1 2; do
  size=$((256 + n * 256))
  dmesg -C
  t "round $n: the host makes both larger" on_host host-grow-$n 60
  t "round $n: the kernel is told (CAPACITY DATA HAS CHANGED)" wait_for 30 eval 'dmesg | grep -qi "capacity data has changed"'
  t "round $n: rescan" iscsiadm -m session --rescan
  t "round $n: the disks have $size MiB" wait_for 20 eval "is $a $size && is $b $size"
  t "round $n: READ CAPACITY(16) says so" eval "sg_readcap -16 $a | grep -q 'Device size: $((size << 20)) bytes'"
  t "round $n: resize2fs, mounted and in use" resize2fs "$a"
  t "round $n: xfs_growfs, mounted and in use" xfs_growfs /b
  room() { [ $(($(stat -f -c '%b * %S' "$1") >> 20)) -gt $((size * 8 / 10)) ]; }
  t "round $n: the file systems have it" eval 'room /a && room /b'
done
end() { dd if=/tmp/data of="$1" bs=1M oflag=direct conv=notrunc seek=$(($(mib "$1") - 4)) status=none && dd if="$1" bs=1M count=4 iflag=direct skip=$(($(mib "$1") - 4)) status=none | cmp - /tmp/data; }
touch /tmp/stop
t "the writers saw no error" eval 'wait $wa && wait $wb'; sed 's/^/#   /' /tmp/err
large() { fallocate -l 500M $1/large && dd if=/tmp/some of=$1/large bs=1M seek=499 conv=notrunc,fsync status=none && echo 3 >/proc/sys/vm/drop_caches && tail -c 1048576 $1/large | cmp - /tmp/some; }
t "what was gained is used" eval 'large /a && large /b'
t "umount" umount /a /b
t "fsck.ext4 -fn" fsck.ext4 -fn "$a"
t "xfs_repair -n" xfs_repair -n "$b"
random_file /tmp/data 4
t "the last megabytes are written and read" eval 'end $a && end $b'
t "logout" logout
finish
