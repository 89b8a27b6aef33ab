#!/bin/bash
# Persistent reservations over a kill of the target: the caller kills and starts
# it again when the script creates /share/restart-target (see README, --share).
. /ri/lib.sh
A=${INITIATOR_NAME} B=$INITIATOR_NAME-b
p1=$PORTAL p2=10.0.3.2:$TARGET_PORT
t "discovery and login as A" eval 'discover && login' || bail "no login: $(cat /tmp/step)"
iscsiadm -m iface -I b -o new >/dev/null && iscsiadm -m iface -I b -o update -n iface.initiatorname -v "$B" >/dev/null
iscsiadm -m node -o new -T "$IQN" -p "$p2" -I b >/dev/null
t "login as B" login "$p2" || bail "no second session"
da=$(disk "$p1") && db=$(disk "$p2") || bail "not two disks"
a=$(sg_of "$da") b=$(sg_of "$db")
settle() { sg_turs -n 3 $a; sg_turs -n 3 $b; } >/dev/null 2>&1
pr() { local d=$1; shift; settle; sg_persist "$@" "$d"; }
# One block of zeros; a command after a unit attention (status 6) is repeated.
wr() { local rc; for _ in 1 2 3; do sg_raw -s 512 -i /dev/zero "$1" 2a 00 00 00 00 64 00 00 01 00; rc=$?; [ $rc = 6 ] || return $rc; done; return $rc; }
up() { [ "$(grep -l LOGGED_IN /sys/class/iscsi_session/*/state | wc -l)" = 2 ]; }

t "A registers" pr $a -o -G -S 0xa
t "B registers" pr $b -o -G -S 0xb
t "A reserves: write exclusive" pr $a -o -R -K 0xa -T 1
t_rc 24 "B's write conflicts" wr $b
t "the host kills and starts the target" on_host restart-target 60
t "both sessions recover" wait_for 60 up
t "both keys are still there" eval 'pr $b -i -k >/tmp/k; grep -qw 0xa /tmp/k && grep -qw 0xb /tmp/k'
t "the reservation is still there" eval "pr $b -i -r | grep -q 'Write Exclusive'"
t_rc 24 "B's write still conflicts" wr $b
t "A writes" wr $a
t "A clears everything" pr $a -o -C -K 0xa
t "B writes" wr $b
t "logout of both" eval 'logout "$p1" && logout "$p2"'
finish
