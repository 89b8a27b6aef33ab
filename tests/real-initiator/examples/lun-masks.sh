#!/bin/bash
# LUN maps of two initiators: one guest logs in twice, under two initiator names. A sees the target's LUNs (0 and more); B, whose
# name ends in "-b", sees the first of them read-only as LUN 5 and the second as LUN 6, and no others. Then the host
# gives B the second as LUN 7 and lets it write to LUN 5. It overwrites the LUNs.
. /ri/lib.sh
A=${INITIATOR_NAME} B=$INITIATOR_NAME-b
p1=$PORTAL p2=10.0.3.2:$TARGET_PORT          # the same port through the second network card

at() { readlink -e "/dev/disk/by-path/ip-$1-iscsi-$IQN-lun-$2"; }
luns() { _path "$1" | sed 's/.*-lun-//' | sort -n | tr '\n' ' '; }
sees() { [ "$(luns "$1")" = "$2 " ]; }
wwid() { cat /sys/block/"${1##*/}"/device/wwid; }

t "discovery and login as A" eval 'discover && login' || bail "no login: $(cat /tmp/step)"
iscsiadm -m iface -I b -o new >/dev/null && iscsiadm -m iface -I b -o update -n iface.initiatorname -v "$B" >/dev/null
iscsiadm -m node -o new -T "$IQN" -p "$p2" -I b >/dev/null
t "login as B" login "$p2" || bail "no second session"
t "A sees LUNs 0 to 2" wait_for 20 sees "$p1" "0 1 2" || bail "A sees $(luns "$p1")"
t "B sees LUNs 5 and 6" wait_for 20 sees "$p2" "5 6" || bail "B sees $(luns "$p2")"
a=$(at "$p1" 0) b=$(at "$p2" 5)
t "LUN 0 of A and LUN 5 of B are one unit" [ "$(wwid "$a")" = "$(wwid "$b")" ]
t "REPORT LUNS tells B of two" eval 'sg_luns -q "$(sg_of "$b")" | grep -c . | grep -qx 2'
t "to A it is writable" [ "$(blockdev --getro "$a")" = 0 ]
t "to B it is read-only" [ "$(blockdev --getro "$b")" = 1 ]

mkdir -p /mnt/a /mnt/b
random_file /tmp/data 2
t "A makes a file system and writes a file" eval 'mkfs.ext4 -q -F "$a" && mount "$a" /mnt/a && cp /tmp/data /mnt/a/ && umount /mnt/a'
t "B reads it" eval 'mount -o ro "$b" /mnt/b && cmp /tmp/data /mnt/b/data && umount /mnt/b'
t_not "B cannot mount it to write" mount -w "$b" /mnt/b
umount /mnt/b 2>/dev/null
head -c 512 /dev/zero >/tmp/blk
settle() { sg_turs -n 3 "$(sg_of "$1")"; } >/dev/null 2>&1
# 7 is sg_raw's status for DATA PROTECT.
t_rc 7 "a WRITE of B's is refused as protected" sg_raw -s 512 -i /tmp/blk "$(sg_of "$b")" 2a 00 00 00 00 64 00 00 01 00
t "B writes to LUN 6" dd if=/tmp/data of="$(at "$p2" 6)" bs=256k oflag=direct conv=notrunc status=none
t "A reads it under LUN 1" eval 'dd if="$(at "$p1" 1)" bs=256k count=8 iflag=direct status=none | cmp - /tmp/data'

dmesg -C
t "the map of B changes" on_host host-remap
t "B finds LUN 7 with no command given here" wait_for 30 at "$p2" 7
t "which is what LUN 6 was" [ "$(wwid "$(at "$p2" 7)")" = "$(wwid "$(at "$p1" 1)")" ]
# The kernel adds what is new, and leaves what has gone to whoever deletes it.
t_not "LUN 6 takes no command" sg_turs "$(sg_of "$(at "$p2" 6)")"
settle "$a"; settle "$b"
t "the kernel hears of it" wait_for 10 eval 'dmesg | grep -q "LUN assignments on this target have changed"'
echo 1 >/sys/block/"${b##*/}"/device/rescan
t "LUN 5 is writable to B" wait_for 10 eval '[ "$(blockdev --getro "$b")" = 0 ]'
t "B writes to it" eval 'mount "$b" /mnt/b && cp /tmp/data /mnt/b/more && umount /mnt/b && fsck.ext4 -fn "$b"'
t "A has the LUNs it had" sees "$p1" "0 1 2"
t "logout of both" eval 'logout "$p1" && logout "$p2"'
finish
