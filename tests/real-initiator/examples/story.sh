#!/bin/bash
# The five-minute story of the README, told by a kernel initiator: files on a
# standard, a mirror split and mounted on "another host" (a second initiator
# name on the second network), files lost, a protected restore mounted at once
# while tracks are still being copied, the mirror unchanged; and once more.
# Everything is commanded in band, with sg_raw. Volume 1 is LUN 0, volume 2 LUN 1.
# Asked by `on_host`, the host slows copies down to a trickle (host-slow-N) so
# that the restore is surely under way while it is looked at, lets them go again
# (host-fast-N), and writes the mirror's SHA-256 to /share/sha-N (host-sha-N).
. /ri/lib.sh
A=${INITIATOR_NAME} B=$INITIATOR_NAME-b
p1=$PORTAL p2=10.0.3.2:$TARGET_PORT
P='00 00 00 01' M='00 00 00 02'

t "discovery and login as host A" eval 'discover && login' || bail "no login: $(cat /tmp/step)"
iscsiadm -m iface -I b -o new >/dev/null && iscsiadm -m iface -I b -o update -n iface.initiatorname -v "$B" >/dev/null
iscsiadm -m node -o new -T "$IQN" -p "$p2" -I b >/dev/null
t "login as host B" login "$p2" || bail "no second session"
at() { readlink -f "/dev/disk/by-path/ip-$1-iscsi-$IQN-lun-$2"; }
t "host A sees LUN 0" wait_for 40 test -e "/dev/disk/by-path/ip-$p1-iscsi-$IQN-lun-0" || bail "no disk"
t "host B sees LUN 1" wait_for 40 test -e "/dev/disk/by-path/ip-$p2-iscsi-$IQN-lun-1" || bail "no mirror"
std=$(at "$p1" 0) mirror=$(at "$p2" 1)
sg=$(sg_of "$std") msg=$(sg_of "$mirror")
note "standard $std ($sg) at host A, mirror $mirror ($msg) at host B"

# A command after a unit attention (status 6) is repeated.
raw() { local rc; for _ in 1 2 3; do sg_raw "$@"; rc=$?; [ $rc = 6 ] || return $rc; done; return $rc; }
out() { raw "$sg" c1 "$1" "$2" "${3:-00}" $P $M 00 00 00 00; }              # SERVICE-ACTION FLAGS [CONDITION]
summary() { raw -r 32 -o /tmp/verify "$sg" c0 01 "$1" 00 $P $M 00 00 20 00; }
in_state() { summary "$1" && [ "$(od -An -tu1 -j28 -N1 /tmp/verify | tr -d ' ')" = 0 ]; }
remaining() { raw -r 256 -o /tmp/query "$sg" c0 00 00 00 $P $M 00 01 00 00 2>/dev/null && od -An -tu1 -j$((16 + 40)) -N8 /tmp/query | awk '{n=0; for(i=1;i<=8;i++) n=n*256+$i; print n}'; }
not_ready() { sg_turs "$msg"; [ $? = 2 ]; }
ready() { sg_turs -n 3 "$msg" >/dev/null 2>&1; sg_turs "$msg"; }
sums() { (cd /mnt && find d -type f -print0 | sort -z | xargs -0 sha256sum); }
sha() { on_host "host-sha-$1" 120 && cp "/share/sha-$1" "/tmp/sha-$1"; }

t "SETUP lists three volumes" eval 'raw -r 1024 -o /tmp/setup "$sg" c0 02 00 00 00 00 00 00 00 00 00 00 00 04 00 00 && [ $(od -An -tu1 -j11 -N1 /tmp/setup) -ge 2 ]'

# --- a standard with files, and its mirror -------------------------------------------
mkdir -p /mnt /b
t "mkfs.ext4 on the standard" mkfs.ext4 -q -F "$std" || bail "no file system"
t "mount it at host A" mount "$std" /mnt || bail "no mount"
fill() { mkdir -p /mnt/d/e; for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/mnt/d/f$i bs=64k count=$((i * 8)) status=none || return; done
         dd if=/dev/urandom of=/mnt/d/e/big bs=1M count=12 status=none; }
t "write files" fill
t "ESTABLISH" out 00 00
t "the mirror's LUN is not ready" not_ready
t "wait for DUPLEX by VERIFY" wait_for 120 in_state 02
t "more files while DUPLEX" dd if=/dev/urandom of=/mnt/d/late bs=64k count=24 status=none
t "sync" sync -f /mnt/d/late
sums >/tmp/sums
t "SPLIT" out 01 00
t "VERIFY: split" wait_for 60 in_state 04
t "the mirror's LUN is ready, after a unit attention" ready
t "VERIFY: none is duplex" eval '! in_state 02'

# --- another host reads the mirror -----------------------------------------------------
blockdev --flushbufs "$mirror"; wait_for 20 blockdev --rereadpt "$mirror"
t "host B mounts the mirror" mount -o ro,noload "$mirror" /b || bail "no mirror to mount"
t "every file is right there" eval '(cd /b && sha256sum --quiet -c /tmp/sums)'
t "host B unmounts it" umount /b
t "SHA-256 of the mirror" sha 0

for round in 1 2; do
  # --- disaster -----------------------------------------------------------------------
  ruin() { rm -r /mnt/d/e && for i in 1 2 3 4 5; do dd if=/dev/urandom of=/mnt/d/f$i bs=64k count=$((i * 8)) conv=notrunc status=none || return; done
           dd if=/dev/urandom of=/mnt/wrong bs=1M count=6 status=none; sync -f /mnt; }
  t "round $round: files are deleted and overwritten" ruin
  t "round $round: unmount" umount /mnt

  # --- protected restore, used at once ------------------------------------------------
  blockdev --flushbufs "$std"
  t "round $round: copies at a trickle" on_host "host-slow-$round" 60
  t "round $round: RESTORE PROTECTED" out 02 04
  t "round $round: mount at once" mount "$std" /mnt || bail "no mount"
  left=$(remaining); note "round $round: $left tracks left to restore just after the mount"
  t "round $round: tracks are still being copied" test "${left:-0}" -gt 0
  t "round $round: VERIFY: protected-restoring" in_state 07
  t "round $round: every file is right" eval '(cd /mnt && sha256sum --quiet -c /tmp/sums)'
  t "round $round: what came later is gone" test ! -e /mnt/wrong
  t "round $round: new files during the copy" eval 'dd if=/dev/urandom of=/mnt/new$round bs=64k count=40 status=none && sync -f /mnt/new$round && sha256sum /mnt/new$round >/tmp/new$round'
  t "round $round: the mirror stays ready" ready
  t "round $round: still restoring" in_state 07
  t "round $round: copies at full speed" on_host "host-fast-$round" 60
  t "round $round: wait for SPLIT by VERIFY" wait_for 180 in_state 04
  t "round $round: new files are right" sha256sum --quiet -c /tmp/new$round
  t "round $round: the mirror's SHA-256" sha $round
  t "round $round: the mirror is unchanged" cmp /tmp/sha-0 /tmp/sha-$round
  t "round $round: unmount and fsck" eval 'umount /mnt && fsck.ext4 -fn $std'
  t "round $round: mount again" mount "$std" /mnt
  t "round $round: every file is still right" eval '(cd /mnt && sha256sum --quiet -c /tmp/sums)'
done

# --- conditions -------------------------------------------------------------------------
t "CONFIG RELEASE" out 03 00 02
t "CONFIG with an unknown CONDITION is refused" eval "! raw $sg c1 03 00 0f $P $M 00 00 00 00"
t "CONFIG NOT READY" raw "$sg" c1 03 00 03 $P $M 00 00 00 00
t "the mirror is not ready" not_ready
t "CONFIG READY" raw "$sg" c1 03 00 04 $P $M 00 00 00 00
t "the mirror is ready again" ready
t "CONFIG HOLD" raw "$sg" c1 03 00 01 $P $M 00 00 00 00
t_not "ESTABLISH is refused while held" out 00 00
t "CONFIG RELEASE" raw "$sg" c1 03 00 02 $P $M 00 00 00 00
t "ESTABLISH, incremental" out 00 00
t "wait for DUPLEX" wait_for 120 in_state 02
t_not "RESTORE is refused while DUPLEX" out 02 00
t "CANCEL" out 04 00
t "unmount" umount /mnt
t "logout of both" eval 'logout "$p1" && logout "$p2"'
finish
