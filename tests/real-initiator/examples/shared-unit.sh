#!/bin/bash
# One unit through two systems under dm-multipath: the sides of the pair are swapped and swapped
# back while a file system on it is written to. Then the same in a single session, which is sent to the side that leads.
#   SYSTEMS   the portals of the system that leads at first and of the other
# The host is asked (DIR/host-swap-1 to -3, with run-guest --share DIR) for the swaps, and (host-redirect) to turn redirects on.
. /ri/lib.sh
set -- $SYSTEMS
p1=$1 p2=$2

t "discovery" discover "$p1" || bail "discovery failed: $(cat /tmp/step)"
node_new "$p2"
t "login, the system that leads ($p1)" login $p1 || bail "no session"
t "login, the system that follows ($p2)" login $p2 || bail "no second session"
d1=$(disk $p1) && d2=$(disk $p2) || bail "not two disks"
note "$p1 = $d1, $p2 = $d2"
uid() { udevadm info -q property -n "$1" | sed -n 's/^ID_SERIAL=//p'; }
t "both are the same unit ($(uid $d1))" eval '[ -n "$(uid $d1)" ] && [ "$(uid $d1)" = "$(uid $d2)" ]'
size() { blockdev --getsize64 "$1"; }
t "the one in standby has its size too" eval '[ "$(size $d1)" -gt 0 ] && [ "$(size $d1)" = "$(size $d2)" ]'
t_not "and takes no write" dd if=/dev/zero of=$d2 bs=4k count=1 oflag=direct

modprobe -a dm-multipath dm-service-time scsi_dh_alua
t "multipathd starts" multipathd
t "multipathd answers" wait_for 20 multipathd show daemon
map() { multipathd show maps raw format "%n %N" 2>/dev/null | awk 'NR==1{print $1}'; }
have_map() { m=$(map); [ -n "$m" ] && [ -b /dev/mapper/$m ]; }
t "a multipath device appears" wait_for 30 have_map || { multipath -v3 -d 2>&1 | tail -40 | sed 's/^/# /'; bail "no map"; }
mp=/dev/mapper/$(map)
# What the kernel was told by ALUA, and what multipathd's checker found.
state() { cat /sys/block/"${1##*/}"/device/access_state; }
checked() { multipathd show paths raw format "%d %T" | awk -v d="${1##*/}" '$1==d{print $2}'; }
are() { # are ACTIVE STANDBY: these are the parts of the two disks
  [ "$(state $1)" = active/optimized ] && [ "$(state $2)" = standby ] && [ "$(checked $1)" = ready ] && [ "$(checked $2)" = ghost ]
}
t "one path is active, the other in standby" wait_for 60 are $d1 $d2
multipath -ll | sed 's/^/#   /'

t "mkfs" mkfs.ext4 -q -F $mp
mkdir -p /mnt/shared
t "mount" mount $mp /mnt/shared
random_file /tmp/data 1
writer() {
  local n=0
  while [ ! -e /tmp/stop ]; do
    dd if=/tmp/data of=/mnt/shared/file$((n % 16)) bs=64k conv=fsync status=none || return
    n=$((n + 1)); echo x
  done
}
rm -f /tmp/stop; writer >/tmp/writes 2>/tmp/writer.err & w=$!
rounds() { wc -l </tmp/writes; }
more() { [ $(rounds) -gt $((n + 5)) ]; }
n=0
t "files are written" wait_for 60 more
t "the sides are swapped" on_host host-swap-1 180
n=$(rounds)
t "writes go on" wait_for 120 more
t "by the other path" wait_for 60 are $d2 $d1
t "the sides are swapped back" on_host host-swap-2 180
n=$(rounds)
t "writes go on again" wait_for 120 more
t "by the first path" wait_for 60 are $d1 $d2
touch /tmp/stop
t "the writer never saw an error" wait $w
note "$(rounds) files written; $(cat /tmp/writer.err)"
same() { for f in /mnt/shared/file*; do cmp $f /tmp/data || return; done; }
t "unmount" umount /mnt/shared
blockdev --flushbufs $mp
t "mount again" mount $mp /mnt/shared
t "every file is what was written" same
t "unmount again" umount /mnt/shared
t "the file system is clean" e2fsck -fn $mp
t "flush the map" eval "wait_for 20 multipath -f ${mp##*/}"
multipathd shutdown >/dev/null 2>&1; sleep 1
t "logout of both" eval "logout $p1 && logout $p2"

# A host without multipath: one session, which goes where the unit is led.
t "each system sends initiators to the other while that leads" on_host host-redirect
portal() { iscsiadm -m session -P 1 | sed -n 's/.*Current Portal: \([^,]*\),.*/\1/p'; }
is_with() { [ "$(portal)" = "$1" ]; }
t "login at the system that follows" login $p2 || bail "no session"
t "the session is with the one that leads" is_with $p1
d=$(disk) || bail "no disk"
t "mount" mount $d /mnt/shared
dmesg -C
rm -f /tmp/stop; writer >/tmp/writes 2>/tmp/writer.err & w=$!
n=0
t "files are written" wait_for 60 more
t "the sides are swapped" on_host host-swap-3 180
t "the session is with the other system" wait_for 60 is_with $p2
n=$(rounds)
t "writes go on there" wait_for 120 more
touch /tmp/stop
t "the writer never saw an error" wait $w
note "$(rounds) files written; $(cat /tmp/writer.err)"
t_not "nor did the kernel" eval 'dmesg | grep -i "i/o error"'
t "every file is what was written" same
t "unmount" umount /mnt/shared
t "the file system is clean" e2fsck -fn $d
t "logout" logout $p2
finish
