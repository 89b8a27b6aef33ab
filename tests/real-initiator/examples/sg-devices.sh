#!/bin/bash
# sg3_utils on whole devices: the mandatory commands (scsi_mandat), every log page, variants of
# the write commands, copies between two LUNs, failing and passing SANITIZE. It overwrites
# LUN 0 and LUN 1. See also sg-tools.sh.
. /ri/lib.sh
t "discovery and login" eval 'discover && login' || bail "no login: $(cat /tmp/step)"
lun() { readlink -f "/dev/disk/by-path/ip-$PORTAL-iscsi-$IQN-lun-$1"; }
t "both LUNs appear" wait_for 40 test -e "/dev/disk/by-path/ip-$PORTAL-iscsi-$IQN-lun-1" || bail "no LUN 1"
dev=$(lun 0) other=$(lun 1)
sg=$(sg_of "$dev") to=$(sg_of "$other")
bs=$(blockdev --getss "$dev")
note "$dev ($sg) and $other ($to), blocks of $bs, $(sg_inq --version | head -1)"

# --- what every device must have ---------------------------------------------------------
t "scsi_mandat" scsi_mandat -L "$sg"
grep -E 'exit status|errors|bad|summary' /tmp/step | sed 's/^/#   /'
t "scsi_mandat finds no fault" eval '! grep -qiE "error|bad|fail" /tmp/step'
t "scsi_readcap" scsi_readcap "$sg"
t "scsi_logging_level" scsi_logging_level -g
t "sg_opcodes -a, with masks" sg_opcodes --mask --rctd "$sg"
t "sg_opcodes, one service action" eval 'sg_opcodes --opcode=0x9e,0x10 "$sg" | grep -qi "cdb size.*16\|Read capacity"'
t "sg_opcodes says that an unknown code is not supported" eval 'sg_opcodes --opcode=0xdb "$sg" | grep -qi "not supported"'
t "sg_senddiag, default self-test" sg_senddiag --test "$sg"
t "sg_prevent" eval 'sg_prevent --prevent 1 $sg && sg_prevent --allow $sg'
t "sg_rtpg --decode" sg_rtpg --decode "$sg"
t "sg_rtpg --extended" sg_rtpg --extended --decode "$sg"
t "the port is active/optimized" eval 'sg_rtpg --decode $sg | grep -q "active/optimized"'
t "SET TARGET PORT GROUPS without a list changes nothing" eval 'sg_raw $sg a4 0a 00 00 00 00 00 00 00 00 00 00 && sg_rtpg --decode $sg | grep -q "active/optimized"'
port_is() { sg_rtpg --decode "$sg" | grep -q "$1"; }
t "sg_stpg --standby" sg_stpg --standby "$sg"
t "the port is in standby" port_is standby
t "the unit is not ready, after a unit attention" eval 'sg_turs -n 3 $sg >/dev/null 2>&1; sg_turs $sg; [ $? = 2 ]'
t "sg_stpg --active" sg_stpg --active "$sg"
t "the port is active/non optimized" port_is "active/non optimized"
t "sg_stpg --optimized" sg_stpg --optimized "$sg"
t "the port is active/optimized again, and the unit ready" eval 'port_is active/optimized; sg_turs -n 3 $sg >/dev/null 2>&1; sg_turs $sg'

# --- logs ----------------------------------------------------------------------------------
sg_logs --brief -q "$sg" >/dev/null 2>&1
pages=$(sg_raw -r 256 "$sg" 4d 00 40 ff 00 00 00 01 00 00 2>/dev/null -b | tail -c +5 | od -An -v -tu1 -w2 | awk '{print $1","$2}')
note "log pages and subpages:" $pages
t "log pages are listed" test -n "$pages"
for p in $pages; do t "sg_logs -p $p" sg_logs -p "$p" "$sg"; done
t "sg_logs -a" sg_logs -a "$sg"
t "sg_logs --all --all, with subpages" sg_logs -A "$sg"
t_not "an unknown log page is refused" sg_logs -p 0x3a "$sg"
t "sg_logs --reset" sg_logs --reset "$sg"

# --- writes ---------------------------------------------------------------------------------
blk() { head -c $((bs * $2)) /dev/zero | tr '\0' "$1" >"/tmp/blk$1$2"; }
for n in 1 8; do for c in A B C; do blk $c $n; done; done
head -c $((bs * 8)) /dev/zero >/tmp/blk08
wr() { sg_dd if="$1" of="$sg" bs="$bs" seek="$2" oflag=sgio,coe; }
rd() { rm -f /tmp/rd; sg_dd if="$sg" of=/tmp/rd bs="$bs" count=8 skip="$1" iflag=sgio && cmp /tmp/rd "$2"; }
t "sg_compare_and_write, 8 blocks" eval 'wr /tmp/blkA8 100 && cat /tmp/blkA8 /tmp/blkB8 >/tmp/caw && sg_compare_and_write --in=/tmp/caw --lba=100 --num=8 --xferlen=$((bs * 16)) $sg && rd 100 /tmp/blkB8'
t "sg_write_x --16 --normal" eval 'sg_write_x --16 --normal --lba=200 --num=8 --in=/tmp/blkA8 $sg && rd 200 /tmp/blkA8'
t "sg_write_x --16 --normal --fua" eval 'sg_write_x --16 --normal --fua --lba=200 --num=8 --in=/tmp/blkB8 $sg && rd 200 /tmp/blkB8'
t "sg_write_x --16 --atomic=0" eval 'sg_write_x --16 --atomic=0 --lba=208 --num=8 --in=/tmp/blkC8 $sg && rd 208 /tmp/blkC8'
t "sg_write_x --16 --or" eval 'wr /tmp/blkA8 216 && sg_write_x --16 --or --lba=216 --num=8 --in=/tmp/blkB8 $sg && rd 216 /tmp/blkC8'
t "sg_write_x --16 --same" eval 'sg_write_x --16 --same=0 --lba=224 --num=8 --in=/tmp/blkC1 $sg && rd 224 /tmp/blkC8'
t "sg_write_x --16 --same=1, no data out" eval 'sg_write_x --16 --same=1 --lba=224 --num=8 $sg; s=$?; [ $s = 0 ] && rd 224 /tmp/blk08 || [ $s = 5 ]'
t_rc 9 "sg_write_x --scattered is refused as invalid opcode" sg_write_x --16 --scattered=1 --lba=240 --num=8 --in=/tmp/blkA8 "$sg"
t_rc 9 "sg_write_x --stream is refused as invalid opcode" sg_write_x --16 --stream=1 --lba=240 --num=8 --in=/tmp/blkA8 "$sg"
t "sg_write_verify, 8 blocks" eval 'sg_write_verify --16 --lba=248 --num=8 --in=/tmp/blkA8 $sg && rd 248 /tmp/blkA8'
t "sg_write_same --ff" eval 'sg_write_same --16 --ff --lba=256 --num=8 $sg && head -c $((bs * 8)) /dev/zero | tr "\0" "\377" >/tmp/ff && rd 256 /tmp/ff'
t "sg_write_same --ndob" eval 'wr /tmp/blkA8 264 && sg_write_same --16 --ndob --lba=264 --num=8 $sg; s=$?; [ $s = 0 ] && rd 264 /tmp/blk08 || [ $s = 5 ]'
t "sg_unmap, several ranges" eval 'wr /tmp/blkA8 300 && wr /tmp/blkA8 320 && sg_unmap --force --lba=300,320 --num=8,8 $sg && rd 300 /tmp/blk08 && rd 320 /tmp/blk08'
t "sg_unmap --all, dry run" sg_unmap --all=0,1024,512 --dry-run --force "$sg"
t "sg_get_lba_status tells what is mapped" eval 'wr /tmp/blkA8 100 && sg_get_lba_status --lba=100 $sg | grep -q "mapped"'

# --- copies between LUNs ---------------------------------------------------------------------
random_file /tmp/data 4
n=$((4194304 / bs))
t "write 4 MiB to LUN 0" sg_dd if=/tmp/data of="$sg" bs="$bs" seek=2048 oflag=sgio
t "sg_xcopy from LUN 0 to LUN 1" sg_xcopy if="$sg" of="$to" skip=2048 seek=4096 count=$n bs="$bs"
t "the copy arrived" eval "sg_dd if=$to of=/tmp/copy bs=$bs count=$n skip=4096 iflag=sgio && cmp /tmp/copy /tmp/data"
t "sg_xcopy --on_dst" eval "sg_xcopy --on_dst if=$to of=$sg skip=4096 seek=40960 count=$n bs=$bs && sg_dd if=$sg of=/tmp/copy bs=$bs count=$n skip=40960 iflag=sgio && cmp /tmp/copy /tmp/data"
t_not "sg_xcopy past the end is refused" sg_xcopy if="$sg" of="$to" skip=$(($(blockdev --getsz "$dev") - 8)) seek=0 count=64 bs="$bs"
t "sg_copy_results --params" sg_copy_results --params "$to"

# --- sanitize ---------------------------------------------------------------------------------
# Without --early or --wait sg_sanitize looks once a minute whether it is done.
quick() { sg_sanitize --quick --timeout=120 "$@" "$to"; }
zero() { cmp -n "$1" "$other" /dev/zero; }
fresh() { blockdev --flushbufs "$other"; }
over() { ! sg_requests --progress "$to" 2>/dev/null | grep -q 'Progress indication' && sg_turs "$to"; }
head -c $(blockdev --getsize64 "$other") /dev/zero | tr '\0' B | sha256sum | head -c 64 >/tmp/all-b
t_not "sg_sanitize --crypto is not offered" quick --wait --crypto
t "LUN 1 has data" eval '! zero $(blockdev --getsize64 $other)'
t "sg_sanitize --block" quick --wait --block; fresh
t "all of LUN 1 reads as zeroes" zero $(blockdev --getsize64 "$other")
t "sg_sanitize --overwrite" quick --wait --overwrite --pattern=/tmp/blkB1 --count=1; fresh
t "all of LUN 1 holds the pattern" eval '[ "$(sha256sum <$other | head -c 64)" = "$(cat /tmp/all-b)" ]'
t "sg_sanitize --overwrite --zero --count=2 --early" quick --early --overwrite --zero --count=2
t "its end is waited for by sg_requests" wait_for 120 over; fresh
t "all of LUN 1 reads as zeroes again" zero $(blockdev --getsize64 "$other")
t_rc 5 "sg_sanitize --fail (EXIT FAILURE MODE) is refused, where nothing failed" quick --wait --fail
t "LUN 0 was left alone" rd 248 /tmp/blkA8

# --- blkdiscard ----------------------------------------------------------------------------------
size=$(blockdev --getsize64 "$dev")
mapped() { sg_get_lba_status --lba="$1" "$sg"; }
t "blkdiscard of a range" eval "blkdiscard -o 1048576 -l 4194304 $dev && dd if=$dev bs=1M skip=1 count=4 iflag=direct status=none | cmp -n 4194304 - /dev/zero"
t "blkdiscard --step" blkdiscard --step 16777216 "$dev"
t "the whole disk reads as zeroes" eval "blockdev --flushbufs $dev && cmp -n $size $dev /dev/zero"
t "the whole disk is deallocated" eval 'mapped 0 | grep -qi "deallocated"'
t "blkdiscard --secure is refused" eval '! blkdiscard --secure $dev'
t "logout" logout
finish
