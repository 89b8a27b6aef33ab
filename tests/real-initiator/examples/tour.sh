#!/bin/bash
# The five-minute tour of the README, as typed there, on a host with open-iscsi.
# The host's side serves the embedded default (copies paced, so that there is
# something to watch) and puts the `holdfast` program into /share. Each line
# between the marks is run and shown as in a terminal; README.md shows the same.
. /ri/lib.sh
install -m 755 /share/holdfast /usr/bin/holdfast
mkdir -p /photos /mnt/prod /mnt/backup
for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/photos/$i.jpg bs=1M count=$i status=none; done
n=0 bad=0
while IFS= read -r line; do
  case $line in ''|'#'*) echo "$line"; continue ;; esac
  echo "\$ ${line//:\$TARGET_PORT/}"
  # A line that must fail ends with this remark.
  want=0; [[ $line != *'# refused' ]] || want=1
  eval "$line" >/tmp/step 2>&1; rc=$?
  cat /tmp/step
  n=$((n + 1))
  if { [ $want = 0 ] && [ $rc != 0 ]; } || { [ $want = 1 ] && [ $rc != 1 ]; }; then bad=$((bad + 1)); echo "not ok $n - $line (status $rc)"; else echo "ok $n - $line"; fi
  udevadm settle -t 30
done <<'TOUR'
iscsiadm -m discovery -t sendtargets -p 127.0.0.1:$TARGET_PORT
iscsiadm -m node -T iqn.2026-11.io.holdfast:default -l
lsscsi
# A file system with photos on the standard; its mirror is established.
mkfs.ext4 -q /dev/sda
mount /dev/sda /mnt/prod
cp /photos/*.jpg /mnt/prod
holdfast --device /dev/sda establish prod bcv1 --wait
# The mirror is split off: the image of this instant, which any host may mount.
sync -f /mnt/prod
holdfast --device /dev/sda split prod bcv1
holdfast --device /dev/sda verify prod bcv1 --state split --wait
mount -o ro,noload /dev/sdb /mnt/backup
ls /mnt/backup
umount /mnt/backup
# Disaster.
rm /mnt/prod/1.jpg
shred -n 1 /mnt/prod/*.jpg
umount /mnt/prod
# The restore is answered at once; the disk already shows the old image while the copy goes on.
holdfast --device /dev/sda restore prod bcv1 --protected
mount /dev/sda /mnt/prod
holdfast --device /dev/sda query
cmp /photos/6.jpg /mnt/prod/6.jpg
cp /photos/1.jpg /mnt/prod/new-while-restoring.jpg
holdfast --device /dev/sda verify prod bcv1 --state split --wait
(cd /photos && sha256sum *.jpg) | (cd /mnt/prod && sha256sum -c)
# What does not fit the state is refused, with what would.
holdfast --device /dev/sda restore prod bcv2 # refused
umount /mnt/prod
iscsiadm -m node -T iqn.2026-11.io.holdfast:default -u
TOUR
echo "1..$n"
[ "$bad" = 0 ]
