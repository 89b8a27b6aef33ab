#!/bin/bash
# Fig. 4, 5 and 6 between two systems, with this guest as the host of both: a backup at the far site while a database is in
# use, files lost at the primary and restored from the far image, then everything lost and the volume restored.
# TARGET_PORT is the far system's (HF-B), NEAR_PORT the near one's (HF-A). On both volume 1 is LUN 0 and volume 2 LUN 1; HF-A:1 is
# mirrored to HF-B:1, and HF-B:2 is a mirror of that. FS is ext4 or xfs. /share/holdfast is the command line. Of the host (on_host): a
# backup of HF-A:1 to HF-B:2 (host-backup).
. /ri/lib.sh
FS=${FS:-ext4}
near=$TARGET_HOST:$NEAR_PORT far=$PORTAL
cp /share/holdfast /tmp/holdfast
# On a busy machine udev takes its time; what counts is that the devices appear.
session() { iscsiadm -m node -T "$IQN" -p "$1" "$2"; }
t "log in to the far system" eval 'discover $far && session $far --login' || bail "no far system: $(cat /tmp/step)"
t "log in to the near system" eval 'node_new $near && session $near --login' || bail "no near system: $(cat /tmp/step)"
lun() { readlink -f "/dev/disk/by-path/ip-$1-iscsi-$IQN-lun-$2"; }
there() { test -e "/dev/disk/by-path/ip-$1-iscsi-$IQN-lun-$2"; }
for l in "$near 0" "$far 0" "$far 1"; do t "LUN $l appears" wait_for 300 there $l || bail "no LUN"; done
std=$(lun $near 0) spvol=$(lun $far 0) svol=$(lun $far 1)
sg=$(sg_of "$svol")
note "primary $std, far volume $spvol, image $svol ($sg)"
hf() { /tmp/holdfast --device "$sg" "$@"; }
state() { hf --json query 1 1 | grep -q "\"state\":\"$1\""; }
restore() { hf restore-files --from 2 --to 1 --state /tmp/state.json "$@"; }
says() { echo "looking for: $1"; cat /tmp/said; grep -q -- "$1" /tmp/said; }
refused() { local what=$1 word=$2 rc=0; shift 2; "$@" >/tmp/said 2>&1 || rc=$?; t "$what" eval "says '$word' && [ $rc = 1 ]"; }
mkdir -p /mnt /b

t "mkfs.$FS on the primary" mkfs.$FS -q "$std" || bail "no file system"
t "mount it" mount "$std" /mnt || bail "no mount"
fill() {
  mkdir -p /mnt/db /mnt/docs/deep && chown 1234:4321 /mnt/db && chmod 750 /mnt/db
  for i in 1 2 3; do dd if=/dev/urandom of=/mnt/docs/f$i bs=64k count=$((i * 6)) status=none || return; done
  dd if=/dev/urandom of=/mnt/docs/sparse bs=4k count=1 seek=5000 status=none
  ln /mnt/docs/f1 /mnt/docs/deep/same; ln -s ../f2 /mnt/docs/deep/link
  chown 77:88 /mnt/docs/f2; chmod 4711 /mnt/docs/f2; touch -d '2001-02-03 04:05:06.123456789' /mnt/docs/f2
  echo before >/mnt/other
  sqlite3 /mnt/db/app.sqlite 'pragma journal_mode=wal; create table t(n integer primary key, x text);'
}
t "files and a database" fill
# Each row is counted when sqlite3 has answered: it is durable then.
writer() { local i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); sqlite3 /mnt/db/app.sqlite "pragma synchronous=full; insert into t values($i, hex(randomblob(200)));" || return; echo $i >/tmp/rows.new; mv /tmp/rows.new /tmp/rows; done; }
writer & w=$!
t "the database is in use" wait_for 300 test -e /tmp/rows
rows=$(cat /tmp/rows)
sums() { (cd "$1" && find docs -type f -print0 | sort -z | xargs -0 sha256sum; find docs -printf '%p %y %m %U %G %T@ %n %l\n' | grep -v '^docs d\|^docs/deep d' | sort); }
sync; sums /mnt >/tmp/sums
t "a backup at the far site, under load" on_host host-backup 300 || bail "no backup"
t "the database goes on" wait_for 300 eval "[ \$(cat /tmp/rows) -gt $((rows + 2)) ]"
t "a file changes after the backup" eval 'echo after >/mnt/other && sync'
ls -l --full-time /mnt/docs/f2 >/tmp/f2

# --- what is unsafe is refused, and nothing is changed ----------------------------------------------
# What is the same with every file system is tried with one.
if [ $FS = ext4 ]; then
refused "a file that the image has not" "has no docs/nothing" restore docs/nothing
refused "a way out of the volume" "leads out" restore ../etc/passwd
refused "another primary" "follows HF-A:1" restore --primary HF-A:2 docs/f1
fi
refused "the primary is mounted" "was not unmounted" restore docs/f2
t "the pair is what it was" wait_for 300 state duplex
touch /tmp/stop; wait $w
if [ $FS = ext4 ]; then
t "--dry-run" restore --dry-run docs/f2 db
cp /tmp/step /tmp/said; t "it would restore them" says 'would restore'
fi

# --- Fig. 5: files are lost ---------------------------------------------------------------------------
t "the database is destroyed, and files" eval 'dd if=/dev/urandom of=/mnt/db/app.sqlite bs=4k count=3 conv=notrunc status=none; rm -f /mnt/db/app.sqlite-*; rm -rf /mnt/docs/f2 /mnt/docs/deep /mnt/docs/sparse; echo wrong >/mnt/docs/f1; sync'
t "umount the primary" umount /mnt || bail "busy"
if [ $FS = ext4 ]; then
# Killed with the image mounted: the kernel unmounts.
restore --before 'kill -9 $PPID' docs/f2 >/dev/null 2>&1
t "after a SIGKILL nothing is mounted" wait_for 100 eval '! dd if=$svol of=/dev/null count=1 iflag=excl status=none 2>&1 | grep -q busy; ! grep -q "$svol\|$spvol" /proc/*/mountinfo'
t "nor is the image's device read-only" wait_for 100 eval '[ "$(blockdev --getro $svol)" = 0 ]'
fi
t "restore-files" restore --primary HF-A:1 --after 'mount '"$std"' /mnt' db docs/f1 docs/f2 docs/deep docs/sparse || bail "not restored: $(cat /tmp/step)"
cp /tmp/step /tmp/said; t "hard links are told of" grep -q 'hard link' /tmp/said
t "the hook has mounted the primary" mountpoint -q /mnt || mount "$std" /mnt
t "the database is whole" eval '[ "$(sqlite3 /mnt/db/app.sqlite "pragma integrity_check")" = ok ]'
t "with every row that was there at the backup" eval "[ \$(sqlite3 /mnt/db/app.sqlite 'select count(*) from t') -ge $rows ]"
sums /mnt >/tmp/sums.now
t "files are what they were: contents, owner, mode, times, links" diff /tmp/sums /tmp/sums.now
t "holes are holes" eval '[ $(stat -c %b /mnt/docs/sparse) -lt 200 ]'
t "what was not named is left alone" grep -q after /mnt/other
t "the pair is equal" wait_for 300 state duplex
t "nothing is left beside them" eval '! find /mnt -name ".holdfast*" | grep .'
t_not "the state file is gone" test -e /tmp/state.json

# --- Fig. 6: everything is lost -----------------------------------------------------------------------
if [ $FS = ext4 ]; then
t "everything is deleted" eval 'rm -rf /mnt/*; umount /mnt; dd if=/dev/zero of=$std bs=1M count=8 oflag=direct status=none' || bail "busy"
t "restore-files of everything takes the volume" restore --json / || bail "not restored: $(cat /tmp/step)"
cp /tmp/step /tmp/said; t "because the volume does not mount" says '"restored":"volume","why":"the files named are all of the image'
t "mount the primary" mount "$std" /mnt
t "the database is whole again" eval '[ "$(sqlite3 /mnt/db/app.sqlite "pragma integrity_check")" = ok ]'
t "with its rows" eval "[ \$(sqlite3 /mnt/db/app.sqlite 'select count(*) from t') -ge $rows ]"
sums /mnt >/tmp/sums.now
t "every file is what it was" diff /tmp/sums /tmp/sums.now
t "what was not named before is the image's, too" grep -q before /mnt/other
fi
t "umount" umount /mnt
case $FS in ext4) t "fsck of the primary" e2fsck -fn "$std";; xfs) t "xfs_repair -n of the primary" xfs_repair -n "$std";; esac
t "logout" eval 'session $far --logout && session $near --logout'
finish
